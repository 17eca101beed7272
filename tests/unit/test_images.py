from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmrepro.datasets.image_download import (
    ImageEntry,
    UnusableImage,
    check_image,
    load_images,
    open_image,
)
from mmrepro.datasets.image_files import LARGEST_PIXELS
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
