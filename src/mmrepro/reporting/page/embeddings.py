"""Pictures of the embeddings that runs left: how aligned and uniform they are, what calibration does, and a map."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmrepro.columns import TEST, TRAIN
from mmrepro.datasets.interactions import STATISTICS, PreparedDataset
from mmrepro.evaluation.groups import popularity_deciles
from mmrepro.evaluation.measure import load_content
from mmrepro.records.files import read_arrays
from mmrepro.reporting.figures.accuracy import COLOURS, SHAPES, STYLE
from mmrepro.reporting.finished import value_of
from mmrepro.reporting.headline import SHORT, drawn_metric
from mmrepro.reporting.page.canvas import first_runs, named_points, panels, source_of
from mmrepro.reporting.report import Report
from mmrepro.study.layout import Layout

PAIRS, ITEMS, BINS = 20_000, 3_000, 12
"""Pairs that are drawn for alignment, uniformity and calibration; items on the map; bins of content similarity."""
SEED = 0


def embeddings_of(report: Report, folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Return unit vectors of users and items that a run left; None where its model has none."""
    path = report.root / folder / "embeddings.npz"
    if not path.is_file():
        return None
    users, items = (unit(found) for found in read_arrays(path, "users", "items"))
    return users, items


def unit(rows: np.ndarray) -> np.ndarray:
    """Return rows of length one, float32; zeros stay."""
    rows = rows.astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)


def data_of(report: Report, name: str) -> PreparedDataset | None:
    """Return a prepared data set; None where it is not here."""
    folder = report.root / Layout.prepared(name)
    return PreparedDataset.load(folder) if (folder / STATISTICS).is_file() else None


def alignment(users: np.ndarray, items: np.ndarray, dataset: PreparedDataset) -> float:
    """Return the mean squared distance of unit vectors over training pairs (Wang and Isola 2020), in [0, 4]."""
    first, second = dataset.of(TRAIN).distinct
    chosen = np.random.default_rng(SEED).choice(len(first), min(PAIRS, len(first)), replace=False)
    return float(((users[first[chosen]] - items[second[chosen]]) ** 2).sum(axis=1).mean())


def uniformity(rows: np.ndarray) -> float:
    """Return the log of the mean of exp(-2 d^2) over random pairs of rows (Wang and Isola 2020), at most 0."""
    first, second = random_pairs(len(rows))
    return float(np.log(np.exp(-2 * ((rows[first] - rows[second]) ** 2).sum(axis=1)).mean()))


def random_pairs(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return indices of pairs of different rows."""
    first, second = np.random.default_rng(SEED).integers(0, n, (2, PAIRS))
    return first[first != second], second[first != second]


def draw_embeddings(report: Report, titles: Mapping[str, str]) -> str | None:
    """Draw alignment against uniformity of every model that has embeddings, a panel for each data set."""
    from matplotlib import pyplot

    metric, k = drawn_metric(report.plan.study)
    points: dict[str, list[tuple[str, float, float, float]]] = {}
    for run in first_runs(report):
        name, found = run.planned.spec.dataset, embeddings_of(report, run.planned.folder)
        dataset = data_of(report, name) if found is not None else None
        if found is None or dataset is None:
            continue
        users, items = found
        spread = (uniformity(users) + uniformity(items)) / 2
        value = value_of(run, TEST, metric, k)
        points.setdefault(name, []).append(
            (titles[run.planned.spec.model], alignment(users, items, dataset), spread, value)
        )
    if not points:
        return None
    with pyplot.rc_context(STYLE):
        figure, axes = panels([*points], 3.4, 3.0)
        for axis, found_points in zip(axes, points.values(), strict=True):
            labels, x, y, colour = zip(*found_points, strict=True)
            drawn = axis.scatter(x, y, c=colour, cmap="cividis", s=36, edgecolors="#444444", linewidths=0.5)
            named_points(axis, labels, x, y)
            figure.colorbar(drawn, ax=axis, shrink=0.8).set_label(f"test {SHORT[metric]}@{k}", fontsize=8)
        figure.supxlabel("alignment", fontsize=9)
        figure.supylabel("uniformity", fontsize=9)
        return source_of(figure)


def draw_calibration(report: Report, titles: Mapping[str, str]) -> str | None:
    """Draw the focus model, and a variant of it with plain uniformity where the study has one."""
    from matplotlib import pyplot

    plan, focus = report.plan, report.plan.study.focus
    run = next((run for run in first_runs(report) if run.planned.spec.model == focus), None)
    content = plan.content_features(run.planned.spec.dataset) if run is not None else None
    if run is None or content is None:
        return None
    name = run.planned.spec.dataset
    dataset = data_of(report, name)
    plain = next(
        (
            planned.folder
            for planned in plan.final_runs
            if (planned.spec.dataset, planned.spec.model) == (name, focus)
            and planned.spec.parameters.get("min_similarity") == planned.spec.parameters.get("max_similarity") == 1.0
        ),
        None,
    )
    shown = {titles[focus]: embeddings_of(report, run.planned.folder)}
    if plain is not None:
        shown[f"{titles[focus]} with plain uniformity"] = embeddings_of(report, plain)
    there = {label: found[1] for label, found in shown.items() if found is not None}
    if not there or dataset is None:
        return None
    known = load_content(dataset, report.root / Layout.features(name, content.feature_set), [*content.modalities])
    first, second = random_pairs(dataset.n_items)
    whole = known.present[first] & known.present[second]
    first, second = first[whole], second[whole]
    similarity = (known.rows[first] * known.rows[second]).sum(axis=1)
    low, high = np.quantile(similarity, [0.01, 0.99])
    bins = np.linspace(low, high, BINS + 1)
    centres = (bins[1:] + bins[:-1]) / 2
    with pyplot.rc_context(STYLE):
        figure, (axis,) = panels([name], 5.2, 3.0)
        for number, (label, items) in enumerate(there.items()):
            distance = ((items[first] - items[second]) ** 2).sum(axis=1)
            of_bin = [distance[(similarity >= low) & (similarity < high)] for low, high in itertools.pairwise(bins)]
            quartiles = np.array([np.quantile(d, [0.25, 0.5, 0.75]) if len(d) > 4 else [np.nan] * 3 for d in of_bin]).T
            axis.plot(centres, quartiles[1], marker=SHAPES[number], color=COLOURS[number], label=label, markersize=4)
            axis.fill_between(centres, quartiles[0], quartiles[2], color=COLOURS[number], alpha=0.15)
        axis.set_xlabel("cosine of the items' contents, mean over modalities")
        axis.set_ylabel("squared distance of embeddings")
        axis.legend(frameon=False, fontsize=8)
        return source_of(figure)


def draw_item_map(report: Report, titles: Mapping[str, str]) -> str | None:
    """Draw the items of each data set by the first two principal components of the focus model's embeddings."""
    from matplotlib import pyplot

    runs = [run for run in first_runs(report) if run.planned.spec.model == report.plan.study.focus]
    found = {run.planned.spec.dataset: embeddings_of(report, run.planned.folder) for run in runs}
    there = {name: pair[1] for name, pair in found.items() if pair is not None}
    maps = {
        name: _map(items, dataset) for name, items in there.items() if (dataset := data_of(report, name)) is not None
    }
    if not maps:
        return None
    with pyplot.rc_context(STYLE):
        figure, axes = panels([*maps], 3.0, 2.8)
        for axis, (places, deciles, explained) in zip(axes, maps.values(), strict=True):
            drawn = axis.scatter(places[:, 0], places[:, 1], c=deciles, cmap="cividis", s=4, linewidths=0)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_xlabel(f"{explained:.0%} of the variance", fontsize=8)
        figure.colorbar(drawn, ax=axes, shrink=0.7).set_label("decile of popularity", fontsize=8)
        return source_of(figure, "png")


def _map(items: np.ndarray, dataset: PreparedDataset) -> tuple[np.ndarray, np.ndarray, float]:
    """Places of items by two principal components, their deciles, and the share of the variance."""
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(items))[:ITEMS])
    centred = items[chosen] - items[chosen].mean(axis=0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(directions[np.arange(2), np.abs(directions[:2]).argmax(axis=1)])
    places = centred @ (directions[:2] * signs[:, None]).T
    deciles = np.abs(popularity_deciles(dataset.of(TRAIN).popularity))[chosen]
    total = float((lengths**2).sum())
    return places, deciles, float((lengths[:2] ** 2).sum()) / total if total else 0.0
