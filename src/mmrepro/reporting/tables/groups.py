"""Where recall comes from: the main table's runs by popularity of the items and by length of the users' histories."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.columns import TEST, TRAIN, Columns
from mmrepro.datasets.interactions import INTERACTIONS, STATISTICS, PreparedDataset
from mmrepro.evaluation.groups import (
    N_DECILES,
    distinct_pairs,
    history_lengths,
    item_groups,
    recall_by_group,
)
from mmrepro.reporting.collect import CELL, Collection, cell_of, listed_pairs, user_means
from mmrepro.reporting.means import (
    NAMES,
    NOT_RUN,
    Row,
    decimal,
    main_blocks,
    mean_text,
    over_seeds,
    selection_notes,
    study_note,
)
from mmrepro.reporting.products import headline_columns
from mmrepro.reporting.render import Block, Cell, Table, cells
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan

CUTOFF, SHORT = 20, 4
DECILE, HISTORY = "decile", "history"
DECILE_COUNTS = ("items", "training interactions", "test pairs")
LONG_TAIL_COLUMNS = (
    *CELL, DECILE, Columns.METRIC, Columns.K, Columns.MEAN, Columns.STD, Columns.N_SEEDS, "n_items", "n_interactions",
    "n_test_pairs",
)  # fmt: skip
HISTORIES = (f"under {SHORT}", f"{SHORT} and more")
SHORT_HISTORY_COLUMNS = (
    *CELL, HISTORY, Columns.METRIC, Columns.K, Columns.MEAN, Columns.STD, Columns.N_SEEDS, "n_users",
)  # fmt: skip
LONG_TAIL_NOTE = (
    f"Items are sorted by their number of training interactions (equal ones by index) and cut into {N_DECILES} groups as "
    "equal as possible, 1 the least popular. Cold: the items without a training interaction, which are in a decile, too. "
    f"Recall@{CUTOFF} of a group: of the test pairs (user, item) whose item is in it, the share found among the user's first {CUTOFF}; a dash where there is no such pair. Mean over seeds, below it "
    "the sample standard deviation."
)
HISTORY_NOTE = (
    f"Users of the test split with fewer than {SHORT} different training items, and the others. R recall, N NDCG, mean over "
    "a group's users, ± sample standard deviation over seeds."
)


def load_prepared(plan: Plan, root: Path) -> dict[str, PreparedDataset]:
    """Return the data sets of a study that have been prepared.

    Raises
    ------
    KeyError
        When a `statistics.json` lacks a count; `load_statistics` says so before.
    """
    folders = {name: root / Layout.prepared(name) for name in plan.study.datasets}
    there = {n: f for n, f in folders.items() if all((f / file).is_file() for file in (STATISTICS, INTERACTIONS))}
    return {name: PreparedDataset.load(folder) for name, folder in there.items()}


def long_tail_frame(
    plan: Plan, collection: Collection, prepared: Mapping[str, PreparedDataset], root: Path
) -> pd.DataFrame:
    """Return recall at 20 on test by decile of the items' popularity (`evaluation/groups.py`), 0 being the cold items.

    Parameters
    ----------
    plan, collection
        The study and what exists of its main table.
    prepared
        From `load_prepared`; a data set that is not there has no values.
    root
        Folder that holds `results/`.

    Returns
    -------
    pd.DataFrame
        Columns `LONG_TAIL_COLUMNS`, a row for each cell of the main table and group; `mean` is NaN where nothing has
        been run or a group has no test pair; the counts are those of the group.

    Raises
    ------
    MmreproError
        For a run without lists.
    """
    values: list[tuple[Any, ...]] = []
    counts: list[tuple[Any, ...]] = []
    for name, dataset in prepared.items():
        popularity = np.bincount(dataset.pairs(TRAIN)[1], minlength=dataset.n_items)
        groups, relevant = item_groups(popularity), distinct_pairs(dataset, TEST)
        for group, inside in groups.items():
            counts.append((name, group, inside.sum(), popularity[inside].sum(), inside[relevant[1]].sum()))
        for run in collection.runs:
            if run.planned.spec.dataset == name:
                recall = recall_by_group(relevant, listed_pairs(run, root, CUTOFF), groups)
                values += [(*run.cell, group, value) for group, value in recall.items()]
    frame = _frame(plan, (DECILE,), [(group,) for group in range(N_DECILES + 1)], values)
    frame[Columns.METRIC], frame[Columns.K] = "recall", CUTOFF
    names = ["n_items", "n_interactions", "n_test_pairs"]
    found = pd.DataFrame(counts, columns=[Columns.DATASET, DECILE, *names]).astype(dict.fromkeys(names, "Int64"))
    return frame.merge(found, on=[Columns.DATASET, DECILE], how="left")[list(LONG_TAIL_COLUMNS)]


def short_history_frame(
    plan: Plan, collection: Collection, prepared: Mapping[str, PreparedDataset], root: Path
) -> pd.DataFrame:
    """Return the headline metrics over test users with few training items, and over the others.

    Parameters
    ----------
    plan, collection, prepared, root
        As for `long_tail_frame`.

    Returns
    -------
    pd.DataFrame
        Columns `SHORT_HISTORY_COLUMNS`, a row for each cell of the main table, group of users, metric and cutoff;
        `mean` is NaN where nothing has been run or a group has no user.

    Raises
    ------
    MmreproError
        For a run without metrics of its users.
    """
    columns = headline_columns(plan.study)
    values: list[tuple[Any, ...]] = []
    counts: list[tuple[Any, ...]] = []
    for name, dataset in prepared.items():
        short = history_lengths(dataset) < SHORT
        tested = np.unique(dataset.pairs(TEST)[0])
        groups = {history: tested[short[tested] == few] for history, few in zip(HISTORIES, (True, False), strict=True)}
        counts += [(name, history, len(users)) for history, users in groups.items()]
        for run in collection.runs:
            if run.planned.spec.dataset == name:
                users = user_means([run], root, [f"{metric}_at_{k}" for metric, k in columns])
                values += [
                    (*run.cell, history, metric, k, users.loc[users.index.isin(group), f"{metric}_at_{k}"].mean())
                    for (history, group), (metric, k) in itertools.product(groups.items(), columns)
                ]
    rows = [(history, *column) for history, column in itertools.product(HISTORIES, columns)]
    frame = _frame(plan, (HISTORY, Columns.METRIC, Columns.K), rows, values)
    found = pd.DataFrame(counts, columns=[Columns.DATASET, HISTORY, "n_users"]).astype({"n_users": "Int64"})
    return frame.merge(found, on=[Columns.DATASET, HISTORY], how="left")[list(SHORT_HISTORY_COLUMNS)]


def _frame(
    plan: Plan, keys: Sequence[str], rows: Sequence[tuple[Any, ...]], values: Sequence[tuple[Any, ...]]
) -> pd.DataFrame:
    """Means over seeds, the given rows for each cell of the main table."""
    planned = dict.fromkeys(cell_of(run) for run in plan.runs)
    names = [*CELL, *keys]
    wanted = pd.DataFrame([(*cell, *row) for cell in planned for row in rows], columns=names)
    return over_seeds(wanted, pd.DataFrame(values, columns=[*names, Columns.VALUE]))


def long_tail_table(plan: Plan, frame: pd.DataFrame) -> Table:
    """Return the long-tail table for readers: a block for each data set and protocol, a column for each group."""
    blocks = []
    for name, block in main_blocks(plan, frame):
        lines: list[tuple[Cell, ...]] = []
        for model, rows in block.groupby(Columns.MODEL, sort=False):
            found = rows.to_dict("records")
            if not lines:
                names = ("n_items", "n_interactions", "n_test_pairs")
                for label, count in zip(DECILE_COUNTS, names, strict=True):
                    lines.append(cells(label, *(NOT_RUN if pd.isna(r[count]) else f"{r[count]:,}" for r in found)))
            lines.append(cells(str(model), *(_recall(row) for row in found)))
            if rows[Columns.STD].notna().any():
                lines.append(cells("↳ ±", *(decimal(row[Columns.STD]) for row in found)))
        blocks.append(Block(name, tuple(lines)))
    headings = ("model", "cold", *map(str, range(1, N_DECILES + 1)))
    title = f"{plan.study.title}: recall@{CUTOFF} by decile of the items' popularity"
    return Table(title, headings, tuple(blocks), (LONG_TAIL_NOTE, *selection_notes(plan.runs), *study_note(plan.study)))


def short_history_table(plan: Plan, frame: pd.DataFrame) -> Table:
    """Return the short-history table for readers: a block for each data set, protocol and group of users."""
    columns = headline_columns(plan.study)
    blocks = []
    for (name, rows_of_block), history in itertools.product(main_blocks(plan, frame), HISTORIES):
        block = rows_of_block[rows_of_block[HISTORY] == history]
        lines = []
        for model, rows in block.groupby(Columns.MODEL, sort=False):
            found = {(row[Columns.METRIC], row[Columns.K]): row for row in rows.to_dict("records")}
            lines.append(cells(str(model), *(mean_text(found[column]) for column in columns)))
        n_users = block["n_users"].iloc[0]
        users = "" if pd.isna(n_users) else f" (users: {n_users:,})"
        blocks.append(Block(f"{name}, {history} training items{users}", tuple(lines)))
    headings = ("model", *(f"{NAMES[metric]}@{k}" for metric, k in columns))
    title = f"{plan.study.title}: users with short histories"
    return Table(title, headings, tuple(blocks), (HISTORY_NOTE, *selection_notes(plan.runs), *study_note(plan.study)))


def _recall(row: Row) -> str:
    return NOT_RUN if row[Columns.N_SEEDS] == 0 else decimal(row[Columns.MEAN])
