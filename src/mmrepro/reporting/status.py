"""What of a study is done, running, failed and left, and how long the rest may take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from mmrepro.plan import PlannedRun
from mmrepro.planning import plan_of_file
from mmrepro.reporting.collect import read_record

State = Literal["done", "running", "failed", "left"]
STATES: tuple[State, ...] = ("done", "running", "failed", "left")
LOG_LINES = 5
NO_ESTIMATE = "no estimate yet"


@dataclass(frozen=True)
class Job:
    """A trial or final run and how far it is."""

    run: PlannedRun
    state: State
    record: Mapping[str, Any] | None


def status(study_file: Path, root: Path = Path()) -> str:
    """Describe the state of a study's jobs.

    Parameters
    ----------
    study_file
        The study's file, relative to `root` or absolute.
    root
        Folder that holds `config/`, `results/` and `logs/`.

    Returns
    -------
    str
        A table of counts, an estimate of the remaining job time (from the mean wall time of finished runs of the same
        model and data set, else of the same model), and the last log lines of each failed job.

    Raises
    ------
    MmreproError
        When the study or a run's record cannot be read.
    """
    plan = plan_of_file(study_file, root)
    jobs = [_job(run, root) for run in {run.folder: run for run in plan.jobs}.values()]
    lines = [f"{plan.study.study}: {plan.study.title}", *_counts(jobs), _estimate(jobs)]
    for state in ("running", "failed"):
        for job in jobs:
            if job.state == state:
                lines.append(f"{state}: {job.run.folder.as_posix()}")
                lines += [f"    {line}" for line in _last_lines(root / log_file(job.run))] if state == "failed" else []
    return "\n".join(lines)


def log_file(run: PlannedRun) -> Path:
    """Return the log of a training job, relative to the repository."""
    relative = run.folder.relative_to("results")
    return Path("logs") / relative.with_name(f"{relative.name}.log")


def _job(run: PlannedRun, root: Path) -> Job:
    record = read_record(run, root)
    if record is not None:
        return Job(run, "done", record)
    if _locked(root / run.folder / ".lock"):
        return Job(run, "running", None)
    outdated = (root / run.folder / "run.json").exists()  # its search has another winner now: nothing failed
    failed = (root / log_file(run)).is_file() and not outdated
    return Job(run, "failed" if failed else "left", None)


def _locked(path: Path) -> bool:
    """Whether a living process holds the lock; a lock file that a killed one left behind is free."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def _counts(jobs: Sequence[Job]) -> list[str]:
    kinds = {"trial": "trials", "final": "final runs"}
    lines = [f"{'':12}" + "".join(f"{state:>9}" for state in (*STATES, "all"))]
    for purpose, name in kinds.items():
        found = [job.state for job in jobs if job.run.spec.purpose == purpose]
        if found:
            counts = [found.count(state) for state in STATES]
            lines.append(f"{name:12}" + "".join(f"{count:9d}" for count in (*counts, len(found))))
    return lines


def _estimate(jobs: Sequence[Job]) -> str:
    """Sum of the expected wall times of all jobs that are not done."""
    times: dict[tuple[str, ...], list[float]] = {}
    for job in jobs:
        seconds = (job.record or {}).get("wall_seconds")
        if seconds is not None:
            spec = job.run.spec
            for key in ((spec.model, spec.dataset), (spec.model,)):
                times.setdefault(key, []).append(float(seconds))
    waiting = [job.run.spec for job in jobs if job.state != "done"]
    if not waiting:
        return "nothing is left to train"
    known = [found for spec in waiting if (found := times.get((spec.model, spec.dataset)) or times.get((spec.model,)))]
    if not known:
        return f"remaining: {NO_ESTIMATE}"
    total = sum(sum(found) / len(found) for found in known)
    unknown = len(waiting) - len(known)
    rest = f", and {unknown} jobs with {NO_ESTIMATE}" if unknown else ""
    return f"remaining: about {_duration(total)} of training, one job after another{rest}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _last_lines(path: Path) -> list[str]:
    # a progress bar redraws its line with carriage returns: only what stands there last counts
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in path.read_text(errors="replace").splitlines()]
    return [line for line in lines if line][-LOG_LINES:]
