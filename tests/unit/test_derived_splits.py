from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from mmrepro.columns import SPLITS
from mmrepro.config.files import load_dataset
from mmrepro.datasets.fetch import fetch
from mmrepro.datasets.interactions import PreparedDataset
from mmrepro.datasets.prepare import prepare
from mmrepro.records.files import read_json

REPOSITORY = Path(__file__).parents[2]
KINDS = ("time-per-user", "global-time", "leave-one-out")


@pytest.fixture(scope="module")
def four_splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("splits")
    prepared = {}
    for name in ("mini-baby", *(f"mini-baby--{kind}" for kind in KINDS)):
        config = load_dataset(REPOSITORY / f"config/datasets/{name}.yaml")
        raw = folder / config.raw_name
        if not raw.exists():
            fetch(config, raw, None)
        prepare(config, raw, folder / name)
        prepared[name] = folder / name
    return prepared


def test_one_name_in_a_study_is_another_split_of_the_same_data(four_splits: dict[str, Path]) -> None:
    statistics = {name: read_json(path / "statistics.json") for name, path in four_splits.items()}
    assert {name: entry["dataset"] for name, entry in statistics.items()} == {name: name for name in four_splits}
    assert len({entry["item_list_hash"] for entry in statistics.values()}) == 1
    assert len({entry["content_hash"] for entry in statistics.values()}) == 4
    cores = [[step for step in entry["steps"] if step["step"] in ("5-core", "split")] for entry in statistics.values()]
    assert all(core == cores[0] for core in cores)
    random, last = (statistics[name]["interactions"] for name in ("mini-baby", "mini-baby--time-per-user"))
    assert random == last
    one_out = statistics["mini-baby--leave-one-out"]
    assert one_out["interactions"]["valid"] == one_out["interactions"]["test"] == one_out["n_users"]


def test_time_rules_hold_on_whole_data_sets(four_splits: dict[str, Path]) -> None:
    for name, path in four_splits.items():
        frame = PreparedDataset.load(path).interactions
        times = frame["timestamp"].groupby([frame["user"], frame["split"]]).agg(["min", "max"]).unstack()
        looks_back = [(times["max", a] > times["min", b]).sum() for a, b in combinations(SPLITS, 2)]
        assert (max(looks_back) == 0) == (name != "mini-baby")
    frame = PreparedDataset.load(four_splits["mini-baby--global-time"]).interactions
    spans = frame["timestamp"].groupby(frame["split"]).agg(["min", "max"])
    assert spans.loc["train", "max"] < spans.loc["valid", "min"] <= spans.loc["valid", "max"] < spans.loc["test", "min"]
