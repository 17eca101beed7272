"""Where recall comes from: the main table's runs by popularity of the items."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from mmrepro.columns import Columns
from mmrepro.errors import MmreproError
from mmrepro.evaluation.groups import GROUP_CUTOFF as CUTOFF
from mmrepro.evaluation.groups import N_DECILES
from mmrepro.reporting.cells import means_of_cells
from mmrepro.reporting.collect import Collection
from mmrepro.reporting.finished import CELL
from mmrepro.reporting.means import NOT_RUN, Row, decimal, main_blocks, selection_notes, study_note
from mmrepro.reporting.records import measures_of
from mmrepro.reporting.render import Block, Cell, Table, cells
from mmrepro.reporting.report import Built, Report
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan
from mmrepro.study.products import Product

PRODUCT = Product("tables/long_tail")
DECILE = "decile"
DECILE_COUNTS = ("items", "training interactions", "test pairs")
LONG_TAIL_COLUMNS = (
    *CELL, DECILE, Columns.METRIC, Columns.K, Columns.MEAN, Columns.STD, Columns.N_SEEDS, "n_items", "n_interactions",
    "n_test_pairs",
)  # fmt: skip
LONG_TAIL_NOTE = (
    f"Items are sorted by their number of training interactions (equal ones by index) and cut into {N_DECILES} "
    "groups as equal as possible, 1 the least popular. Cold: the items without a training interaction, which are in a "
    "decile, too. "
    f"Recall@{CUTOFF} of a group: of the test pairs (user, item) whose item is in it, the share found among the "
    f"user's first {CUTOFF}; a dash where there is no such pair. Mean over seeds, below it "
    "the sample standard deviation."
)


def build(report: Report) -> Iterator[Built]:
    """Yield the table."""
    frame = long_tail_frame(report.plan, report.collection, report.root)
    yield "long_tail", frame, long_tail_table(report.plan, frame)


def long_tail_frame(plan: Plan, collection: Collection, root: Path) -> pd.DataFrame:
    """Return recall at 20 on test by decile of the items' popularity (`evaluation/groups.py`), 0 being the cold items.

    Parameters
    ----------
    plan, collection
        The study and what exists of its main table.
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
        For a run that was measured without its groups.
    """
    values: list[tuple[Any, ...]] = []
    counts: list[tuple[Any, ...]] = []
    for name in plan.study.datasets:
        found = measures_of(plan, name, root) or {}
        groups = found.get("groups", {"items": (), "interactions": (), "pairs": ()})
        counts += [(name, *sizes) for sizes in zip(range(N_DECILES + 1), *groups.values(), strict=False)]
        for run in collection.runs:
            if run.planned.spec.dataset == name:
                recall = found.get("recall_by_group", {}).get(run.planned.folder.as_posix())
                if recall is None:
                    path = Layout.measures(plan.name, name)
                    raise MmreproError(f"{path}: no recall by group; delete the file and run the study again")
                values += [(*run.cell, *value) for value in enumerate(recall)]
    frame = means_of_cells(plan, (DECILE,), [(group,) for group in range(N_DECILES + 1)], values)
    frame[Columns.METRIC], frame[Columns.K] = "recall", CUTOFF
    names = ["n_items", "n_interactions", "n_test_pairs"]
    sizes = pd.DataFrame(counts, columns=[Columns.DATASET, DECILE, *names]).astype(dict.fromkeys(names, "Int64"))
    return frame.merge(sizes, on=[Columns.DATASET, DECILE], how="left")[list(LONG_TAIL_COLUMNS)]


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


def _recall(row: Row) -> str:
    return NOT_RUN if row[Columns.N_SEEDS] == 0 else decimal(row[Columns.MEAN])
