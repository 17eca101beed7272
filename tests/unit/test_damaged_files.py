"""A damaged product is one line that names the file and the remedy, whoever reads it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hand_made import STUDY_FILE, build_hand_made, make_root, write_all, write_statistics, write_winner

from mmrepro.config.model import ModelSchema
from mmrepro.errors import MmreproError
from mmrepro.housekeeping.publish import show
from mmrepro.records.files import read_arrays, read_object, read_table
from mmrepro.study.plan import chosen_by
from mmrepro.study.resolve import plan_of_file
from mmrepro.training.selection import select

SPACE = {"lightgcn": {"n_layers": [2, 3], "reg_weight": [0.1, 0.01]}}
TRIAL = {
    "parameters": {"a": 1}, "epochs": 3, "watch": "recall_at_20", "valid": {"recall_at_20": 0.5},
    "protocol": {"select_on": "valid", "round_digits": None},
}  # fmt: skip


def refused(act: Callable[[], object], *words: str) -> None:
    with pytest.raises(MmreproError) as error:
        act()
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\xff" * 40])
def test_tables_and_arrays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.parquet"
    refused(lambda: read_table(path), "a.parquet: no such file; delete its folder and run the study again")
    path.write_bytes(content)
    refused(lambda: read_table(path, "do this"), "a.parquet: no readable parquet file (", "); do this")
    pd.DataFrame({"a": [1]}).to_parquet(path)
    refused(lambda: read_table(path, columns=["b"]), "a.parquet: no readable parquet file (", "b")
    assert read_table(path, columns=["a"])["a"].tolist() == [1]
    path.with_suffix(".npz").write_bytes(content)
    refused(lambda: read_arrays(path.with_suffix(".npz"), "x"), "a.npz: no readable arrays x (", "run the study again")
    np.savez(path.with_suffix(".npz"), x=[1], y=[2])
    assert [array.tolist() for array in read_arrays(path.with_suffix(".npz"), "y", "x")] == [[2], [1]]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"parameters": {"n_layers": 2}}', '{"parameters": 3}'])
def test_the_winner_of_a_search(tmp_path: Path, content: str) -> None:
    plan = make_root(tmp_path, datasets=["toy-a"], search={"space": SPACE})
    write_winner(tmp_path, plan, {"n_layers": 2, "reg_weight": 0.1})
    write_all(tmp_path, plan)
    path = plan.selections[0].path
    (tmp_path / path).write_text(content)
    refused(lambda: chosen_by(path, ("n_layers", "reg_weight"), tmp_path), path.name, "; delete it and run the study")
    refused(lambda: build_hand_made(tmp_path), path.name)


@pytest.mark.parametrize("content", ["", "[]", '{"trials": [{}]}', '{"trials": 3}'])
def test_the_trials_of_a_sequential_search(tmp_path: Path, content: str) -> None:
    plan = make_root(tmp_path, datasets=["toy-a"], search={"space": SPACE, "sampler": "tpe", "budget": 3})
    path = tmp_path / plan.selections[0].path
    path.parent.mkdir(parents=True)
    path.write_text(content)
    refused(lambda: plan_of_file(STUDY_FILE, tmp_path), path.name, "; delete it and run the study again")


@pytest.mark.parametrize("content", ["", "[]", *(json.dumps({**TRIAL, key: None}) for key in ("protocol", "valid"))])
def test_a_trial_that_is_compared(tmp_path: Path, content: str) -> None:
    for name, text in (("one", json.dumps(TRIAL)), ("two", content)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
    folders = [tmp_path / "one", tmp_path / "two"]
    refused(lambda: select(folders, ["a"], tmp_path / "chosen.json"), "two/run.json", "; delete its folder and run")
    assert not (tmp_path / "chosen.json").exists()


def test_statistics_schemas_and_summaries(whole: Path) -> None:
    path = write_statistics(whole, "toy-a", {})
    for content in ("", "[]"):
        path.write_text(content)
        refused(lambda: build_hand_made(whole), "toy-a/statistics.json: no ")
    path.unlink()
    folder = build_hand_made(whole)
    (folder / "summary.json").write_text("{")
    refused(lambda: show(folder), "summary.json: no valid JSON")
    schemas = whole / "config/schema/models"
    (schemas / "cm3.json").write_text("{")
    refused(lambda: ModelSchema.load(schemas, "cm3"), "cm3.json: no valid JSON; run `make schema`")


@pytest.mark.parametrize("content", ["[" * 200_000, '{"a":' * 200_000])
def test_json_that_never_closes_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(MmreproError, match=r"run\.json: no valid JSON; delete its folder and run the study again"):
        read_object(tmp_path / "run.json")
