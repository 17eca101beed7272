"""Reference results: the tables of a study with the records of all its runs, committed, and how they are shown."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmrepro.config.model import model_names
from mmrepro.errors import MmreproError
from mmrepro.records.files import write_text
from mmrepro.records.fingerprint import fingerprint, training_fingerprint
from mmrepro.records.provenance import is_committed
from mmrepro.reporting.build import write_tables
from mmrepro.reporting.collect import read_alignment, read_object, read_record
from mmrepro.reporting.products import ENCODER, SUMMARY
from mmrepro.study.plan import Plan
from mmrepro.study.resolve import plan_of_file

RUNS, ALIGNMENTS, PROBES = "runs.jsonl", "alignments.jsonl", "probes.jsonl"
_ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])/(?:[^\s/:]+/)+([^\s/:]+)")


def publish_reference(study_file: Path, output: Path, root: Path = Path(), allow_partial: bool = False) -> Path:
    """Write a study's tables, figures, summary and the records of all its jobs to `<output>/<study>`.

    Records are those of its runs and trials, of its pre-trainings and of its probes, each kind in a file of its own. The
    tables are built anew from the records that are written beside them, so that the two cannot disagree. An older folder
    of that study is replaced as a whole.

    Parameters
    ----------
    study_file
        The study's file, relative to `root` or absolute.
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
    """
    plan = plan_of_file(study_file, root)
    records = _read_records(plan, root)
    if not allow_partial:
        _refuse_holes([path for found in records.values() for path, record in found.items() if record is None])
    finished = {file: {p: r for p, r in found.items() if r is not None} for file, found in records.items()}
    _refuse_unclear_code(finished[RUNS], finished[ALIGNMENTS])
    folder = output / plan.study.study
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        write_tables(plan, temporary, root)
        for file, found in finished.items():
            if found:
                lines = [json.dumps({"folder": path.as_posix(), **_portable(found[path])}) for path in sorted(found)]
                write_text(temporary / file, "".join(f"{line}\n" for line in lines))
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _read_records(plan: Plan, root: Path) -> dict[str, dict[Path, dict[str, Any] | None]]:
    """File of records -> folder of a job (of a probe: its file) -> its record, None where it has not finished."""
    return {
        RUNS: {run.folder: read_record(run, root) for run in plan.jobs},
        ALIGNMENTS: {planned.folder: read_alignment(planned, root) for planned in plan.alignments},
        PROBES: {probe.path: read_object(root / probe.path) for probe in plan.probes},
    }


def show(folder: Path, current_code: Mapping[str, str] | None = None) -> str:
    """Return the main table of a study's folder.

    Parameters
    ----------
    folder
        Such as `results/reference/posters` or `results/miniature`.
    current_code
        Model to the fingerprint of today's code; computed unless given.

    Returns
    -------
    str
        `tables/main.md`, after a line 'STALE: ...' where the code of a model has changed since its runs.

    Raises
    ------
    MmreproError
        When the folder holds no tables.
    """
    try:
        recorded = json.loads((folder / SUMMARY).read_text())["code"]
        text = (folder / "tables/main.md").read_text()
    except (FileNotFoundError, NotADirectoryError):
        valid = ", ".join(sorted(path.parent.name for path in folder.parent.glob(f"*/{SUMMARY}")))
        raise MmreproError(f"{folder}: no tables there; folders with tables beside it: {valid or 'none'}") from None
    stale = [model for model, code in sorted(recorded.items()) if code != _todays(model, current_code)]
    if not stale:
        return text
    return f"STALE: the code of {', '.join(stale)} has changed since these runs; run the study again.\n\n{text}"


def _todays(model: str, current_code: Mapping[str, str] | None) -> str | None:
    """Fingerprint of a model's code now; None where the model is no more."""
    if current_code is not None:
        return current_code.get(model)
    return training_fingerprint(model) if model in model_names() else None


def _refuse_holes(holes: list[Path]) -> None:
    if holes:
        raise MmreproError(
            f"not finished: {_named(holes)}; run the study to its end, or allow a partial publication (--allow-partial)"
        )


def _is_clear(record: Mapping[str, Any], committed: bool) -> bool:
    """Whether a clean commit made a record, or its code is today's, which is committed: only a study was being edited."""
    git = record.get("git") or {}
    if not git.get("commit"):
        return False
    if git.get("dirty") is False:
        return True
    today = training_fingerprint(record["model"]) if "model" in record else fingerprint("align_content")
    return committed and bool(record["code"] == today)


def _refuse_unclear_code(runs: Mapping[Path, Mapping[str, Any]], alignments: Mapping[Path, Mapping[str, Any]]) -> None:
    """Every record must come from committed code, and all runs of a model from the same code; so must encoders."""
    if not runs:
        raise MmreproError("no run of this study has finished; run it first")
    finished = {**runs, **alignments}
    committed = is_committed(Path(__file__).parents[1])
    unclear = [folder for folder, record in finished.items() if not _is_clear(record, committed)]
    if unclear:
        raise MmreproError(f"made from uncommitted code: {_named(unclear)}; commit, delete these folders and run again")
    by_code: dict[str, dict[str, list[Path]]] = {}
    for folder, record in finished.items():
        by_code.setdefault(record.get("model", ENCODER), {}).setdefault(record["code"], []).append(folder)
    for model, folders in by_code.items():
        if len(folders) > 1:
            parts = [
                f"{finished[same[0]]['git']['commit'][:10]}: {_named(same)}" for _, same in sorted(folders.items())
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
