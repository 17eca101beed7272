"""Archives within bounds: what is sound reads as `gzip.open` reads it, what expands without end is refused."""

from __future__ import annotations

import gzip
import tempfile
import zlib
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepro.datasets import compressed
from mmrepro.datasets.compressed import open_gzip
from mmrepro.datasets.raw import gzip_lines
from mmrepro.errors import MmreproError

MEBIBYTE = bytes(1024**2)


def archive(path: Path, blocks: list[bytes]) -> Path:
    with gzip.open(path, "wb") as handle:
        handle.writelines(blocks)
    return path


@pytest.fixture
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "UNQUESTIONED", 2 * 1024**2)
    monkeypatch.setattr(compressed, "LONGEST_LINE", 1024**2)


@given(
    st.lists(st.one_of(st.binary(max_size=50), st.sampled_from([b"\n", b"a,b\r\n", bytes(300_000)])), max_size=12),
    st.integers(1, 3),
)
def test_sound_archives_read_as_gzip_reads_them(blocks: list[bytes], members: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.gz"
        path.write_bytes(b"".join(gzip.compress(b"".join(blocks), 1) for _ in range(members)))
        with gzip.open(path) as expected, open_gzip(path) as found:
            assert list(found) == list(expected)


def test_table_is_read_by_pandas(tmp_path: Path) -> None:
    table = pd.DataFrame({"user": ["ü", "b"] * 50_000, "item": range(100_000)})
    table.to_csv(tmp_path / "a.csv.gz", index=False)
    with open_gzip(tmp_path / "a.csv.gz") as handle:
        assert pd.read_csv(handle, encoding="utf-8", low_memory=False).equals(table)


def test_endless_line_is_refused_with_its_number(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.jsonl.gz", [b"{}\n", b"{}\n", *[MEBIBYTE] * 65])
    with pytest.raises(MmreproError, match=r"a\.jsonl\.gz: line 3 is longer than 67108864 bytes; fetch the file again"):
        list(gzip_lines(path))


@pytest.mark.parametrize("ending", [b"", b"\n", b"\nrest\n"])
def test_bound_of_a_line_is_exact(tmp_path: Path, small_bounds: None, ending: bytes) -> None:
    longest = archive(tmp_path / "longest.gz", [b"first\n", MEBIBYTE, ending])
    assert list(gzip_lines(longest))[1].rstrip(b"\n") == MEBIBYTE
    with pytest.raises(MmreproError, match=r"longer\.gz: line 2 is longer than 1048576 bytes"):
        list(gzip_lines(archive(tmp_path / "longer.gz", [b"first\n", MEBIBYTE, b"x", ending])))


@pytest.mark.parametrize("reader", ["lines", "pandas"])
def test_bomb_is_refused(tmp_path: Path, small_bounds: None, reader: str) -> None:
    path = archive(tmp_path / "bomb.csv.gz", [b"1,2\n" * 600 * 1024])
    with pytest.raises(
        MmreproError, match=r"bomb\.csv\.gz: expands to more than 2097152 bytes, over 300 times its size"
    ):
        if reader == "lines":
            list(gzip_lines(path))
        else:
            with open_gzip(path) as handle:
                pd.read_csv(handle)


def test_bound_grows_with_the_archive(tmp_path: Path, small_bounds: None) -> None:
    """Zeros shrink a thousand times, lines of numbers three times: together they stay within the ratio."""
    numbers = b"".join(zlib.crc32(str(number).encode()).to_bytes(4).hex().encode() + b"\n" for number in range(5_000))
    path = archive(tmp_path / "a.gz", [numbers, *[MEBIBYTE[:-1] + b"\n"] * 4])
    assert sum(map(len, gzip_lines(path))) == len(numbers) + 4 * len(MEBIBYTE)


def test_truncated_archive_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.gz", [b"line\n" * 1000])
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(MmreproError, match=r"a\.gz: truncated or damaged archive"):
        list(gzip_lines(path))
    with pytest.raises(EOFError), open_gzip(path) as handle:
        handle.read()
