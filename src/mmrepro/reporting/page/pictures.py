"""Pictures of what happened inside the runs: training curves, embeddings, and what calibration does.

They need histories and embeddings, which are no part of a publication; hence they are drawn for the page alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from mmrepro.columns import TEST, Columns
from mmrepro.reporting.figures.accuracy import COLOURS, SHAPES, STYLE
from mmrepro.reporting.finished import value_of
from mmrepro.reporting.headline import SHORT, drawn_metric
from mmrepro.reporting.page.canvas import first_runs, named_points, panels, shared_legend, source_of
from mmrepro.reporting.page.embeddings import draw_calibration, draw_embeddings, draw_item_map
from mmrepro.reporting.report import Report
from mmrepro.reporting.tables.cost import cost_frame
from mmrepro.reporting.tables.long_tail import DECILE, long_tail_frame

Picture = dict[str, str]


def drawn_pictures(report: Report, titles: Mapping[str, str]) -> Iterator[Picture]:
    """Yield the pictures for which a study has what they show."""
    import matplotlib

    matplotlib.use("Agg")
    for name, caption, draw in (
        ("curves", "Training curves: the watched metric on validation after each epoch, first seed; a dot is the best "
         "epoch.", _curves),
        ("embeddings", "Alignment (mean squared distance of a user and an item that he has had) against uniformity "
         "(log of the mean Gaussian potential of two users or two items), both of unit vectors, better when smaller; "
         "colour is test accuracy.", draw_embeddings),
        ("popularity", "Recall of the items of each decile of popularity, 1 the least popular.", _popularity),
        ("calibration", "What calibration does: distance of two items' embeddings by the similarity of their contents, "
         "median and middle half of random pairs.", draw_calibration),
        ("item_map", "Items by the first two principal components of their embeddings; colour is the decile of "
         "popularity.", draw_item_map),
        ("cost", "Cost against accuracy: all hours of a model on a data set, searching included.", _cost),
    ):  # fmt: skip
        source = draw(report, titles)
        if source is not None:
            yield {"name": name, "caption": caption, "source": source}


def _curves(report: Report, titles: Mapping[str, str]) -> str | None:
    from matplotlib import pyplot

    lines: dict[str, list[tuple[str, pd.Series]]] = {}
    for run in first_runs(report):
        path = report.root / run.planned.folder / "history.jsonl"
        epochs = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        values = {e["epoch"]: next(iter(e["valid"].values())) for e in epochs if e.get("valid")}
        if len(values) > 1:
            line = titles[run.planned.spec.model], pd.Series(values)
            lines.setdefault(run.planned.spec.dataset, []).append(line)
    if not lines:
        return None
    with pyplot.rc_context(STYLE):
        figure, axes = panels([*lines], 3.2, 2.6)
        models = list(dict.fromkeys(model for found in lines.values() for model, _ in found))
        for axis, found in zip(axes, lines.values(), strict=True):
            for model, curve in found:
                number = models.index(model)
                colour, style = COLOURS[number % 6], ("-", "--", ":", "-.")[number // 6 % 4]
                axis.plot(curve.index, curve, label=model, linewidth=1.2, color=colour, linestyle=style)
                best = int(curve.to_numpy().argmax())
                axis.plot(curve.index[[best]], [curve.iloc[best]], "o", color=colour, markersize=3.5)
        shared_legend(figure, axes, len(models))
        figure.supxlabel("epoch", fontsize=9)
        figure.supylabel(f"validation {report.plan.study.watch.replace('_at_', '@')}", fontsize=9)
        return source_of(figure)


def _popularity(report: Report, titles: Mapping[str, str]) -> str | None:
    from matplotlib import pyplot

    frame = long_tail_frame(report.plan, report.collection, report.root)
    protocol = next(iter(report.plan.study.protocols))
    frame = frame[frame[Columns.PROTOCOL].eq(protocol) & frame[DECILE].gt(0) & frame[Columns.MEAN].notna()]
    names = [name for name in report.plan.study.datasets if name in set(frame[Columns.DATASET])]
    if not names:
        return None
    with pyplot.rc_context(STYLE):
        figure, axes = panels(names, 3.2, 2.6)
        models = list(dict.fromkeys(frame[Columns.MODEL]))
        for axis, name in zip(axes, names, strict=True):
            for number, model in enumerate(models):
                rows = frame[frame[Columns.DATASET].eq(name) & frame[Columns.MODEL].eq(model)]
                axis.plot(rows[DECILE], rows[Columns.MEAN], marker=SHAPES[number % 6], markersize=3, linewidth=1,
                          color=COLOURS[number % 6], label=titles[model])  # fmt: skip
            axis.set_xticks([1, 4, 7, 10])
        shared_legend(figure, axes, len(models))
        figure.supxlabel("decile of the item's popularity", fontsize=9)
        figure.supylabel("test recall@20", fontsize=9)
        return source_of(figure)


def _cost(report: Report, titles: Mapping[str, str]) -> str | None:
    from matplotlib import pyplot

    metric, k = drawn_metric(report.plan.study)
    frame = cost_frame(report.plan, report.root)
    hours = frame.groupby([Columns.DATASET, Columns.MODEL])["wall_hours"].sum()
    points: dict[str, list[tuple[str, float, float]]] = {}
    for run in first_runs(report):
        place: Any = (run.planned.spec.dataset, run.planned.spec.model)
        if place in hours and hours[place] > 0:
            point = titles[place[1]], float(hours[place]), value_of(run, TEST, metric, k)
            points.setdefault(place[0], []).append(point)
    if not points:
        return None
    with pyplot.rc_context(STYLE):
        figure, axes = panels([*points], 3.4, 2.8)
        for axis, found in zip(axes, points.values(), strict=True):
            labels, x, y = zip(*found, strict=True)
            axis.scatter(x, y, s=28, color=COLOURS[0])
            named_points(axis, labels, x, y)
            axis.set_xscale("log")
        figure.supxlabel("hours, one job after another", fontsize=9)
        figure.supylabel(f"test {SHORT[metric]}@{k}", fontsize=9)
        return source_of(figure)
