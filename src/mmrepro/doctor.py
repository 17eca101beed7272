"""Whether studies can run here: which raw files are to be had, which are here, and what disk, memory and time it takes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import psutil
import requests

from mmrepro.config import DatasetConfig, SourceFile
from mmrepro.config_features import tables_of
from mmrepro.errors import MmreproError
from mmrepro.layout import Layout
from mmrepro.needs import EPOCHS, STAGES, Stage, disk_mb, memory_mb, minutes, size_of, width
from mmrepro.plan import Plan, PlannedRun
from mmrepro.planning import plan_of_file
from mmrepro.provenance import file_sha256, read_json

MANIFEST = "MANIFEST.json"
NOT_FETCHED = "not fetched"
TIMEOUT = 5.0  # seconds without an answer
CONNECTIONS = 16
HEADING = f"{'':16}{'left':>6}{'memory':>11}{'disk':>11}{'about':>13}"


@dataclass(frozen=True)
class Finding:
    """What is known of one thing, and what to do about it where it stands in the way."""

    text: str
    fix: str | None = None


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
    lines = ["raw files", *_describe_files(_require(sources, plans), root, mirror, verify, problems)]
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

    def required(name: str, file: SourceFile) -> SourceFile:
        read = any(fnmatch(file.name, pattern) for pattern in patterns[name])
        return file.model_copy(update={"optional": file.optional and not read})

    return {
        name: config.model_copy(update={"files": tuple(required(name, file) for file in config.files)})
        for name, config in sources.items()
    }


def _describe_files(
    sources: dict[str, DatasetConfig], root: Path, mirror: Path | None, verify: bool, problems: list[str]
) -> list[str]:
    """A line a file: where it comes from and whether it is here."""
    files = [(name, source) for name, config in sorted(sources.items()) for source in config.files]
    names = [f"{name}/{source.name}" for name, source in files]
    wide = 2 + max((len(name) for name in [*names, *sources]), default=0)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        origins = list(pool.map(lambda entry: _origin(sources[entry[0]], entry[1], mirror), files))
    lines = []
    for (name, source), label, origin in zip(files, names, origins, strict=True):
        here = _local(root / Layout.raw(name), source, verify)
        lines.append(f"  {label:{wide}}{here.text:34}{origin.text}")
        if here.fix:
            problems.append(f"{label}: {here.text}; {here.fix}")
        elif here.text == NOT_FETCHED and origin.fix and not source.optional:
            problems.append(f"{label}: {origin.text}; {origin.fix}")
    for name, config in sorted(sources.items()):
        if not config.files:
            lines.append(f"  {name:{wide}}{'':34}generated")
        if config.images:
            lines.append(f"  {f'{name}/images':{wide}}{'':34}addresses stand in the files, not checked")
    return lines


def _origin(config: DatasetConfig, source: SourceFile, mirror: Path | None) -> Finding:
    """Whether a file is to be had from where `fetch` would take it."""
    place = f"{config.folder}/{source.name}"
    if mirror is not None:
        return _in_mirror(source, mirror / place)
    fix = f"set MMREPRO_MIRROR to a folder that holds {place}"
    if source.url is None or source.folder:
        return Finding("needs MMREPRO_MIRROR", fix)
    if source.url.startswith("gdrive://"):
        return Finding("Google Drive, not checked")
    return _ask(source, fix)


def _in_mirror(source: SourceFile, path: Path) -> Finding:
    if not (path.is_dir() if source.folder else path.is_file()):
        return Finding("not in the mirror", f"put it at {path} or unset MMREPRO_MIRROR")
    files = [entry for entry in path.rglob("*") if entry.is_file()] if source.folder else [path]
    return _sized(source, "mirror", sum(file.stat().st_size for file in files), f"put the right file at {path}")


def _ask(source: SourceFile, fix: str) -> Finding:
    """Ask for the first byte, which tells the size too; some servers refuse HEAD."""
    headers = {"Range": "bytes=0-0", "Accept-Encoding": "identity"}
    try:
        with requests.get(str(source.url), headers=headers, stream=True, timeout=TIMEOUT) as response:
            status, answer = response.status_code, response.headers
    except requests.RequestException:
        return Finding("no answer", f"connect to the network, or {fix}")
    if status not in (200, 206):
        return Finding(f"HTTP status {status}", f"correct the url, or {fix}")
    size = answer.get("Content-Range", "").rpartition("/")[2] if status == 206 else answer.get("Content-Length", "")
    return _sized(source, "reachable", int(size) if size.isdecimal() else None, f"correct `bytes`, or {fix}")


def _sized(source: SourceFile, text: str, size: int | None, fix: str) -> Finding:
    """A file that is to be had, unless its size is wrong."""
    if size is None:
        return Finding(f"{text}, size unknown")
    if source.bytes is not None and size != source.bytes:
        return Finding(f"{text}, but {size} bytes instead of {source.bytes}", fix)
    return Finding(f"{text}, {_size(size / 1e6)}")


def _local(folder: Path, source: SourceFile, verify: bool) -> Finding:
    """Whether a file, or the files of a folder, are here as the manifest and the configuration say."""
    path = folder / MANIFEST
    if not path.is_file():
        return Finding(NOT_FETCHED)
    fix = f"delete {path} and run again"
    try:
        names = {entry["name"]: entry for entry in read_json(path)["files"]}
    except (ValueError, KeyError, TypeError):
        return Finding("damaged manifest", fix)
    within = f"{source.name}/"
    entries = [entry for name, entry in names.items() if name == source.name or name.startswith(within)]
    if not entries:
        return Finding("left out") if source.optional else Finding("not in the manifest", fix)
    for entry in entries:
        problem = _damage(folder / entry["name"], entry, verify)
        if problem:
            return Finding(problem, fix)
    if not source.folder and source.sha256 not in (None, entries[0]["sha256"]):
        return Finding("not the configured SHA-256", fix)
    return Finding("here, SHA-256 verified" if verify else "here, size right")


def _damage(path: Path, entry: dict[str, Any], verify: bool) -> str | None:
    """What is wrong with a file that the manifest lists."""
    if not path.is_file():
        return "missing"
    if path.stat().st_size != entry["bytes"]:
        return f"{path.stat().st_size} bytes instead of {entry['bytes']}"
    return "another SHA-256" if verify and file_sha256(path) != entry["sha256"] else None


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
        {(run.spec.dataset, tables_of(run.spec.features)) for run in plan.jobs if run.spec.features}
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
            lines.append(f"  {stage:14}{len(found):6d}{_size(memory):>11}{_size(disk):>11}{duration:>13}")
    return lines


def _machine(root: Path, jobs: list[Job], devices: set[str], problems: list[str]) -> list[str]:
    """Disk, memory, cores and GPU, and what falls short of the jobs."""
    free, memory = shutil.disk_usage(root).free / 1e6, psutil.virtual_memory().total / 1e6
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpu = shutil.which("nvidia-smi") is not None
    needed, largest = sum(job.disk_mb for job in jobs), max((job.memory_mb for job in jobs), default=0)
    if needed > free:
        problems.append(f"disk: about {_size(needed)} needed, {_size(free)} free; make room, or run fewer data sets")
    if largest > memory:
        problems.append(
            f"memory: a job needs about {_size(largest)}, this machine has {_size(memory)}; use a larger one"
        )
    if "cuda" in devices and not gpu:
        problems.append(
            "GPU: a study asks for `device: cuda`, nvidia-smi is not found; set `device: auto` in the study"
        )
    lines = [
        f"  {cores} cores, {_size(memory)} memory, {_size(free)} of disk free, {'a' if gpu else 'no'} GPU",
        f"  left to do: {_size(largest)} memory for the largest job, {_size(needed)} of disk, "
        f"about {_duration(sum(job.minutes for job in jobs))} on one core",
    ]
    if largest <= memory < largest * cores:
        lines.append(f"  too little memory for {cores} such jobs at once: add --resources mem_mb={int(memory)}")
    return lines


def _size(mb: float) -> str:
    return f"{mb:.1f} MB" if mb < 10 else f"{mb:.0f} MB" if mb < 10_000 else f"{mb / 1000:.0f} GB"


def _duration(estimate: float) -> str:
    if estimate < 60:
        return f"{max(1, round(estimate))} min"
    return f"{estimate / 60:.0f} h" if estimate < 48 * 60 else f"{estimate / 1440:.0f} days"
