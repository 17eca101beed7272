"""Files over HTTP, bounded: large ones resumed and hashed as they arrive, small ones whole."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import requests
from tqdm import tqdm

from mmrepro.datasets.http import (
    BLOCK,
    GaveUp,
    Interrupted,
    Refused,
    Retry,
    blocks,
    check_status,
    open_url,
    persist,
    start_of,
)
from mmrepro.errors import MmreproError
from mmrepro.records.files import flush_to_disk

__all__ = ["Retry", "download", "download_small"]

LARGEST_BYTES = 256 * 1024**3
"""Bound of a file whose size is not stated: far above any data set, below what fills a disk unseen."""

PAGE = re.compile(rb"(\xef\xbb\xbf|\xff\xfe|\xfe\xff)?\s*<(!doctype\s+html|html)\b", re.IGNORECASE)
PAGE_NAMES = (".html", ".htm")


def download(
    session: requests.Session, url: str, part: Path, *, size: int | None, verifiable: bool, retry: Retry
) -> str:
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
        Where it arrives, `<name>.part`. After an interruption it is kept, with the entity tag beside it.
    size
        Bytes that the configuration states; more are not written. None: unknown, at most `LARGEST_BYTES`.
    verifiable
        Whether the caller knows the file's hash.
    retry
        Number of attempts and their delays.

    Returns
    -------
    str
        SHA-256 of the file, taken while it was written; what an earlier call left is read once. The file is on disk,
        ready to be renamed.

    Raises
    ------
    MmreproError
        When the server refuses the file, leads to an address that is not followed, answers with nothing, a web page or
        more than `size` bytes instead, or every attempt failed.
    """
    arriving = _Part(part, size)
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

    def __init__(self, path: Path, size: int | None) -> None:
        self.path, self.size = path, size
        self.name = path.name.removesuffix(".part")
        self.tag = path.with_name(path.name + ".etag")
        self.restart()

    def arrived(self) -> int:
        """Bytes that an earlier request left; more than may be are dropped."""
        found = self.path.stat().st_size if self.path.exists() else 0
        if self.size is not None and found > self.size:
            self.discard()
            return 0
        return found

    def discard(self) -> None:
        """Remove what is there."""
        self.path.unlink(missing_ok=True)
        self.tag.unlink(missing_ok=True)

    def check_size(self, arrived: int) -> None:
        """Refuse more bytes than may be."""
        limit = LARGEST_BYTES if self.size is None else self.size
        if arrived > limit:
            self.discard()
            stated = (
                f"at most {limit} are taken" if self.size is None else f"`bytes` states {limit}; correct it if wrong"
            )
            raise Refused(f"{arrived} bytes arrived and {stated}")

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
    offset = part.arrived()
    known_tag = part.tag.read_text(encoding="utf-8") if part.tag.exists() else None
    if not (verifiable or known_tag):
        offset = 0
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if known_tag:
            headers["If-Range"] = known_tag
    with open_url(session, url, timeout, headers=headers) as response:
        status, content_range = response.status_code, response.headers.get("Content-Range", "")
        if status == 416 and offset and content_range == f"bytes */{offset}":
            return
        if status == 416 or (status == 206 and not content_range.startswith(f"bytes {offset}-")):
            part.path.unlink(missing_ok=True)
            raise Interrupted("the partial file does not belong to the server's; starting again")
        check_status(response)
        offset = offset if status == 206 else 0
        length = response.raw.length_remaining  # None where the server states none, or no number
        body = blocks(response, timeout)
        if not offset:
            start = start_of(body)
            _refuse_page(response, start, part.name)
            body = chain([start], body)
        _save_tag(response, part.tag)
        _save_body(body, part, offset, None if length is None else offset + length)


def _refuse_page(response: requests.Response, start: bytes, name: str) -> None:
    """Nothing, or a log-in, quota or error page that is sent as if it were the file."""
    if not start:
        raise Refused("the answer is empty")
    declared = response.headers.get("Content-Type", "").startswith("text/html")
    begins = PAGE.match(start.replace(b"\0", b""))  # of UTF-16
    if name.lower().endswith(PAGE_NAMES) or not (declared or begins):
        return
    title = re.search(r"<title[^>]*>(.*?)</title>", start.decode("utf-8", "replace"), re.IGNORECASE | re.DOTALL)
    raise Refused(f"a web page instead of the file: {' '.join(title[1].split()) if title else 'without a title'}")


def _save_tag(response: requests.Response, tag: Path) -> None:
    """Keep a strong entity tag, or the time of modification; a weak tag does not promise equal bytes."""
    value = response.headers.get("ETag", "")
    if not value or value.startswith("W/"):
        value = response.headers.get("Last-Modified", "")
    if value:
        tag.write_text(value, encoding="utf-8")
    else:
        tag.unlink(missing_ok=True)


def _save_body(body: Iterator[bytes], part: _Part, offset: int, total: int | None) -> None:
    """Append the body to the first `offset` bytes of the partial file."""
    arrived = offset
    if offset:
        part.sha256()  # reads what an earlier call left, before more is appended
    else:
        part.restart()
    with (
        part.path.open("ab" if offset else "wb") as handle,
        tqdm(desc=part.name, total=total, initial=offset, unit="B", unit_scale=True, disable=None) as progress,
    ):
        for block in body:
            arrived += len(block)
            part.check_size(arrived)
            handle.write(block)
            part.add(block)
            progress.update(len(block))


def download_small(
    session: requests.Session, url: str, path: Path, largest: int, retry: Retry, *, private: bool = False
) -> None:
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
    private
        Whether the address may be one of a private network.

    Raises
    ------
    PrivateAddress
        For such an address where it may not be.
    Refused
        When the server refuses the file, leads to an address that is not followed, or sends more than `largest` bytes.
    GaveUp
        When every attempt failed.
    """

    def obtain() -> None:
        deadline = time.monotonic() + 10 * retry.timeout
        received = 0
        with open_url(session, url, retry.timeout, private=private) as response, path.open("wb") as handle:
            check_status(response)
            for block in blocks(response, retry.timeout, decode=True):
                received += len(block)
                if received > largest:
                    raise Refused(f"more than {largest} bytes")
                if time.monotonic() > deadline:
                    raise Interrupted("the answer is too slow")
                handle.write(block)

    persist(obtain, retry)
