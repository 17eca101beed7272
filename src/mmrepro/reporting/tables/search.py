"""Every trial of a study's search."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from mmrepro.columns import TEST, Columns
from mmrepro.reporting.collect import SELECTED_ON_TEST
from mmrepro.reporting.means import NOT_RUN
from mmrepro.reporting.records import read_record
from mmrepro.reporting.report import Built, Report
from mmrepro.study.plan import Plan, PlannedSelection, chosen_by
from mmrepro.study.products import Product

PRODUCT = Product("tables/search", ("csv",), when="selections")
TRIAL, WINNER, FLAGS = "trial", "winner", "flags"
SEARCH_COLUMNS = (
    Columns.DATASET, Columns.FEATURES, Columns.MODEL, Columns.PROTOCOL, "select_on", TRIAL, "parameters",
    Columns.METRIC, Columns.VALUE, "epochs", "seconds", WINNER, FLAGS,
)  # fmt: skip


def build(report: Report) -> Iterator[Built]:
    """Yield the trials."""
    yield "search", report.made(trials_of), None


def trials_of(report: Report) -> pd.DataFrame:
    """Return the trials of a report's study."""
    return search_frame(report.plan, report.root)


def search_frame(plan: Plan, root: Path) -> pd.DataFrame:
    """Return every trial of a study's search, in the order tried.

    Parameters
    ----------
    plan
        The resolved study. The trials of a sequential search are known once it has ended.
    root
        Folder that holds `results/`.

    Returns
    -------
    pd.DataFrame
        Columns `SEARCH_COLUMNS`: number of the trial within its search (from 1), values of the searched parameters as
        JSON, the metric on the split that selects, epochs, wall seconds, whether it won, and what a reader must know:
        'selected on test', 'not run' (then without numbers).

    Raises
    ------
    MmreproError
        When a record or a selection cannot be read.
    """
    rows = [row for selection in plan.selections for row in _rows(selection, root)]
    frame = pd.DataFrame(rows, columns=list(SEARCH_COLUMNS))
    return frame.astype({"epochs": "Int64", Columns.VALUE: "float64", "seconds": "float64"})


def _rows(selection: PlannedSelection, root: Path) -> list[tuple[Any, ...]]:
    chosen = chosen_by(selection.path, selection.searched, root) if (root / selection.path).is_file() else {}
    flags = [SELECTED_ON_TEST] if selection.select_on == TEST else []
    rows = []
    for number, (trial, tried) in enumerate(zip(selection.trials, selection.values, strict=True), start=1):
        record = read_record(trial, root) or {}
        metric = record.get("watch", selection.spec.watch)
        values = {key: tried[key] for key in sorted(selection.searched)}
        won = chosen == values
        rows.append(
            (
                trial.spec.dataset, trial.features_name, trial.spec.model, trial.protocol_name, selection.select_on,
                number, json.dumps(values), metric, record.get(selection.select_on, {}).get(metric),
                record.get("epochs"), record.get("wall_seconds"), won,
                "; ".join([*flags, *([] if record else [NOT_RUN])]),
            )
        )  # fmt: skip
    return rows
