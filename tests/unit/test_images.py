from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from http_server import Answer, Server, running_server
from PIL import Image

from mmrepro.config.dataset import DatasetConfig, Images
from mmrepro.datasets import http
from mmrepro.datasets.http import SLOWEST, Retry
from mmrepro.datasets.image_download import (
    ImageEntry,
    UnusableImage,
    check_image,
    download_images,
    load_images,
    open_image,
)
from mmrepro.datasets.image_files import LARGEST_PIXELS
from mmrepro.errors import MmreproError
from mmrepro.records.files import write_json


def photograph(side: int = 64) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


JPEG = encoded(photograph(), "JPEG")


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and whose few bytes would decode to it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(height * (1 + (width + 7) // 8)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def saved(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><html><body>404 not found</body></html>", "no image format is recognised"),
        (JPEG[: len(JPEG) // 2], "truncated or damaged (OSError)"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "no image format is recognised"),
        (png_claiming(8_000, 8_001), "more than 64000000 pixels"),
        (png_claiming(10_000, 10_000), "more than 64000000 pixels"),  # Pillow warns
        (png_claiming(20_000, 10_000), "more than 64000000 pixels"),  # Pillow refuses
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_no_image_is_refused_without_naming_a_folder(tmp_path: Path, content: bytes, reason: str) -> None:
    path = saved(tmp_path, content)
    assert check_image(path) == ("not an image", reason)
    with pytest.raises(UnusableImage) as refused:
        open_image(path)
    assert (refused.value.status, str(refused.value)) == ("not an image", reason)


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_bomb_is_refused_where_warnings_are_errors(tmp_path: Path) -> None:
    assert check_image(saved(tmp_path, png_claiming(10_000, 10_000)))[0] == "not an image"


def test_largest_image_is_accepted(tmp_path: Path) -> None:
    side = int(LARGEST_PIXELS**0.5)
    assert check_image(saved(tmp_path, png_claiming(side, side))) == ("ok", "")


def test_missing_file_is_missing(tmp_path: Path) -> None:
    assert check_image(tmp_path / "none.jpg") == ("missing", "file not found")


def test_placeholder_of_one_pixel_is_too_small(tmp_path: Path) -> None:
    path = saved(tmp_path, encoded(Image.new("RGB", (1, 1)), "GIF"))
    assert check_image(path, smallest_side=16) == ("too small", "1 x 1 pixels")
    assert check_image(path) == ("ok", "")


def test_narrow_image_is_too_small_by_its_shorter_side(tmp_path: Path) -> None:
    path = saved(tmp_path, encoded(photograph(64).crop((0, 0, 64, 15)), "PNG"))
    assert check_image(path, smallest_side=16) == ("too small", "64 x 15 pixels")
    assert check_image(path, smallest_side=15) == ("ok", "")


def test_jpeg_is_read_as_pillow_reads_it(tmp_path: Path) -> None:
    read = open_image(saved(tmp_path, JPEG))
    assert read.mode == "RGB"
    assert np.array_equal(read, Image.open(io.BytesIO(JPEG)))


def test_animation_is_read_as_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")]
    path = saved(tmp_path, encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert check_image(path, 16) == ("ok", "")
    assert set(open_image(path).get_flattened_data()) == {(255, 0, 0)}


def test_cmyk_jpeg_is_converted(tmp_path: Path) -> None:
    content = encoded(Image.new("CMYK", (20, 20), (0, 255, 255, 0)), "JPEG", quality=95)
    read = open_image(saved(tmp_path, content))
    assert read.mode == "RGB"
    assert np.allclose(np.asarray(read), [255, 0, 0], atol=4)


def test_sixteen_bit_greys_keep_their_shades(tmp_path: Path) -> None:
    shades = np.linspace(0, 65_535, 256).astype(np.uint16).reshape(16, 16)
    read = np.asarray(open_image(saved(tmp_path, encoded(Image.fromarray(shades), "PNG"))))
    assert np.abs(read[..., 0].astype(int) - shades // 256).max() <= 1


def test_palette_with_transparency_stands_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (20, 20))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((3, 4), 1)
    read = open_image(saved(tmp_path, encoded(image, "PNG", transparency=b"\x80\xff")))
    assert (read.getpixel((0, 0)), read.getpixel((3, 4))) == ((255, 127, 127), (0, 255, 0))


@pytest.mark.parametrize(("mode", "hidden"), [("RGBA", (255, 0, 255, 0)), ("LA", (80, 0))])
def test_what_a_cut_out_hides_is_not_seen(tmp_path: Path, mode: str, hidden: tuple[int, ...]) -> None:
    image = Image.new(mode, (20, 20), hidden)
    image.putpixel((3, 4), (200, 10, 20, 255) if mode == "RGBA" else (80, 255))
    read = open_image(saved(tmp_path, encoded(image, "PNG")))
    assert read.getpixel((0, 0)) == (255, 255, 255)
    assert read.getpixel((3, 4)) == ((200, 10, 20) if mode == "RGBA" else (80, 80, 80))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_upright_whatever_way_the_phone_was_held(tmp_path: Path, orientation: int) -> None:
    upright = Image.new("RGB", (96, 160), "white")
    upright.paste("red", (0, 0, 48, 40))  # a corner that no turn or flip leaves in place
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what a viewer undoes, as Pillow numbers it
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = open_image(saved(tmp_path, encoded(stored, "PNG", exif=exif)))
    assert read.size == (96, 160) and read.tobytes() == upright.tobytes()


@pytest.mark.parametrize(("mode", "value"), [("F", 0.5), ("I", 70000)])
def test_numbers_without_a_stated_range_are_no_picture(tmp_path: Path, mode: str, value: float) -> None:
    content = encoded(Image.new(mode, (20, 20), value), "TIFF")
    with pytest.raises(UnusableImage, match="32-bit pixels, whose range is not stated; save it with 8 or 16 bits"):
        open_image(saved(tmp_path, content))


def test_folder_without_a_list_has_no_images(tmp_path: Path) -> None:
    assert load_images(tmp_path) == {}


def test_list_of_images_is_read(tmp_path: Path) -> None:
    entries = {"a": {"status": "ok", "file": "images/a.jpg"}, "b": {"status": "missing", "reason": "no address"}}
    write_json(tmp_path / "IMAGES.json", {"dataset": "toy", "counts": {"ok": 1, "missing": 1}, "images": entries})
    assert load_images(tmp_path) == {
        "a": ImageEntry("ok", file="images/a.jpg"),
        "b": ImageEntry("missing", reason="no address"),
    }


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
