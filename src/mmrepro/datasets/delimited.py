"""Delimited text: which separator, quotes and encoding a file has, and one record a line unless it says otherwise."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from mmrepro.datasets.compressed import open_gzip
from mmrepro.datasets.raw import DAMAGED, damaged, existing_file
from mmrepro.errors import MmreproError

Quoting = Literal["none", "one-line", "multi-line"]
SEPARATORS = (",", "\t", ";", "|")
NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
ENCODINGS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""By the mark at a file's beginning; without one a file is UTF-8."""


@dataclass(frozen=True)
class Dialect:
    """How the lines of a file are read.

    Attributes
    ----------
    separator
        Of the values of a line.
    quoting
        `none`: a quotation mark is a character as any other; `one-line`: values may stand in quotation marks, and a
        record is a line; `multi-line`: a quoted value may go on over several lines.
    remedy
        What mends a quotation mark that swallows lines.
    """

    separator: str = ","
    quoting: Quoting = "one-line"
    remedy: str = "mend the line"

    @classmethod
    def of(cls, separator: str, quoting: Quoting | None = None, remedy: str = "mend the line") -> Dialect:
        """Return the dialect with the separator's own quotes unless told otherwise: values between tabs have none."""
        return cls(separator, quoting or ("none" if separator == "\t" else "one-line"), remedy)


def open_text_file(path: Path) -> Any:
    """Open a file, perhaps gzipped (`.gz`), for reading bytes; an archive expands within bounds."""
    existing_file(path)
    return open_gzip(path) if path.suffix == ".gz" else path.open("rb")


def encoding_of(path: Path) -> str:
    """Return the encoding that the mark at the file's beginning names; UTF-8 without one."""
    with open_text_file(path) as handle:
        start = handle.read(3)
    return next((name for mark, name in ENCODINGS.items() if start.startswith(mark)), "utf-8")


def header_line(path: Path) -> str:
    """Return the first line that is not blank."""
    with _reading(path):
        _require_text(path)
    with _reading(path), open_text_file(path) as handle, io.TextIOWrapper(handle, encoding_of(path), "replace") as text:
        return next((line.rstrip("\r\n") for line in text if line.strip()), "")


def _require_text(path: Path) -> None:
    """A file that is none of text is refused before its bytes are taken for names of columns."""
    with open_text_file(path) as handle:
        start = handle.read(1024)
    if start.startswith(b"PK\x03\x04"):
        raise MmreproError(f"{path}: an Excel file or another archive; save it as csv")
    if start.count(b"\0") > len(start) / 5 and encoding_of(path) == "utf-8":
        raise MmreproError(f"{path}: not UTF-8, but UTF-16 or UTF-32 without its mark, or no text; save it as UTF-8")


def header_names(path: Path, separator: str) -> list[str]:
    """Return the names of the first line, as they stand there."""
    return next(csv.reader([header_line(path)], delimiter=separator), [])


def guess_separator(path: Path, usual: str, wanted: Sequence[str]) -> str:
    """Return the separator by which the first line names the wanted columns: the usual one, or the only other."""
    line = header_line(path)
    fitting = [s for s in SEPARATORS if set(wanted) <= set(next(csv.reader([line], delimiter=s), []))]
    return fitting[0] if len(fitting) == 1 and usual not in fitting else usual


def read_delimited(path: Path, dialect: Dialect, **options: Any) -> pd.DataFrame:
    """Read a delimited text file with `pandas.read_csv`.

    Parameters
    ----------
    path
        The file, in UTF-8, or in UTF-16 with its mark; perhaps gzipped.
    dialect
        Separator and quotes.
    **options
        Of `pandas.read_csv`.

    Raises
    ------
    MmreproError
        For a missing, empty, truncated or malformed file, and a quoted value that goes on over lines where a record is
        a line; names the file, and the line where one is to blame.
    """
    quoting = csv.QUOTE_NONE if dialect.quoting == "none" else csv.QUOTE_MINIMAL
    with _reading(path), open_text_file(path) as handle:
        how: Any = {"sep": dialect.separator, "quoting": quoting, "encoding": encoding_of(path), "low_memory": False}
        table: pd.DataFrame = pd.read_csv(handle, **how, **options)
    if not isinstance(table.index, pd.RangeIndex):  # pandas took the values that no name stands over for an index
        raise MmreproError(
            f"{path}: line 2 has more values than the first line has names, between "
            f"{NAMES.get(dialect.separator, dialect.separator)}; name every column, or set `separator` in the options"
        )
    if dialect.quoting == "one-line":
        _require_a_line_each(path, dialect, len(table) + (options.get("header", 0) is not None))
    return table


class _reading:
    """What reading text may raise, as an error that names the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        path = self.path
        if isinstance(error, DAMAGED):
            raise damaged(path, error) from None
        if isinstance(error, pd.errors.EmptyDataError):
            raise MmreproError(f"{path}: the file has no rows; fetch the data set again") from None
        if isinstance(error, UnicodeError):
            raise MmreproError(f"{path}: not UTF-8{_undecodable_line(path)}; convert the file") from None
        if isinstance(error, pd.errors.ParserError):
            said = " ".join(str(error).split())
            if "EOF inside string" in said:
                line = int(said.rsplit(" ", 1)[1]) + 1
                raise MmreproError(
                    f"{path}: line {line}: a quotation mark that is never closed; mend the line, or set `quoting: none`"
                ) from None
            raise MmreproError(f"{path}: {said}; mend the line or fetch the file again") from None


def _undecodable_line(path: Path) -> str:
    """Where the first letter is that is none of the encoding's."""
    encoding = encoding_of(path)
    if encoding == "utf-16":
        return ""
    with open_text_file(path) as handle:
        for number, line in enumerate(handle, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return f", line {number} ({error.reason})"
    return ""


def _require_a_line_each(path: Path, dialect: Dialect, n_records: int) -> None:
    """A stray quotation mark swallows the lines up to the next one, and nothing else would tell."""
    with open_text_file(path) as handle:
        quoted = any(b'"' in block for block in iter(lambda: handle.read(2**20), b""))
    if not quoted:
        return
    encoding = encoding_of(path)
    with open_text_file(path) as handle, io.TextIOWrapper(handle, encoding, newline="") as text:
        n_lines = sum(not line.isspace() for line in text)
    if n_lines == n_records:
        return
    with open_text_file(path) as handle, io.TextIOWrapper(handle, encoding, newline="") as text:
        reader, last = csv.reader(text, delimiter=dialect.separator), 0
        for record in reader:
            if record and reader.line_num > last + 1:
                break
            last = reader.line_num
    raise MmreproError(
        f"{path}: line {last + 1}: a quotation mark opens a value that goes on over the next lines ({n_lines} lines, "
        f"{n_records} records); {dialect.remedy}"
    )
