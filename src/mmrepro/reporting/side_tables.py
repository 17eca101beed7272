"""The tables beside the main one: search trials, cost, and the summary that `dvc metrics diff` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from mmrepro.columns import TEST, VALID, Columns
from mmrepro.plan import Plan, PlannedSelection
from mmrepro.reporting.collect import Collection, read_alignment, read_record
from mmrepro.reporting.products import ENCODER
from mmrepro.reporting.render import Block, Table, cells

SEARCH_COLUMNS = (
    Columns.DATASET, Columns.FEATURES, Columns.MODEL, Columns.PROTOCOL, "select_on", "parameters", Columns.METRIC,
    Columns.VALUE, "epochs", "winner",
)  # fmt: skip
COST_COLUMNS = (
    Columns.DATASET, Columns.MODEL, "purpose", "runs", "wall_hours", "cpu_hours", "peak_memory_mb",
    "peak_gpu_memory_mb", "devices",
)  # fmt: skip
SELECTION_METRIC = "recall_at_20"


def search_frame(plan: Plan, root: Path) -> pd.DataFrame:
    """Return every trial of the study's search: its grid values, its value and whether it won; NaN where not run."""
    rows = [row for selection in plan.selections for row in _search_rows(plan, selection, root)]
    return pd.DataFrame(rows, columns=list(SEARCH_COLUMNS)).astype({"epochs": "Int64"})


def _search_rows(plan: Plan, selection: PlannedSelection, root: Path) -> list[tuple[Any, ...]]:
    assert plan.study.search is not None  # there is no selection without a search
    grid = plan.study.search.space[selection.model]
    path = root / selection.path
    winner = json.loads(path.read_text()) if path.is_file() else {}
    metric = winner.get("metric", SELECTION_METRIC)
    rows = []
    for trial in selection.trials:
        record = read_record(trial, root) or {}
        values = {key: trial.spec.parameters[key] for key in sorted(grid)}
        won = bool(winner) and all(winner["parameters"].get(key) == value for key, value in values.items())
        rows.append(
            (
                trial.spec.dataset, trial.features_name, trial.spec.model, trial.protocol_name, selection.select_on,
                json.dumps(values), metric, record.get(selection.select_on, {}).get(metric), record.get("epochs"), won,
            )
        )  # fmt: skip
    return rows


def cost_frame(plan: Plan, root: Path) -> pd.DataFrame:
    """Return hours and peak memory by data set, model and purpose; the only table with times."""
    planned = {run.folder: run for run in plan.jobs}
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for run in planned.values():
        if (record := read_record(run, root)) is not None:
            groups.setdefault((run.spec.dataset, run.spec.model, run.spec.purpose), []).append(record)
    for alignment in plan.alignments:
        if (record := read_alignment(alignment, root)) is not None:
            groups.setdefault((alignment.dataset, ENCODER, "alignment"), []).append(record)
    rows = [(*key, *_cost(groups[key])) for key in sorted(groups)]
    return pd.DataFrame(rows, columns=list(COST_COLUMNS))


def _cost(records: list[dict[str, Any]]) -> tuple[Any, ...]:
    def total(key: str) -> float:
        return sum(record.get(key) or 0 for record in records) / 3600

    def peak(key: str) -> float | None:
        return max((record[key] for record in records if record.get(key) is not None), default=None)

    devices = "; ".join(sorted({str(record.get("device_name") or record.get("device")) for record in records}))
    memory = peak("peak_memory_mb"), peak("peak_gpu_memory_mb")
    return len(records), total("wall_seconds"), total("cpu_seconds"), *memory, devices


def cost_table(frame: pd.DataFrame) -> Table:
    """Return the cost table for readers, from the frame of `cost_frame`."""
    names = (
        "data set",
        "model",
        "purpose",
        "runs",
        "wall hours",
        "CPU hours",
        "peak memory MB",
        "peak GPU memory MB",
        "devices",
    )
    rows = tuple(
        cells(
            row[Columns.DATASET], row[Columns.MODEL], row["purpose"], str(row["runs"]), f"{row['wall_hours']:.4f}",
            f"{row['cpu_hours']:.4f}", _megabytes(row["peak_memory_mb"]), _megabytes(row["peak_gpu_memory_mb"]),
            row["devices"],
        )
        for row in frame.to_dict("records")
    )  # fmt: skip
    total = f"{frame['wall_hours'].sum():.2f} hours in all, one job after another."
    return Table("Cost", names, (Block("", rows),), (total,))


def _megabytes(value: Any) -> str:
    return "" if pd.isna(value) else f"{value:.0f}"


def summary(plan: Plan, collection: Collection, frame: pd.DataFrame) -> dict[str, Any]:
    """Return the summary of a study: test means to six significant digits, code fingerprints, number of holes in all tables.

    Parameters
    ----------
    plan, collection
        The study and what exists of it.
    frame
        The main frame.

    Returns
    -------
    dict
        `test` and `valid`: data set -> protocol -> model -> `recall_at_20` -> mean over seeds.
    """
    result: dict[str, Any] = {"study": plan.study.study, "code": _codes(collection), TEST: {}, VALID: {}}
    for row in frame[frame[Columns.N_SEEDS] > 0].to_dict("records"):
        by_protocol = (
            result[row[Columns.SPLIT]].setdefault(row[Columns.DATASET], {}).setdefault(row[Columns.PROTOCOL], {})
        )
        by_metric = by_protocol.setdefault(row[Columns.MODEL], {})
        by_metric[f"{row[Columns.METRIC]}_at_{row[Columns.K]}"] = float(f"{row[Columns.MEAN]:.6g}")
    return {**result, "holes": len(collection.missing)}


def _codes(collection: Collection) -> dict[str, str]:
    """Model to the fingerprints its runs were made with, several joined by a comma."""
    found: dict[str, set[str]] = {}
    for run in collection.runs:
        found.setdefault(run.planned.spec.model, set()).add(str(run.record.get("code")))
    return {model: ",".join(sorted(codes)) for model, codes in sorted(found.items())}
