"""The stage that measures: from lists to metrics, with values known beforehand."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted import write_planted

from mmrepro.config.run import RunSpec
from mmrepro.datasets.interactions import INTERACTIONS, write_prepared
from mmrepro.errors import MmreproError
from mmrepro.evaluation.measure import measure
from mmrepro.evaluation.metrics import METRICS
from mmrepro.features.matrix import FeatureMatrix
from mmrepro.records.files import write_json
from mmrepro.training.run import train

# users 0 and 1; items 0 .. 3; user 0 is to find items 2 and 3, user 1 item 2
PAIRS = [
    (0, 0, "train"),
    (0, 1, "valid"),
    (0, 2, "test"),
    (0, 3, "test"),
    (1, 0, "train"),
    (1, 1, "train"),
    (1, 2, "test"),
]
LISTS = {"valid": {0: [2, 1]}, "test": {0: [3, 1], 1: [3, 0, 2]}}


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    folder = tmp_path / "prepared"
    counts = {"dataset": "toy", "n_users": 2, "n_items": 4, "content_hash": "c", "item_list_hash": "i"}
    write_prepared(folder, {INTERACTIONS: pd.DataFrame(PAIRS, columns=["user", "item", "split"])}, counts)
    return folder


def write_run(root: Path, name: str, lists: dict = LISTS, content_hash: str = "c") -> None:
    rows = [
        (split, user, rank, item, -float(rank))
        for split, users in lists.items()
        for user, items in users.items()
        for rank, item in enumerate(items, start=1)
    ]
    frame = pd.DataFrame(rows, columns=["split", "user", "rank", "item", "score"])
    (root / name).mkdir(parents=True)
    frame.sample(frac=1, random_state=0).to_parquet(root / name / "lists.parquet")
    write_json(root / name / "run.json", {"data": {"interactions": content_hash}})


def measured(path: Path, run: str) -> dict[str, dict[str, float | None]]:
    return json.loads(path.read_text())["runs"][run]


def test_means_and_users_are_the_fractions_worked_by_hand(prepared: Path, tmp_path: Path) -> None:
    write_run(tmp_path, "a")
    measure(prepared, ["a", "missing"], tmp_path / "m.json", (1, 3), tmp_path)
    found = measured(tmp_path / "m.json", "a")
    # user 0 finds one of two at rank 1, user 1 the only one at rank 3
    assert found["test"]["recall_at_1"] == Fraction(1, 4) and found["test"]["recall_at_3"] == Fraction(3, 4)
    assert found["test"]["mrr_at_3"] == pytest.approx((1 + 1 / 3) / 2)
    assert found["valid"]["recall_at_1"] == 0 and found["valid"]["mrr_at_3"] == Fraction(1, 2)
    # of four items, 3, 1, 0, 2 are listed 2, 1, 1, 1 times: (-3 - 1 + 1 + 3 * 2) / (4 * 5)
    assert found["test"]["gini_at_3"] == pytest.approx(3 / 20)
    assert found["test"]["coverage_at_1"] == Fraction(1, 4)
    assert found["test"]["intra_list_distance_at_3"] is None  # no features
    assert set(found["test"]) == {f"{metric.name}_at_{k}" for metric in METRICS for k in (1, 3)}
    users = pd.read_parquet(tmp_path / "m.parquet")
    assert list(users["run"].unique()) == ["a"]
    test = users[users["split"] == "test"].set_index("user")
    assert test["recall_at_3"].to_dict() == {0: 0.5, 1: 1.0}
    assert users.loc[users["split"] == "valid", "user"].tolist() == [0]


def test_a_user_without_a_list_counts_as_one_who_found_nothing(prepared: Path, tmp_path: Path) -> None:
    write_run(tmp_path, "a", {"valid": LISTS["valid"], "test": {1: [2]}})
    measure(prepared, ["a"], tmp_path / "m.json", (1,), tmp_path)
    assert measured(tmp_path / "m.json", "a")["test"]["recall_at_1"] == Fraction(1, 2)


def test_content_compares_items_that_have_features_in_every_modality(prepared: Path, tmp_path: Path) -> None:
    write_run(tmp_path, "a", {"valid": LISTS["valid"], "test": {0: [0, 1, 2], 1: [2, 3]}})
    image = np.array([[2, 0], [0, 3], [1, 0], [1, 1]], dtype=np.float32)
    text = np.array([[1.0], [1.0], [-5.0], [1.0]], dtype=np.float32)
    for modality, matrix, missing in (("image", image, [3]), ("text", text, [])):
        record = {
            "encoder": {"encoder": "published"},
            "item_list_hash": "i",
            "missing": [{"item": i, "reason": "x"} for i in missing],
        }
        FeatureMatrix(matrix, modality, record).save(tmp_path / "features")
    measure(prepared, ["a"], tmp_path / "m.json", (3,), tmp_path, tmp_path / "features", ("image", "text"))
    users = (
        pd.read_parquet(tmp_path / "m.parquet").query("split == 'test'").set_index("user")["intra_list_distance_at_3"]
    )
    # cosines, image and text: (0, 1): 0 and 1; (0, 2): 1 and -1; (1, 2): 0 and -1; their means 1/2, 0, -1/2
    assert users[0] == pytest.approx(1.0, abs=1e-6)
    assert np.isnan(users[1])  # item 3 has no image of its own, so one is left


def test_runs_are_measured_alike_whatever_stands_beside_them(prepared: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path, name, LISTS if name == "a" else {"valid": {0: [1]}, "test": {0: [2], 1: [2]}})
    measure(prepared, ["a"], tmp_path / "one.json", (1, 3), tmp_path)
    measure(prepared, ["b", "a"], tmp_path / "two.json", (1, 3), tmp_path)
    assert measured(tmp_path / "one.json", "a") == measured(tmp_path / "two.json", "a")
    both = pd.read_parquet(tmp_path / "two.parquet")
    alone = both[both["run"] == "a"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, pd.read_parquet(tmp_path / "one.parquet"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "a/lists.parquet").unlink(), r"a/lists\.parquet: no such file; delete its folder"),
        (
            lambda root: write_json(root / "a/run.json", {"data": {"interactions": "old"}}),
            "a: made from other data than",
        ),
        (lambda root: (root / "a/run.json").unlink(), "no run on 'toy' has finished; run the study first"),
    ],
)
def test_what_cannot_be_measured_is_one_line_and_leaves_nothing(
    prepared: Path, tmp_path: Path, spoil, message: str
) -> None:
    write_run(tmp_path, "a")
    spoil(tmp_path)
    with pytest.raises(MmreproError, match=message) as error:
        measure(prepared, ["a"], tmp_path / "out/m.json", (1,), tmp_path)
    assert "\n" not in str(error.value)
    assert [path.name for path in (tmp_path / "out").iterdir()] == []


def test_what_a_run_watched_is_what_is_measured(tmp_path: Path) -> None:
    prepared = write_planted(tmp_path / "prepared")
    parameters = {"embedding_size": 8, "batch_size": 128, "max_epochs": 3}
    spec = RunSpec(purpose="final", dataset="planted", model="bpr", parameters=parameters, watch="ndcg_at_10")
    train(spec, 0, prepared, None, tmp_path / "run")
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["watch"] == "ndcg_at_10" and set(record["valid"]) == {"ndcg_at_10"} and "test" not in record
    assert record["parameters"]["reg_weight"] == 0.1  # a default, recorded
    measure(prepared, ["run"], tmp_path / "m.json", (10,), tmp_path)
    assert measured(tmp_path / "m.json", "run")["valid"]["ndcg_at_10"] == record["valid"]["ndcg_at_10"]
    lists = pd.read_parquet(tmp_path / "run/lists.parquet")
    assert set(lists["split"]) == {"valid", "test"}
    history = [json.loads(line) for line in (tmp_path / "run/history.jsonl").read_text().splitlines()]
    assert [set(epoch["valid"]) for epoch in history] == [{"ndcg_at_10"}] * 3
