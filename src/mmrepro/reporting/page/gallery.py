"""What users had and what each model offers them, and the neighbours of some items, as pictures with titles."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.columns import TEST, TRAIN, Columns
from mmrepro.datasets.image_files import UnusableImage, open_image
from mmrepro.datasets.interactions import PreparedDataset, load_items
from mmrepro.evaluation.measure import load_content
from mmrepro.records.files import read_table, recorded_file
from mmrepro.reporting.escape import one_line
from mmrepro.reporting.finished import FinishedRun
from mmrepro.reporting.page.canvas import first_runs
from mmrepro.reporting.page.embeddings import data_of, embeddings_of
from mmrepro.reporting.page.texts import image_source
from mmrepro.reporting.report import Report
from mmrepro.study.layout import Layout

USERS, HISTORY, OFFERED, ITEMS, NEIGHBOURS = 12, 6, 6, 4, 5
SIDE, QUALITY = 72, 55
"""Pixels and JPEG quality of a picture."""
SEED = 0
LONGEST_TITLE = 80
Shown = dict[str, Any]


def gallery(report: Report, titles: Mapping[str, str]) -> list[Shown]:
    """Return the gallery of each data set whose items have titles or pictures.

    Users are drawn from those of the test split, items from those with a picture, both by a fixed seed. `pictures` has
    each picture once, by the name under which items refer to it.
    """
    found = []
    for number, name in enumerate(report.plan.study.datasets):
        runs = [run for run in first_runs(report) if run.planned.spec.dataset == name]
        dataset = data_of(report, name) if runs else None
        if dataset is None:
            continue
        items = load_items(report.root / Layout.prepared(name))
        if items[Columns.TITLE].notna().any() or items[Columns.IMAGE].notna().any():
            pictures: dict[str, str] = {}
            show = _shower(report, name, items, f"picture-{number}", pictures)
            users = _users(report, dataset, runs, titles, show)
            near = _neighbours(report, dataset, runs, titles, show, items)
            found.append({"dataset": name, "users": users, "items": near, "pictures": pictures})
    return found


def _shower(
    report: Report, name: str, items: pd.DataFrame, prefix: str, pictures: dict[str, str]
) -> Callable[[int], Shown]:
    """A function that returns an item's title and the name of its picture, which it adds to the pictures once."""
    raw = report.root / Layout.raw(report.plan.datasets[name].raw_name)
    known: dict[int, Shown] = {}

    def show(item: int) -> Shown:
        if item not in known:
            row = items.loc[item]
            title = str(row[Columns.KEY] if pd.isna(row[Columns.TITLE]) else row[Columns.TITLE])
            source: str | None = None if pd.isna(row[Columns.IMAGE]) else _thumbnail(raw / row[Columns.IMAGE])
            if source is not None:
                pictures[f"{prefix}-{item}"] = source
            known[item] = {"title": one_line(title)[:LONGEST_TITLE], "picture": source and f"{prefix}-{item}"}
        return known[item]

    return show


def _thumbnail(path: Any) -> str | None:
    try:
        image = open_image(path)
    except (UnusableImage, OSError):
        return None
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=QUALITY)
    return image_source(buffer.getvalue(), "image/jpeg")


def _users(
    report: Report, dataset: PreparedDataset, runs: Sequence[FinishedRun], titles: Mapping[str, str],
    show: Callable[[int], Shown],
) -> list[Shown]:  # fmt: skip
    tested = dataset.of(TEST).distinct_users
    chosen = np.sort(np.random.default_rng(SEED).permutation(tested)[:USERS])
    lists = {run.planned.spec.model: _lists(report, run, chosen) for run in runs}
    rows = dataset.interactions
    found = []
    for number, user in enumerate(chosen, start=1):
        of_user = rows[rows[Columns.USER].eq(user)]
        had = of_user.loc[of_user[Columns.SPLIT].eq(TRAIN), Columns.ITEM].drop_duplicates().tolist()
        wanted = set(of_user.loc[of_user[Columns.SPLIT].eq(TEST), Columns.ITEM])
        offers = [
            {
                "label": titles[model],
                "items": [{**show(item), "hit": item in wanted} for item in ranked.get(int(user), ())],
            }
            for model, ranked in lists.items()
        ]
        heading = f"User {number}: {len(had)} items in training, {len(wanted)} held out"
        found.append({"heading": heading, "had": [show(item) for item in had[-HISTORY:]], "offers": offers})
    return found


def _lists(report: Report, run: FinishedRun, users: np.ndarray) -> dict[int, list[int]]:
    """The first items that a run offers to some users."""
    path = recorded_file(report.root / run.planned.folder, run.record, "lists.parquet")
    filters = [(Columns.SPLIT, "==", TEST), (Columns.RANK, "<=", OFFERED), (Columns.USER, "in", users.tolist())]
    rows = read_table(path, columns=[Columns.USER, Columns.RANK, Columns.ITEM], filters=filters)
    return {
        int(str(user)): found[Columns.ITEM].tolist()
        for user, found in rows.sort_values(Columns.RANK).groupby(Columns.USER)
    }


def _neighbours(
    report: Report, dataset: PreparedDataset, runs: Sequence[FinishedRun], titles: Mapping[str, str],
    show: Callable[[int], Shown], items: pd.DataFrame,
) -> list[Shown]:  # fmt: skip
    """For some items the nearest ones by each modality, by all of them, and by the focus model's embedding."""
    shown = items.index[items[Columns.IMAGE].notna() | items[Columns.TITLE].notna()].to_numpy()
    chosen = np.sort(np.random.default_rng(SEED).permutation(shown)[:ITEMS])
    near: dict[int, list[Shown]] = {int(item): [] for item in chosen}
    for label, rows in _spaces(report, dataset, runs, titles):  # one at a time: large ones are gigabytes
        for item, found in near.items():
            found.append({"label": label, "items": [show(int(other)) for other in _nearest(rows, item)]})
    return [{"item": show(item), "near": found} for item, found in near.items() if found]


def _spaces(
    report: Report, dataset: PreparedDataset, runs: Sequence[FinishedRun], titles: Mapping[str, str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Unit rows of the items by each modality, by all of them, and by the focus model."""
    content, focus = report.plan.content_features(dataset.dataset), report.plan.study.focus
    if content is not None:
        folder = report.root / Layout.features(dataset.dataset, content.feature_set)
        for modality in content.modalities:
            yield f"by {modality}", load_content(dataset, folder, [modality]).rows
        if len(content.modalities) > 1:
            yield "by all modalities, fused", load_content(dataset, folder, [*content.modalities]).rows
    run = next((run for run in runs if run.planned.spec.model == focus), None)
    embedded = embeddings_of(report, run.planned.folder) if run is not None else None
    if embedded is not None:
        yield f"by {titles[focus]}", embedded[1]


def _nearest(rows: np.ndarray, item: int) -> np.ndarray:
    """The items of the largest inner products with one, without it, equal ones by index."""
    scores = rows @ rows[item]
    scores[item] = -np.inf
    return np.argsort(-scores, kind="stable")[:NEIGHBOURS]
