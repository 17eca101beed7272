"""Who is better than whom: a matrix of the tested pairs of models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mmrepro.columns import Columns
from mmrepro.evaluation.significance import LEVEL
from mmrepro.records.files import atomic_path
from mmrepro.reporting.figures.accuracy import NOT_RUN_STYLE, STYLE
from mmrepro.reporting.headline import HEADLINE, drawn_metric
from mmrepro.reporting.means import main_blocks
from mmrepro.reporting.report import Report
from mmrepro.reporting.tables.pairs import OTHER, outcomes, pairs_of
from mmrepro.study.plan import Plan
from mmrepro.study.products import Product

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PRODUCT = Product("figures/wins", ("svg",))
SIDE, LEFT, TOP, N_COLUMNS = 0.22, 1.1, 1.1, 2  # inches a model, beside and above a panel; panels in a row
BETTER, WORSE, EVEN = "#0072B2", "#E69F00", "#e4e4e4"


def draw(report: Report, path: Path) -> None:
    """Draw the figure of a study."""
    draw_wins(report.plan, report.made(pairs_of), path)


def draw_wins(plan: Plan, frame: pd.DataFrame, path: Path) -> None:
    """Draw a panel for each data set and protocol: a row is better (+), worse (−) or even with a column.

    Models stand in the order of their means.

    Parameters
    ----------
    plan
        The study.
    frame
        What `pairs_frame` returns.
    path
        An svg file, written atomically; the same bytes for the same runs.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    metric, k = drawn_metric(plan.study)
    blocks = main_blocks(plan, frame[(frame[Columns.METRIC] == metric) & (frame[Columns.K] == k)])
    n_columns = min(N_COLUMNS, len(blocks))
    n_rows = math.ceil(len(blocks) / n_columns)
    side = SIDE * max(4, len(plan.study.models))
    with pyplot.rc_context({**STYLE, "axes.spines.bottom": False}):
        size = (n_columns * (side + LEFT), n_rows * (side + TOP) + 0.3)
        figure, axes = pyplot.subplots(n_rows, n_columns, squeeze=False, layout="constrained", figsize=size)
        alone = f", protocol {next(iter(plan.study.protocols))}" if len(plan.study.protocols) == 1 else ""
        for axis, (title, rows) in zip(axes.flat, blocks, strict=False):
            _panel(axis, title.removesuffix(alone), rows, {name: config.title for name, config in plan.models.items()})
        for axis in axes.flat[len(blocks) :]:
            axis.set_axis_off()
        figure.supxlabel(
            f"row against column in test {HEADLINE[0].label}@{k}: + better, − worse, p < {LEVEL:g}", fontsize=9
        )
        with atomic_path(path) as temporary:
            figure.savefig(temporary, metadata={"Date": None})
        pyplot.close(figure)


def _panel(axis: Axes, title: str, rows: pd.DataFrame, titles: Mapping[str, str]) -> None:
    from matplotlib.colors import ListedColormap

    axis.set_title(title, loc="left", fontweight="bold", pad=6)
    if rows.empty:
        axis.text(0.02, 0.5, "fewer than two models have been run", transform=axis.transAxes, **NOT_RUN_STYLE)
        axis.set_axis_off()
        return
    models = list(dict.fromkeys([*rows[Columns.MODEL], *rows[OTHER]]))
    better = outcomes(rows, models)
    axis.imshow(np.where(np.isnan(better), np.nan, better), cmap=ListedColormap([WORSE, EVEN, BETTER]), vmin=-1, vmax=1)
    for (row, column), value in np.ndenumerate(better):
        if value in (1, -1):
            axis.text(
                column,
                row,
                "+" if value > 0 else "−",
                ha="center",
                va="center",
                color="white" if value > 0 else "black",
            )
    names = [titles[model] for model in models]
    axis.set_yticks(range(len(models)), names)
    axis.set_xticks(range(len(models)), names, rotation=90)
    axis.xaxis.tick_top()
    axis.tick_params(length=0, labelsize=8)
