from pathlib import Path

import pandas as pd
import pytest
from hand_made import ABLATION, CODE, USERS, make_root, write_run

from mmrepro.reporting.render import to_latex, to_markdown
from mmrepro.reporting.tables.comparisons import COMPARISON_COLUMNS, comparison_frame, comparison_table
from mmrepro.study.plan import Plan

HALF = {0: [1 / 4] * 4, 1: [1 / 2] * 4}


def compared(root: Path, **changes: object) -> Plan:
    return make_root(root, comparisons={"ablation": ABLATION}, **changes)


def write_variants(root: Path, plan: Plan, variants: dict[str, dict[int, list[float]]], **changes: object) -> None:
    for row in plan.comparisons["ablation"]:
        for run in row.runs:
            if run.seed in variants.get(row.variant, {}) and not (root / run.folder).exists():
                write_run(root, run, variants[row.variant][run.seed], **changes)


def frame_of(root: Path, plan: Plan) -> pd.DataFrame:
    return comparison_frame(plan, "ablation", root, CODE)


def row_of(frame: pd.DataFrame, variant: str, metric: str = "recall", k: int = 20) -> pd.Series:
    found = frame[(frame["variant"] == variant) & (frame["metric"] == metric) & (frame["k"] == k)]
    assert len(found) == 1
    return found.iloc[0]


def test_means_difference_and_p_are_the_fractions_worked_by_hand(tmp_path: Path) -> None:
    plan = compared(tmp_path)
    write_variants(tmp_path, plan, {"whole": USERS["cm3"], "half of 100 %": HALF})
    frame = frame_of(tmp_path, plan)
    assert tuple(frame.columns) == COMPARISON_COLUMNS
    assert len(frame) == 3 * 4  # variants of one model on one data set; headline metrics
    whole, half = row_of(frame, "whole"), row_of(frame, "half of 100 %")
    assert (whole["mean"], whole["std"], whole["n_seeds"]) == (1 / 2, 0, 2)
    assert whole[["difference_percent", "p", "p_holm", "n_users"]].isna().all()
    assert half["mean"] == pytest.approx(3 / 8)
    assert half["std"] == pytest.approx(1 / 4 / 2**0.5)
    assert half["difference_percent"] == pytest.approx(-25)
    # user means 1/2, 5/8, 1/2, 3/8 against 3/8: three differ, all downwards, p = 2 / 2^3; four tests, 4 * 1/4 = 1
    assert (half["p"], half["p_holm"], half["n_users"]) == (pytest.approx(1 / 4), 1, 4)
    masked = row_of(frame, "masked")
    assert (masked["flags"], masked["n_seeds"], pd.isna(masked["mean"])) == ("not run", 0, True)
    assert frame["features"].tolist() == ["miniature"] * 8 + ["miniature--masked-50"] * 4
    assert set(frame["protocol"]) == {"fair"}


def test_holm_is_over_all_tests_of_the_table_and_stars_follow(tmp_path: Path) -> None:
    plan = compared(tmp_path)
    levels = {"whole": 0.4, "half of 100 %": 0.2, "masked": 0.1}
    values = {name: [level + user / 500 * (name == "whole") for user in range(12)] for name, level in levels.items()}
    write_variants(tmp_path, plan, {name: {0: users, 1: users} for name, users in values.items()})
    frame = frame_of(tmp_path, plan)
    assert row_of(frame, "masked")["p"] == pytest.approx(2 / 2**12)
    assert row_of(frame, "masked")["p_holm"] == pytest.approx(8 * 2 / 2**12)  # below 0.01, above 0.001
    text = to_markdown(comparison_table(plan, "ablation", frame))
    assert text.count("−51.3 %\\*\\*") == 4  # 0.2 against 0.411
    assert "Holm-corrected over the 8 comparisons" in text


def test_rows_stand_in_the_study_s_order_and_the_table_says_what_differs(tmp_path: Path) -> None:
    variants = {"second": {"features": "miniature--masked-30"}, "first": {}}
    comparison = {**ABLATION, "datasets": ["toy-b", "toy-a"], "models": ["cm3", "lightgcn"], "variants": variants}
    plan = make_root(tmp_path, comparisons={"ablation": comparison})
    write_variants(tmp_path, plan, {"second": {0: HALF[0]}, "first": {}})
    frame = frame_of(tmp_path, plan)
    keys = [tuple(key) for key in frame[["dataset", "model", "variant"]].drop_duplicates().to_numpy()]
    assert keys == [
        (dataset, model, variant)
        for dataset in ("toy-a", "toy-b")
        for model in ("lightgcn", "cm3")
        for variant in ("second", "first")
    ]
    assert set(frame.loc[frame["model"] == "lightgcn", "features"]) == {"none"}
    text = to_markdown(comparison_table(plan, "ablation", frame))
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## toy-a, lightgcn",
        "## toy-a, cm3",
        "## toy-b, lightgcn",
        "## toy-b, cm3",
    ]
    assert "Variants: second: features miniature--masked-30; first: as in the main table." in text
    assert (
        text.count("second [1 of 2 seeds]") == 4 and text.count("first [1 of 2 seeds]") == 2
    )  # lightgcn has no features
    assert "Not run, or not with all seeds: 8 of 8 rows." in text
    assert "0.2500 |" in text  # a single seed has no spread


def test_holes_flags_and_latex(tmp_path: Path) -> None:
    plan = compared(tmp_path)
    write_variants(tmp_path, plan, {"half of 100 %": HALF}, code="older")
    frame = frame_of(tmp_path, plan)
    assert row_of(frame, "half of 100 %")["flags"] == "stale"
    assert frame["p"].isna().all()  # there is nothing to compare with
    table = comparison_table(plan, "ablation", frame)
    text = to_latex(table, "tab:hand-ablation")
    assert r"half of 100 \% [stale] & 0.3750 $\pm$ 0.1768" in text
    assert "whole & not run & not run & not run & not run" in text
    assert "half of 100 %: gamma 0.25" in to_markdown(table)


def test_a_comparison_shares_the_runs_of_the_main_table(tmp_path: Path) -> None:
    plan = compared(tmp_path)
    whole = plan.comparisons["ablation"][0]
    assert {run.folder for run in whole.runs} < {run.folder for run in plan.runs}
    assert len(plan.final_runs) == 10 + 2 * 2


@pytest.mark.parametrize(
    ("seeds", "said"), [([0], "one run, with seed 0."), ([0, 1], "mean ± sample standard deviation over seeds 0, 1.")]
)
def test_footer_says_what_a_value_is_made_of(tmp_path: Path, seeds: list[int], said: str) -> None:
    plan = make_root(tmp_path, comparisons={"ablation": {**ABLATION, "seeds": seeds}})
    text = to_markdown(comparison_table(plan, "ablation", frame_of(tmp_path, plan)))
    assert f"on the test split under protocol fair, {said}" in text
