import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmrepro.errors import MmreproError
from mmrepro.housekeeping.tracking import import_runs
from mmrepro.records.files import file_sha256
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan, PlannedAlignment, PlannedRun, complete
from mmrepro.study.resolve import plan_of_file

ROOT = Path(__file__).parents[2]
STUDY = Path("config/studies/tiny.yaml")
FINAL = {"recall_at_20": 0.25, "ndcg_at_20": 0.125}

STUDY_TEXT = """
study: tiny
title: A tiny study
datasets: [shop]
models: [popularity, cm3]
features: {default: aligned}
feature_quality: []
seeds: [0, 1]
protocols: {fair: {}, same: {}, masked: {base: fair, mask_at_test: train}}
search: {space: {cm3: {n_layers: [1, 2]}}}
"""

FEATURES = """
feature_set: aligned
modalities:
  unified:
    encoder: alignrec
    sources: {image: {kind: image, side: 8, patch: 4}, text: {kind: text, length: 4}}
    dim: 8
    heads: 2
"""


def write_measures(root: Path, planned: PlannedRun, test: dict[str, float]) -> None:
    path = root / Layout.measures("tiny", planned.spec.dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".parquet").write_bytes(b"of users")
    known = json.loads(path.read_text()) if path.is_file() else {"data": None, "runs": {}}
    known["runs"][planned.folder.as_posix()] = {"valid": FINAL, "test": test}
    path.write_text(json.dumps({**known, "users_sha256": file_sha256(path.with_suffix(".parquet"))}))


def write_run(root: Path, planned: PlannedRun, **changes: object) -> None:
    spec = complete(planned, root)
    folder = root / planned.folder
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "status": "finished",
        "purpose": spec.purpose,
        "parameters": spec.parameters,
        "selected_by": spec.selected_by,
        "protocol": spec.protocol.model_dump(),
        "threads": 1,
        "device": "cpu",
        "precision": "float32",
        "git": {"commit": "0123abcd", "dirty": False},
        "code": "f00d",
        "epochs": 3,
        "best_epoch": 2,
        "valid": {"recall_at_20": 0.25},
        "wall_seconds": 2.5,
        "peak_gpu_memory_mb": None,
    }
    if spec.purpose == "final":
        write_measures(root, planned, FINAL)
    (folder / "run.json").write_text(json.dumps(record | changes))
    epochs = [
        {"epoch": n, "loss": 1 / n, "terms": {"bpr": 0.5 / n}, "learning_rate": 0.1, "valid": {"recall_at_20": n / 10}}
        for n in (1, 2, 3)
    ]
    (folder / "history.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))


def write_alignment(root: Path, planned: PlannedAlignment, **changes: object) -> None:
    folder = root / planned.folder
    folder.mkdir(parents=True, exist_ok=True)
    chance, trained = {"recall_at_1": 0.05}, {"recall_at_1": 0.75}
    losses = {"target": "tokens", "measure": "nats a token", "baseline": 4.0, "untrained": 6.0, "trained": 3.0}
    record = {
        "status": "finished",
        "purpose": "alignment",
        "configuration": {"dim": 8, "sources": {"image": {"patch": 4}}},
        "seed": 3,
        "device": "cpu",
        "git": {"commit": "0123abcd", "dirty": False},
        "code": "beef",
        "epochs": 2,
        "sources": {"text": losses},
        "retrieval": {"query": "image", "candidates": 20, "chance": chance, "untrained": None, "trained": trained},
        "wall_seconds": 5.0,
    }
    (folder / "run.json").write_text(json.dumps(record | changes))
    epochs = [{"epoch": n, "loss": 4 / n, "terms": {"text": 3 / n}, "held_out": {"text": 6 / n}} for n in (1, 2)]
    (folder / "history.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a study of its own whose trials, selections and runs are all finished."""
    shutil.copytree(ROOT / "config/models", tmp_path / "config/models")
    shutil.copytree(ROOT / "config/schema", tmp_path / "config/schema")
    for name in ("studies", "datasets", "features"):
        (tmp_path / "config" / name).mkdir()
    (tmp_path / "config/features/aligned.yaml").write_text(FEATURES)
    dataset = {"dataset": "shop", "title": "A shop", "reader": "mmrec", "folder": "shop", "licence": "none"}
    (tmp_path / "config/datasets/shop.yaml").write_text(json.dumps(dataset))
    (tmp_path / STUDY).write_text(STUDY_TEXT)
    plan = plan_of_file(STUDY, tmp_path)
    for selection in plan.selections:
        (tmp_path / selection.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / selection.path).write_text(json.dumps({"parameters": {"n_layers": 2}}))
    for planned in plan.trainings:
        write_run(tmp_path, planned)
    for alignment in plan.alignments:
        write_alignment(tmp_path, alignment)
    return tmp_path


@pytest.fixture
def database(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return f"sqlite:///{root / 'results/mlflow.db'}"


def folders(plan: Plan) -> set[str]:
    return {str(job.folder) for job in (*plan.trainings, *plan.alignments)}


def tracked(uri: str) -> dict:
    """Folder -> run, of all runs that MLflow shows; the study's own run has no folder."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    found = {run.data.tags.get("mmrepro.folder"): run for run in runs}
    assert len(found) == len(runs)
    return found


def check_contents(uri: str, plan: Plan) -> None:
    from mlflow import MlflowClient

    runs = tracked(uri)
    parent = runs.pop(None)
    assert parent.data.tags["mmrepro.kind"] == "study" and parent.info.status == "FINISHED"
    assert set(runs) == folders(plan)
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    (planned,) = [r for r in plan.runs if (r.spec.model, r.seed, r.protocol_name) == ("cm3", 1, "masked")]
    run = runs[str(planned.folder)]
    expected = {"study": "tiny", "dataset": "shop", "features": "aligned", "model": "cm3", "seed": "1"}
    expected |= {"protocol": "masked", "git_commit": "0123abcd", "code": "f00d", "mmrepro.kind": "final"}
    assert expected.items() <= run.data.tags.items()
    assert {"n_layers": "2", "protocol.mask_at_test": "train", "run.device": "cpu"}.items() <= run.data.params.items()
    assert {"valid/recall_at_20": 0.25, "test/ndcg_at_20": 0.125, "cost/wall_seconds": 2.5}.items() <= (
        run.data.metrics.items()
    )
    client = MlflowClient(tracking_uri=uri)
    curve = client.get_metric_history(run.info.run_id, "history/valid/recall_at_20")
    assert [(point.step, point.value) for point in curve] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    loss = client.get_metric_history(run.info.run_id, "history/terms/bpr")
    assert [point.value for point in loss] == [0.5, 0.25, 0.5 / 3]
    check_alignment(client, runs[str(plan.alignments[0].folder)])


def check_alignment(client: Any, run: Any) -> None:
    assert run.info.run_name == "shop aligned unified encoder"
    expected = {"mmrepro.kind": "alignment", "study": "tiny", "dataset": "shop", "features": "aligned", "seed": "3"}
    assert (
        expected | {"modality": "unified", "git_commit": "0123abcd", "code": "beef"}
    ).items() <= run.data.tags.items()
    assert {"dim": "8", "sources.image.patch": "4", "run.device": "cpu"}.items() <= run.data.params.items()
    finals = {"sources/text/untrained": 6.0, "sources/text/trained": 3.0, "retrieval/trained/recall_at_1": 0.75}
    assert (finals | {"cost/wall_seconds": 5.0, "cost/epochs": 2.0}).items() <= run.data.metrics.items()
    curve = client.get_metric_history(run.info.run_id, "history/held_out/text")
    assert [(point.step, point.value) for point in curve] == [(1, 6.0), (2, 3.0)]


def test_default_database_shows_each_run_once_however_often_it_is_imported(root, database):
    plan = plan_of_file(STUDY, root)
    assert import_runs(plan_of_file(STUDY, root), root) == len(folders(plan)) == 9
    check_contents(database, plan)
    before = {folder: run.info.run_id for folder, run in tracked(database).items()}
    assert import_runs(plan_of_file(STUDY, root), root) == 0
    assert {folder: run.info.run_id for folder, run in tracked(database).items()} == before
    receipt = json.loads((root / "results/tiny/tracking.json").read_text())
    assert receipt == {"study": "tiny", "pre-trainings": 1, "trials": 2, "final runs": 6}


def test_a_changed_record_replaces_its_run_and_an_interrupted_import_is_completed(root, database):
    from mlflow import MlflowClient

    plan = plan_of_file(STUDY, root)
    import_runs(plan_of_file(STUDY, root), root)
    changed, interrupted = plan.runs[0], plan.runs[1]
    write_measures(root, changed, FINAL | {"recall_at_20": 0.75})
    half = tracked(database)[str(interrupted.folder)].info.run_id
    MlflowClient(tracking_uri=database).update_run(half, status="RUNNING")
    write_alignment(root, plan.alignments[0], epochs=1)
    assert import_runs(plan_of_file(STUDY, root), root) == 3
    runs = tracked(database)
    assert runs[str(plan.alignments[0].folder)].data.metrics["cost/epochs"] == 1
    assert runs[str(changed.folder)].data.metrics["test/recall_at_20"] == 0.75
    assert runs[str(interrupted.folder)].info.status == "FINISHED"
    assert runs[str(interrupted.folder)].info.run_id != half
    assert len(runs) == len(folders(plan)) + 1


def test_runs_that_failed_are_missing_or_used_other_parameters_are_left_out(root, database):
    plan = plan_of_file(STUDY, root)
    write_alignment(root, plan.alignments[0], status="running")
    failed, missing, outdated = plan.runs[0], plan.runs[1], plan.runs[2]
    write_run(root, failed, status="failed")
    (root / missing.folder / "run.json").unlink()
    write_run(root, outdated, parameters=complete(outdated, root).parameters | {"n_layers": 1})
    assert import_runs(plan_of_file(STUDY, root), root) == len(folders(plan)) - 4
    left_out = {str(job.folder) for job in (failed, missing, outdated, plan.alignments[0])}
    assert set(tracked(database)) == folders(plan) - left_out | {None}


def test_a_slice_of_a_study_is_imported_alone(root, database):
    assert import_runs(plan_of_file(STUDY, root, **{"models": "popularity", "seeds": 0}), root) == 2
    assert {run.data.tags.get("model") for run in tracked(database).values()} == {None, "popularity"}


def test_a_deleted_experiment_comes_back(root, database):
    from mlflow import MlflowClient

    import_runs(plan_of_file(STUDY, root), root)
    client = MlflowClient(tracking_uri=database)
    client.delete_experiment(client.get_experiment_by_name("tiny").experiment_id)
    import_runs(plan_of_file(STUDY, root), root)
    check_contents(database, plan_of_file(STUDY, root))


def test_a_broken_record_is_named(root, database):
    broken = root / plan_of_file(STUDY, root).runs[0].folder / "run.json"
    broken.write_text('{"status": "fin')
    with pytest.raises(MmreproError, match=str(broken)):
        import_runs(plan_of_file(STUDY, root), root)


def test_a_server_that_is_away_is_one_line(root):
    with socket.socket() as reserved:  # bound, not listening
        reserved.bind(("127.0.0.1", 0))
        with pytest.raises(MmreproError, match="check MLFLOW_TRACKING_URI") as caught:
            import_runs(plan_of_file(STUDY, root), root, f"http://127.0.0.1:{reserved.getsockname()[1]}")
    assert "\n" not in str(caught.value)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = f"sqlite:///{tmp_path / 'server.db'}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--artifacts-destination", str(tmp_path / "artifacts")]
    switches = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment = {**os.environ, **switches}
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        uri = f"http://127.0.0.1:{port}"
        wait_for(f"{uri}/health", process, tmp_path / "server.log")
        yield uri
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.mark.slow
def test_a_real_server_shows_the_runs(root, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    plan = plan_of_file(STUDY, root)
    assert import_runs(plan_of_file(STUDY, root), root) == len(folders(plan))
    check_contents(server, plan)
    assert import_runs(plan_of_file(STUDY, root), root) == 0
    check_contents(server, plan)
    assert not (root / "results/mlflow.db").exists()
