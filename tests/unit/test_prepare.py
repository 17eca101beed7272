from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrepro.config import DatasetConfig, Split
from mmrepro.datasets.interactions import PreparedDataset, load_items, load_users
from mmrepro.datasets.prepare import k_core, prepare, split_per_user
from mmrepro.errors import MmreproError
from mmrepro.provenance import read_json

QUICK = settings(max_examples=60, deadline=None)
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
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=12),
    st.integers(0, 3),
    st.sampled_from([0.1, 0.2, 0.29, 0.5]),
    st.integers(3, 12),
)
def test_split_gives_each_user_the_counts_of_the_rule(sizes: list[int], seed: int, holdout: float, few: int) -> None:
    users = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    labels = split_per_user(users, Split(seed=seed, holdout=holdout, few=few))
    for user, n in enumerate(sizes):
        held_out = 0 if n < 3 else 2 if n < few else round(holdout * 100) * n // 100
        mine = labels[users == user].tolist()
        assert mine.count("valid") == held_out // 2
        assert mine.count("test") == held_out - held_out // 2
        assert mine.count("train") == n - held_out >= 1


def test_split_by_hand() -> None:
    labels = split_per_user(np.repeat([0, 1, 2], [9, 10, 25]), Split())
    counts = [
        [(labels[a:b] == name).sum() for name in ("train", "valid", "test")] for a, b in [(0, 9), (9, 19), (19, 44)]
    ]
    assert counts == [[7, 1, 1], [8, 1, 1], [20, 2, 3]]


def test_held_out_share_is_not_lost_to_rounding() -> None:
    labels = split_per_user(np.zeros(100, int), Split(holdout=0.29))  # 0.29 * 100 is 28.999999999999996
    assert (labels != "train").sum() == 29


def test_split_depends_on_the_seed_and_on_nothing_else() -> None:
    users = np.repeat(np.arange(20), 15)
    first, again, other = (split_per_user(users, Split(seed=seed)) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_held_out_positions_are_spread_over_a_users_rows() -> None:
    users = np.repeat(np.arange(2000), 10)
    test = split_per_user(users, Split()).reshape(2000, 10) == "test"
    assert test.sum(0).min() > 140  # 200 expected at each position, standard deviation 13.4


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_order_of_raw_rows_does_not_matter(tmp_path_factory: pytest.TempPathFactory, random: Any) -> None:
    folder = tmp_path_factory.mktemp("order")
    rows = [*dense(), (1, 1, 3, 101), (1, 2, 5, 90), (9, 1, 2, 7)]
    shuffled = rows.copy()
    random.shuffle(shuffled)
    for name, version in [("a", rows), ("b", shuffled)]:
        prepare(movielens(k_core=3), write_movies(folder / name, version), folder / name)
    for file in ("interactions.parquet", "items.parquet", "users.parquet", "statistics.json"):
        assert (folder / "a" / file).read_bytes() == (folder / "b" / file).read_bytes()


def test_prepared_tables_fit_together(tmp_path: Path) -> None:
    prepare(movielens(k_core=5), write_movies(tmp_path / "raw", dense()), tmp_path)
    data = PreparedDataset.load(tmp_path)
    assert (data.dataset, data.n_users, data.n_items) == ("toy", 6, 12)
    assert data.interactions["user"].dtype == data.interactions["item"].dtype == np.int32
    assert sorted(data.interactions["user"].unique()) == list(range(6))
    assert sorted(data.interactions["item"].unique()) == list(range(12))
    pairs = [set(zip(*data.pairs(split), strict=True)) for split in ("train", "valid", "test")]
    assert sum(map(len, pairs)) == len(set.union(*pairs)) == 72
    assert load_items(tmp_path).index.tolist() == list(range(12))
    assert load_items(tmp_path).columns.tolist() == ["key", "title", "text", "image"]
    assert data.pairs("train")[0].dtype == np.int64
    with pytest.raises(MmreproError, match="unknown split 'tests'"):
        data.pairs("tests")


def test_duplicates_are_dropped_and_the_earliest_pair_is_kept(tmp_path: Path) -> None:
    rows = [*dense(), (1, 1, 3, 101), (1, 2, 5, 90)]
    prepare(movielens(), write_movies(tmp_path / "raw", rows), tmp_path)
    statistics = read_json(tmp_path / "statistics.json")
    assert [step["interactions"] for step in statistics["steps"]] == [74, 73, 72, 72]
    assert statistics["duplicates_dropped"] == 2
    assert 90 in set(PreparedDataset.load(tmp_path).interactions["timestamp"])


def test_earliest_pair_is_kept_in_file_order_of_published_data(tmp_path: Path) -> None:
    lines = ["userID itemID timestamp x_label", "0 0 9 0", "1 0 4 0", "0 0 5 0", "0 1 6 0"]
    (tmp_path / "toy.inter").write_text("".join(line.replace(" ", "\t") + "\n" for line in lines))
    prepare(published(), tmp_path, tmp_path / "out")
    kept = PreparedDataset.load(tmp_path / "out").interactions
    assert kept["timestamp"].tolist() == [4, 5, 6]


def test_statistics_count_what_was_filtered(tmp_path: Path) -> None:
    rows = [*dense(), (7, 1, 3, 5), (8, 1, 3, 5)]
    prepare(movielens(k_core=3), write_movies(tmp_path / "raw", rows), tmp_path)
    statistics = read_json(tmp_path / "statistics.json")
    assert statistics["steps"][0] == {"step": "raw", "users": 8, "items": 12, "interactions": 74}
    assert statistics["steps"][-2] == {"step": "3-core", "users": 6, "items": 12, "interactions": 72}
    assert statistics["density"] == 1
    assert statistics["interactions"] == {"train": 60, "valid": 6, "test": 6}
    assert statistics["items_without_image"] == 12
    assert statistics["items_without_text"] == 0


def test_items_without_record_or_text_are_counted(tmp_path: Path) -> None:
    raw = write_movies(tmp_path / "raw", [*dense(), *[(user, 99, 3, 1) for user in range(1, 7)]])
    with (raw / "items.csv").open("a") as handle:
        handle.write("13, , \n")
    prepare(movielens(), raw, tmp_path)
    assert read_json(tmp_path / "statistics.json")["items_without_text"] == 1
    assert load_items(tmp_path).set_index("key").loc["99"].isna().all()


def test_content_hash_follows_the_data(tmp_path: Path) -> None:
    raw = write_movies(tmp_path / "raw", dense())
    hashes = []
    for name, config in [("a", movielens()), ("b", movielens()), ("c", movielens(split={"seed": 1}))]:
        prepare(config, raw, tmp_path / name)
        hashes.append(PreparedDataset.load(tmp_path / name).content_hash)
    assert hashes[0] == hashes[1] != hashes[2]


def test_published_split_keeps_numbers_order_and_phantoms(tmp_path: Path) -> None:
    raw = write_inter(tmp_path, "2 3 0", "0 5 0", "0 1 1", "2 0 2")
    prepare(published(), raw, tmp_path / "out")
    data = PreparedDataset.load(tmp_path / "out")
    assert (data.n_users, data.n_items) == (3, 6)
    assert data.interactions[["user", "item"]].to_numpy().tolist() == [[2, 3], [0, 5], [0, 1], [2, 0]]
    assert data.interactions["split"].tolist() == ["train", "train", "valid", "test"]
    statistics = read_json(tmp_path / "out" / "statistics.json")
    assert statistics["cold_items"] == {"valid": 1, "test": 1}


@pytest.mark.parametrize(("policy", "left"), [("drop", 2), ("keep", 4)])
def test_user_without_training_item(tmp_path: Path, policy: str, left: int) -> None:
    raw = write_inter(tmp_path, "0 0 0", "0 1 2", "1 0 1", "1 1 2")
    prepare(published(cold_users=policy, expected={"valid": 1, "test": 2}), raw, tmp_path / "out")
    statistics = read_json(tmp_path / "out" / "statistics.json")
    assert statistics["cold_users"] == {"valid": 1, "test": 1}
    assert statistics["cold_user_rows_dropped"] == 4 - left
    assert len(PreparedDataset.load(tmp_path / "out").interactions) == left


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
    ],
)
def test_contradictions_stop_with_numbers_and_leave_nothing(
    tmp_path: Path, config: DatasetConfig, message: str
) -> None:
    raw = write_movies(tmp_path / "raw", dense())
    with pytest.raises(MmreproError, match=f"data set 'toy': {message}"):
        prepare(config, raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_published_split_without_training_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match="no interaction is in the training split"):
        prepare(published(), write_inter(tmp_path, "0 0 1", "0 1 2"), tmp_path / "out")


def test_missing_prepared_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match=r"statistics\.json: no such file; run `mmrepro prepare`"):
        PreparedDataset.load(tmp_path)
