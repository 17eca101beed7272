"""The finished runs of a study: one long frame, and the holes where a planned run is missing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mmrepro.columns import TEST, VALID, Columns
from mmrepro.config import content_hash
from mmrepro.errors import MmreproError
from mmrepro.plan import Plan, PlannedRun, complete
from mmrepro.reporting.products import METRICS

FLAGS = "flags"
CELL = (Columns.DATASET, Columns.FEATURES, Columns.MODEL, Columns.PROTOCOL)
FRAME_COLUMNS = (*CELL, Columns.SEED, Columns.SPLIT, Columns.METRIC, Columns.K, Columns.VALUE, FLAGS)

Cell = tuple[str, str, str, str]
"""Data set, feature set, model, protocol."""


@dataclass(frozen=True)
class FinishedRun:
    """A planned run that has its `run.json`, and what a reader of its numbers must know."""

    planned: PlannedRun
    record: dict[str, Any]
    flags: tuple[str, ...] = ()

    @property
    def cell(self) -> Cell:
        """The row of the tables it belongs to."""
        return cell_of(self.planned)


@dataclass(frozen=True)
class Collection:
    """What exists of a study.

    Attributes
    ----------
    frame
        One row a value: data set, features, model, protocol, seed, split, metric, k, value, flags.
    runs
        The finished runs, in the order of the plan.
    holes
        The planned runs that have not finished.
    """

    frame: pd.DataFrame
    runs: tuple[FinishedRun, ...]
    holes: tuple[PlannedRun, ...]


def cell_of(run: PlannedRun) -> Cell:
    """Return the row of the tables that a run belongs to."""
    return run.spec.dataset, run.features_name, run.spec.model, run.protocol_name


def collect(plan: Plan, root: Path, current_code: Mapping[str, str]) -> Collection:
    """Read the records of a study's final runs.

    Parameters
    ----------
    plan
        The resolved study.
    root
        Folder that holds `results/`.
    current_code
        Model to the fingerprint of today's code; runs of other code are flagged 'stale'.

    Returns
    -------
    Collection
        Flags are 'selected on test', 'stale', 'mixed versions' and 'mixed devices'; the last two mark the runs that
        differ from most of those they are compared with (same data set and protocol).

    Raises
    ------
    MmreproError
        When a record cannot be read.
    """
    found = [(run, read_record(run, root)) for run in plan.runs]
    finished = [FinishedRun(run, record) for run, record in found if record is not None]
    odd = {
        "mixed versions": _minority(finished, lambda record: content_hash(record.get("versions"))),
        "mixed devices": _minority(finished, _device),
    }
    runs = []
    for run in finished:
        flags = ["selected on test"] if run.planned.spec.protocol.select_on == TEST else []
        flags += ["stale"] if run.record.get("code") != current_code.get(run.planned.spec.model) else []
        flags += [flag for flag, folders in odd.items() if run.planned.folder in folders]
        runs.append(FinishedRun(run.planned, run.record, tuple(flags)))
    holes = tuple(run for run, record in found if record is None)
    return Collection(_long_frame(runs, plan.study.cutoffs), tuple(runs), holes)


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
    path = root / run.folder / "run.json"
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError):
        record = None
    if not isinstance(record, dict):
        raise MmreproError(f"{path}: no JSON object; delete the folder and run the study again")
    if record.get("status") != "finished":
        return None
    if run.selection is not None and (root / run.selection).is_file():
        if record.get("parameters") != complete(run, root).parameters:
            return None
    return record


def user_means(runs: Sequence[FinishedRun], root: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Return the test metrics of each user, averaged over seeds.

    Parameters
    ----------
    runs
        The runs of one cell, one a seed.
    root
        Folder that holds `results/`.
    columns
        Metrics, as in `recall_at_20`.

    Returns
    -------
    pd.DataFrame
        Indexed by user, one column a metric.

    Raises
    ------
    MmreproError
        For a run without `per_user.parquet` or one that lacks a metric.
    """
    parts = []
    for run in runs:
        path = root / run.planned.folder / "per_user.parquet"
        try:
            part = pd.read_parquet(path, columns=[Columns.SPLIT, Columns.USER, *columns])
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise MmreproError(f"{path}: {reason}; delete the folder and run the study again") from None
        parts.append(part.loc[part[Columns.SPLIT] == TEST].drop(columns=Columns.SPLIT))
    return pd.concat(parts).groupby(Columns.USER, sort=True).mean()


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
        (*run.cell, run.planned.seed, split, metric, k, _value(run, split, metric, k), "; ".join(run.flags))
        for run in runs
        for split in (TEST, VALID)
        for metric in METRICS
        for k in cutoffs
    ]
    return pd.DataFrame(rows, columns=list(FRAME_COLUMNS)).astype({Columns.VALUE: "float64"})


def _value(run: FinishedRun, split: str, metric: str, k: int) -> float:
    name = f"{metric}_at_{k}"
    try:
        return float(run.record[split][name])
    except (KeyError, TypeError):
        path = run.planned.folder / "run.json"
        raise MmreproError(f"{path}: no value {split}.{name}; delete the folder and run the study again") from None
