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


@pytest.mark.parametrize("key", ["a\tb", "a\nb", "a\rb", "a\0b"])
def test_keys_with_tabs_and_line_breaks_are_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(
        MmreproError, match="line 3, column 'user' holds a tab, a line break or a zero byte; mend the key"
    ):
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


@pytest.mark.parametrize(
    ("first", "second"),
    [("a", "a "), (" a", "a"), ("a b", "a  b"), ("a", "a\u200b"), ("café", "cafe\u0301"), ("a", "\ufeffa")],
)
def test_keys_that_look_the_same_are_refused(tmp_path: Path, first: str, second: str) -> None:
    with pytest.raises(MmreproError, match=r"column 'item': '.*' and '.*' differ by white space, accents or invisible"):
        read_lines(tmp_path, "a.csv", f"user,item\nx,{first}\ny,{second}\nz,b\n")


def test_the_same_key_with_a_space_everywhere_is_one_key(tmp_path: Path) -> None:
    assert pairs(read_lines(tmp_path, "a.csv", "user,item\nx, a\ny, a\n")) == [("x", " a"), ("y", " a")]


def test_a_comma_that_may_part_thousands_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match="column 'stars': '1,000' may be a thousand or a fraction; write it with a"):
        read_lines(tmp_path, "a.csv", "user;item;stars\na;1;1,000\nb;2;3\n", rating_column="stars")
    data = read_lines(tmp_path, "a.csv", "user;item;stars\na;1;1,000\nb;2;3,5\n", rating_column="stars")
    assert data.interactions["rating"].tolist() == [1, 3.5]


def test_days_without_separators_are_no_seconds(tmp_path: Path) -> None:
    content = "user,item,day\na,1,20240301\nb,2,20231231\n"
    with pytest.raises(MmreproError, match=r"'20240301' looks like a date; set `timestamp_format: \"%Y%m%d\"`"):
        read_lines(tmp_path, "a.csv", content, timestamp_column="day")
    data = read_lines(tmp_path, "a.csv", content, timestamp_column="day", timestamp_format="%Y%m%d")
    assert data.interactions["timestamp"].tolist() == [1709251200, 1703980800]
    data = read_lines(tmp_path, "a.csv", content, timestamp_column="day", timestamp_unit="s")
    assert data.interactions["timestamp"].tolist() == [20240301, 20231231]


def test_a_form_of_dates_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match=r"column 'day': `timestamp_format: %Q`: .*; correct it"):
        read_lines(tmp_path, "a.csv", "user,item,day\na,1,x\n", timestamp_column="day", timestamp_format="%Q")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_column_whose_name_stands_twice_is_refused(tmp_path: Path, name: str) -> None:
    mark = "\t" if name == "a.tsv" else ","
    with pytest.raises(MmreproError, match="two columns have the name 'item'; rename one of them"):
        read_lines(tmp_path, name, "user item item\na 1 2\n".replace(" ", mark))


def test_a_short_header_shifts_no_column(tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match="line 2 has more values than the first line has names, between commas"):
        read_lines(tmp_path, "a.csv", "user,item\na,1,2\nb,3,4\n")


@pytest.mark.parametrize("separator", ["\n", '"', "\r", "\0", "é"])
def test_what_cannot_part_values_is_no_separator(tmp_path: Path, separator: str) -> None:
    with pytest.raises(MmreproError, match="separator"):
        read_lines(tmp_path, "a.csv", "user,item\na,1\n", separator=separator)


def test_a_letter_of_another_encoding_names_its_line(tmp_path: Path) -> None:
    content = b"user,item\na,1\nb,2\n" + "zoë,3\n".encode("latin-1")
    with pytest.raises(MmreproError, match=r"a\.csv: not UTF-8, line 4 \(.*\); convert the file"):
        read_lines(tmp_path, "a.csv", content)


def test_ratings_on_both_sides_of_the_minimum_are_counted(tmp_path: Path) -> None:
    content = "user,item,stars\na,1,5\na,1,1\na,2,5\nb,1,1\nb,2,4\nb,2,2\nb,2,1\n"
    data = read_lines(tmp_path, "a.csv", content, rating_column="stars", minimum_rating=3)
    assert pairs(data) == [("a", "1"), ("a", "2"), ("b", "2")]
    assert data.repairs == {"rows_below_minimum_rating": 4, "pairs_on_both_sides_of_it": 2} | {
        key: 0 for key in data.repairs if key not in ("rows_below_minimum_rating", "pairs_on_both_sides_of_it")
    }


@pytest.mark.parametrize(
    ("days", "form"),
    [
        (("24012024", "01032024", "31121999"), "%d%m%Y"),
        (("20240124153000", "20240301000000"), "%Y%m%d%H%M%S"),
        (("240124", "991231"), "%y%m%d"),
        ((*("20240301",) * 20, "20240230"), "%Y%m%d"),  # one day that is none hides the others no more
    ],
)
def test_dates_without_separators_are_told_in_any_order(tmp_path: Path, days: tuple[str, ...], form: str) -> None:
    lines = "".join(f"u{n},i,{day}\n" for n, day in enumerate(days))
    with pytest.raises(MmreproError, match=f'looks like a date; set `timestamp_format: "{form}"`'):
        read_lines(tmp_path, "a.csv", f"user,item,day\n{lines}", timestamp_column="day")


@pytest.mark.parametrize("times", [("123456", "345678", "901234"), ("13245678", "99887766"), ("1", "2")])
def test_other_numbers_are_no_dates(tmp_path: Path, times: tuple[str, ...]) -> None:
    lines = "".join(f"u{n},i,{time}\n" for n, time in enumerate(times))
    data = read_lines(tmp_path, "a.csv", f"user,item,day\n{lines}", timestamp_column="day")
    assert data.interactions["timestamp"].astype(str).tolist() == list(times)


@pytest.mark.parametrize(
    ("key", "message"),
    [("4.00639E+12", "is a number as a spreadsheet shortens it"), ("x" * 1001, "holds more than 1000 letters")],
)
def test_keys_that_are_none_name_their_line(tmp_path: Path, key: str, message: str) -> None:
    with pytest.raises(MmreproError, match=f"line 3, column 'item' {message}") as error:
        read_lines(tmp_path, "a.csv", f"user,item\na,1\nb,{key}\n")
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("user,item\na,1\n".encode("utf-16-le"), "UTF-16 or UTF-32 without its mark"),
        ("user,item\na,1\n".encode("utf-32-be"), "UTF-16 or UTF-32 without its mark"),
        (b"PK\x03\x04" + bytes(50), "an Excel file or another archive; save it as csv"),
        (b'user,item\na,1\nb,"2\nc,3\n', "line 3: a quotation mark that is never closed; .* `quoting: none`"),
    ],
)
def test_a_file_of_another_kind_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(MmreproError, match=message):
        read_lines(tmp_path, "a.csv", content)
