"""MLflow as a view of finished jobs: imported from their folders, in one process, as often as one likes."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from mmrepro.config.base import content_hash
from mmrepro.errors import MmreproError
from mmrepro.records.files import file_sha256, write_json
from mmrepro.reporting.escape import markdown_line
from mmrepro.reporting.records import job_record, measured
from mmrepro.study.kinds import KINDS
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Job, Plan

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE = Path("results/mlflow.db")
METRICS_A_BATCH, PARAMETERS_A_BATCH = 1000, 100  # limits of MLflow's log_batch
STUDY, KIND, RUN_ID, FOLDER = "mmrepro.study", "mmrepro.kind", "mmrepro.run_id", "mmrepro.folder"
COSTS = ("epochs", "best_epoch", "n_parameters", "wall_seconds", "cpu_seconds", "peak_memory_mb", "peak_gpu_memory_mb")
CURVES = ("loss", "learning_rate", "seconds", "terms", "valid", "held_out")
SETUP = ("threads", "device", "precision", "selected_by", "watch")
RESULTS = ("sources", "retrieval", "items", "absent", "valid", "test")
"""Parts of a record with results in figures; metrics of final runs are added."""
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
    """

    job: Job
    path: Path
    record: dict[str, Any]
    protocol: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)

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
        """What a reader calls it."""
        labels = self.job.labels
        if "model" in labels:
            return f"{labels['dataset']} {labels['model']} {self.protocol} seed {labels['seed']}"
        return f"{labels['dataset']} {labels['features']} {labels['modality']} encoder"

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
        for line in history.read_text().splitlines() if history.is_file() else []:
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
    found = []
    for job in plan.jobs:
        record = job_record(job, root) if job.of_kind.tracked else None
        if record is not None:
            run = runs.get(job.product)
            metrics = measured(plan, run, record, root) if run is not None and job.kind == "train" else None
            protocol = run.protocol_name if run is not None else None
            found.append(FinishedJob(job, root / job.product.parent, record, protocol, metrics or {}))
    return found


def import_runs(plan: Plan, root: Path, uri: str | None = None) -> int:
    """Import every finished run, trial and pre-training of a study into MLflow.

    A run that is there already is left alone; one whose record has changed, or whose import was interrupted, is
    replaced. Beside the tables a receipt `tracking.json` says how many of each kind were there to import.

    Parameters
    ----------
    plan
        The resolved study.
    root
        Folder that holds `data/` and `results/`.
    uri
        Tracking server; without it `MLFLOW_TRACKING_URI`, else the database `results/mlflow.db`.

    Returns
    -------
    int
        Number of runs that were new or replaced.

    Raises
    ------
    MmreproError
        For an unreadable run record, or a server or database that MLflow cannot use.
    """
    finished = finished_jobs(plan, root)
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(root / DATABASE).resolve()}"
    (root / DATABASE).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root / "results/.mlflow.lock"):  # a cold database breaks when two processes create its tables
        imported = _import_all(plan, finished, uri)
    counts = Counter(found.job.kind for found in finished)
    tracked = {kind.title: counts[name] for name, kind in KINDS.items() if kind.tracked}
    receipt = {"study": plan.study.study, **tracked}
    write_json(root / Layout.study(plan.study.study) / "tracking.json", receipt)
    return imported


def _import_all(plan: Plan, finished: list[FinishedJob], uri: str) -> int:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the default waits for minutes
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(tracking_uri=uri)
        experiment = _experiment(client, plan.study.study)
        present = _present(client, experiment)
        parent = _parent(client, experiment, plan, present)
        imported = 0
        for job in finished:
            imported += _import_one(client, experiment, parent, job, plan.study.study, present)
        client.set_terminated(parent, "FINISHED")
    except MlflowException as error:
        reason = str(error).splitlines()[0]
        hint = "check MLFLOW_TRACKING_URI, or unset it to use results/mlflow.db, which may be deleted at any time"
        raise MmreproError(f"MLflow cannot be used: {reason}; {hint}") from None
    return imported


def _experiment(client: MlflowClient, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return client.create_experiment(name)
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _present(client: MlflowClient, experiment: str) -> dict[str, list[tuple[str, str]]]:
    """Folder (empty for the study's own run) -> MLflow id and identity of each run; no identity: half imported."""
    present: dict[str, list[tuple[str, str]]] = {}
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        for run in page:
            tags = run.data.tags
            if STUDY in tags:
                identity = tags.get(RUN_ID, "") if run.info.status == "FINISHED" else ""
                present.setdefault(tags.get(FOLDER, ""), []).append((run.info.run_id, identity))
        token = page.token
        if not token:
            return present


def _parent(client: MlflowClient, experiment: str, plan: Plan, present: dict[str, list[tuple[str, str]]]) -> str:
    """MLflow id of the study's own run, made where it is missing."""
    if "" in present:
        return present[""][0][0]
    study = plan.study
    tags = {STUDY: study.study, KIND: "study", "mlflow.note.content": markdown_line(study.title)}
    return str(client.create_run(experiment, run_name=study.study, tags=tags).info.run_id)


def _import_one(
    client: MlflowClient,
    experiment: str,
    parent: str,
    job: FinishedJob,
    study: str,
    present: dict[str, list[tuple[str, str]]],
) -> bool:
    """Import a job unless it is there; the status FINISHED, set last, tells a whole import from half of one."""
    from mlflow.entities import Metric, Param

    identity = job.identity
    earlier = present.get(str(job.folder), [])
    current = [mlflow_id for mlflow_id, known in earlier if known == identity]
    for mlflow_id, _ in earlier:
        if mlflow_id not in current[:1]:
            client.delete_run(mlflow_id)
    if current:
        return False
    tags = {STUDY: study, KIND: job.kind, RUN_ID: identity, FOLDER: str(job.folder), "study": study, **job.tags}
    tags["mlflow.parentRunId"] = parent
    mlflow_id = client.create_run(experiment, start_time=job.started, run_name=job.name, tags=tags).info.run_id
    parameters = [Param(key, value) for key, value in job.parameters()]
    for start in range(0, len(parameters), PARAMETERS_A_BATCH):
        client.log_batch(mlflow_id, params=parameters[start : start + PARAMETERS_A_BATCH])
    ended = job.ended
    metrics = [Metric(name, value, ended, step) for name, value, step in (*job.curves(), *job.finals())]
    for start in range(0, len(metrics), METRICS_A_BATCH):
        client.log_batch(mlflow_id, metrics=metrics[start : start + METRICS_A_BATCH])
    client.set_terminated(mlflow_id, "FINISHED", ended)
    return True


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
