"""Which addresses a download may lead to: what a server answers never opens the network that the user is in."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import SplitResult, urljoin, urlsplit

import requests

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""How a network without IPv4 writes IPv4 addresses."""


def prepared(url: str) -> str:
    """Return a url as requests will ask for it, so that what is checked is what is connected to.

    Raises
    ------
    requests.exceptions.RequestException
        For what is no url.
    """
    try:
        return str(requests.Request("GET", url).prepare().url)
    except requests.RequestException:
        raise
    except ValueError as error:  # which requests lets through
        raise requests.exceptions.InvalidURL(str(error)) from None


def split(url: str, base: str = "") -> SplitResult:
    """Split a url, relative to `base`, into its parts; raise `InvalidURL` of requests for what is none."""
    try:
        return urlsplit(urljoin(base, url))
    except ValueError as error:
        raise requests.exceptions.InvalidURL(str(error)) from None


def addresses(url: str) -> list[str]:
    """IP addresses of a url's host; none where the name is unknown: the request will say so, or a proxy knows it."""
    host = split(url).hostname or ""
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, None)]
    except (OSError, UnicodeError):
        return []


def is_private(address: str) -> bool:
    """Whether an IP address is no public one: private, loopback, link-local, shared, multicast or reserved.

    An IPv6 address that stands for one of IPv4 is judged as that one.
    """
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is None:
            return not found.is_global or found.is_multicast or found.is_reserved or found.is_site_local
        return is_private(str(inner))
    return not found.is_global or found.is_multicast or found.is_reserved
