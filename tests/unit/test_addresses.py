"""Where a download may be led: not to another scheme, and not from the public network into a private one."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from http_server import Answer, Server, running_server
from hypothesis import given
from hypothesis import strategies as st

from mmrepro.datasets import http
from mmrepro.datasets.addresses import NAT64, addresses, is_private
from mmrepro.datasets.download import download
from mmrepro.datasets.http import PrivateAddress, Refused, Retry, follow, open_url, persist
from mmrepro.errors import MmreproError

PRIVATE = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
    "224.0.0.0/4", "240.0.0.0/4",
]  # fmt: skip
PRIVATE_6 = ["::/127", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"]
PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::808:808", "::ffff:8.8.8.8"]
RETRY = Retry(attempts=3, base_delay=0.01, timeout=5.0)


@given(st.sampled_from(PRIVATE).flatmap(lambda network: st.ip_addresses(network=network)))
def test_private_address_is_known_however_it_is_written(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    written = [
        address,
        ipaddress.IPv6Address((0xFFFF << 32) + number),
        ipaddress.IPv6Address(int(NAT64[0]) + number),
        ipaddress.IPv6Address((0x2002 << 112) + (number << 80)),
    ]
    assert all(is_private(str(each)) for each in written)


@given(st.sampled_from(PRIVATE_6).flatmap(lambda network: st.ip_addresses(network=network)))
def test_private_address_of_ipv6_is_known(address: ipaddress.IPv6Address) -> None:
    assert is_private(str(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_address_is_known(address: str) -> None:
    assert not is_private(address)


@pytest.mark.parametrize("name", ["no.such.name.invalid", "a" * 70 + ".com", ""])
def test_name_that_means_nothing_has_no_address(name: str) -> None:
    assert addresses(f"http://{name}/") == []


HOSTS = [
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "169.254.169.254", "10.1.2.3", "[::1]", "[::ffff:10.0.0.1]",
    "localhost", "user:secret@127.0.0.1", "127.0.0.1:8080", "LOCALHOST",
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_private_target_is_refused_after_a_public_address(host: str) -> None:
    with pytest.raises(PrivateAddress, match=r"redirected to '.*', a private address"):
        follow("http://93.184.216.34/file", f"http://{host}/file", private=False)
    assert follow("http://127.0.0.1/", f"http://{host}/file", private=True).endswith("/file")


@pytest.mark.parametrize("found", [["10.0.0.8"], ["93.184.216.34", "::1"]])
def test_name_that_means_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch, found: list[str]) -> None:
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port: answers)
    with pytest.raises(PrivateAddress, match=r"redirected to 'cdn\.example\.org', a private address"):
        follow("https://example.org/", "https://cdn.example.org/file", private=False)


TARGETS = [
    "file:///etc/passwd",
    "ftp://example.org/file",
    "gopher://127.0.0.1/",
    "data:text/csv,a",
    "javascript:alert(1)",
]


@pytest.mark.parametrize("target", TARGETS)
def test_target_of_another_scheme_is_refused(target: str) -> None:
    with pytest.raises(Refused, match=r"redirected to '\w+:', which is neither http nor https"):
        follow("https://93.184.216.34/", target, private=True)


def test_target_may_not_leave_encryption() -> None:
    with pytest.raises(Refused, match=r"redirected from https down to http, host '8\.8\.8\.8'"):
        follow("https://93.184.216.34/", "http://8.8.8.8/file", private=False)
    assert follow("http://93.184.216.34/", "https://8.8.8.8/file", private=False) == "https://8.8.8.8/file"


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("next", "https://8.8.8.8/a/next"),
        ("/next?b=c", "https://8.8.8.8/next?b=c"),
        ("//8.8.4.4/x", "https://8.8.4.4/x"),
        ("", "https://8.8.8.8/a/b"),
    ],
)
def test_relative_target_is_followed(target: str, address: str) -> None:
    assert follow("https://8.8.8.8/a/b", target, private=False) == address


@given(st.text(max_size=30))
def test_target_is_an_address_of_http_or_an_error_that_is_handled(target: str) -> None:
    try:
        address = follow("http://127.0.0.1/", target.replace(".", ""), private=True)
    except (Refused, requests.RequestException):
        return
    assert urlsplit(address).scheme in ("http", "https")


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as instance:
        yield instance


@pytest.fixture
def public(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server's address under a name that counts as public; under its number it is private."""

    def judged(url: str) -> list[str]:
        return ["93.184.216.34"] if urlsplit(url).hostname == "localhost" else addresses(url)

    monkeypatch.setattr(http, "addresses", judged)
    return server.url.replace("127.0.0.1", "localhost")


def moved(target: str) -> Answer:
    return Answer(status=302, headers={"Location": target})


def obtain(url: str, part: Path) -> None:
    with requests.Session() as session:
        download(session, url, part, size=None, verifiable=False, retry=RETRY)


@pytest.mark.parametrize("target", TARGETS[:2])
def test_download_is_not_led_to_another_scheme(server: Server, tmp_path: Path, target: str) -> None:
    server.answers["/file"] = [moved(target)]
    with pytest.raises(MmreproError, match=r"/file: refused \(redirected to '\w+:', .*; correct the url"):
        obtain(f"{server.url}/file", tmp_path / "part")
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "target", ["http://[", "http://", "\xff", "http://a:99999/", "http://[::1", "http://[::1]:x/", "http://\x00/"]
)
def test_redirect_to_what_is_no_address_is_refused(server: Server, tmp_path: Path, target: str) -> None:
    server.answers["/file"] = [moved(target)]
    with pytest.raises(
        MmreproError, match=r"/file: refused \((the address cannot be used|HTTP status 404).*\); correct the url"
    ):
        obtain(f"{server.url}/file", tmp_path / "part")


def test_download_is_not_led_into_a_private_network(server: Server, public: str, tmp_path: Path) -> None:
    server.answers = {"/file": [moved(f"{public}/next")], "/next": [moved(f"{server.url}/inside")]}
    with pytest.raises(MmreproError, match=r"/file: refused \(redirected to '127\.0\.0\.1', a private address\)"):
        obtain(f"{public}/file", tmp_path / "part")
    assert server.asked == ["/file", "/next"]


def test_continued_download_is_not_led_into_a_private_network(server: Server, public: str, tmp_path: Path) -> None:
    cut = Answer(bytes(300_000), headers={"ETag": '"one"'}, cut_after=200_000)
    server.answers["/file"] = [cut, Answer(b"busy", 503), moved(f"{server.url}/inside")]
    with pytest.raises(MmreproError, match="a private address"):
        obtain(f"{public}/file", tmp_path / "part")
    assert server.asked == ["/file"] * 3 and server.ranges[-1] is not None


def test_download_follows_where_it_may(server: Server, public: str, tmp_path: Path) -> None:
    server.answers = {"/file": [moved("/next")], "/next": [moved(f"{public}/last")], "/last": [Answer(b"content")]}
    obtain(f"{public}/file", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == b"content"
    server.answers["/inside"] = [moved(f"{server.url}/last")]
    obtain(f"{server.url}/inside", tmp_path / "part")


def test_endless_body_of_a_redirect_is_not_read(server: Server, tmp_path: Path) -> None:
    endless = Answer(status=302, headers={"Location": "/next"}, stream=lambda: repeat(bytes(64 * 1024)))
    server.answers = {"/file": [endless], "/next": [Answer(b"content")]}
    obtain(f"{server.url}/file", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == b"content"


def test_target_in_utf_8_is_followed(server: Server, tmp_path: Path) -> None:
    server.answers = {
        "/file": [moved("/gr\u00f6\u00dfe".encode().decode("latin-1"))],
        "/gr%C3%B6%C3%9Fe": [Answer(b"content")],
    }
    obtain(f"{server.url}/file", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == b"content"


def test_address_with_one_private_meaning_opens_no_network(
    server: Server, public: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name of which one meaning is public is no name of a private network."""
    monkeypatch.setattr(
        http, "addresses", lambda url: ["93.184.216.34", "10.0.0.1"] if "localhost" in url else ["127.0.0.1"]
    )
    server.answers["/file"] = [moved(f"{server.url}/inside")]
    with requests.Session() as session, pytest.raises(PrivateAddress):
        open_url(session, f"{public}/file", 5.0)


def test_private_address_is_not_asked_where_it_may_not_be(server: Server) -> None:
    with requests.Session() as session, pytest.raises(PrivateAddress):
        open_url(session, f"{server.url}/file", 5.0, private=False)
    assert server.asked == []


@pytest.mark.parametrize(
    "url", ["ftp://[", "http://[::1", "data:,", "file:///etc/passwd", "picture.jpg", "http://*.a/"]
)
@pytest.mark.parametrize("private", [True, False])
def test_what_is_no_address_is_refused(url: str, private: bool) -> None:
    with requests.Session() as session, pytest.raises(Refused, match="the address cannot be used"):
        persist(lambda: open_url(session, url, 5.0, private=private), RETRY)
