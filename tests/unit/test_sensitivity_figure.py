from pathlib import Path

import pytest
from hand_made import ABLATION, CODE, USERS, make_root, write_run

from mmrepro.reporting.figures.sensitivity import draw_sensitivity
from mmrepro.reporting.tables.comparisons import comparison_frame
from mmrepro.study.plan import Plan
from mmrepro.study.products import sensitivities, table_files

SENSITIVITY_FIGURE = Path("figures/sensitivity.svg")

GAMMA = {f"gamma {value}": {"parameters": {"gamma": value}} for value in (0.9, 0.1)}


def study(root: Path, *variants: dict[str, object]) -> Plan:
    comparisons = {f"table{i}": {**ABLATION, "variants": v} for i, v in enumerate(variants)}
    return make_root(root, comparisons=comparisons)


def test_a_sensitivity_varies_one_number_and_nothing_else(tmp_path: Path) -> None:
    plan = study(
        tmp_path,
        {"as chosen": {}, **GAMMA},
        GAMMA,
        {"whole": {}, "gamma 0.1": GAMMA["gamma 0.1"]},
        {**GAMMA, "alpha": {"parameters": {"alpha": 0.1}}},
        {**GAMMA, "both": {"parameters": {"gamma": 0.2, "alpha": 0.1}}},
        {**GAMMA, "features": {"features": "miniature--noise", "parameters": {"gamma": 0.2}}},
        {"mixing": {"parameters": {"mixing": True}}, "without": {"parameters": {"mixing": False}}},
    )
    assert sensitivities(plan) == {"table0": "gamma", "table1": "gamma"}
    assert SENSITIVITY_FIGURE in table_files(plan)


def test_a_study_without_sensitivities_has_no_such_figure(tmp_path: Path) -> None:
    assert SENSITIVITY_FIGURE not in table_files(make_root(tmp_path, comparisons={"ablation": ABLATION}))


def test_lines_run_through_the_means_in_order_and_bytes_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    drawn: list[tuple[list[float], list[float], list[float]]] = []
    across: list[float] = []
    errorbar, axhline = Axes.errorbar, Axes.axhline

    def record(self: Axes, x: object, y: object, yerr: object, **style: object) -> object:
        drawn.append((list(x), list(y), list(yerr)))  # type: ignore[call-overload]
        return errorbar(self, x, y, yerr, **style)  # type: ignore[arg-type]

    def record_across(self: Axes, y: float, **style: object) -> object:
        across.append(y)
        return axhline(self, y, **style)  # type: ignore[arg-type]

    monkeypatch.setattr(Axes, "errorbar", record)
    monkeypatch.setattr(Axes, "axhline", record_across)
    plan = study(tmp_path, {"as chosen": {}, **GAMMA}, GAMMA | {"gamma 2": {"parameters": {"gamma": 2}}})
    levels = {"as chosen": USERS["cm3"], "gamma 0.9": {0: [1 / 4] * 4, 1: [1 / 2] * 4}, "gamma 0.1": {0: [1 / 8] * 4}}
    for row in (row for rows in plan.comparisons.values() for row in rows):
        for run in row.runs:
            if run.seed in levels.get(row.variant, {}) and not (tmp_path / run.folder).exists():
                write_run(tmp_path, run, levels[row.variant][run.seed])
    frames = {name: comparison_frame(plan, name, tmp_path, CODE) for name in plan.comparisons}
    pictures = []
    for _ in range(2):
        draw_sensitivity(plan, frames, tmp_path / "figure.svg")
        pictures.append((tmp_path / "figure.svg").read_bytes())
    assert pictures[0] == pictures[1] and pictures[0].startswith(b"<?xml")
    spread = pytest.approx(1 / 4 / 2**0.5)
    assert drawn[:2] == [([0.1, 0.9], [1 / 8, 3 / 8], [0, spread])] * 2  # gamma 2 has not been run
    assert across == [1 / 2, 1 / 2]  # the first table has the main table's run, drawn twice


def test_nothing_run_still_draws(tmp_path: Path) -> None:
    plan = study(tmp_path, GAMMA)
    frame = comparison_frame(plan, "table0", tmp_path, CODE)
    draw_sensitivity(plan, {"table0": frame}, tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").stat().st_size > 0
