"""What is told of a row of a table: its value, and of each run its settings, code, data, machine and command."""

from __future__ import annotations

import csv
import json
import shlex
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmrepro.columns import TEST, Columns
from mmrepro.config.run import metric_of
from mmrepro.records.files import read_lines, read_object
from mmrepro.reporting.origins import RUNS_FILE, UNKNOWN, Origin, Row, cell_of_line, cell_of_run
from mmrepro.reporting.tables.settings import settings_frame_of
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan, PlannedRun

VARIANT = "variant"
PRINTED = 1e-5
"""Difference of a mean and what a table prints of it, in six digits."""
HEADINGS = {"search": "chosen by the search", "study": "set by the study", "default": "defaults"}


def lines_of_row(
    plan: Plan, file: Path, row: Row, planned: Sequence[PlannedRun], found: Sequence[Origin], names: Sequence[str],
    root: Path, committed: Path | None, tracked: bool = True,
) -> Iterator[str]:  # fmt: skip
    """Yield the lines of `trace` for one row.

    Parameters
    ----------
    plan, file, root, committed
        As for `trace`.
    row, planned, found
        The row, its runs, and those that have finished.
    names
        Metrics.
    tracked
        Whether MLflow can have been told of the runs by now.
    """
    yield f"{row.label} on {row.dataset}, protocol {row.protocol}, features {row.features}"
    if not found:
        yield "  not run"
        return
    table = (committed or Layout.study(plan.name)) / f"tables/{row.comparison or 'main'}.csv"
    for name in names:
        known = [value for origin in found if (value := origin.metrics[TEST].get(name)) is not None]
        spread = f" ± {statistics.stdev(known):.4f}" if len(known) > 1 else ""
        mean = f"{statistics.fmean(known):.4f}{spread}" if known else "nothing to measure"
        where = _in_table(table, root, row, name, known)
        yield f"  {name} {mean}: mean of {len(known)} of {len(planned)} runs, {where}"
    yield from _settings(plan, planned[0], found[0])
    yield from _selection(planned[0], root, committed, found[0])
    for origin in found:
        yield from _run(file, origin, names, tracked)


def _in_table(table: Path, root: Path, row: Row, name: str, known: Sequence[float]) -> str:
    """Where the number stands, and whether it is the same there."""
    path = root / table
    if not path.is_file():
        return f"and no {table.as_posix()}"
    metric, k = metric_of(name)
    wanted = {
        Columns.DATASET: row.dataset, Columns.FEATURES: row.features, Columns.MODEL: row.model, Columns.METRIC: metric,
        Columns.PROTOCOL: row.protocol, Columns.K: str(k), Columns.SPLIT: TEST, VARIANT: row.variant,
    }  # fmt: skip
    with path.open(newline="", encoding="utf-8") as handle:
        printed = [
            line.get(Columns.MEAN)
            for line in csv.DictReader(handle)
            if all(line[key] == value for key, value in wanted.items() if key in line)
        ]
    same = len(printed) == 1 and known and abs(float(printed[0] or "nan") - statistics.fmean(known)) < PRINTED
    if same:
        return f"in {table.as_posix()}"
    return f"but {table.as_posix()} has {', '.join(map(str, printed)) or 'no such row'}"


def _settings(plan: Plan, run: PlannedRun, origin: Origin) -> Iterator[str]:
    rows = settings_frame_of(plan, run, origin.record)
    for source, part in rows.groupby("origin", sort=False):
        values = ", ".join(f"{key} {value}" for key, value in zip(part["parameter"], part[Columns.VALUE], strict=True))
        yield f"  {HEADINGS[str(source)]}: {values}"
    switches = (origin.record.get("protocol") or {}).items()
    yield f"  protocol: {', '.join(f'{key} {value}' for key, value in switches)}"


def _selection(run: PlannedRun, root: Path, committed: Path | None, origin: Origin) -> Iterator[str]:
    """The trials that chose."""
    if run.selection is None:
        return
    found = read_object(root / run.selection) if committed is None else None
    if found is not None:
        yield f"  chosen by {found['n_trials']} trials on {found['select_on']}, in {run.selection.as_posix()}:"
        for trial in found["trials"]:
            mark = "*" if trial["parameters"] == found["parameters"] else " "
            yield f"   {mark} {trial['value']:.4f}  {_named(trial['parameters'])}"
        return
    lines = read_lines(committed / RUNS_FILE) if committed else []
    spec = run.spec
    of_cell = [line for line in lines if cell_of_line(line) == cell_of_run(run)]
    trials = [line for line in of_cell if line.get("purpose") == "trial"]
    yield f"  chosen by {len(trials)} trials, in {RUNS_FILE}:"
    for line in trials:
        values = {name: (line.get("parameters") or {}).get(name) for name in spec.selects}
        mark = "*" if all(origin.record["parameters"].get(key) == value for key, value in values.items()) else " "
        watched = next(iter((line.get("valid") or {}).items()), (spec.watch, None))
        value = (line.get("valid") or {}).get(spec.watch, watched[1])
        yield f"   {mark} {UNKNOWN if value is None else f'{value:.4f}'}  {_named(values)}"


def _run(file: Path, origin: Origin, names: Sequence[str], tracked: bool) -> Iterator[str]:
    record, run = origin.record, origin.run
    git, data = record.get("git") or {}, record.get("data") or {}
    values = [(name, origin.metrics[TEST].get(name)) for name in names]
    shown = ", ".join(f"{name} {'nothing to measure' if one is None else f'{one:.4f}'}" for name, one in values)
    yield f"  seed {run.seed}: {shown}, {origin.folder}"
    seconds, memory = record.get("wall_seconds"), record.get("peak_memory_mb")
    joules = record.get("energy_joules")
    cost = [
        f"{record.get('epochs', UNKNOWN)} epochs, the best {record.get('best_epoch', UNKNOWN)}",
        UNKNOWN if seconds is None else f"{seconds:.0f} s",
        "energy unknown" if joules is None else f"{joules / 3.6e6:.4f} kWh",
        "memory unknown" if memory is None else f"{memory:.0f} MB",
        f"{record.get('device', UNKNOWN)} ({record.get('device_name', UNKNOWN)})",
    ]
    yield f"    {', '.join(cost)}"
    today = "today's" if record.get("code") == run.code else "not today's"
    changes = {True: ", with uncommitted changes", False: "", None: ""}[git.get("dirty")]
    yield f"    code {record.get('code', UNKNOWN)} ({today}), commit {git.get('commit', UNKNOWN)}{changes}"
    yield f"    interactions {data.get('interactions', UNKNOWN)}"
    for kind in ("features", "graphs"):
        for modality, known in sorted((data.get(kind) or {}).items()):
            yield f"    {kind} {modality} {known}"
    versions = record.get("versions") or {}
    yield f"    {', '.join(f'{package} {version}' for package, version in versions.items()) or 'versions unknown'}"
    if "lists" in data:
        yield f"    given lists {data['lists']}"
    yield f"    lists {(record.get('files') or {}).get('lists.parquet') or UNKNOWN}"
    if tracked:
        yield f"    MLflow {origin.mlflow_id or UNKNOWN}"
    yield f"    again: {again(file, origin)}"


def again(file: Path, origin: Origin) -> str:
    """Return the command that makes a run again in a clone."""
    target = shlex.quote(origin.run.record.as_posix())
    return f"snakemake --cores all --configfile {shlex.quote(file.as_posix())} -- {target}"


def _named(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {json.dumps(value)}" for key, value in sorted(values.items()))
