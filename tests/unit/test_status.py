import json
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from hand_made import STUDY_FILE, USERS, make_root, write_alignment, write_all, write_probe, write_run, write_winner

from mmrepro.housekeeping.pace import left_of
from mmrepro.housekeeping.running import RUNNING, note_running
from mmrepro.housekeeping.screen import FAILED, STOPPED
from mmrepro.housekeeping.status import status, status_data
from mmrepro.housekeeping.workflow_records import write_workflow_record
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan
from mmrepro.study.resolve import plan_of_file


def log_of(plan: Plan, product: Path) -> Path:
    return next(job.log for job in plan.jobs if job.product in (product, product / "run.json"))


def plan_now(root: Path) -> Plan:
    """The plan, after all records were brought to the code of today."""
    plan = plan_of_file(STUDY_FILE, root)
    for job in plan.jobs:
        path = root / job.product
        if job.of_kind.records and path.is_file():
            path.write_text(json.dumps({**json.loads(path.read_text()), "code": job.code}))
    return plan


def counts(text: str, name: str) -> list[int]:
    line = next(line for line in text.splitlines() if line.startswith(name))
    return [int(part) for part in line.removeprefix(name).split()]


def test_nothing_done_yet(tmp_path: Path) -> None:
    make_root(tmp_path)
    text = status(plan_now(tmp_path), tmp_path)
    assert counts(text, "final runs") == [0, 0, 0, 10, 10]  # done, running, failed, left, all
    assert "remaining: no estimate yet" in text


def test_all_done(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    write_all(tmp_path, plan)
    for probe in plan.probes:
        write_probe(tmp_path, probe, 0.5)
    text = status(plan_now(tmp_path), tmp_path)
    assert counts(text, "final runs") == [10, 0, 0, 0, 10]
    assert "nothing is left to train or to probe" in text


def test_what_other_code_made_is_left_and_says_how_long_it_takes(tmp_path: Path) -> None:
    plan = make_root(tmp_path, models=["cm3"], feature_quality=[])
    for run in plan.runs:
        write_run(tmp_path, run, USERS["cm3"][0], wall_seconds=600.0)
    assert counts(status(plan_now(tmp_path), tmp_path), "final runs") == [4, 0, 0, 0, 4]
    record = tmp_path / plan.runs[0].record
    record.write_text(json.dumps({**json.loads(record.read_text()), "code": "0" * 16}))
    found = status_data(plan_of_file(STUDY_FILE, tmp_path), tmp_path)
    assert found["jobs"]["train"] == {"done": 3, "running": 0, "failed": 0, "left": 1}
    assert 600 <= found["seconds_left"] < 900


def test_running_failed_and_left_are_told_apart(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    running, killed, failed, _ = plan.runs[:4]
    for run in (running, killed):
        (tmp_path / run.folder).mkdir(parents=True)
        (tmp_path / run.folder / ".lock").touch()  # what a killed job leaves behind is no lock
    log = tmp_path / log_of(plan, failed.folder)
    log.parent.mkdir(parents=True)
    log.write_text("one\ntwo\n\n 10%|#\r 90%|#########\nthree\nfour\nfive\nmmrepro: loss is NaN\n")
    with FileLock(tmp_path / running.folder / ".lock"):
        text = status(plan_now(tmp_path), tmp_path)
    assert counts(text, "final runs") == [0, 1, 1, 8, 10]
    assert f"running: {running.record.as_posix()}" in text
    shown = text.split(f"failed: {failed.record.as_posix()}\n")[1].splitlines()
    assert shown == ["     90%|#########", "    three", "    four", "    five", "    mmrepro: loss is NaN"]


def test_what_a_living_workflow_has_started_runs_whatever_its_log_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_root(tmp_path)
    log = next(job.log for job in plan.jobs if job.kind == "prepare")
    (tmp_path / log).parent.mkdir(parents=True)
    (tmp_path / log).write_text("mmrepro: data set 'toy-a': no interaction is left\n")
    assert status_data(plan, tmp_path)["jobs"]["prepare"]["failed"] == 1
    monkeypatch.chdir(tmp_path)
    note_running([log])
    assert status_data(plan, tmp_path)["jobs"]["prepare"] == {"done": 0, "running": 1, "failed": 0, "left": 1}
    written = json.loads(RUNNING.read_text())
    RUNNING.write_text(json.dumps({**written, "since": 1.0}))  # another process had its number
    assert status_data(plan, tmp_path)["jobs"]["prepare"]["failed"] == 1
    RUNNING.write_text("{")
    assert status_data(plan, tmp_path)["jobs"]["prepare"]["failed"] == 1


@pytest.mark.parametrize(
    ("words", "state"),
    [
        ("epoch 12/12 | loss 0.5\n", "left"), (f"epoch 1\n{STOPPED}\n", "left"), (f"epoch 1\n{FAILED}\n", "failed"),
        ("Traceback (most recent call last):\nValueError: x\n", "failed"), ("mmrepro: loss is NaN\n", "failed"),
    ],
)  # fmt: skip
def test_a_log_says_whether_its_job_failed(tmp_path: Path, words: str, state: str) -> None:
    plan = make_root(tmp_path, models=["cm3"], seeds=[0], datasets=["toy-a"])
    path = tmp_path / log_of(plan, plan.runs[0].folder)
    path.parent.mkdir(parents=True)
    path.write_text(words)
    assert status_data(plan, tmp_path)["jobs"]["train"][state] == 1


def test_jobs_that_wait_for_each_other_are_not_done_at_once(tmp_path: Path) -> None:
    plan = make_root(tmp_path, datasets=["toy-a"], models=["cm3"], seeds=[0])
    chain = [job for kind in ("tables", "page", "track") for job in plan.jobs_of(kind)]
    seconds = {job.kind: 10.0 * n for n, job in enumerate(chain, 1)}
    done = [(job, seconds[job.kind]) for job in chain]
    assert left_of(done, [(job, 1) for job in chain], tmp_path).chain == 60.0  # page reads tables, track reads the page
    assert left_of(done, [(chain[0], 1), (chain[2], 1)], tmp_path).chain == 30.0


def test_a_lock_held_by_another_process_is_seen_and_left_alone(tmp_path: Path) -> None:
    run = make_root(tmp_path).runs[0]
    path = tmp_path / run.folder / ".lock"
    path.parent.mkdir(parents=True)
    program = f"from filelock import FileLock\nwith FileLock({str(path)!r}):\n    print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert counts(status(plan_now(tmp_path), tmp_path), "final runs")[1] == 1
        process.communicate("\n")
    assert process.returncode == 0
    assert counts(status(plan_now(tmp_path), tmp_path), "final runs")[1] == 0


def test_a_log_lies_where_the_workflow_puts_it(tmp_path: Path) -> None:
    plan = make_root(tmp_path, models=["popularity", "cm3"], features={"default": "alignrec-miniature"})
    run, probe, encoder = plan.runs[0], plan.probes[0], plan.alignments[0]
    assert log_of(plan, run.folder).as_posix() == f"logs/runs/toy-a/none/popularity/{run.spec.hash}/seed0.log"
    assert log_of(plan, probe.path).as_posix() == "logs/probes/toy-a/alignrec-miniature.log"
    assert log_of(plan, encoder.folder).as_posix() == "logs/align_content/toy-a/alignrec-miniature/unified.log"


def test_estimate_prefers_runs_of_the_same_data_set(tmp_path: Path) -> None:
    plan = make_root(tmp_path, models=["popularity", "cm3"], feature_quality=[])
    seconds = {("toy-a", "cm3", 0): 600.0, ("toy-b", "cm3", 0): 1800.0}
    for run in plan.runs:
        wall = seconds.get((run.spec.dataset, run.spec.model, run.seed))
        if wall is not None:
            write_run(tmp_path, run, USERS["cm3"][0], wall_seconds=wall)
    # left: cm3 seed 1 on each data set, 10 and 30 minutes; what little all other jobs are planned to take
    assert 40 <= minutes_left(tmp_path) < 46
    assert "min, one job after another" in status(plan_now(tmp_path), tmp_path)


def test_estimate_falls_back_to_the_same_model_on_other_data_sets(tmp_path: Path) -> None:
    plan = make_root(tmp_path, models=["cm3"])
    for run in plan.runs:
        if run.spec.dataset == "toy-a":
            write_run(tmp_path, run, USERS["cm3"][0], wall_seconds=3600.0 * (1 + run.seed))
    assert 180 <= minutes_left(tmp_path) < 186  # two runs of 1.5 h on average


def test_a_job_takes_as_long_as_its_process_and_as_many_run_at_once_as_lately(tmp_path: Path) -> None:
    plan = make_root(tmp_path, datasets=["toy-a"], models=["cm3"], seeds=[0, 1, 2, 3], feature_quality=[])
    jobs = {job.product: job for job in plan.jobs_of("train")}
    for number, run in enumerate(plan.runs[:2]):
        write_run(tmp_path, run, USERS["cm3"][0], wall_seconds=60.0)
        job = jobs[run.record]
        path = tmp_path / job.of_kind.benchmark_file.format(**job.labels)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("s\th:m:s\n600.0\t0:10:00\n")  # with the start of the process
        begun = 1000.0 + 60 * number
        write_workflow_record(tmp_path, run.record.as_posix(), {"starttime": begun, "endtime": begun + 600})
    found = status_data(plan_now(tmp_path), tmp_path)
    at_once = 1200 / 660
    assert found["jobs_at_once"] == pytest.approx(at_once)
    assert 1200 / at_once <= found["seconds_left"] < 1500 / at_once
    assert found["jobs"]["train"] == {"done": 2, "running": 0, "failed": 0, "left": 2}
    assert "1.8 jobs at once, as lately" in status(plan_now(tmp_path), tmp_path)


def minutes_left(root: Path) -> float:
    return status_data(plan_now(root), root)["seconds_left"] / 60


def test_a_job_that_was_asked_to_end_has_not_failed(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    log = tmp_path / log_of(plan, plan.runs[0].folder)
    log.parent.mkdir(parents=True)
    log.write_text(f"cm3 | epoch 3/50\n{STOPPED}\n")
    assert counts(status(plan, tmp_path), "final runs")[2] == 0


def test_trials_are_counted_apart_and_an_outdated_final_is_left_not_failed(tmp_path: Path) -> None:
    plan = make_root(
        tmp_path, datasets=["toy-a"], models=["lightgcn"], search={"space": {"lightgcn": {"n_layers": [2, 3]}}}
    )
    write_winner(tmp_path, plan, {"n_layers": 2})
    write_all(tmp_path, plan)
    log = tmp_path / log_of(plan, plan.runs[0].folder)
    log.parent.mkdir(parents=True)
    log.write_text("finished\n")
    write_winner(tmp_path, plan, {"n_layers": 3})
    write_run(tmp_path, plan.trials[0], [0.5])
    text = status(plan_now(tmp_path), tmp_path)
    assert counts(text, "trials") == [1, 0, 0, 1, 2]
    assert counts(text, "final runs") == [0, 0, 0, 2, 2]


def test_pretrainings_and_probes_are_counted_and_a_pretraining_predicts_the_next(tmp_path: Path) -> None:
    plan = make_root(tmp_path, models=["cm3"], features={"default": "alignrec-miniature"})
    first, second = plan.alignments
    assert counts(status(plan_now(tmp_path), tmp_path), "pre-trainings") == [0, 0, 0, 2, 2]
    write_alignment(tmp_path, first, wall_seconds=1800.0)
    write_probe(tmp_path, plan.probes[0], 0.5)
    log = tmp_path / log_of(plan, plan.probes[1].path)
    log.parent.mkdir(parents=True)
    log.touch()  # it runs, or was killed
    (tmp_path / second.folder).mkdir(parents=True)
    with FileLock(tmp_path / second.folder / ".lock"):
        text = status(plan_now(tmp_path), tmp_path)
    assert counts(text, "pre-trainings") == [1, 1, 0, 0, 2]
    assert counts(text, "probes") == [1, 0, 0, 1, 2]
    assert minutes_left(tmp_path) > 30
    log.write_text("mmrepro: no such table\n")
    text = status(plan_now(tmp_path), tmp_path)
    assert counts(text, "probes") == [1, 0, 1, 0, 2]
    assert text.endswith(f"failed: {plan.probes[1].path.as_posix()}\n    mmrepro: no such table")


def test_a_search_that_makes_its_own_trials_is_one_job_until_it_ends(tmp_path: Path) -> None:
    search = {"sampler": "tpe", "budget": 2, "space": {"lightgcn": {"n_layers": [1, 2, 3]}}}
    plan = make_root(tmp_path, datasets=["toy-a"], models=["lightgcn"], seeds=[0], search=search)
    (selection,) = plan.selections
    assert selection.sequential is not None
    trial = tmp_path / Layout.run(selection.sequential.trial_with({"n_layers": 3}), selection.sequential.seed)
    trial.mkdir(parents=True)
    with FileLock(trial / ".lock"):
        text = status(plan_now(tmp_path), tmp_path)
    assert counts(text, "searches") == [0, 1, 0, 0, 1]
    assert "trials" not in text
    assert counts(status(plan_now(tmp_path), tmp_path), "searches") == [0, 0, 0, 1, 1]
    write_winner(tmp_path, plan, {"n_layers": 3}, trials=[{"parameters": {"n_layers": 3}}])
    text = status(plan_now(tmp_path), tmp_path)
    assert counts(text, "searches") == [1, 0, 0, 0, 1]
    assert counts(text, "trials") == [0, 0, 0, 1, 1]


def test_a_job_of_other_data_than_are_prepared_is_left(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    write_all(tmp_path, plan)
    prepared = tmp_path / Layout.prepared("toy-a") / "statistics.json"
    prepared.parent.mkdir(parents=True, exist_ok=True)
    prepared.write_text(json.dumps({"content_hash": "1" * 64}))
    of_toy_a = sum(run.spec.dataset == "toy-a" for run in plan.runs)
    found = counts(status(plan_now(tmp_path), tmp_path), "final runs")
    assert found == [len(plan.runs) - of_toy_a, 0, 0, of_toy_a, len(plan.runs)] and of_toy_a > 0
