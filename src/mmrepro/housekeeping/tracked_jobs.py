"""Finished jobs as MLflow is told of them: what names and describes each, its curves and its figures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmrepro.config.base import content_hash
from mmrepro.errors import MmreproError
from mmrepro.records.files import file_sha256
from mmrepro.reporting.records import job_record, measured
from mmrepro.study.layout import NO_FEATURES
from mmrepro.study.plan import Job, Plan

COSTS = ("epochs", "best_epoch", "n_parameters", "wall_seconds", "cpu_seconds", "peak_memory_mb", "peak_gpu_memory_mb")
CURVES = ("loss", "learning_rate", "seconds", "terms", "valid", "held_out")
SETUP = ("threads", "device", "precision", "selected_by", "watch")
RESULTS = ("sources", "retrieval", "items", "absent", "valid", "test")
"""Parts of a record with results in figures; metrics of final runs are added."""
ATTACHED = ("config.yaml", "run.json")
TAGGED = ("dataset", "features", "modality", "model", "seed")

Point = tuple[str, float, int]
"""Name of a metric, its value, and the epoch it belongs to."""


@dataclass(frozen=True)
class FinishedJob:
    """A finished job as it lies on disk.

    Attributes
    ----------
    job
        What was planned.
    path
        Its folder, as it can be opened.
    record
        Content of `run.json`.
    protocol
        Name of the protocol in the study, where it has one.
    metrics
        Split -> metric -> value, of a final run.
    rows
        Rows of comparisons that it is a run of, `<comparison>: <variant>`.
    searched
        Names of the parameters that its search tries, of a trial.
    """

    job: Job
    path: Path
    record: dict[str, Any]
    protocol: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    rows: tuple[str, ...] = ()
    searched: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """`final`, `trial` or `alignment`."""
        return str(self.record["purpose"])

    @property
    def folder(self) -> Path:
        """Its folder, relative to the repository."""
        return self.job.product.parent

    @property
    def name(self) -> str:
        """What a reader calls it: no two jobs of a study are called alike."""
        labels = self.job.labels
        if "model" not in labels:
            return f"{labels['dataset']} {labels['features']} {labels['modality']} encoder"
        tried = ", ".join(f"{name} {self.record['parameters'].get(name)}" for name in self.searched)
        parts = [labels["dataset"], labels["model"]]
        parts += [labels["features"]] if labels["features"] != NO_FEATURES else []
        parts += [self.protocol or "", f"trial {tried}" if self.kind == "trial" else f"seed {labels['seed']}"]
        return f"{' '.join(parts)} · {'; '.join(self.rows)}" if self.rows else " ".join(parts)

    @property
    def tags(self) -> dict[str, str]:
        """What it can be searched by."""
        values = {
            "model": self.job.model,
            "seed": self.record.get("seed"),
            **self.job.labels,
            "protocol": self.protocol,
        }
        tags = {name: str(values[name]) for name in (*TAGGED, "protocol") if values.get(name) is not None}
        if self.rows:
            tags["comparison"] = "; ".join(self.rows)
        return {**tags, "git_commit": str(self.record["git"]["commit"]), "code": str(self.record["code"])}

    @property
    def identity(self) -> str:
        """Hash of its record and metrics."""
        return content_hash([file_sha256(self.path / "run.json"), self.metrics])

    @property
    def ended(self) -> int:
        """When it ended, in milliseconds since 1970."""
        return int((self.path / "run.json").stat().st_mtime * 1000)

    @property
    def started(self) -> int:
        """When it started, in milliseconds since 1970."""
        return self.ended - int(1000 * self.record.get("wall_seconds", 0))

    @property
    def files(self) -> tuple[Path, ...]:
        """Its configuration and record, where it has them."""
        return tuple(path for name in ATTACHED if (path := self.path / name).is_file())

    def parameters(self) -> Iterator[tuple[str, str]]:
        """Yield parameters by their own name, protocol switches and the rest of the set-up under a heading."""
        yield from _flatten("", self.record.get("configuration") or self.record["parameters"])
        yield from _flatten("protocol.", self.record.get("protocol") or {})
        for key in SETUP:
            if key in self.record:
                yield f"run.{key}", str(self.record[key])

    def curves(self) -> Iterator[Point]:
        """Yield a point an epoch: apart from the final metrics, whose value is not always that of the last epoch."""
        history = self.path / "history.jsonl"
        for line in history.read_text(encoding="utf-8").splitlines() if history.is_file() else []:
            try:
                epoch = json.loads(line)
                step, found = int(epoch["epoch"]), {key: epoch.get(key) for key in CURVES}
            except (ValueError, KeyError, TypeError):
                raise MmreproError(f"{history}: a damaged line; delete its folder and run the study again") from None
            for name, value in _numbers(found):
                yield f"history/{name}", value, step

    def finals(self) -> Iterator[Point]:
        """Yield the final metrics and the cost."""
        values = {group: self.record.get(group) for group in RESULTS} | self.metrics
        costs = {key: self.record.get(key) for key in COSTS}
        step = self.record.get("best_epoch", self.record["epochs"])
        for name, value in _numbers({**values, "cost": costs}):
            yield name, value, step


def finished_jobs(plan: Plan, root: Path) -> list[FinishedJob]:
    """Return the finished jobs of a study that MLflow is told of.

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
    runs = {run.record: run for run in plan.trainings}
    rows: dict[Path, list[str]] = {}
    for name, variants in plan.comparisons.items():
        for variant in variants:
            for of_variant in variant.runs:
                rows.setdefault(of_variant.record, []).append(f"{name}: {variant.variant}")
    found = []
    for job in plan.jobs:
        record = job_record(job, root) if job.of_kind.tracked else None
        if record is not None:
            run = runs.get(job.product)
            metrics = measured(plan, run, record, root) if run is not None and job.kind == "train" else None
            protocol = run.protocol_name if run is not None else None
            searched = _searched(plan, job.model) if job.kind == "train_trial" else ()
            of_rows = tuple(rows.get(job.product, ())) if job.kind == "train" else ()
            folder = root / job.product.parent
            found.append(FinishedJob(job, folder, record, protocol, metrics or {}, of_rows, searched))
    return found


def _searched(plan: Plan, model: str) -> tuple[str, ...]:
    space = plan.study.search.space.get(model) if plan.study.search is not None else None
    return tuple(sorted(space or plan.models[model].search_space))


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
