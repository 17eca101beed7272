import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from checkout import Checkout

from mmrepro.records.files import read_object, write_record
from mmrepro.study.resolve import plan_of_file

pytestmark = pytest.mark.slow


def write_study(checkout: Checkout, name: str, search: dict[str, Any]) -> None:
    smoke = yaml.safe_load((checkout.folder / "config/studies/smoke.yaml").read_text())
    study = {**smoke, "study": name, "models": ["lightgcn"], "focus": "lightgcn", "search": search}
    (checkout.folder / f"config/studies/{name}.yaml").write_text(yaml.safe_dump(study))


def kinds(planned: list[str]) -> list[str]:
    """What the planned jobs make: trials, searches, runs, or under the study's name its measures and tables."""
    return sorted(path.split("/")[1].split("-")[0] for path in planned if path.startswith("results/"))


@pytest.fixture(scope="module")
def searched(finished: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which two trials of LightGCN have been compared and the winner has been run."""
    checkout = Checkout(tmp_path_factory.mktemp("searched") / "checkout")
    shutil.copytree(finished.folder, checkout.folder)
    write_study(checkout, "searched", {"space": {"lightgcn": {"n_layers": [1, 2]}}})
    result = checkout.snakemake("--quiet", "rules", "--until", "tables", study="searched")
    assert result.returncode == 0, result.stdout + result.stderr
    return checkout


def test_a_search_is_published_with_its_trials_and_a_figure(searched: Checkout) -> None:
    folder = searched.folder / "results/searched"
    trials = pd.read_csv(folder / "tables/search.csv")
    assert [json.loads(text) for text in trials["parameters"]] == [{"n_layers": 1}, {"n_layers": 2}]
    assert trials["winner"].sum() == 1 and trials["value"].idxmax() == trials["winner"].idxmax()
    assert (folder / "figures/search.svg").stat().st_size > 0
    assert not any(
        (run.parent / "lists.parquet").exists() for run in searched.folder.glob("results/trials/**/run.json")
    )


def test_a_larger_grid_plans_its_new_trials_and_the_selection_and_no_final_run(searched: Checkout) -> None:
    write_study(searched, "searched", {"space": {"lightgcn": {"n_layers": [1, 2, 3]}}})
    planned = searched.planned("--until", "tables", study="searched")
    write_study(searched, "searched", {"space": {"lightgcn": {"n_layers": [1, 2]}}})
    assert kinds(planned) == ["searched", "searches", "trials"]


def test_final_runs_follow_when_the_winner_changes(searched: Checkout) -> None:
    (path,) = searched.folder.glob("results/searches/searched/**/*.json")
    chosen = read_object(path)
    assert chosen is not None and "runs" not in kinds(searched.planned("--until", "tables", study="searched"))
    other = 3 - chosen["parameters"]["n_layers"]
    try:
        write_record(path, {**chosen, "parameters": {"n_layers": other}})
        assert kinds(searched.planned("--until", "tables", study="searched")) == ["runs", "searched", "searched"]
    finally:
        write_record(path, chosen)


def test_a_search_in_one_job_uses_the_trials_that_are_there(searched: Checkout) -> None:
    write_study(
        searched,
        "tpe",
        {"sampler": "tpe", "budget": 2, "models": ["lightgcn"], "space": {"lightgcn": {"n_layers": [1, 2]}}},
    )
    records = {path: path.stat().st_mtime_ns for path in searched.folder.glob("results/trials/**/run.json")}
    assert len(records) == 2
    assert kinds(searched.planned("--until", "search", study="tpe")) == ["searches"]
    result = searched.snakemake("--quiet", "rules", "--until", "search", study="tpe")
    assert result.returncode == 0, result.stdout + result.stderr
    assert records == {path: path.stat().st_mtime_ns for path in searched.folder.glob("results/trials/**/run.json")}
    plan = plan_of_file(Path("config/studies/tpe.yaml"), searched.folder)
    assert {searched.folder / trial.folder / "run.json" for trial in plan.trials} == set(records)
    assert kinds(searched.planned("--until", "tables", study="tpe")) == ["runs", "tpe", "tpe"]
