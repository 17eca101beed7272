import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmrepro.config.files import load_feature_set, validate
from mmrepro.config.study import StudyConfig
from mmrepro.errors import MmreproError
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan, PlannedRun, complete
from mmrepro.study.resolve import make_plan, plan_of_file

ROOT = Path(__file__).parents[2]
STUDY: dict[str, Any] = {
    "study": "tiny",
    "title": "Tiny",
    "datasets": ["mini-baby", "mini-elec"],
    "models": ["lightgcn", "vbpr", "cm3"],
    "features": {"default": "miniature", "cm3": "miniature--shuffled"},
    "seeds": [0, 1],
    "comparisons": {
        "ablation": {
            "title": "CM3 without some parts",
            "models": ["cm3"],
            "variants": {
                "whole": {},
                "same": {"features": "miniature--shuffled"},
                "plain": {"features": "miniature", "parameters": {"gamma": 0.0}},
            },
        }
    },
}


def plan(**keys: Any) -> Plan:
    return make_plan(validate(StudyConfig, {**STUDY, **keys}, "tiny.yaml"), ROOT, "tiny.yaml")


def rows(study: Plan, name: str = "ablation") -> dict[tuple[str, str, str], tuple[PlannedRun, ...]]:
    return {(row.dataset, row.model, row.variant): row.runs for row in study.comparisons[name]}


def main_runs(study: Plan, dataset: str, model: str) -> tuple[PlannedRun, ...]:
    return tuple(run for run in study.runs if (run.spec.dataset, run.spec.model) == (dataset, model))


def with_variant(**changes: Any) -> dict[str, Any]:
    comparison = STUDY["comparisons"]["ablation"]
    return {"ablation": {**comparison, "variants": {"whole": {}, "changed": changes}}}


def restricted(**changes: Any) -> dict[str, Any]:
    return {"ablation": {**STUDY["comparisons"]["ablation"], **changes}}


def test_a_model_may_have_a_feature_set_of_its_own() -> None:
    features = {(run.spec.model, run.spec.features) for run in plan().runs}
    assert features == {("lightgcn", None), ("vbpr", "miniature"), ("cm3", "miniature--shuffled")}


def test_rows_of_a_comparison_are_data_sets_by_models_by_variants_and_equal_runs_are_made_once() -> None:
    study = plan()
    found = rows(study)
    assert list(found) == [(d, "cm3", v) for d in ("mini-baby", "mini-elec") for v in ("whole", "same", "plain")]
    for dataset in ("mini-baby", "mini-elec"):
        assert found[dataset, "cm3", "whole"] == found[dataset, "cm3", "same"] == main_runs(study, dataset, "cm3")
        plain = found[dataset, "cm3", "plain"]
        assert {run.spec.parameters["gamma"] for run in plain} == {0.0}
        assert {run.spec.features for run in plain} == {"miniature"}
    assert len(study.final_runs) == len(study.runs) + 4
    assert len({run.folder for run in study.final_runs}) == len(study.final_runs)
    assert study.trainings == study.final_runs


def test_a_slice_narrows_comparisons_too() -> None:
    assert list(rows(plan(datasets=["mini-elec"], seeds=[1]))) == [
        ("mini-elec", "cm3", v) for v in ("whole", "same", "plain")
    ]
    assert plan(models=["lightgcn"]).comparisons == {}
    assert plan(seeds=[1], comparisons=restricted(seeds=[0])).comparisons == {}
    (row, *_) = plan(comparisons=restricted(datasets=["mini-elec"], seeds=[0])).comparisons["ablation"]
    assert (row.dataset, [run.seed for run in row.runs]) == ("mini-elec", [0])


def test_variants_take_the_winner_of_the_main_search_unless_they_say_otherwise(tmp_path: Path) -> None:
    search = {"space": {"cm3": {"gamma": [0.5, 0.9], "n_layers": [1, 2]}}}
    study = plan(search=search)
    found = rows(study)
    assert len(study.selections) == 2 and len(study.trials) == 8  # a comparison searches nothing
    (main, _), (plain, _) = found["mini-baby", "cm3", "whole"], found["mini-baby", "cm3", "plain"]
    assert main.selection == plain.selection != None  # noqa: E711
    path = tmp_path / str(main.selection)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"parameters": {"gamma": 0.9, "n_layers": 2}}))
    completed = complete(main, tmp_path).parameters, complete(plain, tmp_path).parameters
    assert [(p["gamma"], p["n_layers"]) for p in completed] == [(0.9, 2), (0.0, 2)]
    fixed = with_variant(parameters={"gamma": 0.1, "n_layers": 1})
    (run, _) = rows(plan(search=search, comparisons=fixed))["mini-baby", "cm3", "changed"]
    assert run.selection is None and (run.spec.parameters["gamma"], run.spec.parameters["n_layers"]) == (0.1, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"comparisons": restricted(models=["cm4"])}, "`comparisons` names unknown model 'cm4'; did you mean 'cm3'?"),
        ({"comparisons": restricted(datasets=["mini-bay"])}, "unknown data set 'mini-bay'; did you mean 'mini-baby'?"),
        ({"comparisons": with_variant(parameters={"gama": 1})}, "no parameter 'gama'; did you mean 'gamma'?"),
        ({"comparisons": with_variant(features="minature")}, "did you mean 'miniature'?"),
        ({"comparisons": with_variant(feature="miniature")}, "did you mean 'features'?"),
        ({"comparisons": {"main": restricted()["ablation"]}}, "has the name of another table"),
        ({"comparisons": restricted(variants={"whole": {}})}, "at least 2"),
        ({"features": {"cm4": "miniature"}}, "unknown data set or model 'cm4'; did you mean 'cm3'?"),
        ({"feature_quality": ["mini-bab"]}, "did you mean 'mini-baby'?"),
        ({"focus": "cm33"}, "`focus` names unknown model 'cm33'; did you mean 'cm3'?"),
    ],
)
def test_mistakes_are_one_line_that_names_the_nearest(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MmreproError) as error:
        plan(**changes)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("change", "share"), [("masked-50", 0.5), ("masked-7", 0.07), ("shuffled", 0), ("noise", 0)])
def test_a_derived_feature_set_is_one_name_and_brings_the_set_it_is_derived_from(change: str, share: float) -> None:
    study = plan(models=["vbpr"], features={"default": f"miniature--{change}"})
    assert set(study.feature_sets) == {"miniature", f"miniature--{change}"}
    derived, base = study.feature_sets[f"miniature--{change}"], study.feature_sets["miniature"]
    assert (derived.masked_share, derived.base, derived.sources) == (share, "miniature", ("image", "text"))
    assert derived.modalities == base.modalities
    assert (base.base, base.masked_share, base.name.kind) == ("miniature", 0, "")
    assert {probe.feature_set for probe in study.probes} == {f"miniature--{change}"}


def test_a_modality_alone_is_read_from_the_tables_of_its_set() -> None:
    study = plan(models=["vbpr"], comparisons={}, features={"default": "miniature--only-text"})
    for run in study.runs:
        assert (run.spec.features, run.spec.modalities) == ("miniature--only-text", ("text",))
        assert run.folder.parts[2:4] == (run.spec.dataset, "miniature--only-text")
    assert Layout.features("mini-baby", "miniature--only-text") == Layout.features("mini-baby", "miniature")
    assert Layout.features("mini-baby", "miniature--noise") != Layout.features("mini-baby", "miniature")
    assert {probe.feature_set for probe in study.probes} == {"miniature"}  # which measures every modality by itself
    whole = plan(models=["vbpr"], comparisons={})
    assert {run.spec.hash for run in study.runs}.isdisjoint(run.spec.hash for run in whole.runs)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("miniature--masked-0", "no change 'masked-0' (masked, only, shuffled, noise); did you mean 'masked-50'?"),
        ("miniature--masked-100", "no change 'masked-100'"),
        ("miniature--masked", "did you mean 'masked-50'?"),
        ("miniature--shufled", "did you mean 'shuffled'?"),
        ("miniature--shuffled-1", "did you mean 'shuffled'?"),
        ("miniature--only-images", "did you mean 'only-image'?"),
        ("alignrec-miniature--only-image", "did you mean 'only-unified'?"),
        ("titles--masked-50", "'titles' must have two modalities"),
        ("miniature--shuffled--masked-50", "no change 'shuffled--masked-50'"),
        ("miniature--", "no change ''"),
        ("minature--masked-50", "did you mean 'miniature'?"),
    ],
)
def test_what_cannot_be_derived_is_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(MmreproError, match=r".*") as error:
        load_feature_set(ROOT / f"config/features/{name}.yaml")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_probes_are_the_feature_sets_in_use_on_the_chosen_data_sets() -> None:
    found = {(probe.dataset, probe.feature_set): probe.path for probe in plan(feature_quality=["mini-elec"]).probes}
    assert set(found) == {("mini-elec", "miniature"), ("mini-elec", "miniature--shuffled")}
    assert found["mini-elec", "miniature"] == Layout.probe("mini-elec", "miniature")
    assert len(plan().probes) == 4 and plan(feature_quality=[]).probes == ()


@pytest.mark.parametrize("change", ["masked-50", "shuffled", "noise", "only-unified"])
def test_pretraining_is_planned_once_for_a_set_and_those_derived_from_it(change: str) -> None:
    features = {"default": "alignrec-miniature", "cm3": f"alignrec-miniature--{change}"}
    study = plan(models=["vbpr", "cm3"], features=features, comparisons={})
    found = {(a.dataset, a.feature_set, a.modality) for a in study.alignments}
    assert found == {(d, "alignrec-miniature", "unified") for d in ("mini-baby", "mini-elec")}
    assert study.feature_sets[f"alignrec-miniature--{change}"].sources == ("image", "text")
    assert plan().alignments == ()


def test_the_alignrec_study_shares_its_runs_with_the_cm3_study() -> None:
    cm3, alignrec = (plan_of_file(Path(f"config/studies/{name}.yaml"), ROOT) for name in ("cm3", "alignrec"))
    common = set(cm3.study.models) & set(alignrec.study.models) - {"alignrec"}  # which has other vectors there
    assert {"popularity", "ease", "lightgcn", "freedom", "cm3"} <= common and cm3.study.models == alignrec.study.models
    ours = {run.folder for run in alignrec.runs if run.spec.model in common}
    theirs = {
        run.folder for run in cm3.runs if run.spec.dataset in alignrec.study.datasets and run.spec.model in common
    }
    fitted = {model for model in common if cm3.schemas[model].closed_form}
    assert ours == theirs and len(ours) == 3 * (5 * len(common - fitted) + len(fitted))
    trials = [{t.folder for t in s.trials if t.spec.model in common} for s in (alignrec, cm3)]
    assert trials[0] and trials[0] < trials[1]


def test_the_studies_of_raw_content_share_their_runs() -> None:
    cm3, alignrec = (plan_of_file(Path(f"config/studies/{n}.yaml"), ROOT) for n in ("cm3-raw", "alignrec-raw"))
    assert {run.folder for run in alignrec.runs} < {run.folder for run in cm3.runs}


def fixed_parameters(study: Plan, run: PlannedRun) -> dict[str, Any]:
    """All parameters of a run but those that its search sets."""
    return {key: value for key, value in study.parameters_of(run.spec).items() if key not in run.spec.selects}


def test_sensitivities_of_the_cm3_study_change_one_parameter_of_the_winner() -> None:
    study = plan_of_file(Path("config/studies/cm3.yaml"), ROOT, datasets="baby", models="cm3", seeds=0)
    (main,) = study.runs
    for name in (n for n in study.comparisons if n.startswith("sensitivity")):
        chosen, *others = (row.runs[0] for row in study.comparisons[name])
        assert chosen == main
        left = [fixed_parameters(study, run) for run in others]
        known = study.parameters_of(main.spec)
        changed = [{(k, v) for k, v in found.items() if k in main.spec.selects or known[k] != v} for found in left]
        assert len({key for found in changed for key, _ in found}) == 1 and all(len(found) == 1 for found in changed)
        assert all(run.selection == main.selection for run in others)


def test_configured_comparisons_are_read_as_written() -> None:
    written = yaml.safe_load((ROOT / "config/studies/miniature.yaml").read_text())["comparisons"]
    study = plan_of_file(Path("config/studies/miniature.yaml"), ROOT)
    for name, rows_ in study.comparisons.items():
        assert [row.variant for row in rows_[: len(written[name]["variants"])]] == list(written[name]["variants"])
