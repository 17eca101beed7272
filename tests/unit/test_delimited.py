"""Tables as people write them: separators, quotation marks, encodings, decimal commas."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from test_readers_tabular import config

from mmrepro.datasets import compressed
from mmrepro.datasets.raw import RawDataset
from mmrepro.datasets.readers.tabular import read
from mmrepro.errors import MmreproError

NAMES = {"user_column": "user", "item_column": "item"}


def read_lines(folder: Path, name: str, content: str | bytes, **options: Any) -> RawDataset:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read(folder, config(interactions_file=name, **{**NAMES, **options}))


def pairs(data: RawDataset) -> list[tuple[str, str]]:
    return list(data.interactions[["user", "item"]].itertuples(index=False, name=None))


def test_between_tabs_quotation_marks_are_text(tmp_path: Path) -> None:
    content = 'user\titem\n"Anna\tp1\nAnna\tp2\nBob"\tp"3"\n'
    assert pairs(read_lines(tmp_path, "a.tsv", content)) == [('"Anna', "p1"), ("Anna", "p2"), ('Bob"', 'p"3"')]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_stray_mark_that_swallows_lines_is_an_error_that_names_its_line(tmp_path: Path, suffix: str) -> None:
    content = b'user,item,note\na,1,\nb,2,"half an inch\nc,3,\nd,4,7" wide\ne,5,\n'
    content = gzip.compress(content) if suffix.endswith("gz") else content
    with pytest.raises(MmreproError, match=rf"a\{suffix}: line 3: a quotation mark opens a value .*`quoting: none`"):
        read_lines(tmp_path, f"a{suffix}", content)
    assert len(pairs(read_lines(tmp_path, f"a{suffix}", content, quoting="none"))) == 5


def test_quoted_values_of_a_line_are_read_and_those_of_several_where_they_are_asked_for(tmp_path: Path) -> None:
    content = 'user,item,note\n"a, b",1,"says ""no"""\nc,2,"two\nlines"\n'
    assert pairs(read_lines(tmp_path, "a.csv", content, quoting="multi-line")) == [("a, b", "1"), ("c", "2")]
    with pytest.raises(MmreproError, match=r"a\.csv: line 3: a quotation mark"):
        read_lines(tmp_path, "a.csv", content)
    assert pairs(read_lines(tmp_path, "a.csv", content.replace("two\nlines", "two lines"))) == [
        ("a, b", "1"),
        ("c", "2"),
    ]


@pytest.mark.parametrize("blank", ["", "\n\n", "   \n"])
def test_blank_lines_are_no_records(tmp_path: Path, blank: str) -> None:
    assert len(pairs(read_lines(tmp_path, "a.csv", f'user,item\n"a",1\n{blank}b,2\n'))) == 2


@pytest.mark.parametrize(
    ("name", "mark", "word"), [("a.csv", ";", "semicolons"), ("a.csv", "\t", "tabs"), ("a.csv", "|", "bars"),
                               ("a.tsv", ",", "commas")]
)  # fmt: skip
def test_the_separator_is_the_one_that_makes_the_header_and_is_named(
    tmp_path: Path, name: str, mark: str, word: str
) -> None:
    data = read_lines(tmp_path, name, f"user{mark}item\na{mark}1\n")
    assert pairs(data) == [("a", "1")] and data.notes == (f"{name}: values are separated by {word}",)
    assert read_lines(tmp_path, name, f"user{mark}item\na{mark}1\n", separator=mark).notes == ()


def test_decimal_commas_are_told_where_all_are_written_so(tmp_path: Path) -> None:
    data = read_lines(tmp_path, "a.csv", "user;item;stars\na;1;4,5\nb;2;3\n", rating_column="stars")
    assert data.interactions["rating"].tolist() == [4.5, 3] and data.notes[1] == "a.csv: 'stars' has decimal commas"
    with pytest.raises(MmreproError, match=r"line 3, column 'stars': '1\.234,5' is not a number"):
        read_lines(tmp_path, "a.csv", "user;item;stars\na;1;4\nb;2;1.234,5\n", rating_column="stars")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_marks_and_line_ends_of_spreadsheets(tmp_path: Path, encoding: str, end: str) -> None:
    text = end.join(["user,item", "zoë,1", '"b, c",2', ""])
    content = b"\xff\xfe" + text.encode("utf-16-le") if encoding.endswith("mark") else text.encode(encoding)
    assert pairs(read_lines(tmp_path, "a.csv", content)) == [("zoë", "1"), ("b, c", "2")]


@pytest.mark.parametrize("key", ["a\tb", "a\nb", "a\rb"])
def test_keys_with_tabs_and_line_breaks_are_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(MmreproError, match="line 3, column 'user' holds a tab or a line break; mend the key"):
        read_lines(tmp_path, "a.csv", f'user,item\nx,1\n"{key}",2\n'.encode(), quoting="multi-line")


def test_a_date_of_another_form_is_read_as_it_is_said(tmp_path: Path) -> None:
    content = "user,item,day\na,1,01.03.2024\nb,2,31.12.2023\n"
    data = read_lines(tmp_path, "a.csv", content, timestamp_column="day", timestamp_format="%d.%m.%Y")
    assert data.interactions["timestamp"].tolist() == [1709251200, 1703980800]
    with pytest.raises(MmreproError, match=r"'31\.12\.2023' is no date in the form %m\.%d\.%Y"):
        read_lines(tmp_path, "a.csv", content, timestamp_column="day", timestamp_format="%m.%d.%Y")


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_dates_at_the_ends_of_the_calendar_are_dates(tmp_path: Path, day: str) -> None:
    data = read_lines(tmp_path, "a.csv", f"user,item,day\na,1,{day}\n", timestamp_column="day")
    assert abs(data.interactions["timestamp"].iloc[0]) > 6e10


def test_a_table_that_expands_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "UNQUESTIONED", 2**20)
    content = gzip.compress(b"user,item\n" + b"a,1\n" * 2**20)
    with pytest.raises(MmreproError, match=r"a\.csv\.gz.*expands"):
        read_lines(tmp_path, "a.csv.gz", content)
