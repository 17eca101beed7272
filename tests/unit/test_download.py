from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import requests
from http_server import Answer, Server, running_server
from hypothesis import given
from hypothesis import strategies as st

from mmrepro.datasets import download as download_module
from mmrepro.datasets import http
from mmrepro.datasets.download import PAGE, download
from mmrepro.datasets.http import LONGEST_WAIT, Interrupted, Retry, check_status
from mmrepro.errors import MmreproError

RETRY = Retry(attempts=3, base_delay=0.01, timeout=5.0)
CSV = {"Content-Type": "text/csv"}


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as instance:
        yield instance


def obtain(
    server: Server, folder: Path, name: str = "file.csv", size: int | None = None, retry: Retry = RETRY
) -> bytes:
    """What arrives when `/file` is downloaded."""
    part = folder / f"{name}.part"
    with requests.Session() as session:
        download(session, f"{server.url}/file", part, size=size, verifiable=False, retry=retry)
    return part.read_bytes()


def endless(block: bytes = bytes(64 * 1024)) -> Answer:
    return Answer(stream=lambda: itertools.repeat(block))


def trickle() -> Iterator[bytes]:
    for _ in range(1000):
        yield b"a"
        time.sleep(0.02)


def wait_after(header: str | None) -> float:
    """Seconds until the next request after an answer 429 with this Retry-After."""
    answer = requests.Response()
    answer.status_code = 429
    if header is not None:
        answer.headers["Retry-After"] = header
    with pytest.raises(Interrupted, match="HTTP status 429") as interrupted:
        check_status(answer)
    return interrupted.value.wait


def test_server_that_asks_for_patience_gets_it(tmp_path: Path) -> None:
    with running_server() as server, requests.Session() as session:
        server.answers["/file"] = [Answer(b"busy", 429, {"Retry-After": "1"}), Answer(b"content")]
        start = time.monotonic()
        retry = Retry(attempts=2, base_delay=0.01, timeout=5)
        download(session, f"{server.url}/file", tmp_path / "file.part", size=None, verifiable=False, retry=retry)
        assert time.monotonic() - start >= 1
    assert (tmp_path / "file.part").read_bytes() == b"content"


def test_patience_is_read_from_seconds_and_from_a_date() -> None:
    assert wait_after("17") == 17
    assert 50 < wait_after(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)) <= 60


@pytest.mark.parametrize("header", [None, "Mon, 04 Mar 2024 10:00:00 GMT", "soon", "-1", "1.5e9"])
def test_patience_that_is_over_or_cannot_be_understood_is_none(header: str | None) -> None:
    assert wait_after(header) == 0


def test_patience_is_bounded() -> None:
    assert LONGEST_WAIT == 120
    assert wait_after("86400") == LONGEST_WAIT
    assert wait_after(format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)) == LONGEST_WAIT


def test_endless_body_stops_at_the_stated_size(server: Server, tmp_path: Path) -> None:
    server.answers["/file"] = [endless()]
    with pytest.raises(MmreproError, match=r"/file: refused \(\d+ bytes arrived and `bytes` states 1000; correct it"):
        obtain(server, tmp_path, size=1000)
    assert len(server.asked) == 1
    assert list(tmp_path.iterdir()) == []


def test_endless_body_of_unknown_size_stops_at_the_bound(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_module, "LARGEST_BYTES", 1_000_000)
    server.answers["/file"] = [endless()]
    with pytest.raises(MmreproError, match=r"/file: refused \(\d+ bytes arrived and at most 1000000 are taken\)"):
        obtain(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_size_is_bounded_where_an_earlier_part_is_continued(server: Server, tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    tagged = {"ETag": '"one"'}
    server.answers["/file"] = [Answer(content, headers=tagged, cut_after=100_000), Answer(content, headers=tagged)]
    with pytest.raises(MmreproError, match="`bytes` states 200000"):
        obtain(server, tmp_path, size=200_000)
    assert server.ranges[-1] is not None


def test_part_that_is_larger_than_the_file_is_dropped(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.csv.part").write_bytes(bytes(100))
    (tmp_path / "file.csv.part.etag").write_text('"one"')
    server.answers["/file"] = [Answer(b"content", headers={"ETag": '"one"'})]
    assert obtain(server, tmp_path, size=7) == b"content"
    assert server.ranges == [None]


@pytest.mark.parametrize("stream", [False, True])
def test_exactly_the_stated_size_is_taken(server: Server, tmp_path: Path, stream: bool) -> None:
    server.answers["/file"] = [Answer(stream=lambda: iter([b"con", b"tent"])) if stream else Answer(b"content")]
    assert obtain(server, tmp_path, size=7) == b"content"


@pytest.mark.parametrize("length", ["soon", "-5", "", "7.0", "9" * 5000])
def test_malformed_length_is_no_traceback(server: Server, tmp_path: Path, length: str) -> None:
    server.answers["/file"] = [Answer(headers={"Content-Length": length}, stream=lambda: iter([b"content"]))]
    assert obtain(server, tmp_path) == b"content"


def test_contradicting_lengths_end_the_download(server: Server, tmp_path: Path) -> None:
    server.answers["/file"] = [Answer(headers={"Content-Length": "7, 8"}, stream=lambda: iter([b"content"]))]
    with pytest.raises(MmreproError, match="gave up after 3 attempts"):
        obtain(server, tmp_path)


@pytest.mark.parametrize("answer", [Answer(b""), Answer(stream=lambda: iter([]))])
def test_empty_file_is_refused(server: Server, tmp_path: Path, answer: Answer) -> None:
    server.answers["/file"] = [answer]
    with pytest.raises(MmreproError, match=r"/file: refused \(the answer is empty\)"):
        obtain(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


PAGES = [
    b"<!doctype html><title>Log in</title>",
    b"\xef\xbb\xbf \r\n\t<HTML lang=en><head><title>Log in</title>",
    b"<html>" + b" " * 100_000,
    "\ufeff<!DOCTYPE html>\n<title>Log in</title>".encode("utf-16-le"),
]


@pytest.mark.parametrize("page", PAGES)
def test_web_page_is_refused_whatever_its_type(server: Server, tmp_path: Path, page: bytes) -> None:
    server.answers["/file"] = [Answer(page, headers=CSV)]
    with pytest.raises(MmreproError, match="refused \\(a web page instead of the file"):
        obtain(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["page.html", "page.HTM"])
def test_web_page_is_taken_where_the_file_is_one(server: Server, tmp_path: Path, name: str) -> None:
    server.answers["/file"] = [Answer(PAGES[0], headers={"Content-Type": "text/html"})]
    assert obtain(server, tmp_path, name) == PAGES[0]


def test_web_page_that_comes_in_pieces_is_refused(server: Server, tmp_path: Path) -> None:
    server.answers["/file"] = [Answer(headers=CSV, stream=lambda: iter([bytes([byte]) for byte in PAGES[0]]))]
    with pytest.raises(MmreproError, match="a web page instead of the file: Log in"):
        obtain(server, tmp_path)


@given(
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.text(" \t\r\n").map(str.encode),
    st.sampled_from([b"html", b"!doctype html", b"!doctype\n html"]),
    st.lists(st.booleans(), min_size=20, max_size=20),
    st.sampled_from([b">", b" lang='en'>", b"\n>"]),
)
def test_page_is_recognised_in_any_case(mark: bytes, space: bytes, name: bytes, upper: list[bool], rest: bytes) -> None:
    letters = zip(name.decode(), upper, strict=False)
    mixed = "".join(letter.upper() if large else letter for letter, large in letters).encode()
    assert PAGE.match(mark + space + b"<" + mixed + rest)


@pytest.mark.parametrize(
    "start", [b"html,<html>\n", b"a<html>", b"<htmlish>", b"<xml>", b"\x1f\x8b", b"1,<!doctype html"]
)
def test_what_only_mentions_a_page_is_none(start: bytes) -> None:
    assert not PAGE.match(start)


@pytest.mark.parametrize("beginning", [b"", bytes(64 * 1024)])
def test_trickle_is_asked_for_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beginning: bytes
) -> None:
    """Each byte comes in time, but the file would never be whole."""
    monkeypatch.setattr(http, "WINDOW", 0.1)
    monkeypatch.setattr(http, "SLOWEST", 1024 * 1024)
    slow = Answer(stream=lambda: itertools.chain([beginning], trickle()))
    server.answers["/file"] = [slow, Answer(b"content")]
    assert obtain(server, tmp_path, retry=Retry(attempts=2, base_delay=0.01, timeout=2.0)) == b"content"
    server.answers["/file"] = [slow]
    with pytest.raises(
        MmreproError, match=r"gave up after 2 attempts \(the answer is slower than 1048576 bytes a second"
    ):
        obtain(server, tmp_path, retry=Retry(attempts=2, base_delay=0.01, timeout=2.0))
    assert len(server.asked) == 4
