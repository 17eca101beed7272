"""The finished runs of a study: one long frame, and the holes where a planned run is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from mmrepro.columns import TEST, VALID, Columns
from mmrepro.config.base import content_hash
from mmrepro.errors import MmreproError
from mmrepro.evaluation.metrics import METRICS
from mmrepro.reporting.finished import CELL, FinishedRun, value_of
from mmrepro.reporting.records import measured, read_record
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan, PlannedRun

FLAGS = "flags"
SELECTED_ON_TEST = "selected on test"
FRAME_COLUMNS = (*CELL, Columns.SEED, Columns.SPLIT, Columns.METRIC, Columns.K, Columns.VALUE, FLAGS)


@dataclass(frozen=True)
class Collection:
    """What exists of a study's main table.

    Attributes
    ----------
    frame
        One row a value: data set, features, model, protocol, seed, split, metric, k, value, flags.
    runs
        The finished runs, in the order of the plan.
    holes
        The planned runs that have not finished.
    missing
        Such runs of all tables, each folder once.
    """

    frame: pd.DataFrame
    runs: tuple[FinishedRun, ...]
    holes: tuple[PlannedRun, ...]
    missing: tuple[PlannedRun, ...]


def collect(plan: Plan, root: Path, current_code: Mapping[str, str] | None = None) -> Collection:
    """Read the records of the runs of a study's main table; parameters and errors are those of `finished_runs`."""
    runs = finished_runs(plan, plan.runs, root, current_code)
    done = {run.planned.folder for run in runs}
    holes = tuple(run for run in plan.runs if run.folder not in done)
    others = [run for run in plan.final_runs if run.folder not in done]
    found = {run.planned.folder for run in finished_runs(plan, others, root, current_code)}
    missing = tuple(run for run in others if run.folder not in found)
    return Collection(_long_frame(runs, plan.study.cutoffs), runs, holes, missing)


def finished_runs(
    plan: Plan, planned: Iterable[PlannedRun], root: Path, current_code: Mapping[str, str] | None = None
) -> tuple[FinishedRun, ...]:
    """Read the records and metrics of the runs of one table.

    Parameters
    ----------
    plan
        The resolved study, in whose name runs have been measured.
    planned
        The table's runs.
    root
        Folder that holds `results/`.
    current_code
        Model to the fingerprint of today's code, by which runs of other code are flagged 'stale'; computed unless
        given.

    Returns
    -------
    tuple of FinishedRun
        In the order given, without those that have not finished. Flags are 'selected on test'
        (where a search chose the hyper-parameters there), 'stale', 'mixed versions' and 'mixed devices'; the last two
        mark the runs that differ from most of those they are compared with (same table, data set and protocol).

    Raises
    ------
    MmreproError
        When a record cannot be read, or a finished run has not been measured.
    """
    finished: list[FinishedRun] = []
    for one in planned:
        record, path = read_record(one, root), root / Layout.measures(plan.name, one.spec.dataset)
        if record is None:
            continue
        metrics = measured(plan, one, record, root)
        if metrics is None:
            raise MmreproError(
                f"{path}: {one.folder} is finished and not measured; run the study again, or "
                f"`mmrepro measure {plan.study.study} {one.spec.dataset} --output results`"
            )
        finished.append(FinishedRun(one, record, metrics, path.with_suffix(".parquet")))
    odd = {
        "mixed versions": _minority(finished, lambda record: content_hash(record.get("versions"))),
        "mixed devices": _minority(finished, _device),
    }
    runs = []
    for run in finished:
        planned_run, model = run.planned, run.planned.spec.model
        chosen = planned_run.selection is not None or not plan.schemas[model].closed_form  # settings, or an epoch
        today = planned_run.code if current_code is None else current_code.get(model)
        flags = [SELECTED_ON_TEST] if chosen and planned_run.spec.protocol.select_on == TEST else []
        flags += ["stale"] if run.record.get("code") != today else []
        flags += [flag for flag, folders in odd.items() if planned_run.folder in folders]
        runs.append(replace(run, flags=tuple(flags)))
    return tuple(runs)


def flags_of(runs: Iterable[FinishedRun]) -> tuple[str, ...]:
    """Return the flags of the runs of one row, each once, in a fixed order."""
    return tuple(sorted({flag for run in runs for flag in run.flags}))


def _minority(runs: Iterable[FinishedRun], key: Callable[[dict[str, Any]], str]) -> set[Path]:
    """Folders of the runs whose key is not the most frequent one among those they are compared with."""
    groups: dict[tuple[str, str], list[tuple[Path, str]]] = {}
    for run in runs:
        group = groups.setdefault((run.planned.spec.dataset, run.planned.protocol_name), [])
        group.append((run.planned.folder, key(run.record)))
    odd: set[Path] = set()
    for group in groups.values():
        counts = Counter(value for _, value in group)
        usual = min(counts, key=lambda value: (-counts[value], value))
        odd |= {folder for folder, value in group if value != usual}
    return odd


def _device(record: dict[str, Any]) -> str:
    return f"{record.get('device')} {record.get('device_name')}"


def _long_frame(runs: Sequence[FinishedRun], cutoffs: Sequence[int]) -> pd.DataFrame:
    rows = [
        (*run.cell, run.planned.seed, split, metric, k, value_of(run, split, metric, k), "; ".join(run.flags))
        for run in runs
        for split in (TEST, VALID)
        for metric in (known.name for known in METRICS)
        for k in cutoffs
    ]
    return pd.DataFrame(rows, columns=list(FRAME_COLUMNS)).astype({Columns.VALUE: "float64"})
