"""One file over HTTP: resumed, retried, and complete or not there."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import requests
import urllib3
from tqdm import tqdm

from mmrepro.errors import MmreproError

BLOCK = 64 * 1024
OVERLOADED = (408, 425, 429)


@dataclass(frozen=True)
class Retry:
    """How patient a download is.

    Attributes
    ----------
    attempts
        Number of requests before giving up.
    base_delay
        Seconds before the second request; doubled before each further one.
    timeout
        Seconds without a byte after which a request counts as failed.
    """

    attempts: int = 5
    base_delay: float = 1.0
    timeout: float = 60.0


class _Interrupted(Exception):
    """An answer that another request may better."""


def download(url: str, part: Path, *, verifiable: bool, retry: Retry) -> None:
    """Download a file to `part`, going on where an earlier call stopped.

    What an earlier call left is only continued when the result can be trusted: the server's entity tag is the same
    (`If-Range`), or the caller compares the content with a known hash.

    Parameters
    ----------
    url
        Address of the file, http or https.
    part
        Where it arrives. After an error it is kept, with the entity tag beside it.
    verifiable
        Whether the caller knows the file's hash.
    retry
        Number of attempts and their delays.

    Raises
    ------
    MmreproError
        When the server refuses the file or every attempt failed.
    """
    tag = part.with_name(part.name + ".etag")
    problem = ""
    with requests.Session() as session:
        for attempt in range(retry.attempts):
            if attempt:
                time.sleep(retry.base_delay * 2 ** (attempt - 1))
            try:
                _request(session, url, part, tag, verifiable, retry.timeout)
            except (_Interrupted, requests.RequestException, urllib3.exceptions.HTTPError) as error:
                problem = str(error) or type(error).__name__
            else:
                tag.unlink(missing_ok=True)
                return
    raise MmreproError(
        f"{url}: gave up after {retry.attempts} attempts ({' '.join(problem.split())}); run the same command again, "
        "it goes on where it stopped, or set MMREPRO_MIRROR to a folder that holds the file"
    )


def _request(session: requests.Session, url: str, part: Path, tag: Path, verifiable: bool, timeout: float) -> None:
    """Ask once for what is missing of the file."""
    known_tag = tag.read_text() if tag.exists() else None
    offset = part.stat().st_size if part.exists() and (verifiable or known_tag) else 0
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
            part.unlink(missing_ok=True)
            raise _Interrupted("the partial file does not belong to the server's; starting again")
        if status >= 500 or status in OVERLOADED:
            raise _Interrupted(f"HTTP status {status}")
        if status not in (200, 206):
            raise MmreproError(f"{url}: the server answers {status}; correct the url or set MMREPRO_MIRROR")
        _save_tag(response, tag)
        _save_body(response, part, offset if status == 206 else 0)


def _save_tag(response: requests.Response, tag: Path) -> None:
    """Keep a strong entity tag; a weak one does not promise equal bytes."""
    value = response.headers.get("ETag", "")
    if value and not value.startswith("W/"):
        tag.write_text(value)
    else:
        tag.unlink(missing_ok=True)


def _save_body(response: requests.Response, part: Path, offset: int) -> None:
    """Append the body to the first `offset` bytes of the partial file."""
    length = response.headers.get("Content-Length")
    expected = None if length is None else int(length)
    received = 0
    name = part.name.removesuffix(".part")
    total = None if expected is None else offset + expected
    with (
        part.open("ab" if offset else "wb") as handle,
        tqdm(desc=name, total=total, initial=offset, unit="B", unit_scale=True, disable=None) as progress,
    ):
        for block in response.raw.stream(BLOCK, decode_content=False):
            handle.write(block)
            received += len(block)
            progress.update(len(block))
    if expected is not None and received != expected:
        raise _Interrupted(f"the answer ended after {received} of {expected} bytes")
