"""A plan's jobs: what each reads, what decides it, and that one table of kinds is all that says so."""

import json
import re
from pathlib import Path

import pytest
import yaml
from hand_made import STUDY_FILE, make_root, write_winner

from mmrepro.config.dataset import DatasetConfig
from mmrepro.records.files import read_json, write_json
from mmrepro.study.kinds import KINDS
from mmrepro.study.plan import Plan
from mmrepro.study.resolve import plan_of_file

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "config/studies").glob("*.yaml"))
RULES = "\n".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))


def outputs(plan: Plan) -> set[str]:
    """What the jobs of a study make, the files beside their products included."""
    beside = {
        "prepare": ("interactions.parquet", "items.parquet", "users.parquet", "left_out.parquet", "statistics.json"),
        "train": ("lists.parquet", "run.json"), "train_trial": ("run.json",), "align_content": ("run.json",),
    }  # fmt: skip
    found = {job.product.as_posix() for job in plan.jobs}
    for job in plan.jobs:
        found |= {(job.product.parent / name).as_posix() for name in beside.get(job.kind, ())}
        if job.kind in ("extract", "align_content"):
            folder = f"data/features/{job.labels['dataset']}/{job.labels['features']}"
            found |= {f"{folder}/{job.labels['modality']}.{ending}" for ending in ("npy", "json")}
        if job.kind == "measure":
            found.add(job.product.with_suffix(".parquet").as_posix())
    return found


def test_every_kind_has_a_rule_of_its_name_and_every_rule_a_kind() -> None:
    named = re.findall(r"^rule (\w+):", RULES, re.MULTILINE)
    named += re.findall(r"^use rule \w+ as (\w+) with:", RULES, re.MULTILINE)
    assert sorted(named) == sorted(KINDS)


def test_rules_write_no_path_of_a_product_themselves() -> None:
    assert re.findall(r'"(?:data|results|logs)/[^"]*"', RULES) == []


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_jobs_of_every_study_make_what_others_read_each_thing_once(path: Path) -> None:
    plan = plan_of_file(path.relative_to(ROOT), ROOT)
    products = [(job.kind, job.product) for job in plan.jobs]
    assert len(set(products)) == len(products)
    made = outputs(plan)
    for job in plan.jobs:
        assert "{" not in job.product.as_posix() and "{" not in job.log.as_posix()
        assert job.needs.memory_mb >= 2000 and job.needs.minutes >= 0 and job.runtime >= job.of_kind.runtime
        json.dumps(dict(job.settings))
        for read in (file for files in (*job.inputs.values(), *job.undated.values()) for file in files):
            assert read.as_posix() in made or read.parts[0] == "config" or read.parts[:2] == ("data", "published"), read
    kinds = [job.kind for job in plan.jobs]
    assert kinds == sorted(kinds, key=list(KINDS).index)


def test_a_job_is_told_the_code_that_it_reaches_and_the_runs_of_a_model_share_it(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    codes = {(job.model, job.code) for job in plan.jobs_of("train")}
    assert len(codes) == len({model for model, _ in codes}) == 3
    assert {run.code for run in plan.runs if run.spec.model == "cm3"} == {
        code for model, code in codes if model == "cm3"
    }


def test_settings_of_a_run_are_what_differs_from_the_defaults(tmp_path: Path) -> None:
    plan = make_root(tmp_path, parameters={"cm3": {"gamma": 0.9, "alpha": 0.5}}, threads=2)
    (job, *_) = [job for job in plan.jobs_of("train") if job.model == "cm3"]
    assert job.settings == {
        "purpose": "final", "dataset": "toy-a", "features": "miniature", "modalities": ["image", "text"], "model": "cm3",
        "parameters": {"gamma": 0.9}, "threads": 2,
    }  # fmt: skip
    assert plan.parameters_of(plan.runs[-1].spec)["alpha"] == 0.5


def test_a_winner_completes_the_settings_once_it_is_known(tmp_path: Path) -> None:
    search = {"space": {"lightgcn": {"n_layers": [1, 2], "reg_weight": [0.1]}}}
    plan = make_root(tmp_path, datasets=["toy-a"], models=["lightgcn"], seeds=[0], search=search, focus="lightgcn")
    (job,) = plan.jobs_of("train")
    with pytest.raises(FileNotFoundError):
        job.completed(tmp_path)
    write_winner(tmp_path, plan, {"n_layers": 1, "reg_weight": 0.1, "unasked": 3})
    assert job.completed(tmp_path)["parameters"] == {"n_layers": 1, "reg_weight": 0.1}
    assert job.settings["selects"] == ["n_layers", "reg_weight"]


def with_parameter(root: Path, model: str, name: str, default: float) -> None:
    path = root / f"config/schema/models/{model}.json"
    schema = read_json(path)
    schema["properties"][name] = {"default": default, "type": "number"}
    write_json(path, schema)


def test_an_optional_parameter_moves_no_folder_until_a_study_sets_it(tmp_path: Path) -> None:
    before = [run.folder for run in make_root(tmp_path).runs]
    with_parameter(tmp_path, "cm3", "extra", 1.0)
    assert [run.folder for run in plan_of_file(STUDY_FILE, tmp_path).runs] == before
    same = plan_of_file(STUDY_FILE, tmp_path, parameters={"cm3": {"extra": 1}})
    assert [run.folder for run in same.runs] == before
    moved = plan_of_file(STUDY_FILE, tmp_path, parameters={"cm3": {"extra": 2.0}})
    changed = {run.spec.model for run, folder in zip(moved.runs, before, strict=True) if run.folder != folder}
    assert changed == {"cm3"}


def test_a_default_that_changes_moves_no_folder_of_runs_that_have_it(tmp_path: Path) -> None:
    before = [run.folder for run in make_root(tmp_path).runs]
    with_parameter(tmp_path, "cm3", "gamma", 0.7)  # the fingerprint tells the two apart
    assert [run.folder for run in plan_of_file(STUDY_FILE, tmp_path).runs] == before


def test_the_order_of_sources_is_part_of_a_pretraining(tmp_path: Path) -> None:
    plan = make_root(tmp_path, models=["cm3"], features={"default": "alignrec-miniature"})
    (job, _) = plan.jobs_of("align_content")
    path = tmp_path / "config/features/alignrec-miniature.yaml"
    data = yaml.safe_load(path.read_text())
    encoder = data["modalities"]["unified"]
    encoder["sources"] = dict(reversed(encoder["sources"].items()))
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    (turned, _) = plan_of_file(STUDY_FILE, tmp_path).jobs_of("align_content")
    first, second = (json.dumps(dict(found.settings), sort_keys=True) for found in (job, turned))
    assert first != second


def test_features_are_compared_by_the_data_sets_own_set_where_a_run_reads_it(tmp_path: Path) -> None:
    plan = make_root(tmp_path, features={"default": "miniature", "toy-b": "alignrec-miniature"})
    settings = {job.labels["dataset"]: job.settings["features"] for job in plan.jobs_of("measure")}
    assert settings == {"toy-a": "miniature", "toy-b": "alignrec-miniature"}
    without = plan_of_file(STUDY_FILE, tmp_path, models=["popularity", "lightgcn"], focus="lightgcn")
    assert {job.settings["features"] for job in without.jobs_of("measure")} == {"none"}


def test_sections_are_handed_on_whole_and_without_defaults() -> None:
    plan = plan_of_file(Path("config/studies/baby-published.yaml"), ROOT)
    by_kind = {job.kind: job for job in plan.jobs_of("fetch", "prepare")}
    assert set(by_kind["fetch"].settings) == {"folder", "files", "reader", "options"}
    assert set(by_kind["prepare"].settings) <= set(DatasetConfig.model_fields)
    assert by_kind["prepare"].settings["split"] == {"kind": "published"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"watch": "recal_at_20"}, "`watch: recal_at_20` is no metric of accuracy; did you mean 'recall'?"),
        ({"watch": "coverage_at_20"}, "`watch: coverage_at_20` is no metric of accuracy"),
        ({"watch": "intra_list_distance_at_20"}, "is no metric of accuracy"),
        ({"watch": "recall_at_101"}, "lists are 100 items long; no cutoff can be larger"),
        ({"cutoffs": [10, 200]}, "lists are 100 items long"),
        ({"comparisons": {"main": {"title": "t", "models": ["cm3"], "variants": {"a": {}, "b": {}}}}}, "name of another table"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused_before_anything_runs(tmp_path: Path, changes: dict, message: str) -> None:
    from mmrepro.errors import MmreproError

    make_root(tmp_path)
    with pytest.raises(MmreproError) as error:
        plan_of_file(STUDY_FILE, tmp_path, **changes)
    assert message in str(error.value) and "\n" not in str(error.value)
