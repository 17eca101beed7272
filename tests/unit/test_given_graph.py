"""Item graphs that come with a data set, by the keys of the items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from features_hand_made import make_items

from mmrepro.config.features import FeatureSetConfig
from mmrepro.config.files import validate
from mmrepro.datasets.interactions import load_items
from mmrepro.errors import MmreproError
from mmrepro.features.item_graph import build_item_graph, load_neighbours
from mmrepro.features.matrix import FeatureMatrix

PAIRS = [("K0", "K2", 0.5), ("K0", "K1", 0.9), ("K0", "K3", 0.1), ("K1", "K0", 0.9), ("K1", "X", 1.0), ("Y", "K0", 1.0),
         ("K2", "K2", 1.0), ("K2", "K3", 0.2), ("K2", "K3", 0.7)]  # fmt: skip


def settings(**graph: Any) -> FeatureSetConfig:
    modalities = {"text": {"encoder": "sentence_transformers", "source": "title", "weights": "offline"}}
    data = {"feature_set": "near", "modalities": modalities, "neighbours": 3, "graphs": {"text": graph}}
    return validate(FeatureSetConfig, data, "near.yaml")


def built(folder: Path, table: pd.DataFrame, name: str = "near.csv", **graph: Any) -> list[list[int]]:
    prepared = make_items(folder / "prepared", ["a", "b", "c", "d"], [None] * 4)
    raw = folder / "raw"
    raw.mkdir(exist_ok=True)
    if name.endswith(".parquet"):
        table.to_parquet(raw / name)
    else:
        table.to_csv(raw / name, index=False, sep=graph.pop("sep", ","))
    record = {"item_list_hash": "hash-of-4", "missing": [], "encoder": {"encoder": "x"}, "weights": None}
    FeatureMatrix(np.eye(4, dtype=np.float32), "text", record).save(folder / "features")
    section = settings(file=name, **graph)
    build_item_graph(section, "text", folder / "features", folder / "features", prepared, raw)
    assert load_items(prepared)["key"].tolist() == ["K0", "K1", "K2", "K3"]
    return load_neighbours(folder / "features", "text", 4, 3)[0].tolist()


TABLE = pd.DataFrame(PAIRS, columns=["item", "neighbour", "score"])
BY_SCORE = [[0, 1, 2], [1, 0, 1], [2, 3, 2], [3, 3, 3]]  # who has fewer has himself


@pytest.mark.parametrize("name", ["near.csv", "near.parquet", "near.csv.gz"])
def test_neighbours_are_those_of_the_keys_in_any_order_of_rows(tmp_path: Path, name: str) -> None:
    assert built(tmp_path, TABLE.sample(frac=1, random_state=3), name, score_column="score") == BY_SCORE


def test_without_scores_the_first_rows_are_the_nearest(tmp_path: Path) -> None:
    assert built(tmp_path, TABLE.drop(columns="score")) == [[0, 2, 1], [1, 0, 1], [2, 3, 2], [3, 3, 3]]


def test_separators_and_names_of_columns_are_as_they_are(tmp_path: Path) -> None:
    table = TABLE.rename(columns={"item": "from", "neighbour": "to"})
    assert built(tmp_path, table, sep=";", item_column="from", neighbour_column="to", score_column="score") == BY_SCORE


@pytest.mark.parametrize(
    ("table", "graph", "message"),
    [
        (TABLE, {"neighbour_column": "to"}, "no column 'to'; "),
        (TABLE.assign(score="high"), {"score_column": "score"}, "line 2, column 'score': 'high' is not a number"),
        (
            TABLE.replace(r"K(\d)", r"M\1", regex=True),
            {},
            "no pair is of items of the data set: 'M0' here against 'K0'",
        ),
        (TABLE.replace("K3", "k3"), {}, "1 of 4 items have no pair of their key.*'K3' against 'k3'"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, table: pd.DataFrame, graph: dict[str, str], message: str) -> None:
    with pytest.raises(MmreproError, match=message):
        built(tmp_path, table, **graph)
    assert not (tmp_path / "features/text.neighbours.npz").exists()


def test_a_graph_of_no_modality_is_refused() -> None:
    data = {"feature_set": "near", "modalities": {"text": {"encoder": "published", "file": "a.npy"}}}
    with pytest.raises(MmreproError, match="`graphs` names 'image', which is none of the modalities"):
        validate(FeatureSetConfig, {**data, "graphs": {"image": {"file": "near.csv"}}}, "near.yaml")


def pairs(*found: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(found, columns=["item", "neighbour"])


def test_a_key_that_one_column_writes_otherwise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match=r"near\.csv: 1 of 4 items have no pair of their key, but one that differs"):
        built(tmp_path, pairs(("k0", "K1"), ("K1", "K2"), ("K2", "K0")))


def test_pairs_of_unknown_items_are_counted_and_a_file_without_pairs_is_refused(tmp_path: Path) -> None:
    built(tmp_path, pairs(("K0", "K1"), ("K0", "z"), ("y", "K1"), ("K2", "K2")))
    with np.load(tmp_path / "features/text.neighbours.npz") as stored:
        assert int(stored["left_out"]) == 2
    with pytest.raises(MmreproError, match=r"near\.csv: the file has no rows; fill it"):
        built(tmp_path, pairs())
    with pytest.raises(MmreproError, match="no pair is of items of the data set: 'K0' here against 'K0' there"):
        built(tmp_path, pairs(("K0", "z")))
