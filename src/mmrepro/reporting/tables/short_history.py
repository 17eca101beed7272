"""Where accuracy comes from: the main table's runs by length of the users' histories."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pandas as pd

from mmrepro.columns import Columns
from mmrepro.evaluation.measure import HISTORY as HISTORY_LENGTH
from mmrepro.reporting.cells import means_of_cells
from mmrepro.reporting.collect import Collection
from mmrepro.reporting.finished import CELL, user_means
from mmrepro.reporting.headline import LEGEND, SHORT, headline_columns
from mmrepro.reporting.means import main_blocks, mean_text, selection_notes, study_note
from mmrepro.reporting.render import Block, Table, cells
from mmrepro.reporting.report import Built, Report
from mmrepro.study.plan import Plan
from mmrepro.study.products import Product

PRODUCT = Product("tables/short_history")
SHORT_HISTORY = 4
HISTORY = "history"
HISTORIES = (f"under {SHORT_HISTORY}", f"{SHORT_HISTORY} and more")
SHORT_HISTORY_COLUMNS = (
    *CELL, HISTORY, Columns.METRIC, Columns.K, Columns.MEAN, Columns.STD, Columns.N_SEEDS, "n_users",
)  # fmt: skip
HISTORY_NOTE = (
    f"Users of the test split with fewer than {SHORT_HISTORY} different training items, and the others. "
    f"{LEGEND}, mean over a group's users, ± sample standard deviation over seeds."
)


def build(report: Report) -> Iterator[Built]:
    """Yield the table."""
    frame = short_history_frame(report.plan, report.collection)
    yield "short_history", frame, short_history_table(report.plan, frame)


def short_history_frame(plan: Plan, collection: Collection) -> pd.DataFrame:
    """Return the headline metrics over test users with few training items, and over the others.

    Parameters
    ----------
    plan, collection
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
    names = [f"{metric}_at_{k}" for metric, k in columns]
    values: list[tuple[Any, ...]] = []
    counts: dict[tuple[str, str], int] = {}
    for run in collection.runs:
        users = user_means([run], [HISTORY_LENGTH, *names])
        short = users[HISTORY_LENGTH] < SHORT_HISTORY
        for history, group in zip(HISTORIES, (users[short], users[~short]), strict=True):
            counts[run.planned.spec.dataset, history] = len(group)
            values += [(*run.cell, history, *column, group[name].mean())
                       for column, name in zip(columns, names, strict=True)]  # fmt: skip
    rows = [(history, *column) for history, column in itertools.product(HISTORIES, columns)]
    frame = means_of_cells(plan, (HISTORY, Columns.METRIC, Columns.K), rows, values)
    sizes = [(*group, count) for group, count in counts.items()]
    found = pd.DataFrame(sizes, columns=[Columns.DATASET, HISTORY, "n_users"]).astype({"n_users": "Int64"})
    return frame.merge(found, on=[Columns.DATASET, HISTORY], how="left")[list(SHORT_HISTORY_COLUMNS)]


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
    headings = ("model", *(f"{SHORT[metric]}@{k}" for metric, k in columns))
    title = f"{plan.study.title}: users with short histories"
    return Table(title, headings, tuple(blocks), (HISTORY_NOTE, *selection_notes(plan.runs), *study_note(plan.study)))
