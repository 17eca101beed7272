"""The frame of the main table, from which csv, Markdown and LaTeX are made, and means over its cells."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mmrepro.columns import TEST, VALID, Columns
from mmrepro.evaluation.metrics import METRICS
from mmrepro.reporting import literature
from mmrepro.reporting.collect import Collection, flags_of
from mmrepro.reporting.finished import CELL, Cell, FinishedRun, cell_of
from mmrepro.reporting.headline import ACCURACY
from mmrepro.reporting.literature import PublishedNumber
from mmrepro.reporting.means import difference_percent, over_seeds, remarks
from mmrepro.reporting.report import Report
from mmrepro.study.plan import Plan

MAIN_COLUMNS = (
    *CELL, Columns.SPLIT, Columns.METRIC, Columns.K, Columns.MEAN, Columns.STD, Columns.N_SEEDS, Columns.PUBLISHED,
    Columns.VERDICT,
)  # fmt: skip
RANKS = {1: "best", 2: "second"}
PUBLISHED, PROGRAM = "published", "program"
"""What a number of others is: printed by somebody, or given by the authors' program, run for this project."""
COMPARED = [Columns.DATASET, Columns.PROTOCOL, Columns.SPLIT, Columns.METRIC, Columns.K]


def main_of(report: Report) -> pd.DataFrame:
    """Return the frame of a report's main table."""
    return main_frame(report.plan, report.collection, report.numbers)


def main_frame(plan: Plan, collection: Collection, numbers: Mapping[literature.Cell, PublishedNumber]) -> pd.DataFrame:
    """Return the main table as a frame.

    Parameters
    ----------
    plan
        The resolved study; every planned cell has its rows, run or not.
    collection
        What exists of it.
    numbers
        Published numbers.

    Returns
    -------
    pd.DataFrame
        Columns `MAIN_COLUMNS`. `mean` and `std` (sample standard deviation, over seeds) are NaN where nothing was run
        or a single seed leaves no spread; `published` is a number, 'not transcribed' or None; `verdict` is text, its
        parts joined by '; '.
    """
    cells = list(dict.fromkeys(cell_of(run) for run in plan.runs))
    rows = [
        (*cell, split, metric, k)
        for cell, split, metric, k in itertools.product(
            cells, (TEST, VALID), (m.name for m in METRICS), plan.study.cutoffs
        )
    ]
    keys = [*CELL, Columns.SPLIT, Columns.METRIC, Columns.K]
    frame = over_seeds(pd.DataFrame(rows, columns=keys), collection.frame)
    frame["rank"] = frame[Columns.MEAN].round(12).groupby([frame[c] for c in COMPARED]).rank("min", ascending=False)
    frame.loc[~frame[Columns.METRIC].isin(ACCURACY), "rank"] = float("nan")
    flags = _flags(collection)
    planned = Counter(cell_of(run) for run in plan.runs)
    records = frame.to_dict("records")
    known = [_known(plan, row, numbers) for row in records]
    frame[Columns.PUBLISHED] = pd.Series([_value_of(number) for number in known], dtype=object)
    frame[Columns.VERDICT] = [
        _verdict(row, number, planned[cell], flags.get(cell, ()))
        for row, number in zip(records, known, strict=True)
        for cell in [(row[Columns.DATASET], row[Columns.FEATURES], row[Columns.MODEL], row[Columns.PROTOCOL])]
    ]
    return frame[list(MAIN_COLUMNS)]


def _flags(collection: Collection) -> dict[Cell, tuple[str, ...]]:
    found: dict[Cell, list[FinishedRun]] = {}
    for run in collection.runs:
        found.setdefault(run.cell, []).append(run)
    return {cell: flags_of(runs) for cell, runs in found.items()}


def _known(
    plan: Plan, row: Mapping, numbers: Mapping[literature.Cell, PublishedNumber]
) -> PublishedNumber | str | None:
    """Literature reports test metrics only."""
    if row[Columns.SPLIT] != TEST:
        return None
    dataset = plan.datasets[row[Columns.DATASET]]
    return literature.literature_number(dict(numbers), dataset, row[Columns.MODEL], row[Columns.METRIC], row[Columns.K])


def _value_of(number: PublishedNumber | str | None) -> float | str | None:
    return number.value if isinstance(number, PublishedNumber) else number


def _verdict(row: Mapping, number: PublishedNumber | str | None, n_planned: int, flags: tuple[str, ...]) -> str:
    """Rank, difference to the published number, or to what the program gave here, missing seeds and flags."""
    parts = [RANKS[int(row["rank"])]] if row["rank"] in RANKS else []
    if isinstance(number, PublishedNumber) and row[Columns.N_SEEDS]:
        difference = difference_percent(row[Columns.MEAN], number.value)
        word = PROGRAM if number.chosen.by_us else PUBLISHED
        parts += [] if difference is None else [f"{word} {difference:+.1f} %"]
    return "; ".join([*parts, *remarks(row[Columns.N_SEEDS], n_planned, flags)])


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
