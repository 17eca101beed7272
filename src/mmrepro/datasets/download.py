"""Files over HTTP: retried with patience; large ones resumed and hashed as they arrive, small ones bounded."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TypeVar

import requests
import urllib3
from tqdm import tqdm

from mmrepro.errors import MmreproError
from mmrepro.records.files import flush_to_disk

T = TypeVar("T")

BLOCK = 64 * 1024
OVERLOADED = (408, 425, 429)
LONGEST_WAIT = 120.0
"""Seconds; a server that asks for more patience is asked again after these."""

UNUSABLE_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.TooManyRedirects,
)


@dataclass(frozen=True)
class Retry:
    """How patient a download is.

    Attributes
    ----------
    attempts
        Number of requests before giving up.
    base_delay
        Seconds before the second request; doubled before each further one, or what the server asks for if more.
    timeout
        Seconds without a byte after which a request counts as failed.
    """

    attempts: int = 5
    base_delay: float = 1.0
    timeout: float = 60.0


class Interrupted(Exception):
    """An answer that another request may better, after `wait` seconds."""

    def __init__(self, problem: str, wait: float = 0.0) -> None:
        super().__init__(problem)
        self.wait = wait


class Refused(Exception):
    """An answer that no further request changes."""


class GaveUp(Exception):
    """Every attempt failed; the message is the last problem, `kind` the same without addresses."""

    def __init__(self, error: Exception) -> None:
        super().__init__(" ".join(str(error).split()) or type(error).__name__)
        self.kind = str(error) if isinstance(error, Interrupted) else type(error).__name__


def persist(ask: Callable[[], T], retry: Retry) -> T:
    """Call `ask` until it returns.

    Parameters
    ----------
    ask
        One request; raises `Interrupted`, or an error of requests or urllib3, when it is worth another.
    retry
        Number of attempts and their delays.

    Raises
    ------
    Refused
        As `ask` raises it, or for an address that cannot be asked.
    GaveUp
        After the last attempt.
    """
    attempt = 1
    while True:
        try:
            return ask()
        except UNUSABLE_ADDRESS as error:
            raise Refused(f"the address cannot be used: {type(error).__name__}") from None
        except (Interrupted, requests.RequestException, urllib3.exceptions.HTTPError) as error:
            if attempt == retry.attempts:
                raise GaveUp(error) from None
            wait = error.wait if isinstance(error, Interrupted) else 0.0
        time.sleep(max(retry.base_delay * 2 ** (attempt - 1), wait))
        attempt += 1


def check_status(response: requests.Response) -> None:
    """Raise `Interrupted` or `Refused` unless the answer is the file or a part of it."""
    status = response.status_code
    if status >= 500 or status in OVERLOADED:
        raise Interrupted(f"HTTP status {status}", _retry_after(response))
    if status not in (200, 206):
        raise Refused(f"HTTP status {status}")


def _retry_after(response: requests.Response) -> float:
    """Seconds that the server asks for, 0 to `LONGEST_WAIT`."""
    value = response.headers.get("Retry-After", "")
    try:
        date = None if value.isdecimal() else parsedate_to_datetime(value)
        seconds = float(value) if date is None else (date - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):  # absent, malformed, or without a time zone
        return 0.0
    return min(max(seconds, 0.0), LONGEST_WAIT)


def download(session: requests.Session, url: str, part: Path, *, verifiable: bool, retry: Retry) -> str:
    """Download a file to `part`, going on where an earlier call stopped.

    What an earlier call left is only continued when the result can be trusted: the server's entity tag (or else its
    time of modification) is the same (`If-Range`), or the caller compares the content with a known hash.

    Parameters
    ----------
    session
        Connections and cookies.
    url
        Address of the file, http or https.
    part
        Where it arrives. After an error it is kept, with the entity tag beside it.
    verifiable
        Whether the caller knows the file's hash.
    retry
        Number of attempts and their delays.

    Returns
    -------
    str
        SHA-256 of the file, taken while it was written; what an earlier call left is read once.

    Raises
    ------
    MmreproError
        When the server refuses the file, answers with a web page instead, or every attempt failed.
    """
    arriving = _Part(part)
    try:
        persist(lambda: _request(session, url, arriving, verifiable, retry.timeout), retry)
    except Refused as refused:
        raise MmreproError(f"{url}: refused ({refused}); correct the url or set MMREPRO_MIRROR") from None
    except GaveUp as problem:
        raise MmreproError(
            f"{url}: gave up after {retry.attempts} attempts ({problem}); run the same command again, "
            "it goes on where it stopped, or set MMREPRO_MIRROR to a folder that holds the file"
        ) from None
    arriving.tag.unlink(missing_ok=True)
    flush_to_disk(part)
    return arriving.sha256()


class _Part:
    """A file that arrives, with the hash of what is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tag = path.with_name(path.name + ".etag")
        self.restart()

    def restart(self) -> None:
        """Count from the first byte again."""
        self._hasher = hashlib.sha256()
        self._hashed = 0

    def add(self, block: bytes) -> None:
        """Count a block that was appended to the file."""
        self._hasher.update(block)
        self._hashed += len(block)

    def sha256(self) -> str:
        """Count what is not counted yet and return the hash."""
        with self.path.open("rb") as handle:
            handle.seek(self._hashed)
            while block := handle.read(BLOCK):
                self.add(block)
        return self._hasher.hexdigest()


def _request(session: requests.Session, url: str, part: _Part, verifiable: bool, timeout: float) -> None:
    """Ask once for what is missing of the file."""
    known_tag = part.tag.read_text() if part.tag.exists() else None
    offset = part.path.stat().st_size if part.path.exists() and (verifiable or known_tag) else 0
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if known_tag:
            headers["If-Range"] = known_tag
    with session.get(url, headers=headers, stream=True, timeout=timeout) as response:
        status, content_range = response.status_code, response.headers.get("Content-Range", "")
        if status == 416 and offset and content_range == f"bytes */{offset}":
            return
        if status == 416 or (status == 206 and not content_range.startswith(f"bytes {offset}-")):
            part.path.unlink(missing_ok=True)
            raise Interrupted("the partial file does not belong to the server's; starting again")
        check_status(response)
        _refuse_page(response)
        _save_tag(response, part.tag)
        _save_body(response, part, offset if status == 206 else 0)


def _refuse_page(response: requests.Response) -> None:
    """A log-in, quota or error page that is sent as if it were the file."""
    if not response.headers.get("Content-Type", "").startswith("text/html"):
        return
    start = next(response.iter_content(BLOCK), b"").decode("utf-8", "replace")
    title = re.search(r"<title[^>]*>(.*?)</title>", start, re.IGNORECASE | re.DOTALL)
    raise Refused(f"a web page instead of the file: {' '.join(title[1].split()) if title else 'without a title'}")


def _save_tag(response: requests.Response, tag: Path) -> None:
    """Keep a strong entity tag, or the time of modification; a weak tag does not promise equal bytes."""
    value = response.headers.get("ETag", "")
    if not value or value.startswith("W/"):
        value = response.headers.get("Last-Modified", "")
    if value:
        tag.write_text(value)
    else:
        tag.unlink(missing_ok=True)


def _save_body(response: requests.Response, part: _Part, offset: int) -> None:
    """Append the body to the first `offset` bytes of the partial file."""
    length = response.headers.get("Content-Length")
    expected = None if length is None else int(length)
    received = 0
    name = part.path.name.removesuffix(".part")
    total = None if expected is None else offset + expected
    if offset:
        part.sha256()  # reads what an earlier call left, before more is appended
    else:
        part.restart()
    with (
        part.path.open("ab" if offset else "wb") as handle,
        tqdm(desc=name, total=total, initial=offset, unit="B", unit_scale=True, disable=None) as progress,
    ):
        for block in response.raw.stream(BLOCK, decode_content=False):
            handle.write(block)
            part.add(block)
            received += len(block)
            progress.update(len(block))
    if expected is not None and received != expected:
        raise Interrupted(f"the answer ended after {received} of {expected} bytes")


def download_small(session: requests.Session, url: str, path: Path, largest: int, retry: Retry) -> None:
    """Download a small file whole; nothing is resumed.

    Parameters
    ----------
    session
        Connections; one a thread.
    url
        Address of the file.
    path
        Where it is written; the caller removes it after an error.
    largest
        Bytes after which the answer is refused.
    retry
        Number of attempts and their delays; an answer that takes ten times `retry.timeout` is too slow.

    Raises
    ------
    Refused
        When the server refuses the file, or it is larger than `largest`.
    GaveUp
        When every attempt failed.
    """

    def ask() -> None:
        deadline = time.monotonic() + 10 * retry.timeout
        received = 0
        with session.get(url, stream=True, timeout=retry.timeout) as response, path.open("wb") as handle:
            check_status(response)
            for block in response.iter_content(BLOCK):  # raises when the answer ends early
                received += len(block)
                if received > largest:
                    raise Refused(f"more than {largest} bytes")
                if time.monotonic() > deadline:
                    raise Interrupted("the answer is too slow")
                handle.write(block)

    persist(ask, retry)
