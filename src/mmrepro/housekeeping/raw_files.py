"""Whether raw files are to be had, and whether those that are here are whole."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from mmrepro.config.dataset import DatasetConfig, RawFile
from mmrepro.datasets.http import Interrupted, Refused, open_url
from mmrepro.datasets.mirror import is_out_of_date, mirror_of
from mmrepro.datasets.raw_folder import MANIFEST
from mmrepro.errors import MmreproError
from mmrepro.records.files import file_sha256, read_json
from mmrepro.study.layout import Layout

NOT_FETCHED, HERE, HERE_VERIFIED = "not fetched", "here, size right", "here, SHA-256 verified"
TIMEOUT = 5.0  # seconds without an answer
CONNECTIONS = 16


@dataclass(frozen=True)
class Finding:
    """What is known of one thing, what to do about it where it stands in the way, and its size in bytes."""

    text: str
    fix: str | None = None
    size: int | None = None


def size_text(mb: float) -> str:
    """Return a size in MB for people: 3.2 MB, 120 MB, 51 GB."""
    return f"{mb:.1f} MB" if mb < 10 else f"{mb:.0f} MB" if mb < 10_000 else f"{mb / 1000:.0f} GB"


def describe_files(
    sources: dict[str, DatasetConfig], root: Path, mirror: Path | None, verify: bool, problems: list[str]
) -> tuple[list[str], dict[str, int]]:
    """Say of each raw file where it comes from and whether it is here.

    Parameters
    ----------
    sources
        Data sets by name.
    root
        Folder that holds `data/raw`.
    mirror
        Folder of raw files, which `fetch` takes instead of the network; None: urls are asked.
    verify
        Whether files that are here are hashed; otherwise their sizes are compared.
    problems
        Gets a line for each file that is damaged or cannot be had.

    Returns
    -------
    tuple
        A line a file, and the MB that each data set's files take where all sizes are known; an optional file that is
        not to be had takes none.
    """
    files = [(name, source) for name, config in sorted(sources.items()) for source in config.files]
    names = [f"{name}/{source.name}" for name, source in files]
    wide = 2 + max((len(name) for name in [*names, *sources]), default=0)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        origins = list(pool.map(lambda entry: _origin(sources[entry[0]], entry[1], mirror), files))
    lines, sizes = [], {name: 0 for name in sources}
    for (name, source), label, origin in zip(files, names, origins, strict=True):
        here = _local(root / Layout.raw(name), source, verify)
        if here.text in (HERE, HERE_VERIFIED) and is_out_of_date(sources[name], root / Layout.raw(name), mirror):
            here = Finding("older than the mirror's files")
        if origin.fix and source.optional:
            origin = Finding(f"{origin.text}: optional, left out", size=0)
        size = origin.size if origin.size is not None else source.bytes
        if size is None:
            sizes.pop(name, None)
        elif name in sizes:
            sizes[name] += size
        lines.append(f"  {label:{wide}}{here.text:34}{origin.text}")
        if here.fix:
            problems.append(f"{label}: {here.text}; {here.fix}")
        elif here.text == NOT_FETCHED and origin.fix:
            problems.append(f"{label}: {origin.text}; {origin.fix}")
    for name, config in sorted(sources.items()):
        if not config.files:
            lines.append(f"  {name:{wide}}{'':34}generated")
        if config.images:
            lines.append(f"  {f'{name}/images':{wide}}{'':34}addresses stand in the files, not checked")
    listed = [name for name in sizes if sources[name].files]
    return lines, {name: math.ceil(sizes[name] / 1e6) for name in listed}


def _origin(config: DatasetConfig, source: RawFile, mirror: Path | None) -> Finding:
    """Whether a file is to be had from where `fetch` would take it."""
    place = f"{config.folder}/{source.name}"
    mirror = mirror_of(config, mirror)
    if mirror is not None:
        return _in_mirror(source, mirror / place)
    fix = f"set MMREPRO_MIRROR to a folder that holds {place}"
    if source.url is None or source.folder:
        return Finding("needs MMREPRO_MIRROR", fix)
    if source.url.startswith("gdrive://"):
        return Finding("Google Drive, not checked")
    return _ask(source, fix)


def _in_mirror(source: RawFile, path: Path) -> Finding:
    if not (path.is_dir() if source.folder else path.is_file()):
        return Finding("not in the mirror", f"put it at {path} or unset MMREPRO_MIRROR")
    files = [entry for entry in path.rglob("*") if entry.is_file()] if source.folder else [path]
    return _sized(source, "mirror", sum(file.stat().st_size for file in files), f"put the right file at {path}")


def _ask(source: RawFile, fix: str) -> Finding:
    """Ask for the first byte, which tells the size too; some servers refuse HEAD."""
    headers = {"Range": "bytes=0-0", "Accept-Encoding": "identity"}
    try:
        with requests.Session() as session, open_url(session, str(source.url), TIMEOUT, headers=headers) as response:
            status, answer = response.status_code, response.headers
    except Refused as refused:
        return Finding(f"refused ({refused})", f"correct the url, or {fix}")
    except (Interrupted, requests.RequestException):
        return Finding("no answer", f"connect to the network, or {fix}")
    if status not in (200, 206):
        return Finding(f"HTTP status {status}", f"correct the url, or {fix}")
    size = answer.get("Content-Range", "").rpartition("/")[2] if status == 206 else answer.get("Content-Length", "")
    return _sized(source, "reachable", int(size) if size.isdecimal() else None, f"correct `bytes`, or {fix}")


def _sized(source: RawFile, text: str, size: int | None, fix: str) -> Finding:
    """A file that is to be had, unless its size is wrong."""
    if size is None:
        return Finding(f"{text}, size unknown")
    if source.bytes is not None and size != source.bytes:
        return Finding(f"{text}, but {size} bytes instead of {source.bytes}", fix)
    return Finding(f"{text}, {size_text(size / 1e6)}", size=size)


def _local(folder: Path, source: RawFile, verify: bool) -> Finding:
    """Whether a file, or the files of a folder, are here as the manifest and the configuration say."""
    path = folder / MANIFEST
    if not path.is_file():
        return Finding(NOT_FETCHED)
    fix = f"run `mmrepro fetch {folder.name}`"
    try:
        names = {entry["name"]: entry for entry in read_json(path)["files"]}
    except (MmreproError, KeyError, TypeError):
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
    return Finding(HERE_VERIFIED if verify else HERE)


def _damage(path: Path, entry: dict[str, Any], verify: bool) -> str | None:
    """What is wrong with a file that the manifest lists."""
    if not path.is_file():
        return "missing"
    if path.stat().st_size != entry["bytes"]:
        return f"{path.stat().st_size} bytes instead of {entry['bytes']}"
    return "another SHA-256" if verify and file_sha256(path) != entry["sha256"] else None
