"""MLflow as a view of finished runs: imported from their folders, in one process, as often as one likes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from mmrepro.errors import MmreproError
from mmrepro.plan import Layout, Plan, PlannedRun, complete, plan_of_file
from mmrepro.provenance import write_json

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

DATABASE = Path("results/mlflow.db")
COSTS = ("epochs", "best_epoch", "n_parameters", "wall_seconds", "cpu_seconds", "peak_memory_mb", "peak_gpu_memory_mb")
METRICS_A_BATCH, PARAMETERS_A_BATCH = 1000, 100  # limits of MLflow's log_batch
STUDY, KIND, RUN_ID, FOLDER = "mmrepro.study", "mmrepro.kind", "mmrepro.run_id", "mmrepro.folder"


@dataclass(frozen=True)
class FinishedRun:
    """A finished run as it lies on disk.

    Parameters
    ----------
    planned
        Its place in the study.
    record
        Content of `run.json`.
    identity
        SHA-256 of that file.
    path
        Its folder.
    """

    planned: PlannedRun
    record: dict[str, Any]
    identity: str
    path: Path

    @property
    def ended(self) -> int:
        """When it ended, in milliseconds since 1970."""
        return int((self.path / "run.json").stat().st_mtime * 1000)

    @property
    def started(self) -> int:
        """When it started, in milliseconds since 1970."""
        return self.ended - int(1000 * self.record.get("wall_seconds", 0))


def import_runs(study_file: Path, root: Path, uri: str | None = None, changes: Mapping[str, Any] | None = None) -> int:
    """Import every finished run and trial of a study into MLflow.

    A run that is there already is left alone; one whose record has changed, or whose import was interrupted, is
    replaced. Beside the tables a receipt `tracking.json` says how many runs were there to import.

    Parameters
    ----------
    study_file
        The study's file, relative to `root` or absolute.
    root
        Folder that holds `config/` and `results/`.
    uri
        Tracking server; without it `MLFLOW_TRACKING_URI`, else the database `results/mlflow.db`.
    changes
        Keys of the study to replace, as Snakemake's --config does: a slice of the study.

    Returns
    -------
    int
        Number of runs that were new or replaced.

    Raises
    ------
    MmreproError
        For an unreadable run record, or a server or database that MLflow cannot use.
    """
    plan = plan_of_file(study_file, root, **(changes or {}))
    distinct = {planned.folder: planned for planned in (*plan.runs, *plan.trials)}  # two protocols may share a run
    finished = [run for planned in distinct.values() if (run := read_run(planned, root)) is not None]
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(root / DATABASE).resolve()}"
    (root / DATABASE).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root / "results/.mlflow.lock"):  # a cold database breaks when two processes create its tables
        imported = _import_all(plan, finished, uri)
    trials = sum(run.planned.spec.purpose == "trial" for run in finished)
    receipt = {"study": plan.study.study, "runs": len(finished) - trials, "trials": trials}
    write_json(root / Layout.study(plan.study.study) / "tracking.json", receipt)
    return imported


def read_run(planned: PlannedRun, root: Path) -> FinishedRun | None:
    """Read the record of a planned run.

    Parameters
    ----------
    planned
        The run.
    root
        Folder that holds `results/`.

    Returns
    -------
    FinishedRun or None
        None where the run has not finished, or finished with other parameters than the search has since chosen.

    Raises
    ------
    MmreproError
        When `run.json` is no JSON object.
    """
    path = root / planned.folder
    try:
        content = (path / "run.json").read_bytes()
        wanted = complete(planned, root).parameters
    except FileNotFoundError:
        return None
    try:
        record = json.loads(content)
        finished = record.get("status") == "finished" and record["parameters"] == wanted
    except (ValueError, AttributeError, KeyError):
        raise MmreproError(f"{path}/run.json: not the record of a run; delete it and run snakemake again") from None
    return FinishedRun(planned, record, hashlib.sha256(content).hexdigest(), path) if finished else None


def _import_all(plan: Plan, finished: list[FinishedRun], uri: str) -> int:
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
        for run in finished:
            imported += _import_one(client, experiment, parent, run, plan.study.study, present)
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
    tags = {STUDY: study.study, KIND: "study", "mlflow.note.content": study.title}
    return str(client.create_run(experiment, run_name=study.study, tags=tags).info.run_id)


def _import_one(
    client: MlflowClient,
    experiment: str,
    parent: str,
    run: FinishedRun,
    study: str,
    present: dict[str, list[tuple[str, str]]],
) -> bool:
    """Import a run unless it is there; the status FINISHED, set last, tells a whole import from half of one."""
    from mlflow.entities import Param

    earlier = present.get(str(run.planned.folder), [])
    current = [mlflow_id for mlflow_id, identity in earlier if identity == run.identity]
    for mlflow_id, _ in earlier:
        if mlflow_id not in current[:1]:
            client.delete_run(mlflow_id)
    if current:
        return False
    tags = {"mlflow.parentRunId": parent, **_tags(run, study)}
    name = f"{tags['dataset']} {tags['model']} {tags['protocol']} seed {tags['seed']}"
    mlflow_id = client.create_run(experiment, start_time=run.started, run_name=name, tags=tags).info.run_id
    parameters = [Param(key, value) for key, value in _parameters(run.record)]
    for start in range(0, len(parameters), PARAMETERS_A_BATCH):
        client.log_batch(mlflow_id, params=parameters[start : start + PARAMETERS_A_BATCH])
    metrics = [*_curves(run), *_finals(run)]
    for start in range(0, len(metrics), METRICS_A_BATCH):
        client.log_batch(mlflow_id, metrics=metrics[start : start + METRICS_A_BATCH])
    client.set_terminated(mlflow_id, "FINISHED", run.ended)
    return True


def _tags(run: FinishedRun, study: str) -> dict[str, str]:
    record, planned = run.record, run.planned
    return {
        STUDY: study,
        KIND: planned.spec.purpose,
        RUN_ID: run.identity,
        FOLDER: str(planned.folder),
        "study": study,
        "dataset": planned.spec.dataset,
        "features": planned.features_name,
        "model": planned.spec.model,
        "seed": str(planned.seed),
        "protocol": planned.protocol_name,
        "git_commit": str(record["git"]["commit"]),
        "code": str(record["code"]),
    }


def _parameters(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Parameters by their own name, protocol switches and the rest of the set-up under a heading."""
    yield from _flatten("", record["parameters"])
    yield from _flatten("protocol.", record["protocol"])
    for key in ("threads", "device", "precision", "selected_by"):
        yield f"run.{key}", str(record.get(key))


def _flatten(prefix: str, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in sorted(values.items()):
        if isinstance(value, dict):
            yield from _flatten(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _curves(run: FinishedRun) -> Iterator[Metric]:
    """One point an epoch: apart from the final metrics, whose value is that of the best epoch and not of the last."""
    history = run.path / "history.jsonl"
    lines = history.read_text().splitlines() if history.is_file() else []
    for line in lines:
        epoch = json.loads(line)
        values = {f"history/{key}": epoch.get(key) for key in ("loss", "learning_rate", "seconds")}
        for group in ("terms", "valid"):
            values |= {f"history/{group}/{key}": value for key, value in (epoch.get(group) or {}).items()}
        yield from _metrics(values, run.ended, epoch["epoch"])


def _finals(run: FinishedRun) -> Iterator[Metric]:
    record = run.record
    values = {f"cost/{key}": record.get(key) for key in COSTS}
    for split in ("valid", "test"):
        values |= {f"{split}/{key}": value for key, value in (record.get(split) or {}).items()}
    yield from _metrics(values, run.ended, record.get("best_epoch") or 0)


def _metrics(values: dict[str, float | None], time: int, step: int) -> Iterator[Metric]:
    from mlflow.entities import Metric

    for name, value in values.items():
        if value is not None:
            yield Metric(name, float(value), time, step)
