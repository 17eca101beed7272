"""A study that is killed, stopped and interrupted at random moments ends in the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkout import NOT_INHERITED, Checkout, copy_project

pytestmark = pytest.mark.slow
BAD_DAYS, SHORTEST, LONGEST = 9, 3.0, 14.0
"""How often a start is cut short, and after how many seconds; a start plans for about three."""
MADE = ("data/**/*.parquet", "data/**/*.npy", "data/**/*.npz", "results/runs/**/*.parquet", "results/runs/**/*.npz",
        "results/runs/**/model.pt", "results/smoke/**/*.csv", "results/smoke/**/*.svg", "results/smoke/**/*.parquet")  # fmt: skip
OF_TIMES = ("cost.csv", "deployment.csv")


def made(folder: Path) -> dict[str, bytes]:
    files = (path for pattern in MADE for path in folder.glob(pattern))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name not in OF_TIMES}


def started(checkout: Checkout) -> subprocess.Popen[bytes]:
    """`make` without the set-up, in a session of its own."""
    inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    path = f"{Path(sys.executable).parent}{os.pathsep}{inherited['PATH']}"
    return subprocess.Popen(
        [sys.executable, "workflow/scripts/run_study.py", "smoke", "--cores", "2"], cwd=checkout.folder,
        env={**inherited, "PATH": path, "PYTHONPATH": str(checkout.folder / "src")}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def test_killed_stopped_and_interrupted_at_random_it_ends_in_the_same_bytes(finished: Checkout, tmp_path: Path) -> None:
    chance, checkout = random.Random(17), copy_project(tmp_path / "checkout")
    signals = []
    for day in range(BAD_DAYS):
        process = started(checkout)
        if ended(process, chance.uniform(SHORTEST, LONGEST)):
            break
        signals.append((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[day % 3])
        os.killpg(process.pid, signals[-1])  # of the terminal, or of a machine that is switched off
        if not ended(process, 30):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        time.sleep(0.5)
    assert {signal.SIGKILL, signal.SIGTERM, signal.SIGINT} <= {*signals}, "the study was done before it was disturbed"
    process = started(checkout)
    assert ended(process, 300) and process.returncode == 0
    here, there = made(finished.folder), made(checkout.folder)
    assert here.keys() == there.keys() and len(here) > 25
    assert [name for name in here if here[name] != there[name]] == []
    assert not [*checkout.folder.glob("results/**/*.part*"), *checkout.folder.glob("data/**/*.part*")]
