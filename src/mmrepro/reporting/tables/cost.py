"""What a study cost: hours, energy and memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from mmrepro.columns import Columns
from mmrepro.reporting.records import job_record
from mmrepro.reporting.render import Block, Cell, Table, cells
from mmrepro.reporting.report import Built, Report
from mmrepro.study.plan import Plan
from mmrepro.study.products import Product

PRODUCT = Product("tables/cost", ("csv", "md"))
PURPOSE, ENERGY = "purpose", "energy_kwh"
COST_COLUMNS = (
    Columns.DATASET, Columns.MODEL, PURPOSE, "runs", "wall_hours", "cpu_hours", ENERGY, "peak_memory_mb",
    "peak_gpu_memory_mb", "devices",
)  # fmt: skip
JOULES_A_KWH = 3.6e6


def build(report: Report) -> Iterator[Built]:
    """Yield the table; no paper prints it."""
    frame = cost_frame(report.plan, report.root)
    yield "cost", frame, cost_table(frame)


def cost_frame(plan: Plan, root: Path) -> pd.DataFrame:
    """Return hours, energy and peak memory by data set, model and purpose (trial, final, alignment).

    Parameters
    ----------
    plan
        The resolved study.
    root
        Folder that holds `results/` and `data/`.

    Returns
    -------
    pd.DataFrame
        Columns `COST_COLUMNS`; energy is NaN unless all runs of a row know theirs.
    """
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for job in plan.jobs:
        record = job_record(job, root) if job.of_kind.records else None
        if record is not None and "wall_seconds" in record:
            groups.setdefault((job.labels["dataset"], job.model, record["purpose"]), []).append(record)
    rows = [(*key, *_cost(groups[key])) for key in sorted(groups)]
    types = dict.fromkeys(("wall_hours", "cpu_hours", ENERGY), "float64")
    return pd.DataFrame(rows, columns=list(COST_COLUMNS)).astype(types)


def _cost(records: list[dict[str, Any]]) -> tuple[Any, ...]:
    def hours(key: str) -> float:
        return sum(record.get(key) or 0 for record in records) / 3600

    def peak(key: str) -> float | None:
        return max((record[key] for record in records if record.get(key) is not None), default=None)

    joules = [record.get("energy_joules") for record in records]
    energy = None if None in joules else sum(joule for joule in joules if joule is not None) / JOULES_A_KWH
    devices = "; ".join(sorted({str(record.get("device_name") or record.get("device")) for record in records}))
    memory = peak("peak_memory_mb"), peak("peak_gpu_memory_mb")
    return len(records), hours("wall_seconds"), hours("cpu_seconds"), energy, *memory, devices


def cost_table(frame: pd.DataFrame) -> Table:
    """Return the cost table for readers, from the frame of `cost_frame`, with the sum over data sets of each model."""
    names = (
        "data set", "model", PURPOSE, "runs", "wall hours", "CPU hours", "energy kWh", "peak memory MB",
        "peak GPU memory MB", "devices",
    )  # fmt: skip
    blocks = [Block("", tuple(_row(row) for row in frame.to_dict("records")))]
    if frame[Columns.DATASET].nunique() > 1:
        blocks.append(Block("All data sets", tuple(_row(row) for row in _sums(frame).to_dict("records"))))
    footer = (
        f"{frame['wall_hours'].sum():.2f} hours in all, one job after another.",
        "Energy is that of the whole processor packages while a job ran: of jobs side by side, each counts the "
        "energy of "
        "all. Memory and graphics cards are not in it. Empty where a job of the row was on a machine that does "
        "not tell.",
    )
    return Table("Cost", names, tuple(blocks), footer)


def _sums(frame: pd.DataFrame) -> pd.DataFrame:
    """Cost by model and purpose over all data sets."""
    sums = frame.groupby([Columns.MODEL, PURPOSE], as_index=False).agg(
        runs=("runs", "sum"),
        wall_hours=("wall_hours", "sum"),
        cpu_hours=("cpu_hours", "sum"),
        energy_kwh=(ENERGY, lambda values: values.sum(skipna=False)),
        peak_memory_mb=("peak_memory_mb", "max"),
        peak_gpu_memory_mb=("peak_gpu_memory_mb", "max"),
        devices=("devices", lambda values: "; ".join(sorted({part for text in values for part in text.split("; ")}))),
    )
    return sums.assign(**{Columns.DATASET: "all"})


def _row(row: Any) -> tuple[Cell, ...]:
    return cells(
        row[Columns.DATASET], row[Columns.MODEL], row[PURPOSE], str(row["runs"]), f"{row['wall_hours']:.4f}",
        f"{row['cpu_hours']:.4f}", _number(row[ENERGY], ".4f"), _number(row["peak_memory_mb"], ".0f"),
        _number(row["peak_gpu_memory_mb"], ".0f"), row["devices"],
    )  # fmt: skip


def _number(value: Any, style: str) -> str:
    return "" if pd.isna(value) else format(value, style)
