"""One figure a study: a headline metric of every model on every data set, with its spread over seeds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mmrepro.columns import TEST, Columns
from mmrepro.records.files import atomic_path
from mmrepro.reporting.collect import Collection
from mmrepro.reporting.headline import HEADLINE, drawn_metric
from mmrepro.reporting.report import Report
from mmrepro.study.plan import Plan
from mmrepro.study.products import Product

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito (2008): told apart by readers with any colour vision; shapes tell protocols apart in black and white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
SHAPES = ("o", "D", "s", "^", "v", "P")
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "mmrepro", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 9,
    "axes.titlesize": 9.5, "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "axes.edgecolor": "#888888", "xtick.color": "#444444", "text.color": "#222222",
}  # fmt: skip
PANEL_WIDTH, NARROWEST, ROW_HEIGHT, MARGIN = 2.4, 5.2, 0.3, 0.7  # inches
NOT_RUN_STYLE: dict[str, Any] = {
    "va": "center", "color": "#777777", "style": "italic", "fontsize": 8,
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1.5},
}  # fmt: skip


PRODUCT = Product("figures/accuracy", ("svg",))


def draw(report: Report, path: Path) -> None:
    """Draw the figure of a study."""
    draw_figure(report.plan, report.collection, path)


def draw_figure(plan: Plan, collection: Collection, path: Path) -> None:
    """Draw the first headline metric on test at the larger headline cutoff: a panel for each data set, a line for each
    model.

    A vertical bar is a protocol's mean over seeds, the band its sample standard deviation, open shapes are seeds.
    Axes need not begin at zero: positions are compared, not lengths.

    Parameters
    ----------
    plan, collection
        The study and what exists of it; models that have not been run say so.
    path
        An svg (or png) file, written atomically; the same bytes for the same runs.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    metric, k = drawn_metric(plan.study)
    frame = collection.frame
    frame = frame[(frame[Columns.SPLIT] == TEST) & (frame[Columns.METRIC] == metric) & (frame[Columns.K] == k)]
    models, datasets = plan.study.models, plan.study.datasets
    n_columns = min(3, len(datasets))
    n_rows = math.ceil(len(datasets) / n_columns)
    height = n_rows * (ROW_HEIGHT * len(models) + MARGIN) + 0.35
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(
            n_rows,
            n_columns,
            squeeze=False,
            layout="constrained",
            figsize=(max(PANEL_WIDTH * n_columns + 0.9, NARROWEST), height),
        )
        for index, axis in enumerate(axes.flat):
            if index >= len(datasets):
                axis.set_axis_off()
                continue
            _panel(
                axis,
                plan,
                frame[frame[Columns.DATASET] == datasets[index]],
                datasets[index],
                named=index % n_columns == 0,
            )
        figure.supxlabel(f"test {HEADLINE[0].label}@{k}", fontsize=9)
        _legend(figure, axes.flat[0], tuple(plan.study.protocols))
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
        pyplot.close(figure)


def _panel(axis: Axes, plan: Plan, frame: pd.DataFrame, dataset: str, named: bool) -> None:
    """One data set: models from top to bottom, named in the first column, protocols slightly apart."""
    models, protocols = plan.study.models, tuple(plan.study.protocols)
    for row, model in enumerate(models):
        of_model = frame[frame[Columns.MODEL] == model]
        if of_model.empty:
            axis.text(0.02, row, "not run", transform=axis.get_yaxis_transform(), **NOT_RUN_STYLE)
        for number, protocol in enumerate(protocols):
            values = of_model.loc[of_model[Columns.PROTOCOL] == protocol, Columns.VALUE]
            if values.empty:
                continue
            y = row + 0.36 * ((number + 0.5) / len(protocols) - 0.5) * (len(protocols) > 1)
            _draw_values(axis, values, y, number)
    axis.set_title(dataset, loc="left", fontweight="bold")
    axis.margins(x=0.08)
    axis.set_ylim(len(models) - 0.5, -0.5)
    titles = [plan.models[model].title for model in models]
    axis.set_yticks(range(len(models)), titles if named else [""] * len(models))
    axis.tick_params(axis="y", length=0, labelsize=9)
    axis.tick_params(axis="x", labelsize=8)
    axis.locator_params(axis="x", nbins=5)
    axis.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    axis.set_axisbelow(True)
    for label, model in zip(axis.get_yticklabels(), models, strict=True):
        label.set_fontweight("bold" if model == plan.study.focus else "normal")


def _draw_values(axis: Axes, values: pd.Series, y: float, number: int) -> None:
    """One model under one protocol: a band for the spread, a bar for the mean, an open shape for each seed."""
    colour, shape = COLOURS[number % len(COLOURS)], SHAPES[number % len(SHAPES)]
    mean = values.mean()
    if len(values) > 1:
        spread = values.std(ddof=1)
        axis.plot([mean - spread, mean + spread], [y, y], color=colour, alpha=0.3, linewidth=6, solid_capstyle="butt")
    axis.plot([mean], [y], "|", color=colour, markersize=11, markeredgewidth=2)
    axis.plot(
        values,
        [y] * len(values),
        shape,
        markersize=4,
        markerfacecolor="white",
        markeredgecolor=colour,
        markeredgewidth=1,
    )


def _legend(figure: Figure, axis: Axes, protocols: tuple[str, ...]) -> None:
    """What marks stand for, above the panels: shape and colour a protocol, bar the mean, band the spread."""
    handles = [
        axis.plot(
            [], [], SHAPES[i % len(SHAPES)], color=COLOURS[i % len(COLOURS)], markerfacecolor="white", markersize=4.5,
            label=f"{name}, single seed",
        )[0]
        for i, name in enumerate(protocols)
    ]  # fmt: skip
    handles += axis.plot([], [], "|", color="#555555", markersize=10, markeredgewidth=2, label="mean")
    handles += axis.plot([], [], color="#555555", alpha=0.3, linewidth=6, solid_capstyle="butt", label="± std")
    figure.legend(
        handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=8, handlelength=1.2
    )
