"""All that a study made as DVC versions it, and the records with which Snakemake knows it again.

DVC keeps the files: raw data, prepared data and features as folders, results as one archive. Git keeps their hashes
(`<folder>.dvc`) and, for a release, `data/releases/<study>.json`: the hash of each product and Snakemake's record of
its making, without which a clone would not know whether code or settings have changed since. Times and process numbers
are left out: a release is a pure function of data, code and configuration.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from mmrepro.datasets.image_download import IMAGES, load_images
from mmrepro.datasets.raw_folder import MANIFEST
from mmrepro.errors import MmreproError
from mmrepro.housekeeping.archive import unpack_missing, write_archive
from mmrepro.housekeeping.workflow_records import read_workflow_record, write_workflow_record
from mmrepro.records.files import file_sha256, read_json, read_object, write_json, write_text
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan

RESULTS = "results"
ABOUT = ("CITATION.cff", "LICENSE", "envs/requirements.lock")
"""What an archive of results holds beside them, for whoever has the archive alone."""

RECORD = (
    "rule", "input", "log", "shellcmd", "params", "code", "record_format_version", "software_stack_hash",
    "input_checksums",
)  # fmt: skip
"""What is kept of Snakemake's record: all that decides whether a product is out of date."""


def release(plan: Plan, study_file: Path, root: Path, data_only: bool = False) -> str:
    """Version the data, features, runs and tables of a study.

    Parameters
    ----------
    plan
        The resolved study.
    study_file
        Its file, relative to `root`, for Snakemake.
    root
        Folder of the repository.
    data_only
        Leave runs and tables out, which then need not be there.

    Returns
    -------
    str
        What to do next.

    Raises
    ------
    MmreproError
        When a product is missing, out of date or made from a file outside the repository, a raw file is not what its
        manifest says, or DVC refuses.
    """
    products = _products(study_file, root, _data_targets(plan) if data_only else set())
    if planned := [path for path, current in products.items() if not current]:
        raise MmreproError(
            f"{study_file}: {len(planned)} products are missing or out of date, such as {planned[0]}; run the "
            f"study first"
        )
    outputs = {path: {"sha256": file_sha256(root / path), "record": _read_record(root, path)} for path in products}
    raw = _raw_folders(outputs)
    results = {path for path in outputs if Path(path).parts[0] == RESULTS}
    beside = _left_beside(results, root)
    folders = sorted({Path(path).parent for path in {*outputs} - results} - set(raw))
    file = release_file(plan.study.study)
    if results:
        about = {name for name in (study_file.as_posix(), *ABOUT) if (root / name).is_file()}
        write_archive(root / archive_file(plan.study.study), {*results, *about, *beside}, root)
        folders.append(archive_file(plan.study.study))
    tracked = [*_track_raw(raw, root), *_dvc_add(folders, root)]
    write_json(root / file, {"study": plan.study.study, "outputs": outputs, "beside": beside})
    terms = [f"  {name}: {config.licence}" for name, config in sorted(plan.raw_datasets.items())]
    return "\n".join([_next_steps([file, *tracked]), "The remote's readers get these data; their terms:", *terms])


def restore(plan: Plan, study_file: Path, root: Path) -> str:
    """Let Snakemake know the files of a release again, after `dvc pull`.

    Parameters
    ----------
    plan
        The resolved study.
    study_file
        Its file, relative to `root`, for Snakemake.
    root
        Folder of the repository.

    Returns
    -------
    str
        What was restored.

    Raises
    ------
    MmreproError
        When there is no release, a file is missing or differs from it, or code or settings are not the release's.
    """
    file = release_file(plan.study.study)
    if not (root / file).is_file():
        raise MmreproError(f"{file}: no such file; check out a commit that holds a release of this study")
    written = read_json(root / file)
    outputs = written["outputs"]
    expected = {**{path: entry["sha256"] for path, entry in outputs.items()}, **written.get("beside", {})}
    if (root / archive_file(plan.study.study)).is_file():
        unpack_missing(root / archive_file(plan.study.study), expected, root)
    for path, sha256 in expected.items():
        if not (root / path).is_file():
            raise MmreproError(f"{path}: not there; run `dvc pull` first")
        if file_sha256(root / path) != sha256:
            raise MmreproError(f"{path}: not the file of the release; remove it and run `dvc pull`")
    for folder in _raw_folders(outputs):
        _check_raw(root, folder)
    now = time.time()  # one moment for all files: no input is newer than what was made from it
    for path, entry in outputs.items():
        os.utime(root / path, (now, now))
        write_workflow_record(root, path, {**entry["record"], "starttime": now, "endtime": now, "incomplete": False})
    targets = set() if any(Path(path).parts[0] == RESULTS for path in outputs) else _data_targets(plan)
    if planned := [path for path, current in _products(study_file, root, targets).items() if not current]:
        raise MmreproError(
            f"{file}: restored, but {len(planned)} products are out of date, such as {planned[0]}; code or "
            "settings have changed since the release: check out its commit, or run the study"
        )
    return f"{plan.study.study}: {len(outputs)} products are those of the release; Snakemake plans none of them"


def track_raw(datasets: Sequence[str], root: Path) -> str:
    """Version the raw files of data sets; each `.dvc` file names the urls they came from.

    Parameters
    ----------
    datasets
        Names of fetched data sets.
    root
        Folder of the repository.

    Returns
    -------
    str
        What to do next.

    Raises
    ------
    MmreproError
        When a data set is not fetched, a file is not what its manifest says, or DVC refuses.
    """
    return _next_steps(_track_raw([Layout.raw(name) for name in datasets], root))


def release_file(study: str) -> Path:
    """Return the file that describes the release of a study, relative to the repository."""
    return Path("data/releases") / f"{study}.json"


def archive_file(study: str) -> Path:
    """Return the archive of the results of a study's release, relative to the repository."""
    return release_file(study).with_suffix(".tar.gz")


def _left_beside(results: set[str], root: Path) -> dict[str, str]:
    """Hashes of what runs have left beside their rules' outputs, such as embeddings, by the records of the runs."""
    return {
        (Path(path).parent / name).as_posix(): sha256
        for path in sorted(results)
        if Path(path).name == "run.json"
        for name, sha256 in (read_object(root / path) or {}).get("files", {}).items()
    }


def _data_targets(plan: Plan) -> set[str]:
    """The products up to the item graphs."""
    targets = {job.product.as_posix() for job in plan.jobs_of("prepare", "extract", "item_graph")}
    for job in plan.jobs_of("align_content"):
        targets |= {
            (
                Layout.features(job.labels["dataset"], job.labels["features"]) / f"{job.labels['modality']}.json"
            ).as_posix()
        }
    return targets


def _products(study_file: Path, root: Path, targets: set[str]) -> dict[str, bool]:
    """What Snakemake makes for the targets, or for the whole study, sorted, and whether each is there and current."""
    said = _call(["snakemake", "--summary", "--configfile", str(study_file), "--", *sorted(targets)], root)
    rows = [line.split("\t") for line in said.splitlines()]
    file, decision = rows[0].index("output_file"), rows[0].index("plan")
    return {row[file]: row[decision] == "no update" for row in sorted(rows[1:])}


def _call(command: list[str], root: Path) -> str:
    """Standard output of a command of this environment; its failure is an error with its last words."""
    result = subprocess.run([sys.executable, "-m", *command], cwd=root, capture_output=True, text=True)
    if result.returncode:
        words = " ".join((result.stderr.strip() or result.stdout.strip()).splitlines()[-3:])
        raise MmreproError(f"`{' '.join(command[:2])}` failed: {words}")
    return result.stdout


def _raw_folders(outputs: Iterable[str]) -> list[Path]:
    return sorted(Path(path).parent for path in outputs if Path(path).name == MANIFEST)


def _check_raw(root: Path, folder: Path) -> None:
    """Every raw file must be there as the manifests list it."""
    if not (root / folder / MANIFEST).is_file():
        raise MmreproError(f"{folder / MANIFEST}: no such file; fetch the data set first")
    files = [(MANIFEST, entry["name"], entry["sha256"]) for entry in read_json(root / folder / MANIFEST)["files"]]
    images = [(IMAGES, entry.file, None) for entry in load_images(root / folder).values() if entry.file]
    for listing, name, sha256 in (*files, *images):
        path = root / folder / name
        if not path.is_file() or (sha256 is not None and file_sha256(path) != sha256):
            raise MmreproError(
                f"{folder / name}: not there as {listing} lists it; run `dvc pull`, or `mmrepro fetch {folder.name}`"
            )


def _track_raw(folders: list[Path], root: Path) -> list[Path]:
    for folder in folders:
        _check_raw(root, folder)
    tracked = _dvc_add(folders, root)
    for folder, file in zip(folders, tracked, strict=True):
        _name_sources(root / folder / MANIFEST, root / file)
    return tracked


def _name_sources(manifest: Path, tracked: Path) -> None:
    """Write the urls into the `.dvc` file as `dvc import-url` would, but as `meta`: a dependency would be asked for."""
    sources = {
        entry["name"]: {"url": entry["source"], "sha256": entry["sha256"], "bytes": entry["bytes"]}
        for entry in read_json(manifest)["files"]
        if "://" in entry["source"]
    }
    content = {
        key: value for key, value in yaml.safe_load(tracked.read_text(encoding="utf-8")).items() if key != "meta"
    }
    if sources:
        content["meta"] = {"sources": sources}
    write_text(tracked, yaml.safe_dump(content, sort_keys=False))


def _dvc_add(folders: list[Path], root: Path) -> list[Path]:
    """The `.dvc` files of the folders, which DVC now keeps."""
    _call(["dvc", "add", *(folder.as_posix() for folder in folders)], root)
    return [folder.with_name(f"{folder.name}.dvc") for folder in folders]


def _next_steps(files: list[Path]) -> str:
    named = " ".join(file.as_posix() for file in files)
    return f"DVC keeps the data. To share them:\n  git add {named}\n  git commit\n  dvc push"


def _read_record(root: Path, path: str) -> dict[str, Any]:
    record = read_workflow_record(root, path)
    if record is None:
        raise MmreproError(f"{path}: Snakemake has no record of its making; remove it and run the study")
    if outside := [name for name in record["input"] if Path(name).is_absolute()]:
        raise MmreproError(f"{path}: made from {outside[0]}, which no clone has; name it relative to the repository")
    return {key: record[key] for key in RECORD}
