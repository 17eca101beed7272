"""What counts as an image, and the one way to read it.

Everything that reads an image reads it here, so that what `prepare` counts as usable is what an encoder can decode.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

OK, MISSING, NOT_AN_IMAGE, TOO_SMALL = "ok", "missing", "not an image", "too small"
STATUSES = (OK, MISSING, NOT_AN_IMAGE, TOO_SMALL)
LARGEST_PIXELS = 64_000_000
"""More are refused from the header, before anything is decoded: 192 MB as RGB."""

EXTENSIONS = {
    "JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "GIF": ".gif", "WEBP": ".webp", "AVIF": ".avif", "BMP": ".bmp",
    "TIFF": ".tiff",
}  # fmt: skip
"""The formats that are read; others of Pillow's run programs (EPS) or are no photographs."""


class UnusableImage(Exception):
    """An image that cannot be used.

    Attributes
    ----------
    status
        One of `STATUSES`, never `ok`.
    reason
        What is wrong, without any local path; also the message.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(status, reason)  # both, so that it survives the way between processes
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


def open_image(path: Path) -> Image.Image:
    """Decode an image file.

    Parameters
    ----------
    path
        The file; its content decides the format, not its name.

    Returns
    -------
    PIL.Image.Image
        The first frame in RGB, fully decoded: upright, as its EXIF orientation says, and on white where it is
        transparent. 16-bit greys are scaled to 8.

    Raises
    ------
    UnusableImage
        For a missing, empty or damaged file, another format, numbers without a stated range (32 bits), and more than
        `LARGEST_PIXELS` pixels.
    """
    return decode_image(path, smallest_side=1)[0]


def check_image(path: Path, smallest_side: int = 1) -> tuple[str, str]:
    """Decode an image file and say whether it can be used.

    Parameters
    ----------
    path
        The file.
    smallest_side
        Pixels that width and height must have; smaller images are placeholders.

    Returns
    -------
    tuple
        Status (one of `STATUSES`) and reason, empty where the status is `ok`.
    """
    try:
        decode_image(path, smallest_side)
    except UnusableImage as unusable:
        return unusable.status, unusable.reason
    return OK, ""


def decode_image(path: Path, smallest_side: int) -> tuple[Image.Image, str]:
    """Decode an image file as `open_image` does, and name its format.

    Parameters
    ----------
    path
        The file.
    smallest_side
        Pixels that width and height must have.

    Returns
    -------
    tuple
        The first frame in RGB, and the extension of the file's format, such as `.jpg`.

    Raises
    ------
    UnusableImage
        As `open_image`, and for a smaller image.
    """
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise UnusableImage(MISSING, "file not found")
    if path.stat().st_size == 0:
        raise UnusableImage(NOT_AN_IMAGE, "the file is empty")
    Image.init()  # registers the formats, once
    formats = [name for name in EXTENSIONS if name in Image.OPEN]  # MPO is opened as a JPEG
    try:
        with Image.open(path, formats=formats) as image:
            _check_size(*image.size, smallest_side)
            return _to_rgb(image), EXTENSIONS[str(image.format)]
    except UnusableImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnusableImage(NOT_AN_IMAGE, f"more than {LARGEST_PIXELS} pixels") from None
    except UnidentifiedImageError:
        raise UnusableImage(NOT_AN_IMAGE, "no image format is recognised") from None
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise UnusableImage(NOT_AN_IMAGE, f"truncated or damaged ({type(error).__name__})") from None


def _check_size(width: int, height: int, smallest_side: int) -> None:
    if width * height > LARGEST_PIXELS:
        raise UnusableImage(NOT_AN_IMAGE, f"more than {LARGEST_PIXELS} pixels")
    if min(width, height) < smallest_side:
        raise UnusableImage(TOO_SMALL, f"{width} x {height} pixels")


def _to_rgb(image: Any) -> Image.Image:
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # convert() would clip at 255
        import numpy as np

        image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise UnusableImage(NOT_AN_IMAGE, "32-bit pixels, whose range is not stated; save it with 8 or 16 bits")
    if not image.has_transparency_data:
        return image.convert("RGB")
    cut_out = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", cut_out.size, "white"), cut_out).convert("RGB")
