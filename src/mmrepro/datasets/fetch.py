"""Raw files of a data set: from a mirror folder, from the network, or generated; checked and listed in a manifest."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from pathlib import Path, PurePosixPath
from typing import Any

from mmrepro.config import DatasetConfig, SourceFile
from mmrepro.datasets.download import Retry, download
from mmrepro.datasets.readers import load_reader
from mmrepro.errors import MmreproError
from mmrepro.provenance import atomic_path, file_sha256, write_json

MANIFEST = "MANIFEST.json"


def fetch(config: DatasetConfig, output: Path, mirror: Path | None, retry: Retry | None = None) -> None:
    """Bring the raw files of a data set together.

    Parameters
    ----------
    config
        The data set; its `files` say what is needed and what is known of each.
    output
        Folder to fill, `data/raw/<dataset>`. `MANIFEST.json` is written last: while it is absent, files are missing.
    mirror
        Folder that holds `<config.folder>/<file>`; None: files come from their url.
    retry
        Patience of downloads.

    Raises
    ------
    MmreproError
        For a file that is not to be had, or whose size or SHA-256 differs from the configuration's.
    """
    reader = load_reader(config)
    generate = getattr(reader, "generate", None)
    if not config.files and generate is None:
        raise MmreproError(f"data set '{config.dataset}': 'files' is empty and nothing generates them; list its files")
    for source in config.files:
        _check_obtainable(config, source, mirror)
    output.mkdir(parents=True, exist_ok=True)
    (output / MANIFEST).unlink(missing_ok=True)
    entries: list[dict[str, Any]] = []
    if not config.files and generate is not None:
        entries = [_entry(output, name, "generated") for name in generate(config, output)]
    for source in config.files:
        if mirror is None:
            _download(config, source, output, retry or Retry())
            entries.append(_entry(output, source.name, str(source.url)))
        else:
            names = _copy(config, source, mirror / config.folder / source.name, output)
            entries += [_entry(output, name, "mirror") for name in names]
    entries.sort(key=lambda entry: entry["name"])
    write_json(output / MANIFEST, {"dataset": config.dataset, "files": entries})


def _check_obtainable(config: DatasetConfig, source: SourceFile, mirror: Path | None) -> None:
    """Refuse before anything is moved."""
    path = PurePosixPath(source.name)
    place = f"{config.folder}/{source.name}"
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise MmreproError(
            f"data set '{config.dataset}': file name '{source.name}' leaves the folder; make it relative"
        )
    if mirror is None:
        if source.url is None or source.folder:
            raise MmreproError(
                f"data set '{config.dataset}': no public address is known for '{source.name}'; "
                f"set MMREPRO_MIRROR to a folder that holds {place}"
            )
        if not source.url.startswith(("http://", "https://")):
            raise MmreproError(f"data set '{config.dataset}': url '{source.url}' is neither http nor https; correct it")
        return
    found = mirror / config.folder / source.name
    if not (found.is_dir() if source.folder else found.is_file()):
        kind = "folder" if source.folder else "file"
        raise MmreproError(f"{found}: no such {kind}; put it there or unset MMREPRO_MIRROR")


def _download(config: DatasetConfig, source: SourceFile, output: Path, retry: Retry) -> None:
    final = output / source.name
    if source.sha256 and final.is_file() and file_sha256(final) == source.sha256:
        return
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(final.name + ".part")
    download(str(source.url), part, verifiable=source.sha256 is not None, retry=retry)
    try:
        _check_content(config, source, part.stat().st_size, file_sha256(part))
    except MmreproError:
        part.unlink()
        raise
    part.replace(final)


def _copy(config: DatasetConfig, source: SourceFile, origin: Path, output: Path) -> list[str]:
    """Copy a file or a folder from the mirror; return the names of the files."""
    final = output / source.name
    if source.folder:
        return _copy_folder(config, source, origin, final)
    with atomic_path(final) as temporary:
        shutil.copyfile(origin, temporary)
        _check_content(config, source, temporary.stat().st_size, file_sha256(temporary))
    return [source.name]


def _copy_folder(config: DatasetConfig, source: SourceFile, origin: Path, final: Path) -> list[str]:
    """Copy a folder whole; its size is the sum, its SHA-256 that of the listing `sha256sum` prints, sorted by name."""
    names = sorted(path.relative_to(origin).as_posix() for path in origin.rglob("*") if path.is_file())
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        for name in names:
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(origin / name, temporary / name)
        if not names:
            raise MmreproError(f"{origin}: the folder is empty; fill it or unset MMREPRO_MIRROR")
        if source.bytes is not None or source.sha256 is not None:
            size = sum((temporary / name).stat().st_size for name in names)
            listing = "".join(f"{file_sha256(temporary / name)}  {name}\n" for name in names)
            _check_content(config, source, size, hashlib.sha256(listing.encode()).hexdigest())
        shutil.rmtree(final, ignore_errors=True)
        temporary.replace(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [f"{source.name}/{name}" for name in names]


def _check_content(config: DatasetConfig, source: SourceFile, size: int, sha256: str) -> None:
    where = f"data set '{config.dataset}': '{source.name}'"
    fix = "get the file again, or correct config/datasets if the publisher has changed it"
    if source.bytes is not None and size != source.bytes:
        raise MmreproError(f"{where} has {size} bytes, expected {source.bytes}; {fix}")
    if source.sha256 is not None and sha256 != source.sha256:
        raise MmreproError(f"{where} has SHA-256 {sha256}, expected {source.sha256}; {fix}")


def _entry(output: Path, name: str, source: str) -> dict[str, Any]:
    path = output / name
    return {"name": name, "bytes": path.stat().st_size, "sha256": file_sha256(path), "source": source}
