"""A model trained on everything, from a run: what it has seen, what it lists, and what nobody takes it for."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from planted import N_ITEMS, N_USERS, SMALL, planted_dataset, write_planted

from mmrepro.config.protocol import ProtocolConfig
from mmrepro.config.run import RunSpec
from mmrepro.datasets.interactions import ITEMS, LEFT_OUT, USERS
from mmrepro.errors import MmreproError
from mmrepro.records.files import read_object, write_record
from mmrepro.study.layout import Layout
from mmrepro.training.refit import refit
from mmrepro.training.run import train

pytestmark = pytest.mark.usefixtures("one_thread")
RELEASED = ProtocolConfig(base="released").resolve()
LEFT_OUT_OF_3 = min({*range(N_ITEMS)} - {*planted_dataset().interactions.query("user == 3")["item"]})
"""An item that user 3 has had by the raw data alone."""


def finished(root: Path, model: str, **changes: object) -> Path:
    """Folder of a finished run on planted data."""
    prepared = root / "data/prepared/planted"
    if not prepared.is_dir():
        items = pd.DataFrame({"key": [f"I{i}" for i in range(N_ITEMS)], "title": "a"}).rename_axis("item")
        users = pd.DataFrame({"key": [f"U{i}" for i in range(N_USERS)]}).rename_axis("user")
        left_out = pd.DataFrame({"user": [3], "item": [LEFT_OUT_OF_3]}, dtype=np.int32)
        write_planted(prepared, {ITEMS: items, USERS: users, LEFT_OUT: left_out})
    spec = RunSpec.model_validate({"purpose": "final", "dataset": "planted", "model": model, **changes})
    folder = root / Layout.run(spec, 1)
    features = root / Layout.features("planted", spec.features) if spec.features else None
    train(spec, 1, prepared, features, folder)
    return folder


@pytest.mark.parametrize("protocol", [ProtocolConfig().resolve(), RELEASED])
def test_everything_is_trained_on_for_as_many_epochs_as_the_best(tmp_path: Path, protocol: object) -> None:
    run = finished(tmp_path, "lightgcn", parameters={**SMALL, "max_epochs": 4}, protocol=protocol)
    record = read_object(run / "run.json")
    write_record(run / "run.json", {**record, "best_epoch": 2})
    folder = refit(run, root=tmp_path)
    assert folder.is_relative_to(tmp_path / "results/serving/planted/none/lightgcn")
    found = read_object(folder / "run.json")
    assert (found["purpose"], found["epochs"], found["best_epoch"]) == ("serving", 2, 2)
    assert (found["seed"], found["data"]) == (1, record["data"])
    assert found["parameters"] == {**record["parameters"], "max_epochs": 2}
    assert not {"valid", "test"} & found.keys()
    assert {path.name for path in folder.iterdir()} >= {"model.pt", "embeddings.npz", "config.yaml", "lists.parquet"}
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [line["valid"] for line in history] == [{}, {}]


def test_lists_are_those_of_all_users_without_what_they_had(tmp_path: Path) -> None:
    run = finished(tmp_path, "itemknn")
    folder = refit(run, tmp_path / "serving", tmp_path)
    assert folder == tmp_path / "serving"
    lists = pd.read_parquet(folder / "lists.parquet")
    assert set(lists["split"]) == {"everyone"}
    assert set(lists["user"]) == set(range(N_USERS))
    had = planted_dataset().interactions.groupby("user")["item"].agg(set)
    for user, rows in lists.groupby("user"):
        assert set(rows["item"]) == set(range(N_ITEMS)) - had[user]
    assert (folder / "embeddings.npz").exists() is False
    # popularity counts what it has seen: every interaction, and not those of training alone
    popular = refit(finished(tmp_path, "popularity"), root=tmp_path)
    counts = np.bincount(planted_dataset().interactions["item"], minlength=N_ITEMS)
    first = pd.read_parquet(popular / "lists.parquet").query("rank == 1").set_index("user")
    for user, row in first.iterrows():
        assert counts[row["item"]] == max(counts[item] for item in range(N_ITEMS) if item not in had[user])


def test_it_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    run = finished(tmp_path, "bpr", parameters=SMALL)
    first, second = (refit(run, tmp_path / name, tmp_path) for name in ("a", "b"))
    weights = [torch.load(folder / "model.pt", weights_only=True) for folder in (first, second)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_only_a_final_run_on_the_data_that_are_there_is_refitted(tmp_path: Path) -> None:
    run = finished(tmp_path, "popularity")
    for other in (refit(run, root=tmp_path), tmp_path):
        with pytest.raises(MmreproError, match=r"run\.json: no record of a final run; name the folder of one"):
            refit(other, root=tmp_path)
    statistics = tmp_path / "data/prepared/planted/statistics.json"
    write_record(statistics, {**read_object(statistics), "content_hash": "1" * 64})
    with pytest.raises(MmreproError, match="made of other data than those in data/; run the study again"):
        refit(run, root=tmp_path)
