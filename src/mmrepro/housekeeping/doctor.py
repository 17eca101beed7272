"""Whether studies can run here: which raw files are to be had, which are here, and what disk, memory and time it
takes.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import psutil

from mmrepro.config.dataset import DatasetConfig, RawFile
from mmrepro.housekeeping.cluster import cluster
from mmrepro.housekeeping.raw_files import describe_files, size_text
from mmrepro.reporting.escape import one_line
from mmrepro.study.kinds import KINDS
from mmrepro.study.needs import size_of
from mmrepro.study.plan import Job, Plan

HEADING = f"{'':24}{'left':>6}{'memory':>11}{'disk':>11}{'about':>13}"


def doctor(
    plans: list[Plan], root: Path, mirror: Path | None, verify: bool, problems: list[str], longest: int | None = None
) -> tuple[str, bool]:
    """Describe what studies need and whether it can be had.

    Parameters
    ----------
    plans
        The resolved studies.
    root
        Folder that holds `config/`, `data/` and `results/`.
    mirror
        Folder of raw files, which `fetch` takes instead of the network; None: urls are asked.
    verify
        Whether files that are here are hashed; otherwise their sizes are compared.
    problems
        What is known to stand in the way, such as studies that cannot be resolved.
    longest
        Minutes that a job on the cluster may ask for; none: the cluster is not looked at, but this machine.

    Returns
    -------
    tuple of str and bool
        The report, and whether everything needed can be had: raw files are here undamaged or their source answers,
        and disk, memory and GPU suffice. A Google Drive is not asked and counts as reachable.
    """
    from mmrepro.housekeeping.status import progress_of

    problems = list(problems)
    sources = {name: source for plan in plans for name, source in plan.raw_datasets.items()}
    files, sizes = describe_files(_require(sources, plans), root, mirror, verify, problems)
    lines = ["raw files", *map(one_line, files)]
    jobs: dict[Path, Job] = {}
    for plan in plans:
        found = [_sized(one.job, sizes) for one in progress_of(plan, root) if one.state != "done"]
        lines += ["", f"{plan.study.study}: {one_line(plan.study.title)}", *_describe_jobs(found)]
        unknown = [name for name, dataset in plan.datasets.items() if size_of(dataset) is None]
        if unknown:
            lines.append(f"  no counts are expected of {', '.join(unknown)}: counted as small")
        jobs |= {job.product: job for job in found}
    devices: set[str] = {plan.study.device for plan in plans}
    if longest is None:
        lines += ["", "this machine", *_machine(root, list(jobs.values()), devices, problems), ""]
    else:
        described, unmet = cluster(jobs.values(), longest)
        lines += ["", "this cluster", *described, ""]
        problems += unmet
    lines += [f"problem: {one_line(problem)}" for problem in problems] or ["everything needed can be had"]
    return "\n".join(lines), not problems


def _require(sources: dict[str, DatasetConfig], plans: list[Plan]) -> dict[str, DatasetConfig]:
    """The sources, where a file that some feature set reads is not optional."""
    patterns: dict[str, set[str]] = {name: set() for name in sources}
    for plan in plans:
        for dataset, name in plan.feature_sets_read:
            patterns[plan.datasets[dataset].raw_name].update(plan.feature_sets[name].raw_files)

    def required(name: str, file: RawFile) -> RawFile:
        read = any(fnmatch(file.name, pattern) for pattern in patterns[name])
        return file.model_copy(update={"optional": file.optional and not read})

    return {
        name: config.model_copy(update={"files": tuple(required(name, file) for file in config.files)})
        for name, config in sources.items()
    }


def _sized(job: Job, sizes: dict[str, int]) -> Job:
    """A job that fetches files of known size takes just these."""
    if job.kind != "fetch" or job.labels["dataset"] not in sizes:
        return job
    return replace(job, needs=replace(job.needs, disk_mb=sizes[job.labels["dataset"]]))


def _describe_jobs(jobs: list[Job]) -> list[str]:
    """A line a kind: jobs left, memory of the largest, disk of all, time of all one after the other."""
    if not jobs:
        return ["  nothing is left to do"]
    lines = [HEADING]
    for name, kind in KINDS.items():
        found = [job.needs for job in jobs if job.kind == name]
        if found:
            memory, disk = max(needs.memory_mb for needs in found), sum(needs.disk_mb for needs in found)
            duration = _duration(sum(needs.minutes for needs in found))
            lines.append(f"  {kind.title:22}{len(found):6d}{size_text(memory):>11}{size_text(disk):>11}{duration:>13}")
    return lines


def _machine(root: Path, jobs: list[Job], devices: set[str], problems: list[str]) -> list[str]:
    """Disk, memory, cores and GPU, and what falls short of the jobs."""
    free, memory = shutil.disk_usage(root).free / 1e6, psutil.virtual_memory().total / 1e6
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpu = shutil.which("nvidia-smi") is not None
    needed, largest = sum(job.needs.disk_mb for job in jobs), max((job.needs.memory_mb for job in jobs), default=0)
    if needed > free:
        problems.append(
            f"disk: about {size_text(needed)} needed, {size_text(free)} free; make room, or run fewer data sets"
        )
    if largest > memory:
        problems.append(
            f"memory: a job needs about {size_text(largest)}, this machine has {size_text(memory)}; use a larger one"
        )
    if "cuda" in devices and not gpu:
        problems.append(
            "GPU: a study asks for `device: cuda`, nvidia-smi is not found; set `device: auto` in the study"
        )
    lines = [
        f"  {cores} cores, {size_text(memory)} memory, {size_text(free)} of disk free, {'a' if gpu else 'no'} GPU",
        f"  left to do: {size_text(largest)} memory for the largest job, {size_text(needed)} of disk, "
        f"about {_duration(sum(job.needs.minutes for job in jobs))} on one core"
        if jobs
        else "  left to do: nothing",
    ]
    if largest <= memory < largest * cores:
        lines.append(f"  too little memory for {cores} such jobs at once: add --resources mem_mb={int(memory)}")
    return lines


def _duration(estimate: float) -> str:
    if estimate < 60:
        return f"{max(1, round(estimate))} min"
    return f"{estimate / 60:.0f} h" if estimate < 48 * 60 else f"{estimate / 1440:.0f} days"
