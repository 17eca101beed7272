import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted import SMALL, write_planted
from test_plan import folders, plan, the_run

import mmrepro.training.tpe as job
from mmrepro.config.files import load_yaml
from mmrepro.config.protocol import Protocol
from mmrepro.config.run import RunSpec
from mmrepro.errors import MmreproError
from mmrepro.records.files import read_object, write_record
from mmrepro.study.kinds import training_code
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan
from mmrepro.study.resolve import plan_of_file
from mmrepro.study.space import SequentialSearch, combinations, shuffled
from mmrepro.training.selection import select
from mmrepro.training.tpe import search

ROOT = Path(__file__).parents[2]
SPACE: dict[str, list[Any]] = {"gamma": [0.5, 0.7, 0.9], "n_layers": [1, 2]}
SEARCH: dict[str, Any] = {"seed": 7, "space": {"cm3": SPACE}}


def values_of(study: Plan, trials: Any, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(study.parameters_of(trial.spec)[name] for name in names) for trial in trials]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": 0}, "key 'search.budget': Value error, give a number of trials of at least 1, or 'grid'"),
        ({"budget": "all"}, "give a number of trials of at least 1, or 'grid' for all combinations (found 'all')"),
        ({"budget": True}, "give a number of trials of at least 1"),
        ({"sampler": "tpe"}, "`sampler: tpe` needs a number of trials; set `budget: 20`, or take `sampler: grid`"),
        ({"sampler": "tpr"}, "key 'search.sampler': Input should be 'grid', 'random' or 'tpe'"),
        ({"budget": 5}, "`search.budget: 5` is less than the 6 combinations of model 'cm3', and the first of a grid are"),
        ({"space": {"cm3": {"gamma": []}}}, "tiny.yaml: `search.space.cm3.gamma` has no values; give some or leave"),
        ({"space": {"cm3": {"gamma": [0.5, 0.5]}}}, "`search.space.cm3.gamma` names a value twice; name each once"),
        ({"space": {"cm3": {"gama": [1]}}}, "model 'cm3' has no parameter 'gama'; did you mean 'gamma'?"),
        (
            {"sampler": "random", "budget": 1, "space": {"cm3": {"gamma": [0.5, "x"]}}},
            "tiny.yaml: parameter 'gamma' of model 'cm3': 'x' is not",
        ),
        ({"models": ["cm33"]}, "`search.models` names unknown model 'cm33'; did you mean 'cm3'?"),
        ({"datasets": ["mini-bab"]}, "`search.datasets` names unknown data set 'mini-bab'; did you mean 'mini-baby'?"),
        ({"models": ["popularity"]}, "`search.models` names 'popularity', which has no search space; add `search.space.pop"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_one_line_with_the_remedy(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MmreproError) as error:
        plan(search={**SEARCH, **changes})
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["posters", "baby-published"])
def test_published_studies_plan_the_trials_that_their_files_name(name: str) -> None:
    """A trial is the run of these values: neither budget, sampler nor anything else of the search is part of it."""
    path = Path(f"config/studies/{name}.yaml")
    study, space = plan_of_file(path, ROOT, comparisons={}), load_yaml(ROOT / path)["search"]["space"]
    for selection in study.selections:
        values = [dict(zip(space[selection.model], v, strict=True)) for v in itertools.product(*space[selection.model].values())]  # fmt: skip
        assert [dict(zip(selection.searched, v, strict=True)) for v in values_of(study, selection.trials, *selection.searched)] == values  # fmt: skip
    for trial in (selection.trials[-1] for selection in study.selections):
        model, parameters = trial.spec.model, study.study.parameters.get(trial.spec.model, {})
        chosen = {key: study.parameters_of(trial.spec)[key] for key in space[model]}
        alone = plan_of_file(
            path, ROOT, comparisons={}, search=None, models=[model], protocols={"fair": {}},
            parameters={"all": study.study.parameters["all"], model: {**parameters, **chosen}},
        ).runs[0]  # fmt: skip
        assert trial.folder == Layout.run(alone.spec.model_copy(update={"purpose": "trial"}), 0)
    assert {s.model for s in study.selections} == set(space)


def test_space_is_the_models_own_unless_the_study_has_one() -> None:
    own = load_yaml(ROOT / "config/models/cm3.yaml")["search_space"]
    study = plan(search={}, datasets=["mini-baby"])
    by_model = {selection.model: selection for selection in study.selections}
    assert set(by_model) == {"lightgcn", "cm3"}  # popularity has none
    assert by_model["cm3"].searched == tuple(own)
    assert values_of(study, by_model["cm3"].trials, *own) == list(itertools.product(*own.values()))


@pytest.mark.parametrize(
    ("search", "models"),
    [
        ({"space": {"cm3": SPACE}}, {"cm3"}),
        ({"models": ["lightgcn"]}, {"lightgcn"}),
        ({"models": "all", "space": {"cm3": SPACE}}, {"cm3", "lightgcn"}),
        ({"models": "all", "space": {"cm3": {}}}, {"lightgcn"}),
        ({"models": ["lightgcn"], "space": {"cm3": SPACE}}, {"lightgcn"}),
    ],
)
def test_a_study_says_which_models_are_searched(search: dict[str, Any], models: set[str]) -> None:
    study = plan(search=search)
    assert {selection.model for selection in study.selections} == models
    for model in {"lightgcn", "cm3"} - models:
        assert the_run(study, model).folder == the_run(plan(), model).folder


def test_a_search_may_be_kept_to_some_data_sets() -> None:
    datasets = ["mini-baby", "mini-sports"]
    study = plan(search={**SEARCH, "datasets": ["mini-sports"]}, datasets=datasets)
    assert (
        {selection.dataset for selection in study.selections}
        == {trial.spec.dataset for trial in study.trials}
        == {"mini-sports"}
    )
    waiting = {run.spec.dataset: run.selection for run in study.runs if run.spec.model == "cm3"}
    assert waiting["mini-baby"] is None and waiting["mini-sports"] is not None


def test_a_budget_larger_than_the_grid_is_all_of_it() -> None:
    grids = [plan(search={**SEARCH, **changes}) for changes in ({}, {"budget": 6}, {"budget": 99})]
    assert grids[0].trials == grids[1].trials == grids[2].trials
    assert folders(plan(search={**SEARCH, "sampler": "random", "budget": 99}).trials) == folders(grids[0].trials)


def test_a_random_search_tries_some_of_the_grid_and_a_larger_budget_keeps_them() -> None:
    grid = plan(search=SEARCH, datasets=["mini-baby"])
    found = [
        plan(search={**SEARCH, "sampler": "random", "budget": n}, datasets=["mini-baby"]).trials for n in (2, 4, 6)
    ]
    assert [len(trials) for trials in found] == [2, 4, 6]
    assert found[0] == found[1][:2] and found[1] == found[2][:4]
    assert folders(found[2]) == folders(grid.trials) and found[2] != grid.trials
    orders = [shuffled(SPACE, seed, model) for seed, model in ((7, "cm3"), (8, "cm3"), (7, "bpr"))]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_a_further_value_keeps_the_random_order_of_the_others_and_the_order_of_keys_decides_nothing() -> None:
    larger = {"gamma": [0.1, 0.5, 0.7, 0.9], "n_layers": [1, 2]}
    assert [values for values in shuffled(larger, 7, "cm3") if values["gamma"] != 0.1] == shuffled(SPACE, 7, "cm3")
    assert shuffled(dict(reversed(larger.items())), 7, "cm3") == shuffled(larger, 7, "cm3")
    assert sorted(map(str, shuffled(larger, 7, "cm3"))) == sorted(map(str, combinations(larger)))


def test_random_samples_are_uniform() -> None:
    space = {"gamma": [*range(10)]}
    firsts = [shuffled(space, seed, "cm3")[0]["gamma"] for seed in range(400)]
    counts = [firsts.count(value) for value in range(10)]
    assert min(counts) > 20 and max(counts) < 65  # forty expected, standard deviation six


def test_a_sequential_search_is_one_job_whose_trials_the_plan_reads_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "config").symlink_to(ROOT / "config")
    path = Path("config/studies/tiny.yaml")
    changes: dict[str, Any] = {"search": {**SEARCH, "sampler": "tpe", "budget": 3}, "datasets": ["mini-baby"]}
    grid, before = plan(search=SEARCH, datasets=["mini-baby"]), plan(changes)
    (selection,) = before.selections
    assert before.trials == selection.trials == () and selection.sequential is not None
    assert [run.folder for run in before.runs] == [run.folder for run in grid.runs]  # a winner is a winner
    assert selection.path == grid.selections[0].path
    assert (selection.sequential.budget, selection.sequential.seed, selection.sequential.space) == (3, 7, SPACE)
    rows = [{"parameters": {"gamma": 0.9, "n_layers": 1}}, {"parameters": {"gamma": 0.5, "n_layers": 2}}]
    write_record(tmp_path / selection.path, {"parameters": rows[0]["parameters"], "trials": rows})
    from mmrepro.study.resolve import make_plan

    after = make_plan(before.study, tmp_path, str(path))
    assert values_of(after, after.trials, "gamma", "n_layers") == [(0.9, 1), (0.5, 2)]
    assert folders(after.trials) < folders(grid.trials)
    assert selection.sequential.trial_with(rows[1]["parameters"]) == after.trials[1].spec


WIDE: dict[str, list[Any]] = {
    "reg_weight": [0.0, 0.001, 0.01, 0.1, 1.0],
    "learning_rate": [0.001, 0.003, 0.01, 0.03, 0.1],
}


def settings(budget: int, space: dict[str, list[Any]] = WIDE, seed: int = 3, protocol: Protocol = Protocol()) -> SequentialSearch:  # fmt: skip
    spec = RunSpec(
        purpose="trial", dataset="planted", model="bpr", protocol=protocol,
        parameters={**SMALL, "max_epochs": 1, **{name: values[0] for name, values in space.items()}},
    )  # fmt: skip
    return SequentialSearch(trial=spec, space=space, defaults={}, budget=budget, seed=seed)


def quality(parameters: dict[str, Any]) -> float:
    """Best at reg_weight 0.01 and learning_rate 0.03."""
    places = (
        WIDE["reg_weight"].index(parameters["reg_weight"]),
        WIDE["learning_rate"].index(parameters["learning_rate"]),
    )
    return 0.5 - 0.05 * abs(places[0] - 2) - 0.04 * abs(places[1] - 3)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders of the trials that were trained; training itself takes no time."""
    found: list[Path] = []

    def train(spec: RunSpec, seed: int, prepared: Path, features: Path | None, folder: Path) -> None:
        data = {"interactions": read_object(prepared / "statistics.json")["content_hash"]}
        record = {
            "parameters": spec.parameters, "watch": spec.watch, "protocol": spec.protocol.model_dump(mode="json"), "epochs": 1,
            "valid": {"recall_at_20": quality(spec.parameters)}, "code": training_code(spec.model, spec.watch), "data": data,
        }  # fmt: skip
        write_record(folder / "run.json", record)
        found.append(folder)

    monkeypatch.setattr(job, "train", train)
    return found


def listed(root: Path, name: str = "chosen.json") -> dict[str, Any]:
    """The selection file without the root of its folders."""
    found = copy.deepcopy(read_object(root / name))
    for row in found["trials"]:
        row["run"] = Path(row["run"]).relative_to(root).as_posix()
    return found


def test_a_killed_search_ends_as_one_that_was_not(tmp_path: Path, trained: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    prepared, train = write_planted(tmp_path / "prepared"), job.train
    search(settings(15), prepared, None, tmp_path / "whole/chosen.json", tmp_path / "whole")
    whole = listed(tmp_path / "whole")
    assert len(trained) == 15 == len({row["run"] for row in whole["trials"]}) == whole["n_trials"]
    for killed_after in (0, 4, 12):
        root = tmp_path / f"killed{killed_after}"
        trained.clear()

        def killed(*arguments: Any, limit: int = killed_after) -> None:
            if len(trained) == limit:
                raise KeyboardInterrupt
            train(*arguments)

        monkeypatch.setattr(job, "train", killed)
        with pytest.raises(KeyboardInterrupt):
            search(settings(15), prepared, None, root / "chosen.json", root)
        assert not (root / "chosen.json").exists()
        monkeypatch.setattr(job, "train", train)
        search(settings(15), prepared, None, root / "chosen.json", root)
        assert len(trained) == 15 and listed(root) == whole


def test_a_larger_budget_and_another_protocol_use_the_trials_that_are_there(tmp_path: Path, trained: list[Path]) -> None:  # fmt: skip
    prepared = write_planted(tmp_path / "prepared")
    for budget in (5, 13, 13):
        search(settings(budget), prepared, None, tmp_path / f"{budget}.json", tmp_path)
    assert len(trained) == 13
    small, large = listed(tmp_path, "5.json"), listed(tmp_path, "13.json")
    assert large["trials"][:5] == small["trials"]
    search(settings(5, dict(reversed(WIDE.items()))), prepared, None, tmp_path / "again.json", tmp_path)
    assert len(trained) == 13  # nor does the order of parameters decide anything


def test_trials_of_other_code_or_data_are_made_again(tmp_path: Path, trained: list[Path]) -> None:
    prepared = write_planted(tmp_path / "prepared")
    search(settings(3), prepared, None, tmp_path / "chosen.json", tmp_path)
    record = read_object(trained[1] / "run.json")
    write_record(trained[1] / "run.json", {**record, "code": "older"})
    search(settings(3), prepared, None, tmp_path / "chosen.json", tmp_path)
    assert trained[3:] == [trained[1]]
    statistics = read_object(prepared / "statistics.json")
    write_record(prepared / "statistics.json", {**statistics, "content_hash": "2" * 64})
    search(settings(3), prepared, None, tmp_path / "chosen.json", tmp_path)
    assert trained[4:] == trained[:3]


def test_every_combination_is_tried_once_at_most_and_all_of_them_by_a_large_budget(tmp_path: Path, trained: list[Path]) -> None:  # fmt: skip
    space = {"reg_weight": WIDE["reg_weight"][:4], "learning_rate": WIDE["learning_rate"][:3]}
    search(settings(99, space), write_planted(tmp_path / "prepared"), None, tmp_path / "chosen.json", tmp_path)
    tried = [tuple(row["parameters"].values()) for row in listed(tmp_path)["trials"]]
    assert len(tried) == 12 and set(tried) == set(itertools.product(*space.values()))


def test_what_is_proposed_after_the_random_beginning_is_better_than_chance(tmp_path: Path, trained: list[Path]) -> None:
    prepared, everything = write_planted(tmp_path / "prepared"), [quality(values) for values in combinations(WIDE)]
    gains = []
    for seed in range(5):
        search(settings(16, seed=seed), prepared, None, tmp_path / "chosen.json", tmp_path)
        values = [row["value"] for row in listed(tmp_path)["trials"]]
        chance = (sum(everything) - sum(values[:10])) / (len(everything) - 10)
        gains.append(sum(values[10:]) / 6 - chance)
    assert sum(gains) / len(gains) > 0.02, gains


def test_another_seed_tries_other_values_first(tmp_path: Path, trained: list[Path]) -> None:
    prepared = write_planted(tmp_path / "prepared")
    found = []
    for seed in (1, 2):
        search(settings(4, seed=seed), prepared, None, tmp_path / "chosen.json", tmp_path)
        found.append([row["parameters"] for row in listed(tmp_path)["trials"]])
    assert found[0] != found[1]


def test_trials_of_a_search_are_trained_as_any_other_and_chosen_as_by_select(tmp_path: Path) -> None:
    prepared, found = write_planted(tmp_path / "prepared"), settings(3)
    search(found, prepared, None, tmp_path / "chosen.json", tmp_path)
    rows = read_object(tmp_path / "chosen.json")["trials"]
    for row in rows:
        folder = Path(row["run"])
        assert folder == tmp_path / Layout.run(found.trial_with(row["parameters"]), 3)
        assert {"run.json", "history.jsonl", "config.yaml"} <= {path.name for path in folder.iterdir()}
    select([Path(row["run"]) for row in rows], [*WIDE], tmp_path / "again.json")
    assert read_object(tmp_path / "again.json") == read_object(tmp_path / "chosen.json")


def test_a_protocol_that_rounds_makes_ties_that_the_first_trial_wins(tmp_path: Path, trained: list[Path]) -> None:
    rounding = settings(6, protocol=Protocol(round_digits=0))
    search(rounding, write_planted(tmp_path / "prepared"), None, tmp_path / "chosen.json", tmp_path)
    found = listed(tmp_path)
    assert {row["value"] for row in found["trials"]} == {0.0} and found["parameters"] == found["trials"][0][
        "parameters"
    ]


@pytest.mark.parametrize("edit", [lambda s: s | {"budget": 0}, lambda s: {k: v for k, v in s.items() if k != "space"}])
def test_settings_of_the_command_are_checked(edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    from mmrepro.config.files import validate

    with pytest.raises(MmreproError, match=r"--settings: key '(budget|space)'"):
        validate(SequentialSearch, edit(settings(2).model_dump(mode="json")), "--settings")
