"""Acceptance of a refactoring that changes no number.

An edit of code that training can reach reruns every run that uses it. Where the edit was a refactoring, one run is
made again and compared bit for bit; only if it is the same are the records of the others brought up to date.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from mmrepro.errors import MmreproError
from mmrepro.records.files import read_object, read_table, write_record
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan, PlannedRun, complete


def accept(plan: Plan, study_file: Path, root: Path) -> str:
    """Check one stale run of each model again, and mark the model's other stale runs as current.

    Parameters
    ----------
    plan
        The resolved study whose runs are meant.
    study_file
        Its file, for Snakemake.
    root
        Folder of the repository.

    Returns
    -------
    str
        What was accepted.

    Raises
    ------
    MmreproError
        When a run made again differs; nothing is marked then.
    """
    stale: dict[str, list[tuple[PlannedRun, dict[str, Any]]]] = {}
    for run in plan.trainings:
        record = read_object(root / run.record)
        if record is not None and record.get("code") != run.code:
            stale.setdefault(run.spec.model, []).append((run, record))
    for runs in stale.values():
        _require_same(*min(runs, key=lambda pair: pair[1]["wall_seconds"]), root)
    for runs in stale.values():
        for run, record in runs:
            previous = [*record.get("accepted_from", []), record["code"]]
            record |= {"code": run.code, "accepted_from": previous}
            write_record(root / run.record, record)
    records = [run.record.as_posix() for runs in stale.values() for run, _ in runs]
    if not records:
        return "every finished run is current"
    touch = ["snakemake", *records, "--cores", "1", "--touch", "--quiet", "all", "--configfile", str(study_file)]
    subprocess.run(touch, cwd=root, check=True)
    return f"{len(records)} runs of {', '.join(stale)} marked current; one of each was made again with the same bits"


def _require_same(run: PlannedRun, record: dict[str, Any], root: Path) -> None:
    """Make a run again in a temporary folder and compare."""
    from mmrepro.training.run import train

    spec = complete(run, root)
    features = root / Layout.features(spec.dataset, spec.features) if spec.features else None
    with tempfile.TemporaryDirectory() as folder:
        train(spec, run.seed, root / Layout.prepared(spec.dataset), features, Path(folder))
        again = read_object(Path(folder) / "run.json") or {}
        for key in ("best_epoch", "epochs", "valid"):
            if again.get(key) != record.get(key):
                raise MmreproError(
                    f"{run.folder}: made again, '{key}' differs, so the edit changes results; run the workflow instead"
                )
        if spec.purpose == "final" and not _same_results(root / run.folder, Path(folder)):
            raise MmreproError(
                f"{run.folder}: made again, lists or parameters differ, so the edit changes results; run the workflow "
                "instead"
            )


def _same_results(first: Path, second: Path) -> bool:
    """Whether lists and parameters of two folders are the same bit for bit."""
    import torch

    lists, again = (read_table(folder / "lists.parquet") for folder in (first, second))
    if not lists.equals(again):
        return False
    a, b = (torch.load(folder / "model.pt", weights_only=True) for folder in (first, second))
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)
