"""The raw files of a data set as they were fetched: named from within their folder, and verified when read."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from mmrepro.errors import MmreproError
from mmrepro.records.files import file_sha256, read_object

MANIFEST = "MANIFEST.json"


def require_inside(name: str, origin: str) -> None:
    """Raise MmreproError unless a name stays in the folder that it is relative to; `origin` says who gives it."""
    path = PurePosixPath(name)
    if not name.strip() or path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise MmreproError(f"{origin} '{name}' leaves the data set's folder; name a path inside it")


def raw_file(raw: Path, name: str) -> Path:
    """Return a raw file that is about to be read.

    Parameters
    ----------
    raw
        Folder that `fetch` filled.
    name
        Path of the file in it.

    Raises
    ------
    MmreproError
        When the name leaves the folder, the file is missing or empty, is none of those that were fetched, or is not
        what was fetched. A folder without a manifest was filled by hand: its files are taken as they are.
    """
    require_inside(name, f"config/datasets/{raw.name}.yaml: file")
    path = raw / name
    if not path.is_file():
        raise MmreproError(f"{path}: no such file; list it under `files`, and fetch it with `mmrepro fetch {raw.name}`")
    if path.stat().st_size == 0:
        raise MmreproError(f"{path}: the file is empty; fetch it again with `mmrepro fetch {raw.name}`")
    if manifest_of(raw) is not None and name not in fetched_files(raw):
        raise MmreproError(
            f"{path}: not among the files that were fetched; list it under `files` in "
            f"config/datasets/{raw.name}.yaml, and run `mmrepro fetch {raw.name}`"
        )
    verify(raw, name)
    return path


def verify(raw: Path, name: str, sha256: str | None = None) -> None:
    """Raise MmreproError when a file is not what was fetched under its name; `sha256` spares reading it again."""
    entry, path = fetched_files(raw).get(name), raw / name
    if entry is None:
        return
    status = path.stat()
    found = sha256 or _sha256(path, status.st_size, status.st_mtime_ns)
    if found != entry["sha256"]:
        raise MmreproError(
            f"{path}: changed since it was fetched; bring it back, or take the new one with `mmrepro fetch {raw.name}`"
        )


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, stamp: int) -> str:
    """Hash of a file that is read several times in a process, once as long as it is not written."""
    return file_sha256(path)


def fetched_files(raw: Path) -> dict[str, dict[str, Any]]:
    """Return name -> `name`, `bytes`, `sha256` and `source` of the files that were fetched; none without a manifest."""
    return manifest_of(raw) or {}


def manifest_of(raw: Path) -> dict[str, dict[str, Any]] | None:
    """Return the entries of the manifest by name; None where there is none.

    Raises
    ------
    MmreproError
        When the manifest is damaged.
    """
    path = raw / MANIFEST
    return _entries(path, path.stat().st_mtime_ns) if path.is_file() else None


@lru_cache(maxsize=16)
def _entries(path: Path, stamp: int) -> dict[str, dict[str, Any]]:
    problem = MmreproError(f"{path}: a damaged manifest; run `mmrepro fetch {path.parent.name}`")
    try:
        files = (read_object(path) or {})["files"]
        entries = {str(entry["name"]): dict(entry) for entry in files}
        if not all(isinstance(entry["sha256"], str) and isinstance(entry["bytes"], int) for entry in entries.values()):
            raise problem
    except (MmreproError, KeyError, TypeError):
        raise problem from None
    return entries
