"""Studies on a real Slurm, and its bad days."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from checkout import NOT_INHERITED, Checkout, copy_project
from slurm import ask, jobs, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("slurm")]
PROFILE = ("--workflow-profile", "profiles/slurm", "--mmrepro-slurm-init-seconds-before-status-checks", "2")
EPOCHS = 600
"""Of a training that takes longer than a minute, the least that Slurm grants."""


@contextmanager
def submitting(checkout: Checkout, *arguments: str, study: str = "smoke") -> Iterator[subprocess.Popen[str]]:
    """A Snakemake that submits a study; killed in the end."""
    command = ["snakemake", *PROFILE, *arguments, "--configfile", f"config/studies/{study}.yaml"]
    inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    path = f"{Path(sys.executable).parent}{os.pathsep}{inherited['PATH']}"
    environment = {**inherited, "PATH": path, "PYTHONPATH": str(checkout.folder / "src")}
    process = subprocess.Popen(
        command, cwd=checkout.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def finished(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, said
    return said


def results(folder: Path) -> dict[str, bytes]:
    """Content of what a study leaves, by path: all but what tells times."""
    kinds = ("**/*.parquet", "**/*.csv", "**/*.npz", "**/model.pt", "**/*.svg")
    files = {path for kind in kinds for path in folder.glob(f"results/{kind}")}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if not {"mlartifacts", "cost.csv", "deployment.csv"} & {*path.parts}
    }


def long_study(checkout: Checkout, epochs: int, *models: str) -> None:
    """A study whose trainings take a while."""
    study = yaml.safe_load((checkout.folder / "config/studies/smoke.yaml").read_text())
    parameters = {"all": {**study["parameters"]["all"], "max_epochs": epochs, "patience": epochs, "batch_size": 64}}
    changed = {**study, "study": "long", "models": [*models], "parameters": parameters}
    (checkout.folder / "config/studies/long.yaml").write_text(yaml.safe_dump(changed))


def epochs_of(checkout: Checkout, model: str) -> list[int]:
    """The epochs that the log of a model's run tells, in their order."""
    [log] = checkout.folder.glob(f"logs/runs/mini-baby/*/{model}/*/seed0.log")
    return [json.loads(line)["epoch"] for line in log.read_text().splitlines() if line.startswith('{"epoch"')]


def training_is_at(checkout: Checkout, epoch: int) -> bool:
    logs = [*checkout.folder.glob("logs/runs/mini-baby/*/cm3/*/seed0.log")]
    return bool(logs) and (epochs_of(checkout, "cm3") or [0])[-1] >= epoch


def test_a_study_is_the_same_to_the_last_byte(local: Checkout, tmp_path: Path) -> None:
    checkout = copy_project(tmp_path)
    names = set()
    with submitting(checkout) as process:
        while process.poll() is None:
            names |= {name for name in jobs().values()}
            try:
                said, _ = process.communicate(timeout=0.5)
            except subprocess.TimeoutExpired:
                continue
    assert process.returncode == 0, said
    assert "12 of 12 jobs done" in said and "[ 1/12]  fetch mini-baby" in said
    here, there = results(local.folder), results(checkout.folder)
    assert here.keys() == there.keys() and len(here) > 15
    assert [name for name in here if here[name] != there[name]] == []
    assert any(re.fullmatch(r"fetch-mini-baby-[0-9a-f]{8}", name) for name in names)
    assert any(name.startswith("encode-image-of-mini-baby-miniature-") for name in names)
    assert any(name.startswith("short_train_train-of-2-") for name in names)
    assert checkout.planned() == []


def test_too_little_memory_is_said_and_the_next_attempt_has_more(local: Checkout, tmp_path: Path) -> None:
    checkout = copy_project(tmp_path)
    grown = "extract:mem_mb=min(250 * attempt ** 3, 4000)"
    with submitting(checkout, "--set-resources", grown, "--until", "extract") as process:
        said = finished(process)
    assert (
        "FAILED  encode image of mini-baby (miniature): out of memory: it needed more than the 250M it asked for"
        in said
    )
    assert "exceeded memory limit" in said and "log: .snakemake/slurm_logs" in said.replace(f"{checkout.folder}/", "")
    assert re.search(r"\d of 4 jobs done", said)
    for name, content in results(local.folder).items():
        if name.startswith("data/features"):
            assert (checkout.folder / name).read_bytes() == content


def test_cancelled_killed_drained_and_out_of_time_it_ends_in_the_same_bytes(tmp_path: Path) -> None:
    """One long training through one bad day after the other: none is trained twice, and nothing is lost."""
    undisturbed, checkout = copy_project(tmp_path / "undisturbed"), copy_project(tmp_path / "disturbed")
    for one in (undisturbed, checkout):
        long_study(one, EPOCHS, "cm3")
    made = undisturbed.snakemake(study="long")
    assert made.returncode == 0, made.stderr
    [node] = ask("sinfo", "--noheader", "--format=%n").split()
    longest = ("--mmrepro-slurm-longest", "1")
    with submitting(checkout, *longest, study="long") as process:
        wait_for(lambda: training_is_at(checkout, 20), "training")
        process.send_signal(signal.SIGKILL)  # the job lives on
    [(orphan, name)] = jobs("RUNNING").items()
    assert name.startswith(("train-cm3-on-mini-baby-miniature-seed-0-", "short_train_train-of-1-"))
    assert checkout.snakemake("--unlock", study="long").returncode == 0
    with submitting(checkout, *longest, study="long") as process:
        said = process.stdout
        assert said is not None
        assert any(f"job {orphan} of an earlier start is still there" in line for line in said)
        assert [*jobs()] == [orphan]
        ask("scancel", orphan)  # noticed, and submitted again
        wait_for(lambda: jobs("RUNNING") and orphan not in jobs("RUNNING"), "the next attempt")
        at = epochs_of(checkout, "cm3")[-1]
        wait_for(lambda: training_is_at(checkout, at + 20), "training")
        ask("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
        [lost] = jobs("RUNNING")
        ask("scontrol", "requeue", lost)  # as when a node is lost
        wait_for(lambda: jobs("PENDING"), "the queue")
        ask("scontrol", "update", f"NodeName={node}", "State=RESUME")
        ask("scontrol", "update", f"JobId={lost}", "StartTime=now")  # Slurm would wait for two minutes
        wait_for(lambda: "TIMEOUT" in ask("squeue", "--states=all", "--noheader", "--format=%T"), "the end of a slice")
        finished(process)
    [history] = checkout.folder.glob("results/runs/mini-baby/*/cm3/*/seed0/history.jsonl")
    assert [json.loads(line)["epoch"] for line in history.read_text().splitlines()] == [*range(1, EPOCHS + 1)]
    [log] = checkout.folder.glob("logs/runs/mini-baby/*/cm3/*/seed0.log")
    assert "resumed after epoch" in log.read_text() and epochs_of(checkout, "cm3")[0] > at  # nothing from the start
    assert [
        name for name, content in results(undisturbed.folder).items() if results(checkout.folder)[name] != content
    ] == []
