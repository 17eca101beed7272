from __future__ import annotations

from collections import Counter
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmrepro.columns import SPLITS
from mmrepro.config.dataset import DatasetConfig, Split
from mmrepro.datasets.filters import k_core
from mmrepro.datasets.interactions import PreparedDataset, load_items, load_users
from mmrepro.datasets.prepare import prepare
from mmrepro.errors import MmreproError
from mmrepro.records.files import read_json, write_json

QUICK = settings(max_examples=60, deadline=None)
KINDS = ("random-per-user", "time-per-user", "global-time", "leave-one-out")
REPOSITORY = Path(__file__).parents[2]
PAIRS = st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=70)


def movielens(**changes: Any) -> DatasetConfig:
    base = {"dataset": "toy", "title": "Toy", "reader": "movielens", "folder": "toy", "licence": "none"}
    return DatasetConfig.model_validate({**base, **changes})


def published(**changes: Any) -> DatasetConfig:
    options = {"interactions_file": "toy.inter"}
    return movielens(reader="mmrec", options=options, split={"kind": "published"}, **changes)


def write_movies(folder: Path, rows: list[tuple[int, int, int, int]]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "u.data").write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    movies = "".join(f"{movie},Movie {movie},{'About it' if movie % 2 else ''}\n" for movie in range(1, 13))
    (folder / "items.csv").write_text("movie_id,title,overview\n" + movies)
    return folder


def write_inter(folder: Path, *rows: str) -> Path:
    lines = ["userID itemID x_label", *rows]
    (folder / "toy.inter").write_text("".join(line.replace(" ", "\t") + "\n" for line in lines))
    return folder


def dense(users: int = 6, items: int = 12) -> list[tuple[int, int, int, int]]:
    return [(user, item, 3, 100 * user + item) for user in range(1, users + 1) for item in range(1, items + 1)]


def keyed(folder: Path) -> set[tuple[str, str, str]]:
    data = PreparedDataset.load(folder)
    users, items = load_users(folder)["key"], load_items(folder)["key"]
    frame = data.interactions
    return set(zip(users.loc[frame["user"]], items.loc[frame["item"]], frame["split"], strict=True))


def naive_core(pairs: set[tuple[int, int]], k: int) -> set[tuple[int, int]]:
    while True:
        kept = {(u, i) for u, i in pairs if sum(a == u for a, _ in pairs) >= k and sum(b == i for _, b in pairs) >= k}
        if kept == pairs:
            return kept
        pairs = kept


@QUICK
@given(PAIRS, st.integers(1, 4))
def test_k_core_equals_the_plain_definition(pairs: set[tuple[int, int]], k: int) -> None:
    rows = pd.DataFrame(sorted(pairs), columns=["user", "item"])
    found = k_core(rows, k)
    assert set(found.itertuples(index=False, name=None)) == naive_core(pairs, k)


@QUICK
@given(st.sets(st.tuples(st.integers(0, 2), st.integers(0, 2))), st.integers(1, 3))
def test_k_core_is_the_largest_subset_that_satisfies_it(pairs: set[tuple[int, int]], k: int) -> None:
    def satisfies(chosen: tuple[tuple[int, int], ...]) -> bool:
        users, items = Counter(u for u, _ in chosen), Counter(i for _, i in chosen)
        return min([*users.values(), *items.values()], default=k) >= k

    subsets = chain.from_iterable(combinations(sorted(pairs), n) for n in range(len(pairs) + 1))
    largest = max((subset for subset in subsets if satisfies(subset)), key=len)
    found = k_core(pd.DataFrame(sorted(pairs), columns=["user", "item"]), k)
    assert tuple(found.itertuples(index=False, name=None)) == largest


@settings(max_examples=4, deadline=None)
@given(st.randoms(use_true_random=False))
@pytest.mark.parametrize("kind", KINDS)
def test_order_of_raw_rows_does_not_matter(tmp_path_factory: pytest.TempPathFactory, kind: str, random: Any) -> None:
    folder = tmp_path_factory.mktemp("order")
    rows = [*dense(), (1, 1, 3, 101), (1, 2, 5, 90), (9, 1, 2, 7)]
    shuffled = rows.copy()
    random.shuffle(shuffled)
    for name, version in [("a", rows), ("b", shuffled)]:
        config = movielens(k_core=3, split={"kind": kind}, cold_users="keep")
        prepare(config, write_movies(folder / name, version), folder / name)
    for file in ("interactions.parquet", "items.parquet", "users.parquet", "left_out.parquet", "statistics.json"):
        assert (folder / "a" / file).read_bytes() == (folder / "b" / file).read_bytes()


@settings(max_examples=4, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(1, 12), st.integers(1, 5), st.integers(0, 99)), min_size=60),
    st.integers(0, 3),
)
@pytest.mark.parametrize("kind", KINDS)
def test_no_pair_stands_in_two_splits_and_every_index_is_in_use(
    tmp_path_factory: pytest.TempPathFactory, kind: str, rows: list[tuple[int, int, int, int]], k: int
) -> None:
    folder = tmp_path_factory.mktemp("pairs")
    pairs = {(user, item) for user, item, *_ in rows}
    core = naive_core(pairs, k)
    assume(len(core) >= 20 and len({row[3] for row in rows}) > 40)
    config = movielens(k_core=k, split={"kind": kind, "holdout": 0.4}, cold_users="keep")
    prepare(config, write_movies(folder, rows), folder)
    found = keyed(folder)
    assert {(int(user), int(item)) for user, item, _ in found} == core
    data = PreparedDataset.load(folder)
    assert len(data.interactions) == len(core)
    assert sorted(data.interactions["user"].unique()) == list(range(data.n_users))
    assert sorted(data.interactions["item"].unique()) == list(range(data.n_items))


def test_prepared_tables_fit_together(tmp_path: Path) -> None:
    prepare(movielens(k_core=5), write_movies(tmp_path / "raw", dense()), tmp_path)
    data = PreparedDataset.load(tmp_path)
    assert (data.dataset, data.n_users, data.n_items) == ("toy", 6, 12)
    assert data.interactions["user"].dtype == data.interactions["item"].dtype == np.int32
    assert sorted(data.interactions["user"].unique()) == list(range(6))
    assert sorted(data.interactions["item"].unique()) == list(range(12))
    pairs = [set(zip(*data.of(split).distinct, strict=True)) for split in ("train", "valid", "test")]
    assert sum(map(len, pairs)) == len(set.union(*pairs)) == 72
    assert load_items(tmp_path).index.tolist() == list(range(12))
    assert load_items(tmp_path).columns.tolist() == ["key", "title", "text", "image", "image_reason"]
    assert data.of("train").users.dtype == np.int64
    with pytest.raises(MmreproError, match="unknown split 'tests'"):
        data.of("train", "tests")


def test_duplicates_are_dropped_and_the_earliest_pair_is_kept(tmp_path: Path) -> None:
    rows = [*dense(), (1, 1, 3, 101), (1, 2, 5, 90)]
    prepare(movielens(), write_movies(tmp_path / "raw", rows), tmp_path)
    statistics = read_json(tmp_path / "statistics.json")
    assert [step["interactions"] for step in statistics["steps"]] == [74, 73, 72, 72, 72]
    assert statistics["duplicates_dropped"] == 2
    assert 90 in set(PreparedDataset.load(tmp_path).interactions["timestamp"])


def test_earliest_pair_of_published_data_is_kept_whatever_the_order_of_lines(tmp_path: Path) -> None:
    lines = ["userID itemID timestamp x_label", "0 0 9 0", "1 0 4 0", "0 0 5 0", "0 1 6 1", "0 2 7 2"]
    (tmp_path / "toy.inter").write_text("".join(line.replace(" ", "\t") + "\n" for line in lines))
    prepare(published(), tmp_path, tmp_path / "out")
    kept = PreparedDataset.load(tmp_path / "out").interactions
    assert kept["timestamp"].tolist() == [5, 6, 7, 4]


def test_statistics_count_what_was_filtered(tmp_path: Path) -> None:
    rows = [*dense(), (7, 1, 3, 5), (8, 1, 3, 5)]
    prepare(movielens(k_core=3), write_movies(tmp_path / "raw", rows), tmp_path)
    statistics = read_json(tmp_path / "statistics.json")
    assert statistics["steps"][0] == {"step": "raw", "users": 8, "items": 12, "interactions": 74}
    assert statistics["steps"][3] == {"step": "3-core", "users": 6, "items": 12, "interactions": 72}
    assert [step["step"] for step in statistics["steps"][4:]] == ["split", "cold users dropped"]
    assert statistics["density"] == 1
    assert statistics["interactions"] == {"train": 60, "valid": 6, "test": 6}
    assert statistics["items_without_image"] == 12
    assert statistics["items_without_text"] == 0
    assert statistics["user_degrees"] == {"degree": [12], "count": [6]}
    assert statistics["item_degrees"] == {"degree": [6], "count": [12]}


def test_items_without_record_or_text_are_counted(tmp_path: Path) -> None:
    raw = write_movies(tmp_path / "raw", [*dense(), *[(user, 99, 3, 1) for user in range(1, 7)]])
    with (raw / "items.csv").open("a") as handle:
        handle.write("13, , \n")
    prepare(movielens(), raw, tmp_path)
    assert read_json(tmp_path / "statistics.json")["items_without_text"] == 1
    assert load_items(tmp_path).set_index("key").loc["99", ["title", "text", "image"]].isna().all()


def test_content_hash_follows_the_data(tmp_path: Path) -> None:
    raw = write_movies(tmp_path / "raw", dense())
    hashes = []
    for name, config in [("a", movielens()), ("b", movielens()), ("c", movielens(split={"seed": 1}))]:
        prepare(config, raw, tmp_path / name)
        hashes.append(PreparedDataset.load(tmp_path / name).content_hash)
    assert hashes[0] == hashes[1] != hashes[2]


def test_published_split_keeps_numbers_and_phantoms(tmp_path: Path) -> None:
    raw = write_inter(tmp_path, "2 3 0", "0 5 0", "0 1 1", "2 0 2")
    prepare(published(), raw, tmp_path / "out")
    data = PreparedDataset.load(tmp_path / "out")
    assert (data.n_users, data.n_items) == (3, 6)
    assert data.interactions[["user", "item"]].to_numpy().tolist() == [[0, 1], [0, 5], [2, 0], [2, 3]]
    assert data.interactions["split"].tolist() == ["valid", "train", "test", "train"]
    statistics = read_json(tmp_path / "out" / "statistics.json")
    assert statistics["cold_items"] == {"valid": 1, "test": 1}
    assert statistics["item_degrees"] == {"degree": [0, 1], "count": [2, 4]}


@pytest.mark.parametrize(("policy", "left"), [("drop", 3), ("keep", 5)])
def test_user_without_training_item(tmp_path: Path, policy: str, left: int) -> None:
    raw = write_inter(tmp_path, "0 0 0", "0 1 2", "0 2 1", "1 0 1", "1 1 2")
    prepare(published(cold_users=policy, expected={"valid": 2, "test": 2}), raw, tmp_path / "out")
    statistics = read_json(tmp_path / "out" / "statistics.json")
    assert statistics["cold_users"] == {"valid": 1, "test": 1}
    assert statistics["cold_users_kept"] == ({"valid": 0, "test": 0} if policy == "drop" else {"valid": 1, "test": 1})
    assert statistics["cold_user_rows_dropped"] == 5 - left
    assert statistics["steps"][3] == {"step": "split", "users": 2, "items": 3, "interactions": 5}
    data = PreparedDataset.load(tmp_path / "out")
    assert (data.n_users, len(data.interactions)) == (2, left)
    assert data.interactions.index.tolist() == list(range(left))


def test_item_without_training_user_is_kept_unless_dropped(tmp_path: Path) -> None:
    # item 2 is in no training row; user 1 is in none either, and its row of item 2 is dropped as the user's
    raw = write_inter(tmp_path, "0 0 0", "0 1 0", "0 2 2", "2 1 0", "2 2 1", "2 0 2", "1 2 2", "3 0 0", "3 1 1")
    for policy, left, kept, dropped in [
        ("keep", 8, {"valid": 1, "test": 1}, 0),
        ("drop", 6, {"valid": 0, "test": 0}, 2),
    ]:
        prepare(published(cold_items=policy), raw, tmp_path / policy)
        statistics = read_json(tmp_path / policy / "statistics.json")
        assert statistics["cold_items"] == {"valid": 1, "test": 1}
        assert statistics["cold_items_kept"] == kept
        assert (statistics["cold_user_rows_dropped"], statistics["cold_item_rows_dropped"]) == (1, dropped)
        data = PreparedDataset.load(tmp_path / policy)
        assert (data.n_items, len(data.interactions)) == (3, left)
        last = statistics["steps"][-1]
        assert last["step"] == ("cold items dropped" if policy == "drop" else "cold users dropped")
        assert last["interactions"] == left


@pytest.mark.parametrize("kind", KINDS[1:])
def test_other_split_of_published_data_needs_timestamps(tmp_path: Path, kind: str) -> None:
    rows = [f"{user} {item} {10 * user + item} 0" for user in range(3) for item in range(8)]
    (tmp_path / "toy.inter").write_text("\n".join(["userID itemID timestamp x_label", *rows]).replace(" ", "\t"))
    config = movielens(reader="mmrec", options={"interactions_file": "toy.inter"}, split={"kind": kind})
    prepare(config, tmp_path, tmp_path / "out")
    assert set(PreparedDataset.load(tmp_path / "out").interactions["split"]) == set(SPLITS)
    write_inter(tmp_path, *[f"{user} {item} 0" for user in range(3) for item in range(8)])
    with pytest.raises(MmreproError, match=f"split '{kind}' needs timestamps, reader 'mmrec' finds none"):
        prepare(config, tmp_path, tmp_path / "none")


def test_lists_in_order_of_time_can_be_split_per_user_but_not_at_a_moment(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("".join(f"{user}\t{' '.join('987654321')}\n" for user in "abc"))
    (tmp_path / "titles.csv").write_text("item,title\n1,One\n")
    options = {"interactions_file": "pairs.tsv", "titles_file": "titles.csv"}
    config = movielens(reader="microlens", options=options, split={"kind": "leave-one-out"})
    prepare(config, tmp_path, tmp_path / "out")
    held_out = {row for row in keyed(tmp_path / "out") if row[2] != "train"}
    assert held_out == {(user, item, split) for user in "abc" for item, split in [("1", "test"), ("2", "valid")]}
    with pytest.raises(MmreproError, match="only order the interactions of each user"):
        prepare(config.model_copy(update={"split": Split(kind="global-time")}), tmp_path, tmp_path / "none")


def write_image(path: Path, side: int = 20) -> None:
    from PIL import Image

    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (side, side), "red").save(path)


def test_items_without_a_usable_image_leave_before_the_core(tmp_path: Path) -> None:
    raw = write_movies(tmp_path / "raw", [*dense(users=4, items=8), (9, 8, 3, 1), (9, 7, 3, 1), (9, 1, 3, 1)])
    for item in range(1, 7):
        write_image(raw / f"posters/{item}.jpg")
    (raw / "posters/7.jpg").write_text("<html>not found</html>")  # item 8 has no file at all
    prepare(movielens(k_core=2, drop_items_without=["image"]), raw, tmp_path)
    steps = {step["step"]: step for step in read_json(tmp_path / "statistics.json")["steps"]}
    assert steps["items without image dropped"] == {
        "step": "items without image dropped", "users": 5, "items": 6, "interactions": 25,
    }  # fmt: skip
    assert steps["2-core"]["users"] == 4  # user 9 has one interaction left
    assert sorted(load_items(tmp_path)["image"]) == [f"posters/{item}.jpg" for item in range(1, 7)]
    assert load_items(tmp_path)["image_reason"].isna().all()


def test_items_without_text_leave_with_their_image_or_without(tmp_path: Path) -> None:
    raw = write_movies(tmp_path / "raw", [*dense(items=6), *[(user, 99, 3, 1) for user in range(1, 7)]])
    (raw / "items.csv").write_text("movie_id,title,overview\n1,One,a\n2, ,\n3,,b\n4,Four,\n5, , \n6,Six,f\n")
    write_image(raw / "posters/1.jpg")
    write_image(raw / "posters/2.jpg")
    prepare(movielens(drop_items_without=["text"]), raw, tmp_path / "text")
    assert sorted(load_items(tmp_path / "text")["key"]) == ["1", "3", "4", "6"]  # 99 has no record
    for item in (3, 4):
        write_image(raw / f"posters/{item}.jpg")
    prepare(movielens(drop_items_without=["image", "text"]), raw, tmp_path / "both")
    assert sorted(load_items(tmp_path / "both")["key"]) == ["1", "3", "4"]
    statistics = read_json(tmp_path / "both" / "statistics.json")
    assert [step["step"] for step in statistics["steps"][3:5]] == [
        "items without image dropped",
        "items without text dropped",
    ]
    assert statistics["items_dropped"] == {"image": 3, "text": 1}  # 5, 6 and 99; then 2, whose title is empty


def test_downloaded_images_are_filled_in_and_missing_ones_keep_their_reason(tmp_path: Path) -> None:
    raw = write_movies(tmp_path / "raw", dense(items=5))
    write_image(raw / "posters/4.jpg")
    write_image(raw / "images/1.jpg")
    write_image(raw / "posters/3.jpg")
    images = {
        "1": {"status": "ok", "file": "images/1.jpg"},
        "2": {"status": "missing", "reason": "HTTP status 404"},
        "3": {"status": "too small", "reason": "1 x 1 pixels"},
    }
    write_json(raw / "IMAGES.json", {"dataset": "toy", "counts": {}, "images": images})
    prepare(movielens(), raw, tmp_path / "all")
    items = load_items(tmp_path / "all").set_index("key")
    assert items["image"].dropna().to_dict() == {"1": "images/1.jpg", "4": "posters/4.jpg"}
    assert items["image_reason"].dropna().to_dict() == {
        "2": "missing: HTTP status 404", "3": "too small: 1 x 1 pixels", "5": "no image",
    }  # fmt: skip
    assert read_json(tmp_path / "all" / "statistics.json")["items_without_image"] == 3
    images["2"] = images["1"]
    write_json(raw / "IMAGES.json", {"dataset": "toy", "counts": {}, "images": images})
    prepare(movielens(drop_items_without=["image"]), raw, tmp_path / "some")
    assert sorted(load_items(tmp_path / "some")["key"]) == ["1", "2", "4"]


def test_filtered_items_of_a_published_numbering_are_numbered_anew(tmp_path: Path) -> None:
    raw = write_inter(tmp_path, *[f"{user} {2 * item} 0" for user in range(4) for item in range(5)])
    images = {str(2 * item): {"status": "ok", "file": f"images/{item}.jpg"} for item in range(4)}
    write_json(raw / "IMAGES.json", {"dataset": "toy", "counts": {}, "images": images})
    options = {"interactions_file": "toy.inter"}
    prepare(movielens(reader="mmrec", options=options, drop_items_without=["image"]), raw, tmp_path / "out")
    assert sorted(load_items(tmp_path / "out")["key"]) == ["0", "2", "4", "6"]


def test_random_split_of_published_data_keeps_the_numbering(tmp_path: Path) -> None:
    raw = write_inter(tmp_path, *[f"{user} {2 * item} 0" for user in range(3) for item in range(5)])
    config = movielens(reader="mmrec", options={"interactions_file": "toy.inter"})
    prepare(config, raw, tmp_path / "out")
    assert PreparedDataset.load(tmp_path / "out").n_items == 9
    assert read_json(tmp_path / "out" / "statistics.json")["interactions"] == {"train": 9, "valid": 3, "test": 3}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (movielens(k_core=7), "no interaction is left of 72 by the filters; lower k_core"),
        (movielens(expected={"users": 7}), "6 users, expected 7; the raw files are others"),
        (movielens(expected={"test": 5}), "6 test, expected 5"),
        (movielens(split={"kind": "published"}), "reader 'movielens' finds no published split"),
        (published(k_core=5), "'k_core: 5' would break the published split; set k_core: 0"),
        (published(drop_items_without=["text"]), "'drop_items_without' would break the published split"),
        (movielens(drop_duplicates=False), "a pair could stand in training and in test; set it to true"),
        (movielens(drop_items_without=["image"]), "no interaction is left of 72 by the filters; lower k_core or ask"),
    ],
)
def test_contradictions_stop_with_numbers_and_leave_nothing(
    tmp_path: Path, config: DatasetConfig, message: str
) -> None:
    raw = write_movies(tmp_path / "raw", dense())
    with pytest.raises(MmreproError, match=f"data set 'toy': .*{message}"):
        prepare(config, raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_split_whose_rows_are_all_dropped_as_cold_is_refused(tmp_path: Path) -> None:
    raw = write_inter(tmp_path, "0 0 0", "0 1 1", "1 0 2")
    with pytest.raises(MmreproError, match="every interaction of test is of a user or item that training has never"):
        prepare(published(), raw, tmp_path / "out")
    prepare(published(cold_users="keep"), raw, tmp_path / "out")


def test_published_split_without_training_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match="no interaction is in the training split"):
        prepare(published(), write_inter(tmp_path, "0 0 1", "0 1 2"), tmp_path / "out")


def test_missing_prepared_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match=r"statistics\.json: no such file; run `mmrepro prepare`"):
        PreparedDataset.load(tmp_path)
