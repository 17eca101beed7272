import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_study import FINAL, STUDY, folders, make_tiny_study, tracked, write_alignment, write_measures, write_run

from mmrepro.errors import MmreproError
from mmrepro.housekeeping.tracking import import_runs
from mmrepro.study.plan import Plan, complete
from mmrepro.study.resolve import plan_of_file

RECEIPT = {"study": "tiny", "pre-trainings": 1, "trials": 2, "final runs": 6}
LAST_RESORT = 1800  # seconds after which a server that lives and is silent counts as hung


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_tiny_study(tmp_path)


@pytest.fixture
def database(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return f"sqlite:///{root / 'results/mlflow.db'}"


def receipt(root: Path) -> dict[str, Any]:
    """Return what the receipt counts; the runs it names are those of the database."""
    found = json.loads((root / "results/tiny/tracking.json").read_text())
    assert found.pop("runs") == {
        folder: run.info.run_id for folder, run in tracked(f"sqlite:///{root / 'results/mlflow.db'}").items() if folder
    }
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
    assert receipt(root) == RECEIPT | {"imported": 9, "attempt": 0}
    check_contents(database, plan)
    before = {folder: run.info.run_id for folder, run in tracked(database).items()}
    assert import_runs(plan_of_file(STUDY, root), root) == 0
    assert {folder: run.info.run_id for folder, run in tracked(database).items()} == before
    assert receipt(root) == RECEIPT | {"imported": 0, "attempt": 0}


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
        process.wait(timeout=LAST_RESORT)


def wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    """Wait as long as the server lives: how long it takes to start says nothing on a busy machine."""
    deadline = time.monotonic() + LAST_RESORT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=60):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.mark.slow
def test_a_real_server_shows_the_runs(root, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(LAST_RESORT))
    plan = plan_of_file(STUDY, root)
    assert import_runs(plan_of_file(STUDY, root), root) == len(folders(plan))
    check_contents(server, plan)
    assert import_runs(plan_of_file(STUDY, root), root) == 0
    check_contents(server, plan)
    assert not (root / "results/mlflow.db").exists()


def test_names_tell_runs_apart_and_every_run_carries_its_record(root, database):
    from mlflow import MlflowClient

    import_runs(plan_of_file(STUDY, root), root)
    runs = tracked(database)
    parent = runs.pop(None)
    names = [run.info.run_name for run in runs.values()]
    assert len(set(names)) == len(names)
    assert {"shop cm3 aligned masked seed 1", "shop cm3 aligned fair trial n_layers 2"} <= {*names}
    client = MlflowClient(tracking_uri=database)
    for run in runs.values():
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["run.json"]
    assert client.list_artifacts(parent.info.run_id) == [] and parent.data.metrics == {}  # there are no tables yet


def test_the_studys_own_run_has_its_main_metrics_tables_and_page_and_follows_them(root, database):
    from mlflow import MlflowClient

    folder = root / "results/tiny"
    test = {"shop": {"fair": {"cm3": {"recall_at_20": 0.25, "ndcg_at_20": 0.5}}}}
    for name, text in (("tables/main.md", "# Tiny"), ("report/index.html", "<p>Tiny"), ("figures/wins.svg", "<svg/>")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "summary.json").write_text(json.dumps({"study": "tiny", "test": test}))
    import_runs(plan_of_file(STUDY, root), root)
    client, parent = MlflowClient(tracking_uri=database), tracked(database)[None]
    assert parent.data.metrics == {"test/shop/fair/cm3/recall_at_20": 0.25}
    inside = {
        part: [file.path for file in client.list_artifacts(parent.info.run_id, part)] for part in ("tables", "report")
    }
    assert inside == {"tables": ["tables/main.md"], "report": ["report/index.html"]}
    import_runs(plan_of_file(STUDY, root), root)
    history = client.get_metric_history(parent.info.run_id, "test/shop/fair/cm3/recall_at_20")
    assert len(history) == 1  # nothing has changed
    test["shop"]["fair"]["cm3"]["recall_at_20"] = 0.75
    (folder / "summary.json").write_text(json.dumps({"study": "tiny", "test": test}))
    import_runs(plan_of_file(STUDY, root), root)
    assert tracked(database)[None].data.metrics == {"test/shop/fair/cm3/recall_at_20": 0.75}
    assert tracked(database)[None].info.run_id == parent.info.run_id
