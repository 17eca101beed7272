import json
import re
from pathlib import Path

import pandas as pd
import pytest
from hand_made import (
    build_hand_made,
    main_row,
    make_root,
    write_all,
    write_run,
    write_winner,
)

from mmrepro.reporting.figures.search import best_so_far
from mmrepro.study.plan import Plan
from mmrepro.study.products import table_files

SEARCH_FIGURE = Path("figures/search.svg")


def test_times_stand_where_cost_is_told_or_weighed_and_nowhere_else(whole: Path) -> None:
    folder = build_hand_made(whole)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for path in whole.glob("results/runs/**/run.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"wall_seconds": 7200.0, "peak_memory_mb": 1.0, "git": {"commit": "x"}}))
    build_hand_made(whole)
    changed = {path.name for path, content in before.items() if path.read_bytes() != content}
    assert changed == {"cost.csv", "cost.md", "deployment.csv", "deployment.md"}
    cost = pd.read_csv(folder / "tables/cost.csv")
    assert cost["wall_hours"].tolist() == [4.0, 4.0, 2.0] * 2  # two seeds of two hours; popularity has one


def searched(root: Path) -> Plan:
    space = {"lightgcn": {"n_layers": [2, 3], "reg_weight": [0.1, 0.01]}}
    return make_root(root, datasets=["toy-a"], search={"space": space})


def test_search_table_lists_every_trial_and_the_winner(tmp_path: Path) -> None:
    plan = searched(tmp_path)
    for number, trial in enumerate(plan.trials[:3]):
        write_run(tmp_path, trial, [number / 10, number / 10], energy_joules=1.8e6)
    winner = {key: plan.trials[2].spec.parameters[key] for key in ("n_layers", "reg_weight")}
    write_winner(tmp_path, plan, winner, select_on="valid", metric="recall_at_20")
    write_all(tmp_path, plan)
    folder = build_hand_made(tmp_path)
    frame = pd.read_csv(folder / "tables/search.csv")
    assert frame["value"].tolist()[:3] == pytest.approx([0, 0.05, 0.1])
    assert frame["value"].isna().tolist() == [False, False, False, True]
    assert frame["winner"].tolist() == [False, False, True, False]
    assert json.loads(frame["parameters"][2]) == winner
    assert frame["trial"].tolist() == [1, 2, 3, 4]
    assert frame["epochs"].tolist()[:3] == [7, 7, 7] and frame["seconds"].tolist()[:3] == [36, 36, 36]
    assert frame["flags"].fillna("").tolist() == ["", "", "", "not run"]
    cost = pd.read_csv(folder / "tables/cost.csv").set_index(["model", "purpose"])
    assert cost.loc[("lightgcn", "trial"), ["runs", "energy_kwh"]].tolist() == [3, 1.5]
    assert cost.loc[("lightgcn", "final"), "energy_kwh"] != cost.loc[("lightgcn", "final"), "energy_kwh"]  # not told


def test_cost_of_a_model_is_summed_over_data_sets(tmp_path: Path) -> None:
    plan = make_root(tmp_path, models=["lightgcn", "cm3"])
    for run in plan.runs:
        known = {"energy_joules": 3.6e5} if run.spec.model == "lightgcn" or run.seed else {}
        write_run(tmp_path, run, [0.5], **known)
    text = re.sub(" +", " ", (build_hand_made(tmp_path) / "tables/cost.md").read_text())
    assert "| toy-b | lightgcn | final | 2 | 0.0200 | 0.0400 | 0.2000 | 512 | | a processor |" in text
    assert "| all | lightgcn | final | 4 | 0.0400 | 0.0800 | 0.4000 | 512 | | a processor |" in text
    assert "| all | cm3 | final | 4 | 0.0400 | 0.0800 | | 512 | | a processor |" in text


def test_search_figure_has_a_line_for_each_search_that_has_been_run(tmp_path: Path) -> None:
    space = {"lightgcn": {"n_layers": [2, 3]}, "cm3": {"gamma": [0.5, 0.9]}}
    plan = make_root(tmp_path, models=["lightgcn", "cm3"], search={"space": space})
    assert SEARCH_FIGURE in table_files(plan)
    counts, path = [], tmp_path / "results/hand" / SEARCH_FIGURE
    for trials in ((), plan.trials[:1], plan.trials[1:4], ()):
        for trial in trials:
            write_run(tmp_path, trial, [0.25])
        build_hand_made(tmp_path)
        text = path.read_text()
        counts.append(len(re.findall(r"stroke: #(?:0072b2|d55e00); stroke-width: 1\.3", text)))
    assert counts == [0, 1, 2, 2]
    assert "<dc:date>" not in text
    assert SEARCH_FIGURE not in table_files(make_root(tmp_path / "other"))


def test_best_so_far_is_in_percent_of_the_best() -> None:
    assert best_so_far(pd.Series([0.1, 0.05, 0.2, 0.15])).tolist() == [50, 50, 100, 100]
    assert best_so_far(pd.Series([0.0, 0.0])).tolist() == [100, 100]


def test_a_run_with_another_winner_than_the_present_one_is_a_hole(tmp_path: Path) -> None:
    plan = searched(tmp_path)
    write_winner(tmp_path, plan, {"n_layers": 2, "reg_weight": 0.1})
    write_all(tmp_path, plan)
    assert json.loads((build_hand_made(tmp_path) / "summary.json").read_text())["holes"] == 0
    write_winner(tmp_path, plan, {"n_layers": 3, "reg_weight": 0.1})
    assert main_row(build_hand_made(tmp_path), model="lightgcn")["verdict"] == "not run"


def test_trials_that_watched_another_metric_are_listed_by_it(tmp_path: Path) -> None:
    plan = searched(tmp_path)
    for trial in plan.trials:
        write_run(tmp_path, trial, [0.5], watch="ndcg_at_20", valid={"ndcg_at_20": 0.125})
    write_winner(tmp_path, plan, {"n_layers": 2, "reg_weight": 0.1}, select_on="valid", metric="ndcg_at_20")
    write_all(tmp_path, plan)
    frame = pd.read_csv(build_hand_made(tmp_path) / "tables/search.csv")
    assert set(frame["metric"]) == {"ndcg_at_20"} and set(frame["value"]) == {0.125}
