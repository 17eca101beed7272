"""Requests over HTTP: retried with patience, redirects checked one by one, bodies read at no less than a rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import requests
import urllib3

from mmrepro.datasets.addresses import addresses, is_private, prepared, split

T = TypeVar("T")

BLOCK = 64 * 1024
OVERLOADED = (408, 425, 429)
LONGEST_WAIT = 120.0
"""Seconds; a server that asks for more patience is asked again after these."""

SLOWEST = 1024
"""Bytes a second; a server that sends fewer has stalled."""

WINDOW = 10
"""Timeouts over which the rate is taken."""

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


class PrivateAddress(Refused):
    """An address inside a private network where only a public one may stand."""


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


def open_url(
    session: requests.Session,
    url: str,
    timeout: float,
    *,
    headers: Mapping[str, str] | None = None,
    private: bool = True,
) -> requests.Response:
    """Ask once for an address and follow its redirects, each checked before it is asked.

    Names are resolved for the check and once more for the connection; a name that means another address a moment
    later is not noticed.

    Parameters
    ----------
    session
        Connections and cookies.
    url
        The address.
    timeout
        Seconds without a byte after which the request counts as failed.
    headers
        Sent with the request and with those that its redirects lead to.
    private
        Whether the address may be one of a private network; if it is, its redirects may lead there too.

    Returns
    -------
    requests.Response
        The answer, its body not read yet; the caller closes it.

    Raises
    ------
    PrivateAddress
        For such an address where it may not be.
    Refused
        For a redirect to another scheme than http and https, or from https to http.
    """
    url = prepared(url)
    found = [is_private(address) for address in addresses(url)]
    if any(found) and not private:
        raise PrivateAddress("a private address")
    private = bool(found) and all(found)
    for _ in range(session.max_redirects + 1):
        response, target = _answer(session, url, timeout, headers)
        if target is None:
            return response
        response.close()
        url = follow(url, target, private=private)
    raise requests.exceptions.TooManyRedirects(f"more than {session.max_redirects} redirects")


def _answer(
    session: requests.Session, url: str, timeout: float, headers: Mapping[str, str] | None
) -> tuple[requests.Response, str | None]:
    """What an address answers, its body not read yet, and where it leads."""
    targets = []

    def take(response: requests.Response, **_: object) -> None:
        """Hide a redirect from requests, which would prepare it and read this answer's body, however long."""
        if response.is_redirect:
            targets.append(response.headers.pop("Location").encode("latin-1").decode("utf-8", "replace"))

    response = session.get(
        url, headers=headers, stream=True, timeout=timeout, allow_redirects=False, hooks={"response": take}
    )
    return response, targets[0] if targets else None


def follow(url: str, target: str, *, private: bool) -> str:
    """Return the address that an answer leads to.

    Parameters
    ----------
    url
        The address that answered.
    target
        Where it leads, possibly relative to `url`.
    private
        Whether it may lead into a private network.

    Raises
    ------
    PrivateAddress
        For an address in a private network where `private` is false.
    Refused
        For another scheme than http and https, and for http after https.
    """
    parts = split(target, base=url)
    if parts.scheme not in ("http", "https"):
        raise Refused(f"redirected to '{parts.scheme}:', which is neither http nor https")
    if parts.scheme == "http" and split(url).scheme == "https":
        raise Refused(f"redirected from https down to http, host '{parts.hostname}'")
    address = prepared(parts.geturl())
    if not private and any(map(is_private, addresses(address))):
        raise PrivateAddress(f"redirected to '{parts.hostname}', a private address")
    return address


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


def blocks(response: requests.Response, timeout: float, *, decode: bool = False) -> Iterator[bytes]:
    """Yield a body as it arrives.

    Parameters
    ----------
    response
        An answer whose body is not read yet.
    timeout
        Seconds; the rate is taken over `WINDOW` times as many.
    decode
        Whether a content encoding is undone.

    Yields
    ------
    bytes
        1 to `BLOCK` bytes.

    Raises
    ------
    Interrupted
        When fewer than `SLOWEST` bytes a second arrive.
    urllib3.exceptions.HTTPError
        When the body ends early or nothing arrives for too long.
    """
    start, received = time.monotonic(), 0
    while block := response.raw.read1(BLOCK, decode_content=decode):  # read() would wait for a whole block
        yield block
        received += len(block)
        elapsed = time.monotonic() - start
        if elapsed > WINDOW * timeout:
            if received < SLOWEST * elapsed:
                raise Interrupted(f"the answer is slower than {SLOWEST} bytes a second")
            start, received = time.monotonic(), 0


def start_of(body: Iterator[bytes], size: int = BLOCK) -> bytes:
    """Take the first blocks of a body, together `size` bytes or little more, fewer only where it ends."""
    start = bytearray()
    while len(start) < size and (block := next(body, b"")):
        start += block
    return bytes(start)
