"""Which jobs a living workflow has started, for others who ask: most jobs hold no lock while they run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import psutil

from mmrepro.records.files import write_json

RUNNING = Path(".snakemake/mmrepro/running.json")


def note_running(logs: Iterable[Path]) -> None:
    """Note the logs of the jobs that this process has started, on this machine or in a queue."""
    known = [path.as_posix() for path in logs]
    write_json(RUNNING, {"process": os.getpid(), "since": psutil.Process().create_time(), "logs": known})


def running_logs(root: Path) -> set[str]:
    """Return the logs of the jobs that a workflow has started in a folder; none where it lives no more."""
    try:
        found = json.loads((root / RUNNING).read_text(encoding="utf-8"))
        alive = psutil.Process(found["process"]).create_time() == found["since"]
        return set(found["logs"]) if alive else set()
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return set()  # no workflow, or none that tells
