"""MLflow as a view of finished jobs: imported from their folders, in one process, as often as one likes."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrepro.columns import TEST
from mmrepro.config.base import content_hash
from mmrepro.errors import MmreproError
from mmrepro.housekeeping.mlflow_store import PATIENCE, StoreError, opened_store
from mmrepro.housekeeping.tracked_jobs import FinishedJob, finished_jobs
from mmrepro.records.files import file_sha256, read_object, write_json
from mmrepro.reporting.escape import markdown_line
from mmrepro.study.kinds import KINDS
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan
from mmrepro.study.products import SUMMARY, table_files

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE, ARTIFACTS, PAGE = Path("results/mlflow.db"), Path("results/mlartifacts"), Path("report/index.html")
METRICS_A_BATCH, PARAMETERS_A_BATCH = 1000, 100  # limits of MLflow's log_batch
STUDY, KIND, RUN_ID, FOLDER = "mmrepro.study", "mmrepro.kind", "mmrepro.run_id", "mmrepro.folder"


def import_runs(
    plan: Plan, root: Path, uri: str | None = None, attempt: int | None = None, patience: float = PATIENCE
) -> int:
    """Import every finished run, trial and pre-training of a study into MLflow.

    A run that is there already is left alone; one whose record has changed, or whose import was interrupted, is
    replaced. Beside the tables a receipt `tracking.json` says how many of each kind were there to import, how many
    were imported, and the id of each in MLflow.

    Parameters
    ----------
    plan
        The resolved study.
    root
        Folder that holds `data/` and `results/`.
    uri
        Tracking server; without it `MLFLOW_TRACKING_URI`, else the database `results/mlflow.db`.
    attempt
        What `next_attempt` told the workflow: the receipt is written even when the import fails, and asks for another
        attempt. Without it a failed import leaves the receipt as it is.
    patience
        Seconds to wait at most for a store that others use.

    Returns
    -------
    int
        Number of runs that were new or replaced.

    Raises
    ------
    StoreError
        For a server or database that MLflow cannot use.
    MmreproError
        For an unreadable run record.
    """
    finished = finished_jobs(plan, root)
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(root / DATABASE).resolve()}"
    there: dict[str, str] = {}
    imported = 0
    try:
        with opened_store(uri, root / "results/.mlflow.lock", patience) as client:
            for folder, mlflow_id, is_new in _import_each(client, plan, finished, root):
                there[folder] = mlflow_id
                imported += is_new
    except StoreError as error:
        if attempt is not None:
            _write_receipt(plan, root, finished, {"imported": imported, "attempt": attempt + 1, "problem": str(error)})
        raise
    if attempt is None:
        attempt = next_attempt(plan, root) - ("problem" in _receipt(plan, root))
    _write_receipt(plan, root, finished, {"imported": imported, "attempt": attempt, "runs": there})
    return imported


def next_attempt(plan: Plan, root: Path = Path()) -> int:
    """Return the number of the import that a study's receipt asks for.

    Snakemake reruns a job whose parameters are not those that it last ran with: a failed import asks for the number
    after its own, an import that succeeded for its own again.

    Parameters
    ----------
    plan
        The resolved study.
    root
        Folder that holds `results/`.

    Returns
    -------
    int
        0 where there is no receipt, or none that can be read.
    """
    attempt = _receipt(plan, root).get("attempt")
    return attempt if isinstance(attempt, int) else 0


def _receipt(plan: Plan, root: Path) -> dict[str, Any]:
    """A study's receipt; empty where there is none that can be read."""
    try:
        return read_object(root / _receipt_file(plan)) or {}
    except (MmreproError, OSError):
        return {}


def _receipt_file(plan: Plan) -> Path:
    return Layout.study(plan.name) / "tracking.json"


def _write_receipt(plan: Plan, root: Path, finished: list[FinishedJob], outcome: dict[str, Any]) -> None:
    counts = Counter(found.job.kind for found in finished)
    tracked = {kind.title: counts[name] for name, kind in KINDS.items() if kind.tracked}
    write_json(root / _receipt_file(plan), {"study": plan.study.study, **tracked, **outcome})


def _import_each(
    client: MlflowClient, plan: Plan, finished: list[FinishedJob], root: Path
) -> Iterator[tuple[str, str, bool]]:
    """Import jobs one after the other; yields folder and MLflow id of each, and whether it was new or replaced."""
    experiment = _experiment(client, plan.study.study, root)
    present = _present(client, experiment)
    parent = _parent(client, experiment, plan, present)
    for job in finished:
        mlflow_id, is_new = _import_one(client, experiment, parent, job, plan.study.study, present)
        yield job.folder.as_posix(), mlflow_id, is_new
    _describe_study(client, parent, plan, present, root)
    client.set_terminated(parent, "FINISHED")


def _describe_study(
    client: MlflowClient, parent: str, plan: Plan, present: dict[str, list[tuple[str, str]]], root: Path
) -> None:
    """Give the study's own run its main metrics, its tables and figures and its page, unless it has just these."""
    from mlflow.entities import Metric

    folder = root / Layout.study(plan.name)
    found = read_object(folder / SUMMARY)
    if found is None:
        return
    files = [*(folder / name for name in table_files(plan)), folder / PAGE]
    identity = content_hash({path.name: file_sha256(path) for path in files if path.is_file()})
    if identity in (known for _, known in present.get("", [])):
        return
    now = int(time.time() * 1000)
    metrics = [
        Metric(f"{TEST}/{dataset}/{protocol}/{model}/{plan.study.watch}", values[plan.study.watch], now, 0)
        for dataset, protocols in found[TEST].items()
        for protocol, models in protocols.items()
        for model, values in models.items()
        if plan.study.watch in values
    ]
    for start in range(0, len(metrics), METRICS_A_BATCH):
        client.log_batch(parent, metrics=metrics[start : start + METRICS_A_BATCH])
    for path in files:
        if path.is_file():
            client.log_artifact(parent, str(path), path.parent.name if path.parent != folder else None)
    client.set_tag(parent, RUN_ID, identity)


def _experiment(client: MlflowClient, name: str, root: Path) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        local = client.tracking_uri.startswith("sqlite")
        place = (root / ARTIFACTS / name).resolve().as_uri() if local else None
        made = client.create_experiment(name, place)
        return str(made)
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
) -> tuple[str, bool]:
    """Import a job unless it is there; return its MLflow id, and whether it was not. The status FINISHED, set last,
    tells a whole import from half of one.
    """
    from mlflow.entities import Metric, Param

    identity = job.identity
    earlier = present.get(str(job.folder), [])
    current = [mlflow_id for mlflow_id, known in earlier if known == identity]
    for mlflow_id, _ in earlier:
        if mlflow_id not in current[:1]:
            client.delete_run(mlflow_id)
    if current:
        return current[0], False
    tags = {STUDY: study, KIND: job.kind, RUN_ID: identity, FOLDER: str(job.folder), "study": study, **job.tags}
    tags["mlflow.parentRunId"] = parent
    mlflow_id = client.create_run(experiment, start_time=job.started, run_name=job.name, tags=tags).info.run_id
    for path in job.files:
        client.log_artifact(mlflow_id, str(path))
    parameters = [Param(key, value) for key, value in job.parameters()]
    for start in range(0, len(parameters), PARAMETERS_A_BATCH):
        client.log_batch(mlflow_id, params=parameters[start : start + PARAMETERS_A_BATCH])
    ended = job.ended
    metrics = [Metric(name, value, ended, step) for name, value, step in (*job.curves(), *job.finals())]
    for start in range(0, len(metrics), METRICS_A_BATCH):
        client.log_batch(mlflow_id, metrics=metrics[start : start + METRICS_A_BATCH])
    client.set_terminated(mlflow_id, "FINISHED", ended)
    return mlflow_id, True
