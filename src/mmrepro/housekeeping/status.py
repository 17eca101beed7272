"""What of a study is done, running, failed and left, and how long the rest may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from mmrepro.config.run import RunSpec
from mmrepro.reporting.escape import one_line
from mmrepro.reporting.records import job_record, prepared_hash
from mmrepro.study.kinds import KINDS
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Job, Plan

State = Literal["done", "running", "failed", "left"]
STATES: tuple[State, ...] = ("done", "running", "failed", "left")
LOG_LINES = 5
NO_ESTIMATE = "no estimate yet"


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes
    ----------
    job
        The job.
    seconds
        Wall time, where it is done and its record tells.
    """

    job: Job
    state: State
    seconds: float | None = None

    @property
    def alike(self) -> tuple[tuple[str, ...], ...]:
        """Jobs that share a key take about as long; the closest likeness first."""
        labels = self.job.labels
        what = (labels["model"],) if "model" in labels else tuple(labels.get(k, "") for k in ("features", "modality"))
        return ((*what, labels.get("dataset", "")), what)

    @property
    def trainings(self) -> int:
        """How many trainings it makes at most."""
        return int(self.job.settings["budget"]) if self.job.of_kind.sequential else 1


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
        A table of counts, an estimate of the remaining job time (from the mean wall time of finished jobs of the same
        model or encoder and data set, else of the same model or encoder), and the last log lines of each failed job.

    Raises
    ------
    MmreproError
        When a job's record cannot be read.
    """
    jobs = [_progress(job, root) for job in plan.jobs]
    lines = [f"{plan.study.study}: {one_line(plan.study.title)}", *_counts(jobs), _estimate(jobs)]
    for state in ("running", "failed"):
        for found in jobs:
            if found.state == state:
                lines.append(f"{state}: {found.job.product.as_posix()}")
                lines += [f"    {line}" for line in _last_lines(root / found.job.log)] if state == "failed" else []
    return "\n".join(lines)


def _progress(job: Job, root: Path) -> Progress:
    if not job.of_kind.records:
        return Progress(job, _state(job, root, (root / job.product).is_file()))
    record = job_record(job, root)
    here = prepared_hash(job.labels["dataset"], root) if "dataset" in job.labels else None
    made_of = (record or {}).get("data", {}).get("interactions")
    if None not in (here, made_of) and here != made_of:
        return Progress(job, "left")  # made of other data than are prepared now
    state = _state(job, root, record is not None)
    if state == "failed" and (root / job.product).exists():
        state = "left"  # its search has another winner now: nothing failed
    seconds = (record or {}).get("wall_seconds")
    return Progress(job, state, None if seconds is None else float(seconds))


def _state(job: Job, root: Path, done: bool) -> State:
    """Failed is what left something in its log and is neither done nor held by a living process."""
    if done:
        return "done"
    if any(_is_locked(folder / ".lock") for folder in _locked_folders(job, root)):
        return "running"
    log = root / job.log
    return "failed" if log.is_file() and log.stat().st_size else "left"


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


def _estimate(jobs: Sequence[Progress]) -> str:
    """Sum of the expected wall times of the trainings, pre-trainings and probes that are not done."""
    times: dict[tuple[str, ...], list[float]] = {}
    for progress in jobs:
        if progress.seconds is not None:
            for key in progress.alike:
                times.setdefault(key, []).append(progress.seconds)
    long = [p for p in jobs if p.job.of_kind.records or p.job.of_kind.sequential]
    waiting = [progress for progress in long if progress.state != "done"]
    if not waiting:
        return "nothing is left to train or to probe"
    total, unknown = 0.0, 0
    for progress in waiting:
        found = next((times[key] for key in progress.alike if key in times), None)
        if found is None:
            unknown += 1
        else:
            total += progress.trainings * sum(found) / len(found)
    if unknown == len(waiting):
        return f"remaining: {NO_ESTIMATE}"
    rest = f", and {unknown} jobs with {NO_ESTIMATE}" if unknown else ""
    return f"remaining: about {_duration(total)}, one job after another{rest}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _last_lines(path: Path) -> list[str]:
    # a progress bar redraws its line with carriage returns: only what stands there last counts
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in path.read_text(errors="replace").splitlines()]
    return [line for line in lines if line][-LOG_LINES:]
