"""What the tables that divide a main table's runs into groups share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mmrepro.columns import Columns
from mmrepro.datasets.interactions import INTERACTIONS, STATISTICS, PreparedDataset
from mmrepro.reporting.collect import CELL, cell_of
from mmrepro.reporting.means import over_seeds
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan


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


def means_of_cells(
    plan: Plan, keys: Sequence[str], rows: Sequence[tuple[Any, ...]], values: Sequence[tuple[Any, ...]]
) -> pd.DataFrame:
    """Return means over seeds, the given rows for each cell of the main table.

    Parameters
    ----------
    plan
        The study.
    keys, rows
        Columns beside those of a cell, and what they hold.
    values
        Cell, keys and a value, one a seed.
    """
    planned = dict.fromkeys(cell_of(run) for run in plan.runs)
    names = [*CELL, *keys]
    wanted = pd.DataFrame([(*cell, *row) for cell in planned for row in rows], columns=names)
    return over_seeds(wanted, pd.DataFrame(values, columns=[*names, Columns.VALUE]))
