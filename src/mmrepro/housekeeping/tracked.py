"""What MLflow is told of a finished job: its tags, parameters and metrics, read from its folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrepro.records.files import file_sha256
from mmrepro.reporting.collect import read_alignment, read_record
from mmrepro.reporting.products import ENCODER
from mmrepro.study.plan import Plan, PlannedAlignment, PlannedRun

ALIGNMENT = "alignment"
COSTS = ("epochs", "best_epoch", "n_parameters", "wall_seconds", "cpu_seconds", "peak_memory_mb", "peak_gpu_memory_mb")
CURVES = ("loss", "learning_rate", "seconds", "terms", "valid", "held_out")

Point = tuple[str, float, int]
"""Name of a metric, its value, and the epoch it belongs to."""


@dataclass(frozen=True)
class FinishedJob:
    """A finished run, trial or pre-training as it lies on disk.

    Parameters
    ----------
    kind
        `final`, `trial` or `alignment`.
    folder
        Its folder, relative to the repository.
    path
        The same, as it can be opened.
    record
        Content of `run.json`.
    name
        What a reader calls it.
    tags
        What it can be searched by.
    """

    kind: str
    folder: Path
    path: Path
    record: dict[str, Any]
    name: str
    tags: dict[str, str]

    @property
    def identity(self) -> str:
        """SHA-256 of its record."""
        return file_sha256(self.path / "run.json")

    @property
    def ended(self) -> int:
        """When it ended, in milliseconds since 1970."""
        return int((self.path / "run.json").stat().st_mtime * 1000)

    @property
    def started(self) -> int:
        """When it started, in milliseconds since 1970."""
        return self.ended - int(1000 * self.record.get("wall_seconds", 0))

    def parameters(self) -> Iterator[tuple[str, str]]:
        """Yield parameters by their own name, protocol switches and the rest of the set-up under a heading."""
        yield from _flatten("", self.record["configuration" if self.kind == ALIGNMENT else "parameters"])
        yield from _flatten("protocol.", self.record.get("protocol") or {})
        for key in ("threads", "device", "precision", "selected_by"):
            if key in self.record:
                yield f"run.{key}", str(self.record[key])

    def curves(self) -> Iterator[Point]:
        """Yield a point an epoch: apart from the final metrics, whose value is not always that of the last epoch."""
        history = self.path / "history.jsonl"
        for line in history.read_text().splitlines() if history.is_file() else []:
            epoch = json.loads(line)
            for name, value in _numbers({key: epoch.get(key) for key in CURVES}):
                yield f"history/{name}", value, epoch["epoch"]

    def finals(self) -> Iterator[Point]:
        """Yield the final metrics and the cost."""
        aligned = self.kind == ALIGNMENT
        groups = ("sources", "retrieval", "items", "absent") if aligned else ("valid", "test")
        values = {group: self.record.get(group) for group in groups}
        costs = {key: self.record.get(key) for key in COSTS}
        step = self.record["epochs"] if aligned else self.record.get("best_epoch") or 0
        for name, value in _numbers({**values, "cost": costs}):
            yield name, value, step


def finished_jobs(plan: Plan, root: Path) -> list[FinishedJob]:
    """Return the finished pre-trainings, trials and final runs of a study.

    Parameters
    ----------
    plan
        The resolved study.
    root
        Folder that holds `data/` and `results/`.

    Raises
    ------
    MmreproError
        When a record is no JSON object.
    """
    alignments = [(planned, read_alignment(planned, root)) for planned in plan.alignments]
    runs = [(planned, read_record(planned, root)) for planned in plan.jobs]
    return [
        *(_alignment(planned, record, root) for planned, record in alignments if record is not None),
        *(_run(planned, record, root) for planned, record in runs if record is not None),
    ]


def _alignment(planned: PlannedAlignment, record: dict[str, Any], root: Path) -> FinishedJob:
    tags = {
        "dataset": planned.dataset, "features": planned.feature_set, "modality": planned.modality, "model": ENCODER,
        **_origin(record),
    }  # fmt: skip
    name = f"{planned.dataset} {planned.feature_set} {planned.modality} encoder"
    return FinishedJob(ALIGNMENT, planned.folder, root / planned.folder, record, name, tags)


def _run(planned: PlannedRun, record: dict[str, Any], root: Path) -> FinishedJob:
    spec = planned.spec
    tags = {
        "dataset": spec.dataset, "features": planned.features_name, "model": spec.model,
        "protocol": planned.protocol_name, **_origin(record), "seed": str(planned.seed),
    }  # fmt: skip
    name = f"{spec.dataset} {spec.model} {planned.protocol_name} seed {planned.seed}"
    return FinishedJob(spec.purpose, planned.folder, root / planned.folder, record, name, tags)


def _origin(record: dict[str, Any]) -> dict[str, str]:
    return {
        "seed": str(record.get("seed")), "git_commit": str(record["git"]["commit"]), "code": str(record["code"]),
    }  # fmt: skip


def _flatten(prefix: str, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in sorted(values.items()):
        if isinstance(value, dict):
            yield from _flatten(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _numbers(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """All numbers of nested mappings, named by their path; what is no number is left out."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{key}", float(value)
