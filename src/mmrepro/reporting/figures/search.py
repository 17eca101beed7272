"""Whether a search's budget was enough: the best value so far against the number of trials, a panel for each model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mmrepro.columns import Columns
from mmrepro.records.files import atomic_path
from mmrepro.reporting.figures.accuracy import COLOURS, NOT_RUN_STYLE, STYLE
from mmrepro.reporting.report import Report
from mmrepro.reporting.tables.search import TRIAL, trials_of
from mmrepro.study.products import Product

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL_WIDTH, PANEL_HEIGHT, N_COLUMNS, MARGIN, NARROWEST = 1.75, 1.3, 4, 0.75, 4.6  # inches, but the third
LINES = ("-", "--", ":", "-.")
HIGHEST_FOOT = 98.0  # where all trials are alike, so that the axis has numbers to read
LOWEST = 50.0  # percent; what is worse leaves the panel at its foot, so that the last improvements can be seen


PRODUCT = Product("figures/search", ("svg",), when="selections")


def draw(report: Report, path: Path) -> None:
    """Draw the figure of a study."""
    titles = {name: model.title for name, model in report.plan.models.items()}
    draw_search(report.made(trials_of), path, titles)


def draw_search(frame: pd.DataFrame, path: Path, titles: Mapping[str, str]) -> None:
    """Draw the best value so far, in percent of the search's best, against the number of trials.

    A panel is a model, a colour a data set, a line style a protocol, and a dot the trial that was best: one that lies
    far to the right says that more trials might have found more. Panels share their vertical axis.

    Parameters
    ----------
    frame
        What `search_frame` returns; trials that have not been run are left out.
    path
        An svg (or png) file, written atomically; the same bytes for the same trials.
    titles
        Model -> how it is called.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    models, datasets, protocols = (
        list(dict.fromkeys(frame[column])) for column in (Columns.MODEL, Columns.DATASET, Columns.PROTOCOL)
    )
    n_columns = min(N_COLUMNS, max(1, len(models)))
    n_rows = max(1, math.ceil(len(models) / n_columns))
    size = (max(PANEL_WIDTH * n_columns, NARROWEST), PANEL_HEIGHT * n_rows + MARGIN)
    lowest = 100.0
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(
            n_rows, n_columns, squeeze=False, sharey=True, layout="constrained", figsize=size
        )
        for index, axis in enumerate(axes.flat):
            if index >= len(models):
                axis.set_axis_off()
                continue
            lowest = min(lowest, _panel(axis, frame[frame[Columns.MODEL] == models[index]], datasets, protocols))
            axis.set_title(titles[models[index]], loc="left", fontweight="bold")
        foot = min(max(lowest, LOWEST), HIGHEST_FOOT)
        axes.flat[0].ticklabel_format(axis="y", useOffset=False)
        axes.flat[0].set_ylim(foot - 0.08 * (100 - foot) - 0.1, 100 + 0.08 * (100 - foot) + 0.1)
        figure.supxlabel("trials (dot: the best one)", fontsize=9)
        figure.supylabel("best so far, % of the best", fontsize=9)
        handles = [
            axes.flat[0].plot([], [], color=COLOURS[i % len(COLOURS)], label=n)[0] for i, n in enumerate(datasets)
        ]
        if len(protocols) > 1:
            handles += [
                axes.flat[0].plot([], [], color="#555555", linestyle=LINES[i % len(LINES)], label=name)[0]
                for i, name in enumerate(protocols)
            ]
        figure.legend(
            handles=handles, loc="outside upper center", ncols=min(6, max(1, len(handles))), frameon=False, fontsize=8
        )
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
        pyplot.close(figure)


def best_so_far(values: pd.Series) -> np.ndarray:
    """Return the running maximum in percent of the maximum, shape (n,); all 100 where the maximum is zero."""
    best = np.maximum.accumulate(values.to_numpy(dtype=np.float64))
    return 100 * best / best[-1] if best[-1] else np.full(len(best), 100.0)


def _panel(axis: Axes, frame: pd.DataFrame, datasets: list[str], protocols: list[str]) -> float:
    """One model: a line for each of its searches that has a finished trial; returns the lowest percentage."""
    from matplotlib.ticker import MaxNLocator

    finished = frame[frame[Columns.VALUE].notna()]
    lowest = 100.0
    for (dataset, protocol), trials in finished.groupby([Columns.DATASET, Columns.PROTOCOL], sort=False):
        percent = best_so_far(trials[Columns.VALUE])
        first = int(np.argmax(percent == percent[-1]))
        colour = COLOURS[datasets.index(str(dataset)) % len(COLOURS)]
        line = LINES[protocols.index(str(protocol)) % len(LINES)]
        axis.plot(trials[TRIAL], percent, linestyle=line, color=colour, linewidth=1.3, drawstyle="steps-post")
        axis.plot(trials[TRIAL].iloc[first], 100.0, "o", color=colour, markersize=3.5, clip_on=False)
        lowest = min(lowest, float(percent[0]))
    if finished.empty:
        axis.text(0.5, 0.5, "not run", transform=axis.transAxes, ha="center", **NOT_RUN_STYLE)
    n_trials = int(frame[TRIAL].max())
    axis.set_xlim(0.5, max(n_trials, 2) + 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True, min_n_ticks=1))
    axis.tick_params(labelsize=7.5)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    axis.set_axisbelow(True)
    return lowest
