"""The settings of every run of the main table, and who set them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from mmrepro.columns import Columns
from mmrepro.reporting.collect import Collection
from mmrepro.reporting.finished import CELL, Cell, cell_of
from mmrepro.reporting.means import main_blocks, study_note
from mmrepro.reporting.render import Block, Table, cells
from mmrepro.reporting.report import Built, Report
from mmrepro.study.plan import Plan, PlannedRun
from mmrepro.study.products import Product

PRODUCT = Product("tables/settings", ("csv", "md"))
PARAMETER, ORIGIN, DEFAULT = "parameter", "origin", "default"
SEARCH, STUDY = "search", "study"
NOT_CHOSEN = "not chosen yet"
SETTINGS_COLUMNS = (*CELL, PARAMETER, Columns.VALUE, ORIGIN, DEFAULT)


def build(report: Report) -> Iterator[Built]:
    """Yield the table; a paper that prints it does so in words."""
    frame = settings_frame(report.plan, report.collection)
    yield "settings", frame, settings_table(report.plan, frame)


def settings_frame(plan: Plan, collection: Collection) -> pd.DataFrame:
    """Return every parameter of every cell of the main table.

    Parameters
    ----------
    plan, collection
        The study and what exists of it.

    Returns
    -------
    pd.DataFrame
        Columns `SETTINGS_COLUMNS`, values as JSON; `origin` is 'search' (its winner), 'study' (what the study's or the
        model's file sets) or 'default'. A value that a search has yet to choose is 'not chosen yet'.
    """
    records = {cell_of(run.planned): run.record for run in collection.runs}
    first: dict[Cell, PlannedRun] = {}
    for run in plan.runs:
        first.setdefault(cell_of(run), run)
    parts = [settings_frame_of(plan, run, records.get(cell)) for cell, run in first.items()]
    return pd.concat(parts, ignore_index=True)


def settings_frame_of(plan: Plan, run: PlannedRun, record: Mapping[str, Any] | None) -> pd.DataFrame:
    """Return the rows of one cell: what the search chose, then what the study sets, then the defaults.

    Parameters
    ----------
    plan
        The study.
    run
        One of the cell's runs.
    record
        What it left, where it has finished.
    """
    values = (record or {}).get("parameters") or plan.parameters_of(run.spec)
    defaults = plan.schemas[run.spec.model].defaults
    rows = []
    for name in sorted(values, key=lambda name: ((SEARCH, STUDY, DEFAULT).index(_origin(run, name)), name)):
        origin = _origin(run, name)
        value = NOT_CHOSEN if record is None and origin == SEARCH else _text(values[name])
        rows.append((*cell_of(run), name, value, origin, _text(defaults.get(name))))
    return pd.DataFrame(rows, columns=list(SETTINGS_COLUMNS))


def _origin(run: PlannedRun, name: str) -> str:
    if name in run.spec.selects:
        return SEARCH
    return STUDY if name in run.spec.parameters else DEFAULT


def _text(value: Any) -> str:
    return json.dumps(value)


def settings_table(plan: Plan, frame: pd.DataFrame) -> Table:
    """Return the settings for readers: a block for each data set and protocol, a row for each model."""
    blocks = []
    for name, block in main_blocks(plan, frame):
        lines = [
            cells(str(model), *(_named(rows[rows[ORIGIN] == origin]) for origin in (SEARCH, STUDY, DEFAULT)))
            for model, rows in block.groupby(Columns.MODEL, sort=False)
        ]
        blocks.append(Block(name, tuple(lines)))
    note = (
        "Set by the study: what its file or the model's in config/models says otherwise than the model's class; the "
        "protocol's switches stand below the main table."
    )
    headings = ("model", "chosen by the search", "set by the study", "defaults")
    return Table(f"{plan.study.title}: settings", headings, tuple(blocks), (note, *study_note(plan.study)))


def _named(rows: pd.DataFrame) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(rows[PARAMETER], rows[Columns.VALUE], strict=True)) or "–"
