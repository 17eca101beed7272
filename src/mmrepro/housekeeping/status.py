"""What of a study is done, running, failed and left, and how long the rest may take."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from mmrepro.config.run import RunSpec
from mmrepro.housekeeping.pace import Left, left_of, seconds_of
from mmrepro.housekeeping.running import running_logs
from mmrepro.housekeeping.screen import STOPPED, duration, last_lines
from mmrepro.housekeeping.workflow_records import is_source_changed
from mmrepro.reporting.escape import one_line
from mmrepro.reporting.records import job_record, prepared_hash
from mmrepro.study.kinds import KINDS
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Job, Plan

State = Literal["done", "running", "failed", "left"]
STATES: tuple[State, ...] = ("done", "running", "failed", "left")
PROBLEM = re.compile(r"mmrepro: |[\w.]*(?:Error|Exception)\b")
"""Beginning of the last line of a log whose job failed: in our words, or in Python's."""
NO_ESTIMATE = "no estimate yet"


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes
    ----------
    job
        The job.
    seconds
        Wall time, where its record tells; also of a job that is left because its code has changed since.
    """

    job: Job
    state: State
    seconds: float | None = None

    @property
    def trainings(self) -> int:
        """How many trainings it makes at most."""
        return int(self.job.settings["budget"]) if self.job.of_kind.sequential else 1


def status_data(plan: Plan, root: Path = Path()) -> dict[str, Any]:
    """Return what `status` tells, for programs.

    Returns
    -------
    dict
        `study`; `jobs`, kind -> state -> number; `seconds_left` (None where there is no estimate) and `jobs_at_once`;
        `running` and `failed`, the products.
    """
    jobs = progress_of(plan, root)
    counts: dict[str, dict[str, int]] = {}
    for progress in jobs:
        of_kind = counts.setdefault(progress.job.kind, dict.fromkeys(STATES, 0))
        of_kind[progress.state] += 1
    left = _left(jobs, root)
    named = {s: [p.job.product.as_posix() for p in jobs if p.state == s] for s in ("running", "failed")}
    return {"study": plan.name, "jobs": counts, "seconds_left": left.wall, "jobs_at_once": left.at_once, **named}


def status(plan: Plan, root: Path = Path()) -> str:
    """Describe the state of a study's jobs.

    Parameters
    ----------
    plan
        The resolved study.
    root
        Folder that holds `data/`, `results/` and `logs/`.

    Returns
    -------
    str
        A table of counts, an estimate of the time left (from the mean time of finished jobs of the same model or
        encoder and data set, else of the same model or encoder, else from what was planned, scaled by what finished
        jobs took; and from how many ran at once lately), and the last log lines of each failed job.

    Raises
    ------
    MmreproError
        When a job's record cannot be read.
    """
    jobs = progress_of(plan, root)
    lines = [f"{plan.study.study}: {one_line(plan.study.title)}", *_counts(jobs), _estimate(jobs, root)]
    lines += [
        f"files of {job.labels['dataset']} have changed since they were fetched: what is made of them is made again"
        for job in (found.job for found in jobs if found.job.kind == "fetch" and found.state == "left")
        if (root / job.product).is_file()
    ]
    for state in ("running", "failed"):
        for found in jobs:
            if found.state == state:
                lines.append(f"{state}: {found.job.product.as_posix()}")
                lines += [f"    {line}" for line in last_lines(root / found.job.log)] if state == "failed" else []
    return "\n".join(lines)


def progress_of(plan: Plan, root: Path) -> list[Progress]:
    """Return how far each job of a study is."""
    started = running_logs(root)
    changed = {name for name, config in plan.raw_datasets.items() if is_source_changed(config, root)}
    found = []
    for job in plan.jobs:
        if job.log.as_posix() in started:
            found.append(Progress(job, "running"))
        elif job.kind == "fetch" and job.labels["dataset"] in changed:
            found.append(Progress(job, "left"))
        else:
            found.append(_progress(job, root))
    return found


def _progress(job: Job, root: Path) -> Progress:
    if not job.of_kind.records:
        there = (root / job.product).is_file()
        return Progress(job, _state(job, root, there), seconds_of(job, None, root) if there else None)
    record = job_record(job, root)
    here = prepared_hash(job.labels["dataset"], root) if "dataset" in job.labels else None
    made_of = (record or {}).get("data", {}).get("interactions")
    if None not in (here, made_of) and here != made_of:
        return Progress(job, "left")  # made of other data than are prepared now
    if record is not None and record.get("code") != job.code:
        return Progress(job, "left", seconds_of(job, record, root))  # its code has changed since
    state = _state(job, root, record is not None)
    if state == "failed" and (root / job.product).exists():
        state = "left"  # its search has another winner now: nothing failed
    return Progress(job, state, seconds_of(job, record, root) if record is not None else None)


def _state(job: Job, root: Path, done: bool) -> State:
    """Failed is what is not done, no living process holds, and whose log ends with why it failed."""
    if done:
        return "done"
    if any(_is_locked(folder / ".lock") for folder in _locked_folders(job, root)):
        return "running"
    said = last_lines(root / job.log)
    return "failed" if said and PROBLEM.match(said[-1]) and said[-1] != STOPPED else "left"


def _locked_folders(job: Job, root: Path) -> list[Path]:
    """Folders that a job holds while it runs; a search holds those of its trials, whose settings it alone knows."""
    if not job.of_kind.sequential:
        return [(root / job.product).parent] if job.product.name == "run.json" else []
    trial, seed = RunSpec.model_validate(job.settings["trial"]), int(job.settings["seed"])
    return list((root / Layout.run(trial, seed)).parent.parent.glob(f"*/seed{seed}"))


def _is_locked(path: Path) -> bool:
    """Whether a living process holds the lock; a lock file that a killed one left behind is free."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def _counts(jobs: Sequence[Progress]) -> list[str]:
    lines = [f"{'':22}" + "".join(f"{state:>9}" for state in (*STATES, "all"))]
    for name, kind in KINDS.items():
        found = [progress.state for progress in jobs if progress.job.kind == name]
        if found:
            counts = [found.count(state) for state in STATES]
            lines.append(f"{kind.title:22}" + "".join(f"{count:9d}" for count in (*counts, len(found))))
    return lines


def _left(jobs: Sequence[Progress], root: Path) -> Left:
    done = [(p.job, p.seconds) for p in jobs if p.state == "done" or p.seconds is not None]  # by other code too
    waiting = [(progress.job, progress.trainings) for progress in jobs if progress.state != "done"]
    return left_of(done, waiting, root)


def _estimate(jobs: Sequence[Progress], root: Path) -> str:
    """How long the jobs that are not done may take, by those that are."""
    if all(progress.state == "done" for progress in jobs if _is_long(progress.job)):
        return "nothing is left to train or to probe"
    left = _left(jobs, root)
    if left.wall is None:
        return f"remaining: {NO_ESTIMATE}"
    pace = f"{left.at_once:.1f} jobs at once, as lately" if left.at_once > 1.05 else "one job after another"
    rest = f", and {left.unknown} jobs with {NO_ESTIMATE}" if left.unknown else ""
    return f"remaining: about {duration(left.wall)}, {pace}{rest}"


def _is_long(job: Job) -> bool:
    return bool(job.of_kind.records) or job.of_kind.sequential
