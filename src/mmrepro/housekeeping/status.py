"""What of a study is done, running, failed and left, and how long the rest may take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from mmrepro.reporting.collect import read_alignment, read_object, read_record
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan, PlannedAlignment, PlannedProbe, PlannedRun, PlannedSelection
from mmrepro.study.resolve import plan_of_file

State = Literal["done", "running", "failed", "left"]
STATES: tuple[State, ...] = ("done", "running", "failed", "left")
KINDS = ("pre-trainings", "probes", "trials", "searches", "final runs")
LOG_LINES = 5
NO_ESTIMATE = "no estimate yet"


@dataclass(frozen=True)
class Job:
    """One job of a study, and how far it is.

    Attributes
    ----------
    kind
        One of `KINDS`; `searches` are those that make all their trials within one job.
    path
        Its folder or file.
    alike
        Jobs that share a key take about as long; the closest likeness first.
    seconds
        Wall time, where it is done and its record tells.
    trainings
        How many trainings it makes at most.
    """

    kind: str
    path: Path
    state: State
    alike: tuple[tuple[str, ...], ...] = ()
    seconds: float | None = None
    trainings: int = 1


def status(study_file: Path, root: Path = Path()) -> str:
    """Describe the state of a study's jobs.

    Parameters
    ----------
    study_file
        The study's file, relative to `root` or absolute.
    root
        Folder that holds `config/`, `data/`, `results/` and `logs/`.

    Returns
    -------
    str
        A table of counts, an estimate of the remaining job time (from the mean wall time of finished jobs of the same
        model or encoder and data set, else of the same model or encoder), and the last log lines of each failed job.

    Raises
    ------
    MmreproError
        When the study or a job's record cannot be read.
    """
    plan = plan_of_file(study_file, root)
    jobs = list({job.path: job for job in _jobs(plan, root)}.values())
    lines = [f"{plan.study.study}: {plan.study.title}", *_counts(jobs), _estimate(jobs)]
    for state in ("running", "failed"):
        for job in jobs:
            if job.state == state:
                lines.append(f"{state}: {job.path.as_posix()}")
                lines += [f"    {line}" for line in _last_lines(root / log_file(job.path))] if state == "failed" else []
    return "\n".join(lines)


def log_file(path: Path) -> Path:
    """Return the log of the job that makes a folder or file, both relative to the repository."""
    first, second, *rest = path.with_suffix("").parts
    room = "align_content" if (first, second) == ("data", "encoders") else second
    return Path("logs", room, *rest).with_suffix(".log")


def _jobs(plan: Plan, root: Path) -> Iterator[Job]:
    for alignment in plan.alignments:
        yield _pretraining(alignment, root)
    for probe in plan.probes:
        yield _probe(probe, root)
    for run in plan.trials:
        yield _training("trials", run, root)
    for selection in plan.selections:
        if selection.sequential is not None:
            yield _search(selection, root)
    for run in plan.final_runs:
        yield _training("final runs", run, root)


def _pretraining(planned: PlannedAlignment, root: Path) -> Job:
    encoder = (planned.feature_set, planned.modality)
    record = read_alignment(planned, root)
    state = _state(planned.folder, root, record is not None, [planned.folder])
    return Job("pre-trainings", planned.folder, state, ((*encoder, planned.dataset), encoder), _seconds(record))


def _probe(planned: PlannedProbe, root: Path) -> Job:
    """A probe holds no lock: while it runs it counts as left."""
    return Job("probes", planned.path, _state(planned.path, root, read_object(root / planned.path) is not None, []))


def _training(kind: str, run: PlannedRun, root: Path) -> Job:
    record = read_record(run, root)
    state = _state(run.folder, root, record is not None, [run.folder])
    if state == "failed" and (root / run.folder / "run.json").exists():
        state = "left"  # its search has another winner now: nothing failed
    return Job(kind, run.folder, state, _likeness(run.spec.model, run.spec.dataset), _seconds(record))


def _search(planned: PlannedSelection, root: Path) -> Job:
    """A search runs while it holds one of its trials, whose settings it alone knows."""
    assert planned.sequential is not None
    trial, seed, budget = planned.sequential.trial, planned.sequential.seed, planned.sequential.budget
    tried = (root / Layout.run(trial, seed)).parent.parent.glob(f"*/seed{seed}")
    folders = [folder.relative_to(root) for folder in tried]
    state = _state(planned.path, root, (root / planned.path).is_file(), folders)
    return Job("searches", planned.path, state, _likeness(planned.model, planned.dataset), trainings=budget)


def _likeness(model: str, dataset: str) -> tuple[tuple[str, ...], ...]:
    return (model, dataset), (model,)


def _state(path: Path, root: Path, done: bool, locked: Sequence[Path]) -> State:
    """Failed is what left something in its log and is neither done nor held by a living process."""
    if done:
        return "done"
    if any(_is_locked(root / folder / ".lock") for folder in locked):
        return "running"
    log = root / log_file(path)
    return "failed" if log.is_file() and log.stat().st_size else "left"


def _seconds(record: Mapping[str, Any] | None) -> float | None:
    seconds = (record or {}).get("wall_seconds")
    return None if seconds is None else float(seconds)


def _is_locked(path: Path) -> bool:
    """Whether a living process holds the lock; a lock file that a killed one left behind is free."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def _counts(jobs: Sequence[Job]) -> list[str]:
    lines = [f"{'':14}" + "".join(f"{state:>9}" for state in (*STATES, "all"))]
    for kind in KINDS:
        found = [job.state for job in jobs if job.kind == kind]
        if found:
            counts = [found.count(state) for state in STATES]
            lines.append(f"{kind:14}" + "".join(f"{count:9d}" for count in (*counts, len(found))))
    return lines


def _estimate(jobs: Sequence[Job]) -> str:
    """Sum of the expected wall times of all jobs that are not done."""
    times: dict[tuple[str, ...], list[float]] = {}
    for job in jobs:
        if job.seconds is not None:
            for key in job.alike:
                times.setdefault(key, []).append(job.seconds)
    waiting = [job for job in jobs if job.state != "done"]
    if not waiting:
        return "nothing is left to train or to measure"
    total, unknown = 0.0, 0
    for job in waiting:
        found = next((times[key] for key in job.alike if key in times), None)
        if found is None:
            unknown += 1
        else:
            total += job.trainings * sum(found) / len(found)
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
