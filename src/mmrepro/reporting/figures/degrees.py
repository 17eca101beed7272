"""How interactions spread over users and over items: a figure of each study's data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmrepro.records.files import atomic_path
from mmrepro.reporting.figures.accuracy import COLOURS, NOT_RUN_STYLE, STYLE
from mmrepro.reporting.report import Report
from mmrepro.reporting.tables.datasets import statistics_of
from mmrepro.study.products import Product

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT, LEGEND_ROW, LEGEND_COLUMNS = 6.4, 2.7, 0.18, 3  # inches, but the last
LINES = ("-", "--", ":", "-.")
PANELS = (("user_degrees", "user", "users"), ("item_degrees", "item", "items"))


PRODUCT = Product("figures/degrees", ("svg",))


def draw(report: Report, path: Path) -> None:
    """Draw the figure of a study."""
    draw_degrees(report.plan.study.datasets, report.made(statistics_of), path)


def draw_degrees(datasets: Sequence[str], statistics: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw the share of users, and of items, that have at least so many interactions: a line for each data set.

    Both axes are logarithmic, so that a power law is a straight line. Users and items without an interaction count in
    the share and have no point.

    Parameters
    ----------
    datasets
        Data sets of the study, in its order; one without statistics is named as not run.
    statistics
        Data set -> content of its `statistics.json`.
    path
        An svg (or png) file, written atomically; the same bytes for the same statistics.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context(STYLE):
        height = HEIGHT + LEGEND_ROW * -(-len(datasets) // LEGEND_COLUMNS)
        figure, axes = pyplot.subplots(1, 2, sharey=True, layout="constrained", figsize=(WIDTH, height))
        for axis, (key, one, many) in zip(axes, PANELS, strict=True):
            for number, dataset in enumerate(datasets):
                histogram = statistics[dataset][key] if dataset in statistics else None
                _draw_line(axis, number, dataset, histogram)
            _finish(axis, one, many, empty=not statistics)
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(
            handles,
            names,
            loc="outside upper center",
            ncols=LEGEND_COLUMNS,
            frameon=False,
            fontsize=8,
            handlelength=2.4,
        )
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
        pyplot.close(figure)


def at_least(histogram: Mapping[str, Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the complementary cumulative distribution of a degree histogram.

    Parameters
    ----------
    histogram
        `degree` (ascending) and `count`.

    Returns
    -------
    tuple of np.ndarray
        The degrees of 1 and more, and the share (0 to 1) of all that have at least that degree.
    """
    degree, count = np.asarray(histogram["degree"]), np.asarray(histogram["count"])
    share = np.cumsum(count[::-1])[::-1] / count.sum()
    return degree[degree > 0], share[degree > 0]


def _draw_line(axis: Axes, number: int, dataset: str, histogram: Mapping[str, Sequence[int]] | None) -> None:
    degrees, shares = at_least(histogram) if histogram is not None else (np.empty(0), np.empty(0))
    axis.plot(
        degrees,
        shares,
        drawstyle="steps-pre",
        color=COLOURS[number % len(COLOURS)],
        linestyle=LINES[number // len(COLOURS) % len(LINES)],
        linewidth=1.4,
        label=dataset if histogram is not None else f"{dataset} (not run)",
    )


def _finish(axis: Axes, one: str, many: str, empty: bool) -> None:
    """Scales, names and grid of a panel."""
    if empty:
        axis.text(0.5, 0.5, "not run", transform=axis.transAxes, ha="center", **NOT_RUN_STYLE)
        axis.set(xticks=[], yticks=[])
    else:  # an empty axis has no logarithm
        axis.loglog()
        axis.set_xlim(left=0.9)
        axis.xaxis.set_major_formatter("{x:,g}")
        axis.xaxis.set_minor_formatter("")
        axis.yaxis.set_minor_formatter("")
    axis.set_title(many, loc="left", fontweight="bold")
    axis.set_xlabel(f"interactions per {one}, at least")
    axis.set_ylabel(f"share of {many}")
    axis.tick_params(labelsize=8)
    axis.grid(color="#e4e4e4", linewidth=0.8)
    axis.set_axisbelow(True)
