"""The finished runs of a study: one long frame, and the holes where a planned run is missing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.columns import TEST, VALID, Columns
from mmrepro.config.base import content_hash
from mmrepro.errors import MmreproError
from mmrepro.evaluation.measure import RUN
from mmrepro.evaluation.metrics import METRICS
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Job, Plan, PlannedAlignment, PlannedRun, complete

FLAGS = "flags"
SELECTED_ON_TEST = "selected on test"
CELL = (Columns.DATASET, Columns.FEATURES, Columns.MODEL, Columns.PROTOCOL)
FRAME_COLUMNS = (*CELL, Columns.SEED, Columns.SPLIT, Columns.METRIC, Columns.K, Columns.VALUE, FLAGS)

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
        The planned runs that have not finished, or not been measured.
    missing
        Such runs of all tables, each folder once.
    """

    frame: pd.DataFrame
    runs: tuple[FinishedRun, ...]
    holes: tuple[PlannedRun, ...]
    missing: tuple[PlannedRun, ...]


def cell_of(run: PlannedRun) -> Cell:
    """Return the row of the tables that a run belongs to."""
    return run.spec.dataset, run.features_name, run.spec.model, run.protocol_name


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
        Model to the fingerprint of today's code, by which runs of other code are flagged 'stale'; computed unless given.

    Returns
    -------
    tuple of FinishedRun
        In the order given, without those that have not finished or not been measured. Flags are 'selected on test'
        (where a search chose the hyper-parameters there), 'stale', 'mixed versions' and 'mixed devices'; the last two
        mark the runs that differ from most of those they are compared with (same table, data set and protocol).

    Raises
    ------
    MmreproError
        When a record cannot be read.
    """
    found = [(run, read_record(run, root), measured(plan, run, root)) for run in planned]
    finished = [
        FinishedRun(
            run, record, metrics, root / Layout.measures(plan.study.study, run.spec.dataset).with_suffix(".parquet")
        )
        for run, record, metrics in found
        if record is not None and metrics is not None
    ]
    odd = {
        "mixed versions": _minority(finished, lambda record: content_hash(record.get("versions"))),
        "mixed devices": _minority(finished, _device),
    }
    runs = []
    for run in finished:
        planned_run, model = run.planned, run.planned.spec.model
        searched = planned_run.selection is not None
        today = planned_run.code if current_code is None else current_code.get(model)
        flags = [SELECTED_ON_TEST] if searched and planned_run.spec.protocol.select_on == TEST else []
        flags += ["stale"] if run.record.get("code") != today else []
        flags += [flag for flag, folders in odd.items() if planned_run.folder in folders]
        runs.append(replace(run, flags=tuple(flags)))
    return tuple(runs)


def measured(plan: Plan, run: PlannedRun, root: Path) -> dict[str, dict[str, float | None]] | None:
    """Return a run's metrics by split, as they were measured for a study; None where they have not been.

    Raises
    ------
    MmreproError
        When the file of the measures is no JSON object.
    """
    path = root / Layout.measures(plan.study.study, run.spec.dataset)
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    return _measures(path, stamp).get(run.folder.as_posix())


@lru_cache(maxsize=64)
def _measures(path: Path, stamp: int) -> dict[str, dict[str, dict[str, float | None]]]:
    """The metrics of all runs of a file, read once as long as it is not written again."""
    found = read_object(path) or {}
    return dict(found.get("runs", {}))


def flags_of(runs: Iterable[FinishedRun]) -> tuple[str, ...]:
    """Return the flags of the runs of one row, each once, in a fixed order."""
    return tuple(sorted({flag for run in runs for flag in run.flags}))


def read_record(run: PlannedRun, root: Path) -> dict[str, Any] | None:
    """Read `run.json` of a planned run.

    Parameters
    ----------
    run
        A trial or a final run.
    root
        Folder that holds `results/`.

    Returns
    -------
    dict or None
        None where the run has not finished, or finished with other parameters than its search has since chosen.

    Raises
    ------
    MmreproError
        When the file is no JSON object.
    """
    record = read_object(root / run.record)
    if record is None or record.get("status") != "finished":
        return None
    if run.selection is not None and (root / run.selection).is_file():
        chosen = complete(run, root).parameters
        if any(record.get("parameters", {}).get(name) != chosen[name] for name in run.spec.selects):
            return None
    return record


def job_record(job: Job, root: Path) -> dict[str, Any] | None:
    """Read the record that a job leaves; None where it has not finished, or finished with other parameters than chosen.

    Raises
    ------
    MmreproError
        When the file is no JSON object.
    """
    record = read_object(root / job.product)
    if record is None or record.get("status", "finished") != "finished":
        return None
    if job.selection is not None and (root / job.selection).is_file():
        if any(record.get("parameters", {}).get(name) != value for name, value in job.chosen(root).items()):
            return None
    return record


def read_alignment(planned: PlannedAlignment, root: Path) -> dict[str, Any] | None:
    """Read `run.json` of a planned pre-training; None where it has not finished."""
    record = read_object(root / planned.folder / "run.json")
    return record if record is not None and record.get("status") == "finished" else None


def read_object(path: Path) -> dict[str, Any] | None:
    """Read a JSON file; None where there is none.

    Raises
    ------
    MmreproError
        When the file is no JSON object.
    """
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError):
        value = None
    if not isinstance(value, dict):
        raise MmreproError(f"{path}: no JSON object; delete its folder and run the study again")
    return value


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
        For a run whose users were not measured, or not by that metric.
    """
    parts = [
        _test_rows(run.users, [Columns.USER, *columns], [(RUN, "==", run.planned.folder.as_posix())], "measures")
        for run in runs
    ]
    return pd.concat(parts).groupby(Columns.USER, sort=True).mean()


def listed_pairs(run: FinishedRun, root: Path, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return users and items of the first k places of a run's test lists, each (n,).

    Raises
    ------
    MmreproError
        For a run without lists.
    """
    path = root / run.planned.folder / "lists.parquet"
    rows = _test_rows(path, [Columns.USER, Columns.ITEM], [(Columns.RANK, "<=", k)], "folder")
    return rows[Columns.USER].to_numpy(), rows[Columns.ITEM].to_numpy()


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
    try:
        return pd.read_parquet(path, columns=columns, filters=[(Columns.SPLIT, "==", TEST), *filters])
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise MmreproError(f"{path}: {reason}; delete the {what} and run the study again") from None


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
