"""The store that MLflow keeps runs in: used by one import at a time, made whole or not at all, and one line when it
fails.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from mmrepro.errors import MmreproError

if TYPE_CHECKING:
    from mlflow import MlflowClient

PATIENCE = 120.0
"""Seconds that an import waits for another one, and for what else holds its database."""
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
"""Environment variables that MLflow reads, unless set: its own bounds let a silent server hold an import for a quarter
of an hour.
"""


class StoreError(MmreproError):
    """A store that cannot be used now; what was to be imported lies on disk and can be imported later."""


@contextmanager
def opened_store(uri: str, lock: Path, patience: float = PATIENCE) -> Iterator[MlflowClient]:
    """Yield a client of a store that no other import uses meanwhile.

    Parameters
    ----------
    uri
        As MLflow takes it. A SQLite file that is missing is made.
    lock
        Lock file of a store that is no SQLite file; those have theirs beside them, for all who use them.
    patience
        Seconds to wait at most for another import, and for what else holds a SQLite file.

    Raises
    ------
    StoreError
        When the store cannot be used, then or while the client is in use.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from alembic.util import CommandError
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    database = None
    try:
        database = _sqlite_file(uri)
        if database is not None:
            lock = database.with_name(f".{database.name}.lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=patience, mode=0o666):  # for all who share the store
            if database is not None:
                _make_ready(database, patience)
            yield MlflowClient(tracking_uri=uri)
    except Timeout:
        raise StoreError(f"MLflow cannot be used: another import holds {lock}; wait for it to end") from None
    except (MlflowException, SQLAlchemyError, CommandError, sqlite3.Error, OSError, ImportError) as error:
        raise StoreError(_explanation(uri, database, error)) from None


def _sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store; None for a server, a database in memory, and a file with options of SQLite."""
    from sqlalchemy.engine import make_url

    name = make_url(uri).database if uri.startswith("sqlite") else None
    return Path(name).resolve() if name and not name.startswith((":memory:", "file:")) else None


def _make_ready(database: Path, patience: float) -> None:
    """Make a database that is missing or empty, and wait until the one that is there can be written."""
    if not database.exists() or (database.is_file() and database.stat().st_size == 0):
        _create(database)
    with closing(sqlite3.connect(database, timeout=patience, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")


def _create(database: Path) -> None:
    """Make the tables in a file of another name: MLflow can use no file in which it has made only some of them."""
    for remnant in database.parent.glob(f".{glob.escape(database.name)}.*.new"):
        shutil.rmtree(remnant, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".{database.name}.", suffix=".new", dir=database.parent) as folder:
        made = Path(folder) / "mlflow.db"
        command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{made}"]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if result.returncode:
            reason = next((line for line in reversed(result.stdout.splitlines()) if "Error" in line), "no reason given")
            raise StoreError(f"MLflow cannot make {database}: {reason}; free some space, or set MLFLOW_TRACKING_URI")
        for ending in ("-journal", "-wal", "-shm"):  # left by a database that was moved away; SQLite would apply them
            database.with_name(database.name + ending).unlink(missing_ok=True)
        made.replace(database)


def _explanation(uri: str, database: Path | None, error: Exception) -> str:
    """What is wrong and what to do, in one line without the password that an address may hold."""
    reason = next(iter(str(error).splitlines()), type(error).__name__).strip().rstrip(".")
    remedy = "check MLFLOW_TRACKING_URI, or unset it to use results/mlflow.db"
    if "locked" in reason:
        remedy = "end the process that holds it"
    elif database is not None and database.exists():
        if "locate revision" in reason:
            reason = "made by another version of MLflow"
        remedy = "move it away, and the next import makes a new one"
    line = f"MLflow cannot use {database or uri}: {reason}; {remedy}"
    return re.sub(r"(?<=://)[^/@\s]+@", "", line)
