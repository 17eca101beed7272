"""Stores that MLflow cannot use: the study finishes, and its runs are imported later."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from checkout import Checkout
from tiny_study import STUDY, folders, make_tiny_study, tracked

from mmrepro.housekeeping.mlflow_store import StoreError
from mmrepro.housekeeping.tracking import import_runs, next_attempt
from mmrepro.study.resolve import plan_of_file

COMMAND = [sys.executable, "-m", "mmrepro", "track", "tiny"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return make_tiny_study(tmp_path / "clone")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database into which a study has been imported."""
    root = make_tiny_study(tmp_path_factory.mktemp("good") / "clone")
    import_runs(plan_of_file(STUDY, root), root, f"sqlite:///{root / 'good.db'}")
    return root / "good.db"


def receipt(root: Path) -> dict:
    return json.loads((root / "results/tiny/tracking.json").read_text())


def check_refused(root: Path, words: str, uri: str | None = None, patience: float = 60) -> None:
    """By hand the import fails in one line and leaves no receipt; the workflow's leaves one that asks for another."""
    plan = plan_of_file(STUDY, root)
    with pytest.raises(StoreError, match=words) as caught:
        import_runs(plan, root, uri, patience=patience)
    assert "\n" not in str(caught.value) and not (root / "results/tiny/tracking.json").exists()
    for attempt in (0, 1):
        assert next_attempt(plan, root) == attempt
        with pytest.raises(StoreError, match=words):
            import_runs(plan, root, uri, attempt, patience)
        written = receipt(root)
        assert re.search(words, written["problem"])
        assert (written["imported"], written["attempt"]) == (0, attempt + 1)


def check_imported(root: Path, attempt: int | None = 2) -> None:
    plan = plan_of_file(STUDY, root)
    uri = f"sqlite:///{root}/results/../results/mlflow.db"  # MLflow keeps the connection that it has to an address
    assert import_runs(plan, root, uri, attempt) == len(folders(plan))
    assert "problem" not in receipt(root) and set(tracked(uri)) == folders(plan) | {None}


def in_directory(database: Path, good: Path) -> None:
    database.mkdir()


def with_garbage(database: Path, good: Path) -> None:
    database.write_bytes(bytes(range(256)) * 100)


def cut_short(database: Path, good: Path) -> None:
    database.write_bytes(good.read_bytes()[: good.stat().st_size // 2])


def cut_in_its_header(database: Path, good: Path) -> None:
    database.write_bytes(good.read_bytes()[:60])


def half_made(database: Path, good: Path) -> None:
    """What a kill left while MLflow made its tables in place: a step is done, and not yet noted as done."""
    import sqlalchemy
    from mlflow.store.tracking.dbmodels.initial_models import Base

    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    Base.metadata.create_all(engine)
    engine.dispose()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("ALTER TABLE metrics ADD COLUMN step BIGINT DEFAULT 0 NOT NULL")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (in_directory, "unable to open database file; move it away"),
        (with_garbage, "file is not a database; move it away"),
        (cut_short, "malformed; move it away"),
        (cut_in_its_header, "malformed; move it away"),
        (half_made, "duplicate column name: step; move it away"),
    ],
)
def test_a_broken_database_is_one_line_and_runs_are_imported_once_it_is_moved_away(root, good, broken, words):
    database = root / "results/mlflow.db"
    broken(database, good)
    check_refused(root, f"{database}: .*{words}")
    database.rename(root / "moved")
    check_imported(root)


def test_an_empty_file_is_taken_for_a_missing_one(root):
    (root / "results/mlflow.db").touch()
    check_imported(root)


def test_the_journal_of_a_database_that_was_moved_away_is_not_applied_to_the_new_one(root, good):
    database = root / "results/mlflow.db"
    shutil.copy(good, database)
    journal = database.with_name("mlflow.db-journal")
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")  # so that the journal is written while the transaction lasts
        connection.execute("BEGIN")
        connection.execute("DELETE FROM metrics")
        connection.execute("UPDATE tags SET value = value || value")
        content = journal.read_bytes()
        connection.execute("ROLLBACK")
    database.unlink()
    journal.write_bytes(content)
    check_imported(root)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@contextmanager
def locked(database: Path) -> Iterator[None]:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield


def test_a_locked_database_is_waited_for_in_bounds(root, good):
    database = root / "results/mlflow.db"
    shutil.copy(good, database)
    with locked(database):
        check_refused(root, f"{database}: database is locked; end the process", patience=0.2)
    assert import_runs(plan_of_file(STUDY, root), root, attempt=2) == 0  # the same runs are in it
    assert receipt(root)["attempt"] == 2 and "problem" not in receipt(root)


def test_another_import_is_waited_for_in_bounds(root):
    from filelock import FileLock

    with FileLock(root / "results/.mlflow.db.lock"):
        check_refused(root, "another import holds .*/results/.mlflow.db.lock", patience=0.2)


@contextmanager
def server(listens: bool) -> Iterator[str]:
    """Address of a server that accepts and never answers, or of none."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        if listens:
            reserved.listen()
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}"


@pytest.mark.parametrize("listens", [False, True])
def test_a_server_that_is_away_or_silent_is_one_line(root, monkeypatch, listens):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with server(listens) as uri:
        check_refused(root, f"{uri}: .*check MLFLOW_TRACKING_URI", uri)


def test_a_silent_server_is_waited_for_a_minute_unless_the_user_says_otherwise(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    with server(listens=False) as uri, pytest.raises(StoreError):
        import_runs(plan_of_file(STUDY, root), root, uri)
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "30" and os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"


@pytest.mark.parametrize("uri", ["postgresql://me:secret@127.0.0.1:1/runs", "http://me:secret@127.0.0.1:1", "no uri"])
def test_an_address_is_named_without_its_password(root, uri):
    with pytest.raises(StoreError, match="check MLFLOW_TRACKING_URI") as caught:
        import_runs(plan_of_file(STUDY, root), root, uri)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_command_fails_by_hand_and_succeeds_in_the_workflow(root, good):
    with_garbage(root / "results/mlflow.db", good)
    by_hand = subprocess.run(COMMAND, cwd=root, capture_output=True, text=True)
    assert by_hand.returncode == 1 and by_hand.stdout == "" and by_hand.stderr.count("\n") == 1
    assert "mlflow.db: file is not a database; move it away" in by_hand.stderr
    noted = subprocess.run([*COMMAND, "--attempt", "0"], cwd=root, capture_output=True, text=True)
    assert noted.returncode == 0 and noted.stderr == "" and noted.stdout.count("\n") == 1
    assert "tries the import again, and so does `mmrepro track config/studies/tiny.yaml`" in noted.stdout
    assert receipt(root)["attempt"] == 1
    (root / "results/mlflow.db").unlink()
    check_imported(root, attempt=None)
    assert receipt(root)["attempt"] == 0  # that of the workflow's last call, which then has nothing to do


@pytest.mark.slow
def test_two_clones_import_into_one_new_store_at_once(root, tmp_path):
    shutil.copytree(root, tmp_path / "second")
    uri = f"sqlite:///{tmp_path / 'shared.db'}"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    clones = [
        subprocess.Popen(
            COMMAND, cwd=clone, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for clone in (root, tmp_path / "second")
    ]
    said = [clone.communicate()[0] for clone in clones]
    assert [clone.returncode for clone in clones] == [0, 0], said
    assert sorted(said) == ["0 runs imported\n", "9 runs imported\n"]  # the clones hold the same runs
    assert set(tracked(uri)) == folders(plan_of_file(STUDY, root)) | {None}


@pytest.mark.slow
def test_a_kill_while_the_database_is_made_leaves_none(root):
    process = subprocess.Popen(COMMAND, cwd=root, start_new_session=True, stderr=subprocess.DEVNULL)
    while not list(root.glob("results/.mlflow.db.*.new/mlflow.db")):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (root / "results/mlflow.db").exists()
    check_imported(root)
    assert not list(root.glob("results/.mlflow.db.*.new"))


@pytest.mark.slow
def test_the_workflow_finishes_without_a_store_and_imports_later(finished: Checkout, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "checkout")
    shutil.copytree(finished.folder, checkout.folder)
    database, product = checkout.folder / "results/mlflow.db", "results/smoke/tracking.json"
    run_study = (sys.executable, "workflow/scripts/run_study.py", "smoke", "--cores", "2")
    (checkout.folder / product).unlink()
    database.write_bytes(b"garbage" * 1000)
    made = checkout.call(*run_study)
    assert made.returncode == 0, made.stdout + made.stderr
    assert made.stdout.count("MLflow cannot use") == 1 and "which the next run tries again" in made.stdout
    assert checkout.planned() == [product]
    database.unlink()
    assert checkout.snakemake().returncode == 0
    assert json.loads((checkout.folder / product).read_text())["imported"] == 2
    assert checkout.planned() == []
    database.write_bytes(b"garbage" * 1000)
    (checkout.folder / product).unlink()
    assert checkout.snakemake().returncode == 0 and checkout.planned() == [product]
    database.unlink()
    assert checkout.call("mmrepro", "track", "smoke").returncode == 0 and checkout.planned() == []
