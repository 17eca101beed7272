"""How long the jobs that are left may take, by how long those took that are done."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrepro.housekeeping.workflow_records import read_workflow_record
from mmrepro.study.plan import Job

LAST = 40
"""Jobs by whose times it is told how many run at once."""


@dataclass(frozen=True)
class Left:
    """What is left.

    Attributes
    ----------
    seconds
        Of all jobs, one after another; None where nothing is known of any.
    unknown
        Jobs of which nothing is known.
    at_once
        How many ran at once lately.
    chain
        Seconds of the longest chain of jobs each of which waits for the one before it.
    """

    seconds: float | None
    unknown: int
    at_once: float
    chain: float = 0.0

    @property
    def wall(self) -> float | None:
        """Seconds until all is done, if as many run at once as lately and what waits for another does wait."""
        return None if self.seconds is None else max(self.seconds / self.at_once, self.chain)


def seconds_of(job: Job, record: Mapping[str, Any] | None, root: Path) -> float | None:
    """Return how long a job took: as Snakemake measured it, its process's start included, or as its record says."""
    path = root / job.of_kind.benchmark_file.format(**job.labels)
    try:
        with path.open(newline="") as handle:
            return float(next(csv.DictReader(handle, delimiter="\t"))["s"])
    except (OSError, ValueError, KeyError, StopIteration):
        seconds = (record or {}).get("wall_seconds")
        return None if seconds is None else float(seconds)


def alike(job: Job) -> tuple[tuple[str, ...], ...]:
    """Return keys of jobs that take about as long; the closest likeness first."""
    labels = job.labels
    what = (labels["model"],) if "model" in labels else tuple(labels.get(k, "") for k in ("features", "modality"))
    general = () if "model" in labels else ((job.kind,),)  # no model says how long another takes
    return ((job.kind, *what, labels.get("dataset", "")), (*what, labels.get("dataset", "")), what, *general)


def left_of(done: Iterable[tuple[Job, float | None]], waiting: Sequence[tuple[Job, int]], root: Path) -> Left:
    """Return how long jobs that are left may take.

    Parameters
    ----------
    done
        Finished jobs, and their seconds where these are known.
    waiting
        The others, each with the number of trainings that it makes.
    root
        Folder that holds Snakemake's records.
    """
    times: dict[tuple[str, ...], list[float]] = {}
    spent: dict[str, list[tuple[float, float]]] = {}
    finished = []
    for job, seconds in done:
        finished.append(job)
        if seconds is not None:
            for key in alike(job):
                times.setdefault(key, []).append(seconds)
            spent.setdefault(job.kind, []).append((seconds, 60 * job.needs.minutes))
    takes: dict[Job, float] = {}
    for job, trainings in waiting:
        found = next((times[key] for key in alike(job) if key in times), None)
        if found is not None:
            takes[job] = trainings * sum(found) / len(found)
        elif spent:
            takes[job] = trainings * 60 * job.needs.minutes * _factor(spent.get(job.kind, []))
    total, unknown = sum(takes.values()) if takes or spent else None, len(waiting) - len(takes)
    return Left(total, unknown, _at_once(finished, root), _longest_chain(takes))


def _longest_chain(takes: Mapping[Job, float]) -> float:
    """Seconds of the longest chain of jobs that wait for each other."""
    maker = {path: job for job in takes for path in job.files}
    ends: dict[Job, float] = {}

    def end(job: Job) -> float:
        if job not in ends:
            ends[job] = takes[job]  # what reads its own product waits for nobody
            read = (path for paths in (*job.inputs.values(), *job.undated.values()) for path in paths)
            ends[job] += max((end(maker[path]) for path in read if path in maker), default=0.0)
        return ends[job]

    return max(map(end, takes), default=0.0)


def _factor(spent: Sequence[tuple[float, float]]) -> float:
    """What jobs of a kind took against what was planned of them, at most five times or a fifth."""
    measured, planned = (sum(column) for column in zip(*spent, strict=True)) if spent else (1.0, 1.0)
    return min(5.0, max(0.2, measured / planned)) if planned else 1.0


def _at_once(done: Iterable[Job], root: Path) -> float:
    """How many jobs ran at once, of those that ended last."""
    spans = []
    for job in done:
        record = read_workflow_record(root, job.product.as_posix()) or {}
        started, ended = record.get("starttime"), record.get("endtime")
        if isinstance(started, float) and isinstance(ended, float) and ended > started:
            spans.append((ended, started))
    spans = sorted(spans)[-LAST:]
    if len(spans) < 2:
        return 1.0
    busy = sum(ended - started for ended, started in spans)
    marks = sorted((started, ended) for ended, started in spans)
    covered, until = 0.0, marks[0][0]
    for started, ended in marks:  # pauses between two starts of the workflow do not count
        covered += max(0.0, ended - max(started, until))
        until = max(until, ended)
    return max(1.0, busy / covered) if covered else 1.0
