"""Reference results: the tables of a study with the records of all its runs, committed, and how they are shown."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmrepro.config.model import is_lists, model_names
from mmrepro.config.run import WATCH
from mmrepro.datasets.interactions import PreparedDataset
from mmrepro.errors import MmreproError
from mmrepro.evaluation.places import write_places
from mmrepro.housekeeping.comparison import Verification
from mmrepro.housekeeping.verify import CHECKSUMS, EVIDENCE, FOLDER, build_published, checksums
from mmrepro.records.files import file_sha256, read_object, write_text
from mmrepro.records.provenance import is_committed
from mmrepro.reporting.records import job_record, prepared_hash
from mmrepro.study.kinds import training_code
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Job, Plan
from mmrepro.study.products import SUMMARY

EXAMPLES = 5
_ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])/(?:[^\s/:]+/)+([^\s/:]+)")


def publish_reference(plan: Plan, output: Path, root: Path = Path(), allow_partial: bool = False) -> Path:
    """Write a study's tables, figures, summary, the records of all its jobs and the evidence to `<output>/<study>`.

    Records are those of its runs and trials, of its pre-trainings and of its probes, each kind in a file of its own;
    evidence is what a data set, its features and a search say of themselves, and the places of the hits of every run.
    Tables and figures are built from these alone, so that they follow from what lies beside them, and hold nothing of
    this machine. An older folder of that study is replaced as a whole.

    Parameters
    ----------
    plan
        The resolved study.
    output
        Usually `results/reference`.
    root
        Folder that holds `config/`, `data/` and `results/`.
    allow_partial
        Publish although planned jobs are missing.

    Returns
    -------
    Path
        The folder written.

    Raises
    ------
    MmreproError
        When planned jobs are missing, come from uncommitted code, or from different code of one model; names them.
        When lists are missing, or metrics do not follow from them.
    """
    found = {job: job_record(job, root) for job in _recorded(plan)}
    if not allow_partial:
        _refuse_holes([_place(job) for job, record in found.items() if record is None])
    finished = {job: record for job, record in found.items() if record is not None}
    _refuse_unclear_code(finished)
    folder = output / plan.name
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        for file in sorted({str(job.of_kind.records) for job in finished}):
            lines = [_line(plan, job, record, root) for job, record in finished.items() if job.of_kind.records == file]
            write_text(temporary / file, "".join(f"{line}\n" for line in sorted(lines)))
        _write_evidence(plan, finished, temporary, root)
        _write_tables(plan, temporary, root)
        write_text(temporary / CHECKSUMS, checksums(temporary))
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def publish_again(plan: Plan, folder: Path, root: Path = Path()) -> Path:
    """Build the tables and figures of a publication again, after a change of theirs, from its records and evidence.

    Parameters
    ----------
    plan
        The resolved study.
    folder
        The publication; replaced as a whole.
    root
        Folder that holds `config/` and `data/published`.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    MmreproError
        When it has no evidence, or metrics do not follow from it.
    """
    if not (folder / EVIDENCE).is_dir():
        raise MmreproError(f"{folder / EVIDENCE}: no such folder; run the study and publish it")
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        for path in (*folder.glob("*.jsonl"), folder / EVIDENCE):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, temporary / path.name)
        _write_tables(plan, temporary, root)
        write_text(temporary / CHECKSUMS, checksums(temporary))
        shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _recorded(plan: Plan) -> list[Job]:
    """The jobs whose products are records."""
    return [job for job in plan.jobs if job.of_kind.records]


def _write_evidence(plan: Plan, finished: Mapping[Job, Mapping[str, Any]], folder: Path, root: Path) -> None:
    """Write what tables are built from beside records, and what metrics are."""
    lines: dict[str, set[str]] = {}
    for job in plan.jobs:
        if job.evidence is not None and (found := read_object(root / job.evidence[1])) is not None:
            values = {FOLDER: job.evidence[1].as_posix(), **_portable(found)}
            if "missing" in values:  # of thousands of items tables name a few, and count the rest
                values["missing"] = values["missing"][:EXAMPLES]
            lines.setdefault(job.evidence[0], set()).add(json.dumps(values))
    for name, written in lines.items():
        write_text(folder / name, "".join(f"{line}\n" for line in sorted(written)))
    for name in plan.study.datasets:
        runs = [_place(job).as_posix() for job in finished if job.kind == "train" and job.labels["dataset"] == name]
        if runs:
            dataset = PreparedDataset.load(root / Layout.prepared(name))
            write_places(dataset, runs, plan.study.cutoffs, root, folder / EVIDENCE / name)


def _write_tables(plan: Plan, folder: Path, root: Path) -> None:
    """Build the tables from what is published."""
    found = Verification()
    with tempfile.TemporaryDirectory() as scratch:
        build_published(plan, folder, Path(scratch), root, found)
        if found.differences:
            raise MmreproError(f"not published: {'; '.join(found.differences[:3])}; run the study again")
        shutil.copytree(Path(scratch) / Layout.study(plan.name), folder, dirs_exist_ok=True, ignore=_measures)


def _measures(folder: str, names: list[str]) -> list[str]:
    """What is no part of a publication."""
    return [name for name in names if name == "measures"]


def _place(job: Job) -> Path:
    """The folder of a job, or the file where it has none of its own."""
    return job.product.parent if job.product.name == "run.json" else job.product


def _line(plan: Plan, job: Job, record: Mapping[str, Any], root: Path) -> str:
    """A line of a file of records; of a final run, with its metrics."""
    values: dict[str, Any] = {FOLDER: _place(job).as_posix(), **_portable(record)}
    if job.kind == "train":
        path = root / Layout.measures(plan.name, job.labels["dataset"])
        values["metrics"] = (read_object(path) or {}).get("runs", {}).get(values[FOLDER])
    return json.dumps(values)


def show(folder: Path, current_code: Mapping[str, str] | None = None, root: Path = Path()) -> str:
    """Return the main table of a study's folder.

    Parameters
    ----------
    folder
        Such as `results/reference/posters` or `results/miniature`.
    current_code
        Model to the fingerprint of today's code; computed unless given.
    root
        Folder that holds `data/`.

    Returns
    -------
    str
        `tables/main.md`, after a line 'STALE: ...' where the code of a model has changed since its runs, or a data set
        is prepared here whose data are others than theirs.

    Raises
    ------
    MmreproError
        When the folder holds no tables, or a damaged summary.
    """
    text = checked_table(folder, "main.md").read_text(encoding="utf-8")
    words = stale_words(folder, current_code, root)
    return f"{words}\n\n{text}" if words else text


def checked_table(folder: Path, name: str) -> Path:
    """Return a table of a study's folder.

    Raises
    ------
    MmreproError
        When the folder holds no such table, a damaged summary, or a table that has changed since it was made.
    """
    written, path = read_object(folder / SUMMARY), folder / "tables" / name
    if written is None or not path.is_file():
        valid = ", ".join(sorted(file.parent.name for file in folder.parent.glob(f"*/{SUMMARY}")))
        raise MmreproError(f"{folder}: no tables there; folders with tables beside it: {valid or 'none'}")
    made = written.get("tables", {})
    if path.name in made and made[path.name] != file_sha256(path):
        raise MmreproError(f"{path}: changed since it was made; delete it and run the study again")
    return path


def stale_words(folder: Path, current_code: Mapping[str, str] | None = None, root: Path = Path()) -> str:
    """Return in what a study's folder is out of date; nothing where it is not. Parameters are those of `show`."""
    written = read_object(folder / SUMMARY) or {}
    watch, outside = written.get("watch", WATCH), written.get("outside", {})
    stale = [
        model
        for model, code in sorted(written.get("code", {}).items())
        if code != _todays(model, watch, outside.get(model), current_code)
    ]
    changed = [
        dataset
        for dataset, made_of in sorted(written.get("data", {}).items())
        if prepared_hash(dataset, root) not in (None, made_of)
    ]
    parts = [f"the code of {', '.join(stale)} has changed"] * bool(stale)
    parts += [f"the data of {', '.join(changed)} are others"] * bool(changed)
    return f"STALE: {' and '.join(parts)} since these runs; run the study again." if parts else ""


def _todays(model: str, watch: str, outside: str | None, current_code: Mapping[str, str] | None) -> str | None:
    """Fingerprint of a model's code now; None where the model is no more."""
    if current_code is not None:
        return current_code.get(model)
    there = (
        model in model_names() if outside is None else is_lists(outside) or Path(outside.partition(":")[0]).is_file()
    )
    return training_code(model, watch, outside) if there else None


def _refuse_holes(holes: list[Path]) -> None:
    if holes:
        raise MmreproError(
            f"not finished: {_named(holes)}; run the study to its end, or allow a partial publication (--allow-partial)"
        )


def _is_clear(job: Job, record: Mapping[str, Any], committed: bool) -> bool:
    """Whether a clean commit made a record, or its code is today's, which is committed: only a study was being
    edited.
    """
    git = record.get("git") or {}
    if not git.get("commit"):
        return False
    return git.get("dirty") is False or (committed and bool(record["code"] == job.code))


def _refuse_unclear_code(finished: Mapping[Job, Mapping[str, Any]]) -> None:
    """Every record must come from committed code, and all runs of a model from the same code; so must encoders."""
    made = {job: record for job, record in finished.items() if "git" in record}
    if not any(job.kind in ("train", "train_trial") for job in made):
        raise MmreproError("no run of this study has finished; run it first")
    committed = is_committed(Path(__file__).parents[1])
    unclear = [_place(job) for job, record in made.items() if not _is_clear(job, record, committed)]
    if unclear:
        raise MmreproError(f"made from uncommitted code: {_named(unclear)}; commit, delete these folders and run again")
    by_code: dict[str, dict[str, list[Job]]] = {}
    for job, record in made.items():
        by_code.setdefault(job.model, {}).setdefault(record["code"], []).append(job)
    for model, jobs in by_code.items():
        if len(jobs) > 1:
            parts = [
                f"{made[same[0]]['git']['commit'][:10]}: {_named([*map(_place, same)])}"
                for _, same in sorted(jobs.items())
            ]
            raise MmreproError(
                f"runs of '{model}' made from different code: {'; '.join(parts)}; run them again from one"
            )


def _named(folders: list[Path]) -> str:
    listed = ", ".join(path.as_posix() for path in sorted(folders)[:5])
    return listed + (f" and {len(folders) - 5} more" if len(folders) > 5 else "")


def _portable(value: Any) -> Any:
    """The value with absolute paths cut down to their last part: they belong to one machine."""
    if isinstance(value, Mapping):
        return {key: _portable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_portable(entry) for entry in value]
    return _ABSOLUTE_PATH.sub(r"\1", value) if isinstance(value, str) else value
