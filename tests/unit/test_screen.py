"""What the screen says of a workflow, from what Snakemake tells it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from mmrepro.housekeeping import screen as module
from mmrepro.housekeeping.screen import STOPPED, Screen, duration, label_of
from snakemake_logger_plugin_mmrepro import LogHandler


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the screen notes there what runs


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock.now)
    return clock


def begun(clock: SimpleNamespace, **counts: int) -> Screen:
    screen = Screen(began=clock.now)
    screen.begin({**counts, "all": 1, "total": sum(counts.values()) + 1})
    return screen


CM3 = {"dataset": "baby", "features": "published", "model": "cm3", "hash": "0" * 12, "seed": "2"}


@pytest.mark.parametrize(
    ("rule", "wildcards", "label"),
    [
        ("train", CM3, "train cm3 on baby (published), seed 2"),
        ("train_trial", {**CM3, "features": "none"}, "try cm3 on baby, seed 2"),
        ("extract", {"dataset": "baby", "features": "published", "modality": "text"}, "encode text of baby (published)"),
        ("measure", {"study": "cm3", "dataset": "baby"}, "measure baby"), ("fetch", {"dataset": "baby"}, "fetch baby"),
        ("tables", {}, "build tables"), ("something", {"dataset": "baby"}, "something baby"),
    ],
)  # fmt: skip
def test_a_job_in_words(rule: str, wildcards: dict, label: str) -> None:
    assert label_of(rule, wildcards) == label


def test_a_finished_job_tells_what_it_found(clock: SimpleNamespace, tmp_path: Path) -> None:
    record = tmp_path / "run.json"
    record.write_text(json.dumps({"epochs": 31, "best_epoch": 24, "valid": {"recall_at_20": 0.57314}}))
    screen = begun(clock, train=2)
    screen.start(7, "train", CM3, ["a.log"], [str(record)])
    clock.now += 64
    assert screen.finish(7) == (
        "[1/2]  train cm3 on baby (published), seed 2: 31 epochs, best 24, valid recall@20 0.5731, 64 s"
    )
    assert screen.finish(7) is None


def test_what_is_left_follows_from_what_was_measured(clock: SimpleNamespace) -> None:
    screen = begun(clock, prepare=1, train=19)
    assert screen.seconds_left() is None
    for job, rule, seconds in ((1, "prepare", 2), (2, "train", 10), (3, "train", 14)):
        screen.start(job, rule, CM3, [], [])
        clock.now += seconds
        screen.finish(job)
    assert screen.seconds_left() == pytest.approx(17 * 12)  # one after another
    other = begun(clock, train=20)
    for job in range(4):
        other.start(job, "train", CM3, [], [])
    clock.now += 10
    for job in range(4):
        other.finish(job)
    assert other.seconds_left() == pytest.approx(16 * 10 / 4)  # four at once


def test_a_failure_is_shown_with_its_reason_and_again_at_the_end(clock: SimpleNamespace, tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.write_text('{"epoch": 1}\nepoch 1\nmmrepro: the loss is NaN; lower the learning rate\n')
    screen = begun(clock, train=2)
    screen.start(1, "train", CM3, [str(log)], ["x/run.json"])
    lines = list(screen.fail(1))
    assert lines[0] == "FAILED  train cm3 on baby (published), seed 2"
    assert lines[1:3] == ["    epoch 1", "    mmrepro: the loss is NaN; lower the learning rate"]
    assert list(screen.end())[1] == (
        "  train cm3 on baby (published), seed 2: the loss is NaN; lower the learning rate"
    )


def test_what_was_stopped_has_not_failed(clock: SimpleNamespace, tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.write_text("epoch 1\n")
    screen = begun(clock, train=2)
    screen.start(1, "train", CM3, [str(log)], [])
    screen.stopped = True
    assert list(screen.end()) == ["stopped after 0 of 2 jobs; the same command goes on from there"]
    assert log.read_text().splitlines()[-1] == STOPPED
    assert list(screen.fail(1)) == []


def test_long_jobs_tell_their_epochs(clock: SimpleNamespace, tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.write_text("baby cm3 seed 2 | epoch 12/50 | loss 0.3 | valid recall@20 0.2 *\n" + '{"epoch": 12}\n')
    screen = begun(clock, train=1)
    screen.start(1, "train", CM3, [str(log)], [])
    clock.now += 200
    assert screen.progress(60) == [
        "train cm3 on baby (published), seed 2, 3 min: epoch 12/50 | loss 0.3 | valid recall@20 0.2 *"
    ]
    assert screen.progress(600) == []


@pytest.mark.parametrize(("seconds", "words"), [(3.4, "3 s"), (99, "99 s"), (100, "2 min"), (7260, "2 h 01 min")])
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def handler(capsys: pytest.CaptureFixture[str], **changes: object) -> LogHandler:
    settings = {"dryrun": False, "verbose": False, "quiet": None, "stdout": True}
    return LogHandler(SimpleNamespace(**{**settings, **changes}), None)


def told(event: LogEvent | None, text: str = "", level: int = logging.INFO, **more: object) -> logging.LogRecord:
    record = logging.LogRecord("snakemake", level, __file__, 1, text, None, None)
    vars(record).update(event=event, **more)
    return record


def test_a_start_from_its_first_word_to_its_last(capsys: pytest.CaptureFixture[str]) -> None:
    shown = handler(capsys)
    shown.emit(told(LogEvent.RUN_INFO, stats={"fetch": 1, "all": 1, "total": 2}))
    shown.emit(told(None, "Building DAG of jobs..."))
    job = {"jobid": 3, "rule_name": "fetch", "wildcards": {"dataset": "baby"}, "log": [], "output": []}
    shown.emit(told(LogEvent.JOB_INFO, **job))
    shown.emit(told(LogEvent.SHELLCMD, "mmrepro fetch"))
    shown.emit(told(LogEvent.JOB_FINISHED, job_id=3))
    shown.emit(told(LogEvent.PROGRESS, done=1, total=2))
    shown.close()
    shown.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["1 jobs: 1 raw files", "[1/1]  fetch baby, 0 s", "1 of 1 jobs done in 0 s"]


def test_an_interruption_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    shown = handler(capsys)
    shown.emit(told(LogEvent.RUN_INFO, stats={"fetch": 2, "total": 2}))
    shown.emit(told(None, "Terminating processes on user request, this might take some time.", logging.WARNING))
    shown.emit(told(LogEvent.JOB_ERROR, "Error in rule fetch", logging.ERROR, jobid=1))
    shown.emit(told(LogEvent.ERROR, "WorkflowError: At least one job did not complete", logging.ERROR))
    shown.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["2 jobs: 2 raw files", "stopped after 0 of 2 jobs; the same command goes on from there"]


def test_a_mistake_before_any_job_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    shown = handler(capsys)
    shown.emit(told(LogEvent.ERROR, "WorkflowError: config/studies/x.yaml: unknown key", logging.ERROR))
    shown.close()
    assert "config/studies/x.yaml: unknown key" in capsys.readouterr().out


def test_a_dry_run_prints_what_snakemake_prints(capsys: pytest.CaptureFixture[str]) -> None:
    shown = handler(capsys, dryrun=True)
    shown.setFormatter(logging.Formatter("%(message)s"))
    shown.emit(told(None, "This was a dry-run"))
    shown.close()
    assert capsys.readouterr().out == "This was a dry-run\n"
