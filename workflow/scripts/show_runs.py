"""Show the runs of all studies in MLflow, and where each study's are: `show_runs.py --port 5000`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from mmrepro.errors import MmreproError
from mmrepro.housekeeping.mlflow_store import opened_store
from mmrepro.housekeeping.tracking import DATABASE
from mmrepro.reporting.escape import one_line

RUNS = "runs?workflowType=machine_learning"
"""Without it, MLflow shows traces of language models."""


def addresses(base: str) -> list[str]:
    """Address of the runs of each study, one a line."""
    with opened_store(f"sqlite:///{DATABASE.resolve()}", Path("results/.mlflow.lock")) as client:
        found = sorted((found.name, found.experiment_id) for found in client.search_experiments())
    width = max((len(name) for name, _ in found), default=0)
    return [f"{name:{width}}  {base}/#/experiments/{number}/{RUNS}" for name, number in found if name != "Default"]


def main() -> int:
    """Print the addresses, then serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=5000)
    port = parser.parse_args().port
    if not DATABASE.is_file():
        print(f"{DATABASE}: no such file; run a study first", file=sys.stderr)
        return 1
    try:
        print("\n".join(addresses(f"http://127.0.0.1:{port}")), flush=True)
    except MmreproError as error:
        print(one_line(str(error)), file=sys.stderr)
        return 1
    store = ("--backend-store-uri", f"sqlite:///{DATABASE}")
    place = ("--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    os.execvp("mlflow", ("mlflow", "ui", *store, *place))


if __name__ == "__main__":
    sys.exit(main())
