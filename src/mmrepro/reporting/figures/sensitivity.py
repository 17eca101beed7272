"""How much a parameter matters: recall against its values, a panel for each comparison that varies one number."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from mmrepro.columns import Columns
from mmrepro.config.study import Variant
from mmrepro.records.files import atomic_path
from mmrepro.reporting.figures.accuracy import COLOURS, NOT_RUN_STYLE, SHAPES, STYLE
from mmrepro.reporting.headline import HEADLINE, drawn_metric
from mmrepro.reporting.report import Report
from mmrepro.reporting.tables.comparisons import VARIANT, comparisons_of
from mmrepro.study.plan import Plan
from mmrepro.study.products import Product, sensitivities

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL_WIDTH, HEIGHT, NARROWEST = 2.2, 2.6, 4.6  # inches


PRODUCT = Product("figures/sensitivity", ("svg",), when="sensitivities")


def draw(report: Report, path: Path) -> None:
    """Draw the figure of a study."""
    draw_sensitivity(report.plan, report.made(comparisons_of), path)


def draw_sensitivity(plan: Plan, frames: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Draw the first headline metric on test at the larger headline cutoff against the values of each varied parameter.

    A colour is a data set and model, a whisker the sample standard deviation over seeds, a dotted line the variant that
    changes nothing. Axes need not begin at zero.

    Parameters
    ----------
    plan
        The study; `products.sensitivities` says which of its comparisons are drawn.
    frames
        Comparison -> what `comparison_frame` returns; variants that have not been run are left out.
    path
        An svg (or png) file, written atomically; the same bytes for the same runs.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    (metric, k), drawn = drawn_metric(plan.study), sensitivities(plan)
    lines = list(dict.fromkeys((row.dataset, row.model) for name in drawn for row in plan.comparisons[name]))
    several = len({model for _, model in lines}) > 1
    with pyplot.rc_context(STYLE):
        size = (max(PANEL_WIDTH * len(drawn) + 0.6, NARROWEST), HEIGHT)
        figure, axes = pyplot.subplots(1, len(drawn), squeeze=False, layout="constrained", figsize=size)
        for axis, (name, parameter) in zip(axes.flat, drawn.items(), strict=True):
            frame = frames[name]
            frame = frame[(frame[Columns.METRIC] == metric) & (frame[Columns.K] == k)]
            values = {
                label: None if variant == Variant() else float(variant.parameters[parameter])
                for label, variant in plan.study.comparisons[name].variants.items()
            }
            for number, line in enumerate(lines):
                rows = frame[(frame[Columns.DATASET] == line[0]) & (frame[Columns.MODEL] == line[1])]
                _draw_line(axis, rows.assign(value=rows[VARIANT].map(values)), number)
            if frame[Columns.MEAN].isna().all():
                axis.text(0.5, 0.5, "not run", transform=axis.transAxes, ha="center", **NOT_RUN_STYLE)
            axis.set_xlabel(parameter)
            axis.tick_params(labelsize=8)
            axis.locator_params(nbins=5)
            axis.grid(color="#e4e4e4", linewidth=0.8)
            axis.set_axisbelow(True)
        handles = [
            axes.flat[0].plot([], [], SHAPES[i % len(SHAPES)], color=COLOURS[i % len(COLOURS)], label=label)[0]
            for i, label in enumerate(", ".join(line) if several else line[0] for line in lines)
        ]
        compared = [variant for name in drawn for variant in plan.study.comparisons[name].variants.values()]
        if Variant() in compared:
            handles += axes.flat[0].plot([], [], ":", color="#555555", label="as in the main table")
        figure.supylabel(f"test {HEADLINE[0].label}@{k}", fontsize=9)
        figure.legend(
            handles=handles, loc="outside upper center", ncols=min(4, len(handles)), frameon=False, fontsize=8
        )
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
        pyplot.close(figure)


def _draw_line(axis: Axes, rows: pd.DataFrame, number: int) -> None:
    """One data set and model: its values in ascending order, and the variant that changes nothing across the panel."""
    colour, shape = COLOURS[number % len(COLOURS)], SHAPES[number % len(SHAPES)]
    rows = rows[rows[Columns.MEAN].notna()]
    varied = rows[rows["value"].notna()].sort_values("value")
    spread = varied[Columns.STD].fillna(0)
    axis.errorbar(
        varied["value"], varied[Columns.MEAN], spread, color=colour, marker=shape, markersize=4, linewidth=1.2
    )
    for mean in rows.loc[rows["value"].isna(), Columns.MEAN]:
        axis.axhline(mean, color=colour, linestyle=":", linewidth=1)
