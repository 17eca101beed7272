"""Gzip archives read within bounds: a small file that expands without end fills neither memory nor time."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any, BinaryIO

from mmrepro.errors import MmreproError

BUFFER = 128 * 1024
LONGEST_LINE = 64 * 1024**2
"""Bytes; a record of any data set is far shorter."""

UNQUESTIONED = 256 * 1024**2
"""Bytes that any archive may expand to."""

LARGEST_RATIO = 300
"""How many times its size an archive may expand to beyond `UNQUESTIONED`; texts and tables reach a tenth of it."""


def open_gzip(path: Path) -> BinaryIO:
    """Open a gzipped text file for reading, as `gzip.open` does, within bounds.

    Parameters
    ----------
    path
        A gzip archive of lines.

    Returns
    -------
    BinaryIO
        Its content; iterate over its lines or hand it to `pandas.read_csv`. Reading raises what reading any gzip
        archive does (`EOFError`, `zlib.error`, `gzip.BadGzipFile`), and `MmreproError`, which names the file, for a
        line longer than `LONGEST_LINE` and for an archive that expands beyond `LARGEST_RATIO` times its size.
    """
    return io.BufferedReader(_Bounded(path), BUFFER)


class _Bounded(io.RawIOBase):
    """The content of an archive, counted as it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._largest = max(UNQUESTIONED, LARGEST_RATIO * path.stat().st_size)
        self._read, self._lines, self._unfinished = 0, 0, 0
        self._archive = gzip.open(path, "rb")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._archive.read(len(buffer))
        self._check(block)
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._archive.close()
        super().close()

    def _check(self, block: bytes) -> None:
        """Count a block, which is far shorter than the longest line, so that only its first line can be too long."""
        self._read += len(block)
        if self._read > self._largest:
            raise MmreproError(
                f"{self._path}: expands to more than {self._largest} bytes, over {LARGEST_RATIO} times its size; "
                "fetch the file again"
            )
        first = block.find(b"\n")
        if self._unfinished + (first if first >= 0 else len(block)) > LONGEST_LINE:
            raise MmreproError(
                f"{self._path}: line {self._lines + 1} is longer than {LONGEST_LINE} bytes; fetch the file again"
            )
        self._lines += block.count(b"\n")
        self._unfinished = len(block) - block.rfind(b"\n") - 1 if first >= 0 else self._unfinished + len(block)
