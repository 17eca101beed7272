"""Raw files of a data set: from a mirror folder, from the network, or generated; checked and listed in a manifest."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from mmrepro.config.dataset import DatasetConfig, RawFile
from mmrepro.datasets.download import Retry, download
from mmrepro.datasets.google_drive import SCHEME, GoogleDrive
from mmrepro.datasets.mirror import SOURCE, files_below, mirror_of, mirror_state
from mmrepro.datasets.raw_folder import MANIFEST, require_inside
from mmrepro.datasets.readers import load_reader
from mmrepro.errors import MmreproError
from mmrepro.records.files import atomic_path, file_sha256, remove_leftovers, write_json

COPY_BLOCK = 1024 * 1024


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
    mirror = mirror_of(config, mirror)
    present = [source for source in config.files if not (source.optional and _is_absent(config, source, mirror))]
    for source in present:
        _check_obtainable(config, source, mirror)
    state = mirror_state(config, mirror)  # before anything is copied: what changes meanwhile is fetched next time
    output.mkdir(parents=True, exist_ok=True)
    remove_leftovers(output)
    (output / MANIFEST).unlink(missing_ok=True)
    if generate is not None and not config.files:
        entries = [_generated(output, name) for name in generate(config, output)]
    elif mirror is not None:
        entries = [entry for source in present for entry in _copy(config, source, mirror, output)]
    else:
        entries = _download_all(config, present, output, retry or Retry())
    _remove_left_out(config, present, output)
    entries.sort(key=lambda entry: entry["name"])
    if mirror is not None and config.files:
        write_json(output / SOURCE, state)
    else:
        (output / SOURCE).unlink(missing_ok=True)
    write_json(output / MANIFEST, {"dataset": config.dataset, "files": entries})


def _is_absent(config: DatasetConfig, source: RawFile, mirror: Path | None) -> bool:
    if mirror is None:
        return source.url is None
    return not (mirror / config.folder / source.name).exists()


def _check_obtainable(config: DatasetConfig, source: RawFile, mirror: Path | None) -> None:
    """Refuse before anything is moved."""
    origin, place = f"config/datasets/{config.dataset}.yaml", f"{config.folder}/{source.name}"
    require_inside(config.folder, f"{origin}: folder")
    require_inside(source.name, f"{origin}: file")
    if mirror is None:
        if source.url is None or source.folder:
            raise MmreproError(
                f"data set '{config.dataset}': no public address is known for '{source.name}'; "
                f"set MMREPRO_MIRROR to a folder that holds {place}"
            )
        return
    found = mirror / config.folder / source.name
    if not (found.is_dir() if source.folder else found.is_file()):
        kind = "folder" if source.folder else "file"
        raise MmreproError(f"{found}: no such {kind}; put it there or unset MMREPRO_MIRROR")
    _refuse_links_outside(found, mirror, mirror / config.folder)


def _refuse_links_outside(found: Path, mirror: Path, folder: Path) -> None:
    """An unpacked archive may hold a link to any file of the machine, which would be copied and released."""
    roots = (mirror.resolve(), folder.resolve())
    for path in (found, *(path for path, _ in (files_below(found) if found.is_dir() else ()))):
        if path.is_symlink() and not any(path.resolve().is_relative_to(root) for root in roots):
            raise MmreproError(f"{path}: a link that leaves {mirror}; put the file itself there")


def _download_all(config: DatasetConfig, sources: list[RawFile], output: Path, retry: Retry) -> list[dict[str, Any]]:
    with requests.Session() as session:
        drive = GoogleDrive(session, retry)

        def obtain(source: RawFile, part: Path) -> str:
            """Download to `part` and return the SHA-256."""
            url = str(source.url)
            address = drive.address(url) if url.startswith(SCHEME) else url
            known = source.sha256 is not None
            return download(session, address, part, size=source.bytes, verifiable=known, retry=retry)

        return [_download(config, _as_published(source), output, obtain) for source in sources]


def _as_published(source: RawFile) -> RawFile:
    """A file with the size and hash that it has at its publisher's."""
    return source if source.published is None else source.model_copy(update=source.published.model_dump())


def _download(
    config: DatasetConfig, source: RawFile, output: Path, obtain: Callable[[RawFile, Path], str]
) -> dict[str, Any]:
    """Download a file unless it is there and known to be right."""
    final = output / source.name
    if source.sha256 and final.is_file() and file_sha256(final) == source.sha256:
        return _entry(source.name, final.stat().st_size, source.sha256, str(source.url))
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(final.name + ".part")
    sha256 = obtain(source, part)
    size = part.stat().st_size
    try:
        _check_content(config, source, size, sha256)
    except MmreproError:
        part.unlink()
        raise
    part.replace(final)
    return _entry(source.name, size, sha256, str(source.url))


def _copy(config: DatasetConfig, source: RawFile, mirror: Path, output: Path) -> list[dict[str, Any]]:
    """Copy a file or a folder from the mirror."""
    origin, final = mirror / config.folder / source.name, output / source.name
    if source.folder:
        return _copy_folder(config, source, origin, final)
    with atomic_path(final) as temporary:
        size, sha256 = _copy_hashed(origin, temporary)
        _check_content(config, source, size, sha256)
    return [_entry(source.name, size, sha256, "mirror")]


def _copy_folder(config: DatasetConfig, source: RawFile, origin: Path, final: Path) -> list[dict[str, Any]]:
    """Copy a folder whole; its size is the sum, its SHA-256 that of the listing `sha256sum` prints, sorted by name."""
    names = [name for _, name in files_below(origin)]
    if not names:
        raise MmreproError(f"{origin}: the folder is empty; fill it or unset MMREPRO_MIRROR")
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        copied = {name: _copy_hashed(origin / name, temporary / name) for name in names}
        listing = "".join(f"{sha256}  {name}\n" for name, (_, sha256) in copied.items())
        size = sum(size for size, _ in copied.values())
        _check_content(config, source, size, hashlib.sha256(listing.encode()).hexdigest())
        shutil.rmtree(final, ignore_errors=True)
        temporary.replace(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [_entry(f"{source.name}/{name}", size, sha256, "mirror") for name, (size, sha256) in copied.items()]


def _copy_hashed(origin: Path, target: Path) -> tuple[int, str]:
    """Copy a file and return its size and SHA-256, from one pass over its bytes."""
    hasher, size = hashlib.sha256(), 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with origin.open("rb", buffering=0) as source, target.open("wb") as copy:
        while block := source.read(COPY_BLOCK):
            copy.write(block)
            hasher.update(block)
            size += len(block)
    return size, hasher.hexdigest()


def _remove_left_out(config: DatasetConfig, present: list[RawFile], output: Path) -> None:
    """What an earlier call brought and this one does not know; a folder stays, others may have filled it since."""
    for source in config.files:
        if source not in present and not source.folder:
            (output / source.name).unlink(missing_ok=True)


def _check_content(config: DatasetConfig, source: RawFile, size: int, sha256: str) -> None:
    where = f"data set '{config.dataset}': '{source.name}'"
    fix = "get the file again, or correct config/datasets if the publisher has changed it"
    if source.bytes is not None and size != source.bytes:
        raise MmreproError(f"{where} has {size} bytes, expected {source.bytes}; {fix}")
    if source.sha256 is not None and sha256 != source.sha256:
        raise MmreproError(f"{where} has SHA-256 {sha256}, expected {source.sha256}; {fix}")


def _generated(output: Path, name: str) -> dict[str, Any]:
    path = output / name
    return _entry(name, path.stat().st_size, file_sha256(path), "generated")


def _entry(name: str, size: int, sha256: str, source: str) -> dict[str, Any]:
    return {"name": name, "bytes": size, "sha256": sha256, "source": source}
