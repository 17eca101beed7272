"""Records that jobs have left, and the metrics that runs were measured with, read from disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmrepro.datasets.interactions import STATISTICS
from mmrepro.errors import MmreproError
from mmrepro.records.files import file_sha256, read_object
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Job, Plan, PlannedAlignment, PlannedRun, chosen_by


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
    return _finished(run.record, run.selection, run.spec.selects, root)


def job_record(job: Job, root: Path) -> dict[str, Any] | None:
    """Read the record that a job leaves; None where it has not finished, or finished with other parameters than chosen.

    Raises
    ------
    MmreproError
        When the file is no JSON object.
    """
    return _finished(job.product, job.selection, job.settings.get("selects", ()), root)


def _finished(path: Path, selection: Path | None, selects: Iterable[str], root: Path) -> dict[str, Any] | None:
    """The record of what has finished with the values that its search has chosen, where it waited for one."""
    record = read_object(root / path)
    if record is None or record.get("status", "finished") != "finished":
        return None
    if selection is not None and (root / selection).is_file():
        chosen = chosen_by(selection, selects, root)
        if any(record.get("parameters", {}).get(name) != value for name, value in chosen.items()):
            return None
    return record


def read_alignment(planned: PlannedAlignment, root: Path) -> dict[str, Any] | None:
    """Read `run.json` of a planned pre-training; None where it has not finished."""
    return _finished(planned.folder / "run.json", None, (), root)


def measured(
    plan: Plan, run: PlannedRun, record: dict[str, Any], root: Path
) -> dict[str, dict[str, float | None]] | None:
    """Return a run's metrics by split, as they were measured for a study; None where they have not been.

    Parameters
    ----------
    plan
        The study.
    run, record
        The run and its `run.json`.
    root
        Folder that holds `results/`.

    Raises
    ------
    MmreproError
        When the file of the measures is no JSON object, belongs to other values of the users than lie beside it, or was
        made of other data than the run, or the run of other data than the prepared ones.
    """
    require_prepared_data(record, run.spec.dataset, run.folder / "run.json", root)
    found = measures_of(plan, run.spec.dataset, root)
    if found is None:
        return None
    if found.get("data") != record.get("data", {}).get("interactions"):
        path = root / Layout.measures(plan.name, run.spec.dataset)
        raise MmreproError(f"{path}: measured on other data than {run.folder}; delete it and run the study again")
    metrics: dict[str, dict[str, float | None]] | None = found.get("runs", {}).get(run.folder.as_posix())
    return metrics


def measures_of(plan: Plan, dataset: str, root: Path) -> dict[str, Any] | None:
    """Return what was measured of a study's runs on a data set, as `evaluation/measure.py` describes it; None where
    nothing was.

    Raises
    ------
    MmreproError
        When the file is no JSON object, or belongs to other values of the users than lie beside it.
    """
    path = root / Layout.measures(plan.name, dataset)
    return _measures(path, path.stat().st_mtime_ns) if path.is_file() else None


def prepared_hash(dataset: str, root: Path) -> str | None:
    """Return the content hash of a data set as it is prepared now; None where it is not."""
    path = root / Layout.prepared(dataset) / STATISTICS
    found: str | None = (read_object(path) or {}).get("content_hash")
    return found


def require_prepared_data(record: Mapping[str, Any], dataset: str, path: Path, root: Path) -> None:
    """Raise MmreproError when a record is of other data than those that are prepared now; `path` is that of the
    record.
    """
    here = prepared_hash(dataset, root)
    if here is not None and record.get("data", {}).get("interactions") != here:
        raise MmreproError(f"{path}: made of other data than those in {Layout.prepared(dataset)}; run the study again")


@lru_cache(maxsize=64)
def _measures(path: Path, stamp: int) -> dict[str, Any]:
    """What a file of measures says, read once as long as it is not written again."""
    found, users = read_object(path) or {}, path.with_suffix(".parquet")
    if not users.is_file() or file_sha256(users) != found.get("users_sha256"):
        raise MmreproError(f"{users}: missing, or not made with {path.name}; delete both and run the study again")
    return found
