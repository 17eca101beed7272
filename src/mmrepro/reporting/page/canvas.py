"""What the pictures of a page share: which runs they show, and how panels are laid out and put into the page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmrepro.reporting.finished import FinishedRun
from mmrepro.reporting.page.texts import image_source
from mmrepro.reporting.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABEL_WIDTH, LABEL_HEIGHT = 45.0, 8.0  # points, of a name of seven
LIFTS = (4.0, -10.0, 13.0, -19.0, 22.0, -28.0, 31.0)
"""Where a name may stand above its point, in points; the nearest that is free is taken."""


def first_runs(report: Report) -> list[FinishedRun]:
    """Return of each data set and model the run of the first seed under the first protocol."""
    protocol = next(iter(report.plan.study.protocols))
    found: dict[tuple[str, str], FinishedRun] = {}
    for run in report.collection.runs:
        if run.planned.protocol_name == protocol:
            found.setdefault((run.planned.spec.dataset, run.planned.spec.model), run)
    return [*found.values()]


def panels(names: list[str], width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with a titled panel for each name, at most three in a row; width and height in inches a panel."""
    from matplotlib import pyplot

    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, squeeze=False, layout="constrained", figsize=(width * columns, height * rows)
    )
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, names, strict=False):
        axis.set_title(name, loc="left", fontweight="bold")
    return figure, [*axes.flat[: len(names)]]


def source_of(figure: Figure, kind: str = "svg") -> str:
    """Return a figure as the source of an `img`, the same bytes for the same figure, and close it."""
    from matplotlib import pyplot

    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=110, metadata={"Date": None} if kind == "svg" else None)
    pyplot.close(figure)
    return image_source(buffer.getvalue(), "image/svg+xml" if kind == "svg" else "image/png")


def shared_legend(figure: Figure, axes: list[Axes], n: int) -> None:
    """Write above the panels what their n lines are."""
    known = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(known.values(), known.keys(), loc="outside upper center", ncols=min(n, 6), frameon=False, fontsize=8)


def named_points(axis: Axes, labels: Sequence[str], x: Sequence[float], y: Sequence[float]) -> None:
    """Write each point's name beside it, above or below where another name stands."""
    axis.margins(0.18)
    points = axis.transData.transform([*zip(x, y, strict=True)])
    placed: list[tuple[float, float]] = []
    for label, across, up, (left, bottom) in zip(labels, x, y, points, strict=True):
        free = (
            lift
            for lift in LIFTS
            if all(abs(left - a) > LABEL_WIDTH or abs(bottom + lift - b) > LABEL_HEIGHT for a, b in placed)
        )
        lift = next(free, LIFTS[0])
        placed.append((left, bottom + lift))
        text = axis.annotate(label, (across, up), xytext=(4, lift), textcoords="offset points", fontsize=7)
        text.set_in_layout(False)  # names may leave the panel, and do not shrink it
