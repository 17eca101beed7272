"""Images that are downloaded: what becomes of each, and of the download."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from http_server import Answer, Server, running_server
from PIL import Image
from test_images import JPEG, encoded, photograph

from mmrepro.config.dataset import DatasetConfig, Images
from mmrepro.datasets import http
from mmrepro.datasets.http import SLOWEST, Retry
from mmrepro.datasets.image_download import (
    check_image,
    download_images,
    load_images,
)
from mmrepro.errors import MmreproError

RETRY = Retry(attempts=3, base_delay=0.01, timeout=1.5)


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as instance:
        yield instance


def shop(raw: Path, addresses: dict[str, str], **images: int) -> DatasetConfig:
    """A data set of two users who both have every item, and the addresses of the items' images."""
    raw.mkdir(exist_ok=True)
    rows = [f"{user},{item}" for user in "uv" for item in addresses]
    (raw / "rows.csv").write_text("\n".join(["user,item", *rows, "u,rare", "u,rare"]))
    (raw / "items.csv").write_text("\n".join(["item,url", *(f"{i},{u}" for i, u in addresses.items()), "rare,x"]))
    options = {"interactions_file": "rows.csv", "items_file": "items.csv", "image_column": "url"}
    settings = {"connections": 3, "smallest_side": 16, "private_addresses": True, **images}
    about = {"dataset": "shop", "title": "Shop", "folder": "shop", "licence": "none", "k_core": 2}
    return DatasetConfig.model_validate({**about, "reader": "tabular", "options": options, "images": settings})


def listed(raw: Path) -> dict[str, tuple[str, str]]:
    """Key -> status, and file or reason."""
    entries = json.loads((raw / "IMAGES.json").read_text())["images"]
    return {key: (entry["status"], entry.get("file") or entry.get("reason")) for key, entry in entries.items()}


def test_every_fate_of_an_image_is_listed(server: Server, tmp_path: Path) -> None:
    html = Answer(b"<html><title>Sorry</title></html>", headers={"Content-Type": "text/html"})
    fine = encoded(photograph(), "PNG")
    server.answers = {
        "/ok": [Answer(JPEG)],
        "/moved": [Answer(status=302, headers={"Location": f"{server.url}/ok"})],
        "/round": [Answer(status=302, headers={"Location": f"{server.url}/round"})],
        "/gone": [Answer(b"gone", 410)],
        "/busy": [Answer(b"busy", 500), Answer(b"slow down", 429, {"Retry-After": "0"}), Answer(fine)],
        "/slow": [Answer(fine, delay=2.0), Answer(fine)],
        "/cut": [Answer(JPEG, cut_after=500), Answer(JPEG)],
        "/always-cut": [Answer(JPEG, cut_after=500)],
        "/always-busy": [Answer(b"busy", 503)],
        "/html": [html],
        "/tiny": [Answer(encoded(Image.new("RGB", (1, 1)), "GIF"))],
        "/empty": [Answer(b"")],
    }
    names = [name.removeprefix("/") for name in server.answers] + ["not-found"]
    raw = tmp_path / "raw"
    addresses = {name: f"{server.url}/{name}" for name in names}
    config = shop(raw, {**addresses, "bare": "", "other": "https://"})
    download_images(config, raw, RETRY)
    assert listed(raw) == {
        "ok": ("ok", "images/ok.jpg"),
        "moved": ("ok", "images/moved.jpg"),
        "round": ("missing", "the address cannot be used: TooManyRedirects"),
        "gone": ("missing", "HTTP status 410"),
        "busy": ("ok", "images/busy.png"),
        "slow": ("ok", "images/slow.png"),
        "cut": ("ok", "images/cut.jpg"),
        "always-cut": ("missing", "gave up: ProtocolError"),
        "always-busy": ("missing", "gave up: HTTP status 503"),
        "html": ("not an image", "no image format is recognised"),
        "tiny": ("too small", "1 x 1 pixels"),
        "empty": ("not an image", "the file is empty"),
        "not-found": ("missing", "HTTP status 404"),
        "bare": ("missing", "no address"),
        "other": ("missing", "the address cannot be used: InvalidURL"),
    }
    record = json.loads((raw / "IMAGES.json").read_text())
    assert list(record["images"]) == sorted(record["images"])
    assert record["counts"] == {"ok": 5, "missing": 7, "not an image": 2, "too small": 1}
    assert {path.name for path in (raw / "images").iterdir()} == {
        "ok.jpg", "moved.jpg", "busy.png", "slow.png", "cut.jpg"
    }  # fmt: skip
    assert (raw / "images/cut.jpg").read_bytes() == JPEG
    assert not (raw / ".images.jsonl").exists()
    assert [server.asked.count(f"/{name}") for name in ("gone", "not-found", "busy", "always-busy")] == [1, 1, 3, 3]
    assert all(check_image(raw / entry.file) == ("ok", "") for entry in load_images(raw).values() if entry.file)


def test_next_call_asks_again_only_for_what_may_have_passed(server: Server, tmp_path: Path) -> None:
    server.answers = {
        "/ok": [Answer(JPEG)],
        "/tiny": [Answer(encoded(Image.new("RGB", (8, 8)), "PNG"))],
        "/busy": [Answer(b"busy", 503)] * 3 + [Answer(JPEG)],
    }
    addresses = {name: f"{server.url}/{name}" for name in ("ok", "tiny", "busy", "gone")}
    raw = tmp_path / "raw"
    download_images(shop(raw, addresses), raw, RETRY)
    assert listed(raw)["busy"] == ("missing", "gave up: HTTP status 503")
    server.asked.clear()
    download_images(shop(raw, addresses), raw, RETRY)
    assert server.asked == ["/busy"]
    assert listed(raw)["busy"] == ("ok", "images/busy.jpg")
    server.asked.clear()
    download_images(shop(raw, addresses, smallest_side=8), raw, RETRY)
    assert server.asked.count("/tiny") == 1 and listed(raw)["tiny"] == ("ok", "images/tiny.png")


def test_images_of_a_mirror_are_not_asked_for(server: Server, tmp_path: Path) -> None:
    server.answers = {"/b": [Answer(JPEG)]}
    raw = tmp_path / "raw"
    config = shop(raw, {"a": f"{server.url}/a", "b": f"{server.url}/b", "c/d": ""})
    (raw / "images").mkdir()
    (raw / "images" / "a.jpeg").write_bytes(JPEG)
    (raw / "images" / "b.png").write_bytes(b"damaged")
    (raw / "images" / "c%2Fd.jpg").write_bytes(JPEG)
    download_images(config, raw, RETRY)
    assert server.asked == ["/b"]
    assert listed(raw) == {
        "a": ("ok", "images/a.jpeg"),
        "b": ("ok", "images/b.jpg"),
        "c/d": ("ok", "images/c%2Fd.jpg"),
    }


def test_image_that_the_reader_has_is_not_asked_for(server: Server, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    config = shop(raw, {"a": "own/a.jpg", "b": f"{server.url}/b"})
    (raw / "own").mkdir()
    (raw / "own" / "a.jpg").write_bytes(JPEG)
    download_images(config, raw, RETRY)
    assert listed(raw) == {"b": ("missing", "HTTP status 404")}


def test_file_names_stay_in_the_folder(server: Server, tmp_path: Path) -> None:
    keys = ["../up", "a b", "ü", "con:1", "x" * 300]
    server.answers = {f"/{number}": [Answer(JPEG)] for number in range(len(keys))}
    raw = tmp_path / "raw"
    download_images(shop(raw, {key: f"{server.url}/{n}" for n, key in enumerate(keys)}), raw, RETRY)
    entries = load_images(raw)
    assert {entry.status for entry in entries.values()} == {"ok"}
    assert entries["../up"].file == "images/..%2Fup.jpg" and entries["ü"].file == "images/%C3%BC.jpg"
    assert len({entry.file for entry in entries.values()}) == len(list((raw / "images").iterdir())) == len(keys)


def test_open_connections_are_bounded_and_used(server: Server, tmp_path: Path) -> None:
    server.answers = {f"/{number}": [Answer(JPEG, delay=0.1)] for number in range(24)}
    raw = tmp_path / "raw"
    addresses = {f"i{number}": f"{server.url}/{number}" for number in range(24)}
    download_images(shop(raw, addresses, connections=4), raw, RETRY)
    assert server.most_unanswered == 4
    assert set(server.asked) == set(server.answers) and len(server.asked) == 24


def test_answer_beyond_the_largest_size_is_refused(server: Server, tmp_path: Path) -> None:
    server.answers = {"/large": [Answer(JPEG + bytes(33 * 1024 * 1024))]}
    raw = tmp_path / "raw"
    download_images(shop(raw, {"large": f"{server.url}/large", "bare": ""}), raw, RETRY)
    assert listed(raw) == {"large": ("missing", "more than 33554432 bytes"), "bare": ("missing", "no address")}
    assert list((raw / "images").iterdir()) == []


def test_dead_network_stops_the_download_early(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    config = shop(raw, {f"i{number}": "http://127.0.0.1:9/none" for number in range(150)})
    with pytest.raises(MmreproError, match=r"'shop': 100 images in a row failed, .*ConnectionError; check the network"):
        download_images(config, raw, Retry(attempts=1))
    assert not (raw / "IMAGES.json").exists()


def test_private_address_is_not_asked_unless_the_configuration_says_so(server: Server, tmp_path: Path) -> None:
    server.answers = {"/a": [Answer(JPEG)]}
    raw = tmp_path / "raw"
    addresses = {"a": f"{server.url}/a", "b": "http://169.254.169.254/latest/meta-data", "c": "http://localhost/c"}
    download_images(shop(raw, addresses, private_addresses=False), raw, RETRY)
    assert set(listed(raw).values()) == {("missing", "a private address (images: private_addresses)")}
    assert server.asked == []
    download_images(shop(raw, {"a": addresses["a"], "none": ""}), raw, RETRY)
    assert listed(raw) == {"a": ("ok", "images/a.jpg"), "none": ("missing", "no address")}


def test_private_addresses_are_off_unless_said() -> None:
    assert not Images().private_addresses


def test_image_is_not_led_into_a_private_network(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = {"localhost": ["93.184.216.34"], "127.0.0.1": ["127.0.0.1"]}
    monkeypatch.setattr(http, "addresses", lambda url: judged[str(urlsplit(url).hostname)])
    server.answers = {
        "/a": [Answer(status=302, headers={"Location": f"{server.url}/inside"})],
        "/b": [Answer(status=302, headers={"Location": "file:///etc/passwd"})],
        "/c": [Answer(JPEG)],
    }
    raw = tmp_path / "raw"
    public = server.url.replace("127.0.0.1", "localhost")
    download_images(shop(raw, {key: f"{public}/{key}" for key in "abc"}, private_addresses=False), raw, RETRY)
    assert listed(raw) == {
        "a": ("missing", "a private address (images: private_addresses)"),
        "b": ("missing", "redirected to 'file:', which is neither http nor https"),
        "c": ("ok", "images/c.jpg"),
    }
    assert "/inside" not in server.asked


def test_trickling_image_is_given_up(server: Server, tmp_path: Path) -> None:
    def trickle() -> Iterator[bytes]:
        for byte in JPEG:
            yield bytes([byte])
            time.sleep(0.02)

    server.answers = {"/slow": [Answer(stream=trickle)], "/endless": [Answer(stream=lambda: repeat(bytes(100_000)))]}
    raw = tmp_path / "raw"
    config = shop(raw, {name: f"{server.url}/{name}" for name in ("slow", "endless")})
    download_images(config, raw, Retry(attempts=2, base_delay=0.01, timeout=0.1))
    assert listed(raw)["slow"][1] in (
        "gave up: the answer is too slow",
        f"gave up: the answer is slower than {SLOWEST} bytes a second",
    )
    assert listed(raw)["endless"] == ("missing", "more than 33554432 bytes")


@pytest.mark.slow
def test_killed_download_asks_only_for_the_rest(server: Server, tmp_path: Path) -> None:
    names = [f"{number:02}" for number in range(40)]
    server.answers = {f"/{n}": [Answer(JPEG, delay=0.05)] for n in names if int(n) % 4}  # 404 for each fourth
    raw = tmp_path / "raw"
    config = shop(raw, {f"i{name}": f"{server.url}/{name}" for name in names}, connections=2)
    code = (
        "import sys; from pathlib import Path; from mmrepro.config.dataset import DatasetConfig; "
        "from mmrepro.datasets.image_download import download_images; "
        "download_images(DatasetConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, config.model_dump_json(), str(raw)])
    while len(server.asked) < 20 and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = len(server.asked)
    assert 20 <= before < len(names)
    kept = {path.stem.removeprefix("i") for path in (raw / "images").glob("i*.jpg")}
    with (raw / ".images.jsonl").open("a") as journal:
        journal.write('{"key": "i')  # a line that was cut
    download_images(config, raw, RETRY)
    again = {path.removeprefix("/") for path in server.asked[before:]}
    refused_before = {path.removeprefix("/") for path in server.asked[:before] if path not in server.answers}
    assert len(kept) >= 10 and not again & kept
    assert len(again & refused_before) <= 4  # answered, but not noted before the kill
    assert len(server.asked) - before <= len(names) - len(kept) - len(refused_before) + 4
    assert {status for status, _ in listed(raw).values()} == {"ok", "missing"}
    assert json.loads((raw / "IMAGES.json").read_text())["counts"]["ok"] == 30
    assert sorted(path.name for path in raw.iterdir()) == ["IMAGES.json", "images", "items.csv", "rows.csv"]
