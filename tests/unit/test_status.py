import subprocess
import sys
from pathlib import Path

from filelock import FileLock
from hand_made import STUDY_FILE, USERS, make_root, write_all, write_run, write_winner

from mmrepro.reporting.status import log_file, status


def counts(text: str, name: str) -> list[int]:
    line = next(line for line in text.splitlines() if line.startswith(name))
    return [int(part) for part in line.removeprefix(name).split()]


def test_nothing_done_yet(tmp_path: Path) -> None:
    make_root(tmp_path)
    text = status(STUDY_FILE, tmp_path)
    assert counts(text, "final runs") == [0, 0, 0, 10, 10]  # done, running, failed, left, all
    assert "remaining: no estimate yet" in text


def test_all_done(tmp_path: Path) -> None:
    write_all(tmp_path, make_root(tmp_path))
    text = status(STUDY_FILE, tmp_path)
    assert counts(text, "final runs") == [10, 0, 0, 0, 10]
    assert "nothing is left to train" in text


def test_running_failed_and_left_are_told_apart(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    running, killed, failed, _ = plan.runs[:4]
    for run in (running, killed):
        (tmp_path / run.folder).mkdir(parents=True)
        (tmp_path / run.folder / ".lock").touch()  # what a killed job leaves behind is no lock
    log = tmp_path / log_file(failed)
    log.parent.mkdir(parents=True)
    log.write_text("one\ntwo\n\n 10%|#\r 90%|#########\nthree\nfour\nfive\nmmrepro: loss is NaN\n")
    with FileLock(tmp_path / running.folder / ".lock"):
        text = status(STUDY_FILE, tmp_path)
    assert counts(text, "final runs") == [0, 1, 1, 8, 10]
    assert f"running: {running.folder.as_posix()}" in text
    shown = text.split(f"failed: {failed.folder.as_posix()}\n")[1].splitlines()
    assert shown == ["     90%|#########", "    three", "    four", "    five", "    mmrepro: loss is NaN"]


def test_a_lock_held_by_another_process_is_seen_and_left_alone(tmp_path: Path) -> None:
    run = make_root(tmp_path).runs[0]
    path = tmp_path / run.folder / ".lock"
    path.parent.mkdir(parents=True)
    program = f"from filelock import FileLock\nwith FileLock({str(path)!r}):\n    print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert counts(status(STUDY_FILE, tmp_path), "final runs")[1] == 1
        process.communicate("\n")
    assert process.returncode == 0
    assert counts(status(STUDY_FILE, tmp_path), "final runs")[1] == 0


def test_a_log_lies_where_the_workflow_puts_it(tmp_path: Path) -> None:
    run = make_root(tmp_path).runs[0]
    expected = f"logs/runs/toy-a/none/popularity/{run.spec.hash}/seed0.log"
    assert log_file(run).as_posix() == expected


def test_estimate_prefers_runs_of_the_same_data_set(tmp_path: Path) -> None:
    plan = make_root(tmp_path, models=["popularity", "cm3"])
    seconds = {("toy-a", "cm3", 0): 600.0, ("toy-b", "cm3", 0): 1800.0}
    for run in plan.runs:
        wall = seconds.get((run.spec.dataset, run.spec.model, run.seed))
        if wall is not None:
            write_run(tmp_path, run, USERS["cm3"][0], wall_seconds=wall)
    text = status(STUDY_FILE, tmp_path)
    # left: cm3 seed 1 on each data set, 10 and 30 minutes; popularity on both, nothing known
    assert "about 40 min of training, one job after another, and 2 jobs with no estimate yet" in text


def test_estimate_falls_back_to_the_same_model_on_other_data_sets(tmp_path: Path) -> None:
    plan = make_root(tmp_path, models=["cm3"])
    for run in plan.runs:
        if run.spec.dataset == "toy-a":
            write_run(tmp_path, run, USERS["cm3"][0], wall_seconds=3600.0 * (1 + run.seed))
    assert "about 3 h 00 min of training" in status(STUDY_FILE, tmp_path)  # two runs of 1.5 h on average


def test_trials_are_counted_apart_and_an_outdated_final_is_left_not_failed(tmp_path: Path) -> None:
    plan = make_root(
        tmp_path, datasets=["toy-a"], models=["lightgcn"], search={"space": {"lightgcn": {"n_layers": [2, 3]}}}
    )
    write_winner(tmp_path, plan, {"n_layers": 2})
    write_all(tmp_path, plan)
    log = tmp_path / log_file(plan.runs[0])
    log.parent.mkdir(parents=True)
    log.write_text("finished\n")
    write_winner(tmp_path, plan, {"n_layers": 3})
    write_run(tmp_path, plan.trials[0], [0.5])
    text = status(STUDY_FILE, tmp_path)
    assert counts(text, "trials") == [1, 0, 0, 1, 2]
    assert counts(text, "final runs") == [0, 0, 0, 2, 2]
