"""Whether studies can run here: which raw files are to be had, which are here, and what disk, memory and time it takes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import psutil

from mmrepro.config.dataset import DatasetConfig, RawFile
from mmrepro.config.features import matrices_of
from mmrepro.datasets.fetch import MANIFEST
from mmrepro.errors import MmreproError
from mmrepro.housekeeping.raw_files import describe_files, size_text
from mmrepro.study.layout import Layout
from mmrepro.study.needs import EPOCHS, STAGES, Stage, disk_mb, memory_mb, minutes, size_of, width
from mmrepro.study.plan import Plan, PlannedRun
from mmrepro.study.resolve import plan_of_file

HEADING = f"{'':16}{'left':>6}{'memory':>11}{'disk':>11}{'about':>13}"


@dataclass(frozen=True)
class Job:
    """One job of a study that has not been done, and what it needs.

    Studies share jobs: the product tells whether two are the same.
    """

    product: Path
    stage: Stage
    memory_mb: int
    disk_mb: int
    minutes: float


def doctor(studies: list[Path], root: Path, mirror: Path | None, verify: bool) -> tuple[str, bool]:
    """Describe what studies need and whether it can be had.

    Parameters
    ----------
    studies
        Study files, relative to `root` or absolute; none: all of `config/studies`.
    root
        Folder that holds `config/`, `data/` and `results/`.
    mirror
        Folder of raw files, which `fetch` takes instead of the network; None: urls are asked.
    verify
        Whether files that are here are hashed; otherwise their sizes are compared.

    Returns
    -------
    tuple of str and bool
        The report, and whether everything needed can be had: raw files are here undamaged or their source answers,
        and disk, memory and GPU suffice. A Google Drive is not asked and counts as reachable.
    """
    plans, problems = _plans(studies or sorted((root / "config/studies").glob("*.yaml")), root)
    sources = {name: source for plan in plans for name, source in plan.sources.items()}
    lines = ["raw files", *describe_files(_require(sources, plans), root, mirror, verify, problems)]
    jobs: dict[Path, Job] = {}
    for plan in plans:
        found = _jobs(plan, root)
        lines += ["", f"{plan.study.study}: {plan.study.title}", *_describe_jobs(found)]
        unknown = [name for name, dataset in plan.datasets.items() if size_of(dataset) is None]
        if unknown:
            lines.append(f"  no counts are expected of {', '.join(unknown)}: counted as small")
        jobs |= {job.product: job for job in found}
    devices: set[str] = {plan.study.device for plan in plans}
    lines += ["", "this machine", *_machine(root, list(jobs.values()), devices, problems), ""]
    lines += [f"problem: {problem}" for problem in problems] or ["everything needed can be had"]
    return "\n".join(lines), not problems


def _plans(studies: Iterable[Path], root: Path) -> tuple[list[Plan], list[str]]:
    """The studies that can be resolved, and why others cannot."""
    plans, problems = [], []
    for study in studies:
        try:
            plans.append(plan_of_file(study.absolute() if study.is_file() else study, root))
        except MmreproError as error:
            problems.append(str(error))
    return plans, problems


def _require(sources: dict[str, DatasetConfig], plans: list[Plan]) -> dict[str, DatasetConfig]:
    """The sources, where a file that some feature set reads is not optional."""
    patterns: dict[str, set[str]] = {name: set() for name in sources}
    for plan in plans:
        for dataset, name in {(run.spec.dataset, run.spec.features) for run in plan.jobs if run.spec.features}:
            patterns[plan.datasets[dataset].raw_name].update(plan.feature_sets[str(name)].raw_files)

    def required(name: str, file: RawFile) -> RawFile:
        read = any(fnmatch(file.name, pattern) for pattern in patterns[name])
        return file.model_copy(update={"optional": file.optional and not read})

    return {
        name: config.model_copy(update={"files": tuple(required(name, file) for file in config.files)})
        for name, config in sources.items()
    }


def _jobs(plan: Plan, root: Path) -> list[Job]:
    """What is left to do of a study, one job after the other."""
    jobs = []

    def add(
        product: Path, stage: Stage, dataset: DatasetConfig, widths: Iterable[int] = (), encoder: str = "",
        epochs: int = EPOCHS,
    ) -> None:  # fmt: skip
        if not (root / product).exists():
            columns = tuple(widths)
            need = memory_mb(stage, dataset, columns, encoder), disk_mb(stage, dataset, columns)
            jobs.append(Job(product, stage, *need, minutes(stage, dataset, columns, encoder, epochs=epochs)))

    for name, source in plan.sources.items():
        add(Layout.raw(name) / MANIFEST, "fetch", source)
    for name, dataset in plan.datasets.items():
        if dataset.images:
            add(Layout.raw(dataset.raw_name) / "IMAGES.json", "images", dataset)
        add(Layout.prepared(name) / "statistics.json", "prepare", dataset)
    pretrained = {(a.dataset, a.feature_set, a.modality) for a in plan.alignments}
    for name, features in sorted(
        {(run.spec.dataset, matrices_of(run.spec.features)) for run in plan.jobs if run.spec.features}
    ):
        for modality, encoder in plan.feature_sets[str(features)].modalities.items():
            stem = Layout.features(name, str(features)) / modality
            columns = [width(encoder, modality)]
            stage: Stage = "align_content" if (name, features, modality) in pretrained else "extract"
            epochs = getattr(encoder, "epochs", EPOCHS)
            add(stem.with_suffix(".json"), stage, plan.datasets[name], columns, encoder.encoder, epochs)
            add(stem.with_suffix(".neighbours.npz"), "item_graph", plan.datasets[name], columns)
    for probe in plan.probes:
        encoders = plan.feature_sets[probe.feature_set].modalities
        add(probe.path, "probe", plan.datasets[probe.dataset], [width(e, m) for m, e in encoders.items()])
    jobs += [_training(run, plan) for run in plan.jobs if not (root / run.folder / "run.json").exists()]
    add(Layout.study(plan.study.study) / "summary.json", "tables", next(iter(plan.datasets.values())))
    return jobs


def _training(run: PlannedRun, plan: Plan) -> Job:
    spec, dataset = run.spec, plan.datasets[run.spec.dataset]
    encoders = plan.feature_sets[spec.features].modalities if spec.features else {}
    widths = [width(encoder, modality) for modality, encoder in encoders.items()]
    columns = int(spec.parameters.get("embedding_size", 64))
    memory = memory_mb("train", dataset, widths, embedding_size=columns, model=spec.model)
    epochs = min(EPOCHS, int(spec.parameters.get("max_epochs", EPOCHS)))
    duration = minutes("train", dataset, widths, model=spec.model, epochs=epochs)
    return Job(run.folder, "train", memory, disk_mb("train", dataset, widths), duration)


def _describe_jobs(jobs: list[Job]) -> list[str]:
    """A line a stage: jobs left, memory of the largest, disk of all, time of all one after the other."""
    if not jobs:
        return ["  nothing is left to do"]
    lines = [HEADING]
    for stage in STAGES:
        found = [job for job in jobs if job.stage == stage]
        if found:
            memory, disk = max(job.memory_mb for job in found), sum(job.disk_mb for job in found)
            duration = _duration(sum(job.minutes for job in found))
            lines.append(f"  {stage:14}{len(found):6d}{size_text(memory):>11}{size_text(disk):>11}{duration:>13}")
    return lines


def _machine(root: Path, jobs: list[Job], devices: set[str], problems: list[str]) -> list[str]:
    """Disk, memory, cores and GPU, and what falls short of the jobs."""
    free, memory = shutil.disk_usage(root).free / 1e6, psutil.virtual_memory().total / 1e6
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpu = shutil.which("nvidia-smi") is not None
    needed, largest = sum(job.disk_mb for job in jobs), max((job.memory_mb for job in jobs), default=0)
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
        f"about {_duration(sum(job.minutes for job in jobs))} on one core",
    ]
    if largest <= memory < largest * cores:
        lines.append(f"  too little memory for {cores} such jobs at once: add --resources mem_mb={int(memory)}")
    return lines


def _duration(estimate: float) -> str:
    if estimate < 60:
        return f"{max(1, round(estimate))} min"
    return f"{estimate / 60:.0f} h" if estimate < 48 * 60 else f"{estimate / 1440:.0f} days"
