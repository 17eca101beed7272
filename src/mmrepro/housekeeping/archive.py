"""An archive of files whose bytes follow from theirs alone, for DVC to keep."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterable
from pathlib import Path

from mmrepro.errors import MmreproError
from mmrepro.records.files import atomic_path


def write_archive(path: Path, names: Iterable[str], root: Path) -> None:
    """Write a gzipped tar archive: names sorted, no dates, owners or rights of this machine.

    Parameters
    ----------
    path
        Of the archive.
    names
        Files, relative to `root`.
    root
        Folder that holds them.
    """
    with (
        atomic_path(path) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(names):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = (root / name).stat().st_size, 0o644
            with (root / name).open("rb") as content:
                archive.addfile(entry, content)


def unpack_missing(path: Path, wanted: Iterable[str], root: Path) -> None:
    """Write those files of an archive that are wanted and not there; others are left as they are.

    Parameters
    ----------
    path
        Of the archive.
    wanted
        Names that a release lists: no other leaves the archive.
    root
        Folder below which they go.

    Raises
    ------
    MmreproError
        When the archive cannot be read.
    """
    missing = {name for name in wanted if not (root / name).exists()}
    try:
        with tarfile.open(path, mode="r:gz") as archive:
            for entry in archive:
                if entry.name in missing and entry.isfile():
                    archive.extract(entry, root, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise MmreproError(
            f"{path}: no readable archive ({' '.join(str(error).split())[:99]}); remove it and run `dvc pull`"
        ) from None
