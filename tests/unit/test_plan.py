import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmrepro.config.files import validate
from mmrepro.config.study import StudyConfig
from mmrepro.errors import MmreproError
from mmrepro.models.base import model_class
from mmrepro.study.plan import Plan, PlannedRun, complete, plan_hash
from mmrepro.study.resolve import make_plan, plan_of_file

ROOT = Path(__file__).parents[2]
STUDY: dict[str, Any] = {
    "study": "tiny",
    "title": "Tiny",
    "datasets": ["mini-baby", "mini-elec"],
    "models": ["popularity", "lightgcn", "cm3"],
    "features": {"default": "miniature"},
    "seeds": [0, 1],
    "parameters": {"all": {"batch_size": 256, "feature_rank": 16}, "cm3": {"batch_size": 128}},
}
SEARCH: dict[str, Any] = {"seed": 7, "space": {"cm3": {"gamma": [0.5, 0.9], "n_layers": [1, 2]}}}


def plan(changes: dict[str, Any] | None = None, **keys: Any) -> Plan:
    data = {**copy.deepcopy(STUDY), **(changes or {}), **keys}
    return make_plan(validate(StudyConfig, data, "tiny.yaml"), ROOT, "tiny.yaml")


def folders(runs: tuple[PlannedRun, ...]) -> set[Path]:
    return {run.folder for run in runs}


def the_run(study: Plan, model: str, dataset: str = "mini-baby", seed: int = 0) -> PlannedRun:
    (run,) = [r for r in study.runs if (r.spec.model, r.spec.dataset, r.seed) == (model, dataset, seed)]
    return run


def test_there_is_one_run_for_each_cell_and_seed_each_in_its_own_folder() -> None:
    study = plan()
    cells = {(r.spec.dataset, r.spec.model, r.seed) for r in study.runs}
    assert len(study.runs) == len(cells) == len(folders(study.runs)) == 2 * 2 * 2 + 2 * 1  # popularity draws nothing
    assert study.trials == () and study.selections == ()


def test_folder_says_data_set_features_model_hash_and_seed() -> None:
    run = the_run(plan(), "cm3", "mini-elec", 1)
    assert run.folder == Path(f"results/runs/mini-elec/miniature/cm3/{run.spec.hash}/seed1")
    assert the_run(plan(), "lightgcn").folder.parts[3] == "none"


def test_features_go_only_to_models_that_use_them() -> None:
    study = plan()
    assert the_run(study, "cm3").spec.modalities == ("image", "text")
    for model in ("popularity", "lightgcn"):
        assert the_run(study, model).spec.features is None and the_run(study, model).spec.modalities == ()


def test_shared_parameters_reach_the_models_that_have_them_and_a_models_own_win() -> None:
    study = plan()
    assert the_run(study, "popularity").spec.parameters == {}
    assert the_run(study, "lightgcn").spec.parameters["batch_size"] == 256
    assert "feature_rank" not in the_run(study, "lightgcn").spec.parameters
    cm3 = the_run(study, "cm3").spec.parameters
    assert (cm3["batch_size"], cm3["feature_rank"]) == (128, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ["cm4"]}, "unknown model 'cm4'; did you mean 'cm3'?"),
        ({"datasets": ["mini-bby"]}, "config/datasets/mini-bby.yaml: no such file; did you mean 'mini-baby'?"),
        (
            {"features": {"default": "minature"}},
            "config/features/minature.yaml: no such file; did you mean 'miniature'?",
        ),
        (
            {"features": {"mini-bby": "posters"}},
            "`features` names unknown data set or model 'mini-bby'; did you mean 'mini-baby'?",
        ),
        ({"features": {}}, "tiny.yaml: no feature set for data set 'mini-baby'; add `features: {mini-baby: NAME}`"),
        ({"parameters": {"lightgnc": {}}}, "`parameters` names unknown model 'lightgnc'; did you mean 'lightgcn'?"),
        ({"parameters": {"cm3": {"gama": 1}}}, "model 'cm3' has no parameter 'gama'; did you mean 'gamma'?"),
        (
            {"parameters": {"all": {"pateince": 1}}},
            "`parameters.all` names unknown parameter 'pateince'; did you mean 'patience'?",
        ),
        ({"parameters": {"all": {"batch_size": "big"}}}, "parameter 'batch_size' of model 'lightgcn': 'big' is not"),
        ({"search": {"space": {"cm33": {}}}}, "`search.space` names unknown model 'cm33'; did you mean 'cm3'?"),
        ({"search": {"space": {"all": {}}}}, "`search.space` names unknown model 'all'"),
        ({"search": {"space": {"cm3": {"gama": [1]}}}}, "model 'cm3' has no parameter 'gama'; did you mean 'gamma'?"),
    ],
)
def test_unknown_names_are_errors_with_the_nearest(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MmreproError) as error:
        plan(changes)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_slice_may_leave_sections_of_other_models_and_data_sets_unused() -> None:
    features = {"default": "miniature", "mini-sports": "miniature--shuffled"}
    whole, piece = plan(features=features), plan(models="lightgcn", datasets="mini-baby", seeds=0, features=features)
    assert folders(piece.runs) < folders(whole.runs) and len(piece.runs) == 1


def test_command_line_slices_a_study_file() -> None:
    changes = {"models": "popularity,freedom", "datasets": "elec", "seeds": 1}
    study = plan_of_file(Path("config/studies/cm3.yaml"), ROOT, **changes)
    whole = plan_of_file(Path("config/studies/cm3.yaml"), ROOT)
    assert [(r.spec.model, r.spec.dataset, r.seed) for r in study.runs] == [
        ("popularity", "elec", 0),  # draws nothing
        ("freedom", "elec", 1),
    ]
    assert folders(study.runs) < folders(whole.runs)


def test_unknown_key_of_a_slice_is_an_error() -> None:
    with pytest.raises(MmreproError, match=r"unknown key 'modles'; did you mean 'models'\?"):
        plan_of_file(Path("config/studies/miniature.yaml"), ROOT, modles="cm3")


def test_studies_that_need_the_same_run_share_its_folder() -> None:
    first = plan()
    second = plan(study="other", title="Other", models=["cm3"], seeds=[1, 2], note="another view", focus="lightgcn")
    shared = folders(first.runs) & folders(second.runs)
    assert shared == {the_run(first, "cm3", dataset, 1).folder for dataset in ("mini-baby", "mini-elec")}
    assert plan_hash(first) != plan_hash(second)


@pytest.mark.parametrize(
    "changes",
    [
        {"threads": 2},
        {"precision": "bfloat16"},
        {"watch": "ndcg_at_10"},
        {"protocols": {"released": {}}},
        {"features": {"default": "miniature--shuffled"}},
        {"parameters": {"all": {"embedding_size": 8}}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_decides_a_result_moves_the_run(changes: dict[str, Any]) -> None:
    assert the_run(plan(changes), "cm3").folder != the_run(plan(), "cm3").folder


def test_search_plans_each_grid_point_once_and_one_selection_a_cell() -> None:
    study = plan(search=SEARCH)
    assert len(study.trials) == 2 * 4 == len(folders(study.trials))
    assert {trial.seed for trial in study.trials} == {7}
    assert all(trial.folder.parts[1] == "trials" and trial.spec.purpose == "trial" for trial in study.trials)
    first = study.selections[0]
    values = [study.parameters_of(t.spec) for t in first.trials]
    assert [(found["gamma"], found["n_layers"]) for found in values] == [
        (0.5, 1),
        (0.5, 2),
        (0.9, 1),
        (0.9, 2),
    ]
    assert [(s.model, s.dataset) for s in study.selections] == [("cm3", "mini-baby"), ("cm3", "mini-elec")]
    for run in study.runs:
        waits = (
            [s.path for s in study.selections if s.dataset == run.spec.dataset] if run.spec.model == "cm3" else [None]
        )
        assert [run.selection] == waits
        assert not {"gamma", "n_layers"} & set(run.spec.parameters) or run.spec.model != "cm3"


def test_a_larger_grid_keeps_final_folders_and_adds_only_new_trials() -> None:
    larger = {"seed": 7, "space": {"cm3": {"gamma": [0.1, 0.5, 0.9], "n_layers": [1, 2]}}}
    before, after = plan(search=SEARCH), plan(search=larger)
    assert [run.folder for run in before.runs] == [run.folder for run in after.runs]
    assert [s.path for s in before.selections] == [s.path for s in after.selections]
    assert folders(before.trials) < folders(after.trials)
    added = [trial for trial in after.trials if trial.folder not in folders(before.trials)]
    assert {trial.spec.parameters["gamma"] for trial in added} == {0.1} and len(added) == 2 * 2


def test_searching_another_parameter_moves_the_finals() -> None:
    other = {"seed": 7, "space": {"cm3": {"gamma": [0.5, 0.9], "alpha": [0.1]}}}
    assert not folders(plan(search=SEARCH, models=["cm3"]).runs) & folders(plan(search=other, models=["cm3"]).runs)


def test_search_leaves_other_models_where_they_are() -> None:
    with_search, without = plan(search=SEARCH), plan()
    assert the_run(with_search, "lightgcn").folder == the_run(without, "lightgcn").folder
    assert the_run(with_search, "cm3").folder != the_run(without, "cm3").folder


def test_protocols_that_select_on_validation_share_trials() -> None:
    protocols = {"fair": {}, "train-masked": {"base": "fair", "mask_at_test": "train"}}
    study = plan(search=SEARCH, models=["cm3"], protocols=protocols)
    assert len(study.trials) == 2 * 4
    assert len(study.selections) == 4 == len({s.path for s in study.selections})
    assert len(folders(study.runs)) == 2 * 2 * 2


def test_trials_selected_on_test_are_others_and_their_specification_says_so() -> None:
    fair = plan(search=SEARCH, models=["cm3"])
    leaky = plan(search=SEARCH, models=["cm3"], protocols={"leaky": {"base": "fair", "select_on": "test"}})
    assert not folders(fair.trials) & folders(leaky.trials)
    assert {t.spec.protocol.select_on for t in leaky.trials} == {s.select_on for s in leaky.selections} == {"test"}
    assert {s.select_on for s in fair.selections} == {"valid"}


def test_final_run_is_completed_by_the_winner_of_its_search(tmp_path: Path) -> None:
    study = plan(search=SEARCH)
    run = the_run(study, "cm3")
    with pytest.raises(FileNotFoundError):
        complete(run, tmp_path)
    assert run.selection is not None
    (tmp_path / run.selection).parent.mkdir(parents=True)
    (tmp_path / run.selection).write_text(json.dumps({"parameters": {"gamma": 0.9, "n_layers": 2}}))
    chosen = complete(run, tmp_path)
    assert (chosen.parameters["gamma"], chosen.parameters["n_layers"], chosen.parameters["batch_size"]) == (0.9, 2, 128)
    untouched = the_run(study, "lightgcn")
    assert complete(untouched, tmp_path) is untouched.spec


def test_plan_does_not_depend_on_the_order_of_keys_in_files(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    for path in (tmp_path / "config").rglob("*.yaml"):
        data = yaml.safe_load(path.read_text())
        if path.parent.name != "features":  # the order of modalities is part of a feature set
            path.write_text(yaml.safe_dump(data, sort_keys=True))
    file = Path("config/studies/posters.yaml")  # without comparisons, whose first row is the one compared with
    ours, theirs = (plan_of_file(file, root, comparisons={}) for root in (ROOT, tmp_path))
    assert plan_hash(ours) == plan_hash(theirs)
    assert folders(ours.trials) == folders(theirs.trials)


def test_order_of_modalities_moves_the_runs_that_use_them(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    path = tmp_path / "config/features/miniature.yaml"
    data = yaml.safe_load(path.read_text())
    data["modalities"] = dict(reversed(data["modalities"].items()))
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    moved = make_plan(validate(StudyConfig, STUDY, "tiny.yaml"), tmp_path, "tiny.yaml")
    assert the_run(moved, "cm3").spec.modalities == ("text", "image")
    assert the_run(moved, "cm3").folder != the_run(plan(), "cm3").folder
    assert the_run(moved, "lightgcn").folder == the_run(plan(), "lightgcn").folder


@pytest.mark.parametrize("path", sorted((ROOT / "config/studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_resolves_into_a_plan(path: Path) -> None:
    plan = plan_of_file(path.relative_to(ROOT), ROOT)
    study = plan.study
    seeds = sum(1 if schema.closed_form else len(study.seeds) for schema in plan.schemas.values())
    assert len(plan.runs) == len(study.datasets) * seeds * len(study.protocols)
    assert set(plan.comparisons) == set(study.comparisons)
    for run in plan.trainings:  # a search completes the parameters of final runs
        cls = model_class(run.spec.model)
        values = cls.Parameters.model_validate(run.spec.parameters).model_dump()
        assert {key: values[key] for key in run.spec.parameters} == run.spec.parameters


def test_lists_of_neighbours_that_are_too_short_stop_before_anything_is_made(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    path = tmp_path / "config/features/miniature.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "neighbours": 4}))
    with pytest.raises(MmreproError, match="'cm3' reads 10 neighbours, and lists of 'miniature' have 4; raise"):
        make_plan(validate(StudyConfig, STUDY, "tiny.yaml"), tmp_path, "tiny.yaml")
