"""Snakemake's records of what it has made: where they lie, and whether a product is what its job would make now."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

from mmrepro.config.dataset import DatasetConfig
from mmrepro.datasets.mirror import mirror_folder, source_stamp
from mmrepro.records.files import file_sha256
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Job, Plan

METADATA = Path(".snakemake/metadata")
LONGEST_NAME = 254
"""Characters of a file name in that folder; Snakemake makes folders of the parts of longer ones."""


def read_workflow_record(root: Path, path: str) -> dict[str, Any] | None:
    """Return Snakemake's record of a product; None where it has none, or a damaged one, which it ignores too."""
    try:
        found = json.loads((root / _file(path)).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write_workflow_record(root: Path, path: str, record: dict[str, Any]) -> None:
    """Write it."""
    file = root / _file(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record), encoding="utf-8")  # as Snakemake does, which ignores a damaged one


def forget_absent(plan: Plan, root: Path) -> None:
    """Remove Snakemake's records of a study's files that are not there any more.

    Snakemake compares the settings of a file that it must make with those of its record, and keeps what it has read
    until the end: a run whose search has no winner yet would be recorded with none, and made a second time.

    Parameters
    ----------
    plan
        The study.
    root
        Folder of the repository.
    """
    for path in (path for job in plan.jobs for path in job.files):
        if not (root / path).exists():
            (root / _file(path.as_posix())).unlink(missing_ok=True)


def is_source_changed(config: DatasetConfig, root: Path) -> bool:
    """Return whether the mirror holds other files of a data set than were fetched; not as far as can be known.

    Parameters
    ----------
    config
        The data set.
    root
        Folder of the repository.
    """
    raw = Layout.raw(config.raw_name)
    record = read_workflow_record(root, (raw / "MANIFEST.json").as_posix())
    stamp = source_stamp(config, root / raw, mirror_folder())
    return record is not None and bool(stamp) and repr(stamp) not in record.get("params", ())


def is_current(plan: Plan, job: Job, root: Path) -> bool:
    """Return whether a job's files are there, and were made by today's code, settings and inputs.

    What says no may be no more than a missing record; Snakemake then decides.

    Parameters
    ----------
    plan, job
        The study, and one of its jobs.
    root
        Folder of the repository.
    """
    record = read_workflow_record(root, job.product.as_posix())
    if record is None or not all((root / path).is_file() for path in job.files):
        return False
    wanted = [job.code, json.dumps(job.completed(root), sort_keys=True)]
    if job.kind == "fetch" and is_source_changed(plan.raw_datasets[job.labels["dataset"]], root):
        return False
    if not {repr(value) for value in wanted if value} <= set(record.get("params", ())):
        return False
    made = (root / job.product).stat().st_mtime
    checksums = record.get("input_checksums") or {}
    return all(
        _is_older(root / path, made, checksums.get(path.as_posix())) for paths in job.inputs.values() for path in paths
    )


def _is_older(path: Path, made: float, checksum: str | None) -> bool:
    """Whether an input is what a product was made from: older, or of the same content."""
    if not path.is_file():
        return False
    return path.stat().st_mtime <= made or checksum == f"sha256:{file_sha256(path)}"


def _file(path: str) -> Path:
    name = urlsafe_b64encode(path.encode()).decode()
    parts = [name[start : start + LONGEST_NAME] for start in range(0, len(name), LONGEST_NAME)]
    return METADATA.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])
