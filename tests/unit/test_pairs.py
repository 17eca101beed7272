"""Every pair of models, and the settings they ran with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hand_made import USERS, build_hand_made, make_root, write_all, write_run, write_winner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from mmrepro.evaluation.significance import bootstrap_means, interval, rank_biserial

VALUES = arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 1).map(lambda value: round(value, 3)))


def test_rank_biserial_by_hand() -> None:
    a, b = np.array([1.0, 0.0, 3.0, 5.0]), np.array([0.0, 2.0, 0.0, 5.0])
    # differences 1, -2, 3, 0: ranks 1 and 3 for, 2 against, of 6 in all
    assert rank_biserial(a, b) == pytest.approx((1 + 3 - 2) / 6)
    assert rank_biserial(a, a) == 0 and rank_biserial(a + 1, a) == 1


@settings(deadline=None)
@given(VALUES)
def test_rank_biserial_turns_with_its_arguments_and_agrees_with_wilcoxon(values: np.ndarray) -> None:
    zeros = np.zeros_like(values)
    found = rank_biserial(values, zeros)
    assert found == -rank_biserial(zeros, values) and -1 <= found <= 1
    known = values[values != 0]
    if len(known):
        smaller = stats.wilcoxon(known, zero_method="wilcox").statistic
        assert abs(found) == pytest.approx(1 - 2 * smaller / (len(known) * (len(known) + 1) / 2))


def test_the_bootstrap_has_the_spread_of_a_mean_and_pairs_its_columns() -> None:
    values = np.random.default_rng(1).normal(2, 3, 400)
    draws = bootstrap_means(np.column_stack([values, values + 1]), 2000)
    assert draws[:, 0].mean() == pytest.approx(values.mean(), abs=0.02)
    assert draws[:, 0].std() == pytest.approx(values.std() / 20, rel=0.06)
    np.testing.assert_allclose(draws[:, 1] - draws[:, 0], 1)
    lower, upper = interval(draws[:, 0], 0.95)
    assert upper - lower == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.08)
    np.testing.assert_array_equal(draws, bootstrap_means(np.column_stack([values, values + 1]), 2000))


def pairs(folder: Path, dataset: str = "toy-a", k: int = 20) -> pd.DataFrame:
    frame = pd.read_csv(folder / "tables/pairs.csv")
    return frame[(frame["dataset"] == dataset) & (frame["metric"] == "recall") & (frame["k"] == k)]


def test_every_pair_is_tested_once_the_better_first(tmp_path: Path) -> None:
    write_all(tmp_path, make_root(tmp_path))
    rows = pairs(build_hand_made(tmp_path))
    assert [*zip(rows["model"], rows["other"], strict=True)] == [
        ("cm3", "lightgcn"), ("cm3", "popularity"), ("lightgcn", "popularity"),
    ]  # fmt: skip
    first = rows.iloc[0]
    assert (first["mean"], first["other_mean"], first["difference"], first["n_users"]) == (0.5, 0.3125, 0.1875, 4)
    # users differ by 0, 1/4, 1/4, 1/4: the exact test has 2 / 2^3, and nothing speaks against. CM3 and popularity differ
    # on four users, 2 / 2^4, which is the first of the family of three; this one is the second, 2 * 1/4.
    assert (first["p"], first["p_holm"], first["effect"]) == (0.25, 0.5, 1)
    assert rows.iloc[1]["p_holm"] == 3 / 8
    assert 0 <= first["lower"] < first["difference"] < first["upper"] <= 0.25


def test_a_family_is_the_pairs_of_one_metric_on_one_data_set(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    for run in plan.runs:
        level = {"popularity": 0.1, "lightgcn": 0.2, "cm3": 0.4}[run.spec.model]
        write_run(tmp_path, run, [level + user / 1000 * (run.spec.model == "cm3") for user in range(12)])
    folder = build_hand_made(tmp_path)
    rows = pairs(folder)
    assert rows["p_holm"].max() == pytest.approx(3 * 2 / 2**12, rel=1e-5)
    text = (folder / "tables/pairs.md").read_text()
    assert "| cm3        |           2 |          0 |         0 |" in text.replace("\\", "")
    assert (folder / "figures/wins.svg").stat().st_size > 1000


def test_one_model_has_no_pairs_and_the_figure_says_so(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    for run in plan.runs:
        if run.spec.model == "cm3" and run.spec.dataset == "toy-a":
            write_run(tmp_path, run, USERS["cm3"][run.seed])
    folder = build_hand_made(tmp_path)
    assert pd.read_csv(folder / "tables/pairs.csv").empty
    assert "## " not in (folder / "tables/pairs.md").read_text()
    assert (folder / "figures/wins.svg").is_file()


def test_the_settings_say_who_set_them(tmp_path: Path) -> None:
    search = {"seed": 0, "space": {"cm3": {"gamma": [0.5, 0.75]}}}
    plan = make_root(tmp_path, search=search, parameters={"lightgcn": {"n_layers": 4}})
    before = pd.read_csv(build_hand_made(tmp_path) / "tables/settings.csv")
    row = before[(before["model"] == "cm3") & (before["parameter"] == "gamma")].iloc[0]
    assert (row["value"], row["origin"]) == ("not chosen yet", "search")
    write_winner(tmp_path, plan, {"gamma": 0.75})
    write_all(tmp_path, plan)
    folder = build_hand_made(tmp_path)
    frame = pd.read_csv(folder / "tables/settings.csv").set_index(["dataset", "model", "parameter"])
    assert frame.loc[("toy-a", "cm3", "gamma"), ["value", "origin"]].tolist() == ["0.75", "search"]
    assert frame.loc[("toy-b", "lightgcn", "n_layers"), ["value", "origin"]].tolist() == ["4", "study"]
    assert frame.loc[("toy-a", "cm3", "alpha"), "origin"] == "default"
    assert " gamma 0.75 |" in (folder / "tables/settings.md").read_text()
