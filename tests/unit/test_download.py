from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import requests
from http_server import Answer, running_server

from mmrepro.datasets.download import LONGEST_WAIT, Interrupted, Retry, check_status, download


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
        download(session, f"{server.url}/file", tmp_path / "file.part", verifiable=False, retry=retry)
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
