import itertools
import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import planted_content, write_planted
from sklearn.metrics import ndcg_score
from sklearn.metrics.pairwise import cosine_similarity

from mmrepro.config.protocol import Protocol
from mmrepro.datasets.interactions import INTERACTIONS, PreparedDataset, write_prepared
from mmrepro.errors import MmreproError
from mmrepro.evaluation import probe as module
from mmrepro.evaluation import ranking
from mmrepro.evaluation.evaluator import Evaluator
from mmrepro.evaluation.item_neighbours import (
    _blocks,
    cf_neighbours,
    neighbour_recall,
    popular_neighbours,
)
from mmrepro.evaluation.lists import tie_order
from mmrepro.evaluation.metrics import ndcg, recall
from mmrepro.evaluation.probe import history_scorer, last_items, probe, random_zero_shot
from mmrepro.features.matrix import FeatureMatrix
from mmrepro.ops.interactions import Interactions
from mmrepro.records.files import read_json

# Item 5 has a row of zeros; user 2 has both training items at one time; user 3 has no training item.
FEATURES = [[2, 0], [0, 3], [1, 0], [0, 1], [3, 4], [0, 0]]
ROWS = [
    (0, 0, "train", 1), (0, 2, "test", 2), (0, 5, "test", 3),
    (1, 0, "train", 5), (1, 1, "train", 9), (1, 3, "valid", 10), (1, 4, "test", 11),
    (2, 1, "train", 1), (2, 0, "train", 1), (2, 2, "test", 2),
    (3, 1, "test", 1),
]  # fmt: skip
# users of items 0 ... 4: three, two, two, one, none
BASKETS = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (2, 3), (3, 2)]
SECOND = 1 / math.log2(3)  # the gain of rank 2


def toy(rows: list[tuple[Any, ...]], n_users: int, n_items: int) -> PreparedDataset:
    frame = pd.DataFrame(rows, columns=["user", "item", "split", "timestamp"][: len(rows[0])])
    return PreparedDataset("toy", n_users, n_items, "0" * 64, frame.astype({"user": np.int32, "item": np.int32}))


def write_toy(folder: Path, rows: list[tuple[Any, ...]] = ROWS) -> Path:
    data = toy(rows, 4, 6)
    counts = {"dataset": "toy", "n_users": 4, "n_items": 6, "content_hash": "0" * 64, "item_list_hash": "1" * 64}
    write_prepared(folder, {INTERACTIONS: data.interactions}, counts)
    return folder


def write_features(folder: Path, matrices: dict[str, Any], **record: Any) -> Path:
    known = {"feature_set": "vectors", "item_list_hash": "1" * 64, "missing": [], "n_missing": 0}
    for modality, matrix in matrices.items():
        FeatureMatrix(np.array(matrix, dtype=np.float32), modality, {**known, **record}).save(folder)
    return folder


def baskets(rows: list[tuple[int, int]] = BASKETS, n_users: int = 4, n_items: int = 5) -> Any:
    users, items = np.array(rows).T
    return Interactions(users, items, n_users, n_items).matrix


@pytest.fixture
def small_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEIGHBOURS", (2, 3, 10))


def test_the_record_of_a_data_set_worked_out_by_hand(
    tmp_path: Path, small_neighbours: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for found in (ranking, module):
        monkeypatch.setattr(found, "tie_order", np.arange)
    prepared = write_toy(tmp_path / "prepared")
    features = write_features(tmp_path / "features", {"image": FEATURES}, masked_share=0.5, n_missing=1)
    probe(prepared, features, ("image",), tmp_path / "out" / "probe.json", (1, 2))
    record = read_json(tmp_path / "out" / "probe.json")
    (measured,) = record["probes"]
    # mean: user 0 ranks 2 4 1 3 5, user 1 (3 masked) 4 2 5, user 2 4 2 3 5; last: user 1 4 2 5, user 2 3 4 2 5
    recall = {"mean": [Fraction(1, 2), Fraction(5, 6)], "last": [Fraction(1, 2), Fraction(1, 2)]}
    half = 1 / (1 + SECOND)
    ndcg = {"mean": [(1 + 1 + 0) / 3, (half + 1 + SECOND) / 3], "last": [(1 + 1 + 0) / 3, (half + 1 + 0) / 3]}
    for kind in ("mean", "last"):
        assert measured["zero_shot"][kind] == pytest.approx(
            dict(zip(["recall_at_1", "recall_at_2"], map(float, recall[kind]), strict=True))
            | dict(zip(["ndcg_at_1", "ndcg_at_2"], ndcg[kind], strict=True))
        )
    # items 0 and 1 are each other's only neighbours: of 0 the nearest are 2 4, then 1 3 5 alike; of 1: 3 4, then 0 2 5
    assert measured["item_cf"] == {"2": 0.0, "3": 1.0, "10": 1.0}
    floors = record["floors"]
    assert floors["random"] == {"2": 2 / 5, "3": 3 / 5, "10": 1.0}
    assert floors["popularity"] == {"2": 1.0, "3": 1.0, "10": 1.0}
    # ranked 1 2 3 4 5, 2 4 5, 2 3 4 5
    popular = {"recall_at_1": 1 / 3, "recall_at_2": 5 / 6, "ndcg_at_1": 1 / 3}
    assert floors["zero_shot_popularity"] == pytest.approx(
        {**popular, "ndcg_at_2": (SECOND / (1 + SECOND) + SECOND + 1) / 3}
    )
    random_recall = [(1 / 5 + 1 / 3 + 1 / 4) / 3, (2 / 5 + 2 / 3 + 1 / 2) / 3]
    random_ndcg = [(2 / 5 + 1 / 3 + 1 / 4) / 3, (2 / 5 + (1 + SECOND) * (1 / 3 + 1 / 4)) / 3]
    assert floors["zero_shot_random"] == pytest.approx(
        dict(zip(["recall_at_1", "recall_at_2", "ndcg_at_1", "ndcg_at_2"], random_recall + random_ndcg, strict=True))
    )
    counts = {"n_items": 6, "users": 3, "users_without_history": 1, "items_with_cf_neighbours": 2}
    assert {name: record[name] for name in counts} == counts
    assert (record["dataset"], record["features"], record["masked_share"]) == ("toy", "vectors", 0.5)
    assert record["data"]["interactions"] == "0" * 64 and record["data"]["missing"] == {"image": 1}
    assert record["data"]["features"]["image"] == read_json(features / "image.json")["matrix_sha256"]
    assert len(record["code"]) == 16
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["probe.json"]


def test_without_times_the_last_item_is_unknown(tmp_path: Path) -> None:
    no_times = [row[:3] for row in ROWS]
    one_missing = [(*row[:3], None if row[:2] == (1, 1) else float(row[3])) for row in ROWS]
    for name, rows in (("none", no_times), ("one", one_missing)):
        prepared = write_toy(tmp_path / name, rows)
        features = write_features(tmp_path / "features", {"image": FEATURES})
        probe(prepared, features, ("image",), tmp_path / f"{name}.json")
        (measured,) = read_json(tmp_path / f"{name}.json")["probes"]
        assert measured["zero_shot"]["last"] is None and measured["zero_shot"]["mean"]["recall_at_10"] == 1
    later = max((0, 1), key=tie_order(6).tolist().index)  # of two at one time
    assert last_items(toy(ROWS, 4, 6)).toarray().argmax(axis=1)[:3].tolist() == [0, 1, later]


def test_all_modalities_are_their_unit_rows_side_by_side(tmp_path: Path) -> None:
    prepared = write_planted(tmp_path / "prepared")
    content = {name: matrix.numpy() for name, matrix in planted_content().features.items()}
    beside = np.hstack([x / np.linalg.norm(x, axis=1, keepdims=True) for x in content.values()])
    probe(prepared, write_features(tmp_path / "two", content), ("image", "text"), tmp_path / "two.json")
    probe(prepared, write_features(tmp_path / "one", {"both": beside}), ("both",), tmp_path / "one.json")
    two, one = (read_json(tmp_path / f"{name}.json") for name in ("two", "one"))
    assert [measured["modality"] for measured in two["probes"]] == ["image", "text", "all"]
    for measure in ("zero_shot", "item_cf"):
        assert two["probes"][2][measure] == one["probes"][0][measure]
    assert two["floors"] == one["floors"]
    # tastes were planted into the features and the interactions
    found, chance = two["probes"][2], two["floors"]
    assert found["zero_shot"]["mean"]["recall_at_10"] > chance["zero_shot_random"]["recall_at_10"] + 0.1
    assert found["item_cf"]["10"] > chance["random"]["10"] + 0.1
    written = (tmp_path / "two.json").read_bytes()
    probe(prepared, tmp_path / "two", ("image", "text"), tmp_path / "two.json")
    assert (tmp_path / "two.json").read_bytes() == written


def test_zero_shot_equals_a_dense_computation(tmp_path: Path) -> None:
    prepared = write_planted(tmp_path / "prepared")
    features = planted_content().features["image"].numpy()
    probe(prepared, write_features(tmp_path / "f", {"image": features}), ("image",), tmp_path / "p.json", (5, 10))
    measured = read_json(tmp_path / "p.json")["probes"][0]["zero_shot"]["mean"]
    frame = PreparedDataset.load(prepared).interactions
    unit = features.astype(np.float64) / np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    recall, ndcg = [], []
    for _, rows in frame.groupby("user"):
        train, test = (rows.loc[rows["split"] == split, "item"].to_numpy() for split in ("train", "test"))
        if not len(test):
            continue
        candidates = np.setdiff1d(np.arange(50), rows.loc[rows["split"] != "test", "item"])
        scores = cosine_similarity(unit[candidates], unit[train].mean(axis=0, keepdims=True))[:, 0]
        relevant = np.isin(candidates, test)
        recall.append(relevant[np.argsort(-scores)[:5]].mean() * 5 / len(test))
        ndcg.append(ndcg_score(relevant[None].astype(int), scores[None], k=10))
    assert measured["recall_at_5"] == pytest.approx(np.mean(recall), rel=1e-12)
    assert measured["ndcg_at_10"] == pytest.approx(np.mean(ndcg), rel=1e-12)


def test_scores_depend_on_no_tile_and_equal_rows_tie() -> None:
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(0, 7, (90,), generator=generator)
    items = torch.nn.functional.normalize(torch.randn(7, 33, generator=generator))
    items[3] = 0
    pairs = torch.randint(0, 90, (400,), generator=generator).numpy()
    histories = Interactions(np.arange(400) % 25, pairs, 25, 90).matrix
    users = torch.tensor([0, 3, 4, 9, 17, 24])
    whole = history_scorer(items[kinds], histories)(users)
    for tile in (1, 4, 13):
        assert torch.equal(history_scorer(items[kinds], histories, tile)(users), whole)
    expected = (
        histories[users.numpy()].toarray().astype(np.float64) @ items[kinds].double().numpy()
    ) @ items.double().T.numpy()
    for kind in range(7):
        columns = whole[:, kinds == kind]
        assert torch.equal(columns, columns[:, :1].expand_as(columns))
        np.testing.assert_allclose(columns[:, 0], expected[:, kind], atol=1e-5)
    assert (whole[:, kinds == 3] == 0).all()


def test_no_test_user_with_a_history_is_an_error(tmp_path: Path) -> None:
    rows = [(0, 0, "train"), (1, 1, "test")]
    prepared = write_toy(tmp_path / "prepared", rows)
    features = write_features(tmp_path / "features", {"image": FEATURES})
    with pytest.raises(MmreproError, match=r"'toy': no test user has a training item.*split\.kind"):
        probe(prepared, features, ("image",), tmp_path / "p.json")
    assert not (tmp_path / "p.json").exists()


def test_random_order_equals_the_mean_over_all_orders() -> None:
    # user 0 has four candidates; user 1 had a test item in training before; both candidates of user 2 are test items
    rows = [
        (0, 0, "train"), (0, 1, "test"), (0, 2, "test"), (0, 4, "test"),
        (1, 1, "train"), (1, 3, "valid"), (1, 1, "test"), (1, 0, "test"),
        (2, 1, "train"), (2, 2, "train"), (2, 3, "valid"), (2, 0, "test"), (2, 4, "test"),
    ]  # fmt: skip
    dataset = toy(rows, 3, 5)
    evaluator = Evaluator(dataset, Protocol())
    expected = random_zero_shot(dataset, (1, 2, 4))
    sums = dict.fromkeys(expected, 0.0)
    for order in itertools.permutations(range(5)):
        scores = torch.tensor(order, dtype=torch.float32)
        lists = evaluator.rank(lambda users, s=scores: s.expand(len(users), -1), "test", 4)
        means = {
            f"{m.__name__}_at_{k}": evaluator.value(lists, "test", m, k) for m in (recall, ndcg) for k in (1, 2, 4)
        }
        sums = {name: total + means[name] / math.factorial(5) for name, total in sums.items()}
    assert expected == pytest.approx(sums)


def test_neighbours_by_co_occurrence_worked_out_by_hand() -> None:
    # cosines: (0, 1) 2 / sqrt 6, (0, 2) 1 / sqrt 6, (0, 3) 1 / sqrt 3, (1, 2) 1 / 2, no others; item 4 has no user
    expected = [[1, 3, 2], [0, 2, -1], [1, 0, -1], [0, -1, -1], [-1, -1, -1]]
    assert cf_neighbours(baskets(), 3).tolist() == expected
    assert cf_neighbours(baskets([*BASKETS, *BASKETS[:3]]), 3).tolist() == expected  # repeated pairs count once


def test_recall_of_neighbours_worked_out_by_hand() -> None:
    wanted = cf_neighbours(baskets(), 3)
    lists = np.array([[3, 4, 1], [2, 0, 3], [4, 3, 0], [1, 0, 2], [0, 1, 2]])
    assert neighbour_recall(wanted, lists, 1) == 0
    assert neighbour_recall(wanted, lists, 2) == Fraction(5, 8)  # 1/2, 1, 0, 1
    assert neighbour_recall(wanted, lists, 3) == pytest.approx(float(Fraction(19, 24)))  # 2/3, 1, 1/2, 1
    popular = popular_neighbours(np.array([3, 2, 2, 1, 0]), 3)
    assert popular.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2]]
    assert neighbour_recall(wanted, popular, 2) == Fraction(7, 8)  # 1/2, 1, 1, 1
    assert neighbour_recall(np.full((4, 2), -1), popular[:4], 2) is None


def test_equal_cosines_tie_even_where_rounding_tells_them_apart() -> None:
    # item 0 shares c of its d users with item 2, item 1 c f of its d f^2: equal cosines, but the first rounds lower
    shared, sizes = next(
        ((c, c * f), (d, d * f * f))
        for d, c, f in itertools.product(range(2, 9), range(1, 4), range(2, 5))
        if c <= d and c / math.sqrt(d * (c + c * f)) < c * f / math.sqrt(d * f * f * (c + c * f))
    )
    rows = [(user, 2) for user in range(sum(shared))]
    rows += [(user, int(user >= shared[0])) for user in range(sum(shared))]
    fresh = itertools.count(sum(shared))
    rows += [(next(fresh), item) for item in (0, 1) for _ in range(sizes[item] - shared[item])]
    assert cf_neighbours(baskets(rows, next(fresh), 3), 2)[2].tolist() == [0, 1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 0.9), st.sampled_from([1, 700, 2000, 10**8]))
def test_co_occurrence_equals_exact_fractions_whatever_the_chunk(seed: int, density: float, chunk: int) -> None:
    dense = (np.random.default_rng(seed).random((9, 8)) < density).astype(int)
    users, items = dense.nonzero()
    matrix = Interactions(users, items, 9, 8).matrix
    found = cf_neighbours(matrix, 4, chunk)
    cosines = cosine_similarity(dense.T)
    for item in range(8):
        squared = {
            other: Fraction(int(dense[:, item] @ dense[:, other]) ** 2, int(dense[:, other].sum()))
            for other in range(8)
            if other != item and dense[:, item] @ dense[:, other]
        }
        expected = sorted(squared, key=lambda other: (-squared[other], other))[:4]
        assert found[item].tolist() == expected + [-1] * (4 - len(expected))
        assert (np.diff(cosines[item, expected]) <= 1e-12).all()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(0, 25))
def test_blocks_are_as_large_as_the_limit_allows(bounds: list[int], limit: int) -> None:
    blocks = list(_blocks(np.array(bounds), limit))
    assert [row for block in blocks for row in range(block.start, block.stop)] == list(range(len(bounds)))
    for block in blocks:
        assert sum(bounds[block]) <= limit or block.stop == block.start + 1
        assert block.stop == len(bounds) or sum(bounds[block.start : block.stop + 1]) > limit


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_random_lists_recover_their_share(seed: int, k: int) -> None:
    """Over all lists of k of the five other items the mean is k / 5."""
    generator = np.random.default_rng(seed)
    users, items = (generator.random((7, 6)) < 0.5).nonzero()
    wanted = cf_neighbours(Interactions(users, items, 7, 6).matrix, 5)
    others = [[other for other in range(6) if other != item] for item in range(6)]
    choices = list(itertools.combinations(range(5), k))
    recalls = [neighbour_recall(wanted, np.array([[o[c] for c in choice] for o in others]), k) for choice in choices]
    if recalls[0] is None:
        assert (wanted == -1).all()
    else:
        assert np.mean([float(r) for r in recalls if r is not None]) == pytest.approx(k / 5)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=9), st.data())
def test_popular_neighbours_are_the_first_others(popularity: list[int], data: st.DataObject) -> None:
    k = data.draw(st.integers(0, len(popularity) - 1))
    order = sorted(range(len(popularity)), key=lambda item: (-popularity[item], item))
    expected = [[other for other in order if other != item][:k] for item in range(len(popularity))]
    assert popular_neighbours(np.array(popularity), k).tolist() == expected


def test_the_record_is_plain_json(tmp_path: Path) -> None:
    rows = [(0, 0, "train"), (0, 1, "test"), (1, 2, "train")]  # nobody shares an item
    probe(
        write_toy(tmp_path / "prepared", rows),
        write_features(tmp_path / "features", {"image": FEATURES}),
        ("image",),
        tmp_path / "p.json",
    )
    record = json.loads((tmp_path / "p.json").read_text())
    assert record["probes"][0]["item_cf"] == record["floors"]["popularity"] == dict.fromkeys(("10", "20", "50"))
    assert record["items_with_cf_neighbours"] == 0
