"""A run of a table that has finished: its record, its metrics, the values of its users, and its lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mmrepro.columns import TEST, Columns
from mmrepro.errors import MmreproError
from mmrepro.evaluation.measure import RUN
from mmrepro.records.files import read_table
from mmrepro.study.plan import PlannedRun

CELL = (Columns.DATASET, Columns.FEATURES, Columns.MODEL, Columns.PROTOCOL)
Cell = tuple[str, str, str, str]
"""Data set, feature set, model, protocol."""


@dataclass(frozen=True)
class FinishedRun:
    """A planned run that has its `run.json` and has been measured, and what a reader of its numbers must know."""

    planned: PlannedRun
    record: dict[str, Any]
    metrics: dict[str, dict[str, float | None]]
    """Split -> `<metric>_at_<cutoff>` -> value, as the stage `measure` found it."""
    users: Path
    """File with the metrics of each user."""
    flags: tuple[str, ...] = ()

    @property
    def cell(self) -> Cell:
        """The row of the tables it belongs to."""
        return cell_of(self.planned)


def cell_of(run: PlannedRun) -> Cell:
    """Return the row of the tables that a run belongs to."""
    return run.spec.dataset, run.features_name, run.spec.model, run.protocol_name


def user_means(runs: Sequence[FinishedRun], columns: Sequence[str]) -> pd.DataFrame:
    """Return the test metrics of each user, averaged over seeds.

    Parameters
    ----------
    runs
        The runs of one cell, one a seed.
    columns
        Metrics, as in `recall_at_20`.

    Returns
    -------
    pd.DataFrame
        Indexed by user, one column a metric.

    Raises
    ------
    MmreproError
        For runs of which not the same users were measured, or not by that metric.
    """
    parts = [
        _test_rows(run.users, [Columns.USER, *columns], [(RUN, "==", run.planned.folder.as_posix())], "measures")
        for run in runs
    ]
    for run, part in zip(runs, parts, strict=True):
        users = part[Columns.USER].tolist()
        if not users or users != parts[0][Columns.USER].tolist():
            found = "other users than the cell's other seeds" if users else "no users"
            raise MmreproError(f"{run.users}: {found} of {run.planned.folder}; delete it and run the study again")
    return pd.concat(parts).groupby(Columns.USER, sort=True).mean()


def held_out_twice(run: FinishedRun) -> bool:
    """Return whether a user of the run's data is held out for validation and for test, so that masks of both differ."""
    remedy = "delete the measures and run the study again"
    rows = read_table(
        run.users, remedy, columns=[Columns.SPLIT, Columns.USER], filters=[(RUN, "==", run.planned.folder.as_posix())]
    )
    return bool(rows.drop_duplicates().duplicated(Columns.USER).any())


def value_of(run: FinishedRun, split: str, metric: str, k: int) -> float:
    """Return a metric of a run; NaN where there was nothing to measure.

    Raises
    ------
    MmreproError
        When it was not measured.
    """
    name = f"{metric}_at_{k}"
    try:
        value = run.metrics[split][name]
    except KeyError:
        path = run.users.with_suffix(".json")
        raise MmreproError(f"{path}: no value {split}.{name}; delete the file and run the study again") from None
    return float("nan") if value is None else float(value)


def _test_rows(path: Path, columns: list[str], filters: Sequence[tuple[str, str, Any]], what: str) -> pd.DataFrame:
    """Rows of the test split of a table; what is filtered out is never held at once."""
    remedy = f"delete the {what} and run the study again"
    return read_table(path, remedy, columns=columns, filters=[(Columns.SPLIT, "==", TEST), *filters])
