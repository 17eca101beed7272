"""What items hold of one source: pixels, token ids or vectors; and who has none, and why."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mmrepro.columns import MASKED, Columns
from mmrepro.config.base import content_hash
from mmrepro.features.alignment.vocabulary import Vocabulary
from mmrepro.features.encoders.base import MISSING_TEXT
from mmrepro.features.pixels import image_preparer, missing_images
from mmrepro.features.vectors import NAN_VECTOR, require_no_infinity
from mmrepro.records.files import atomic_path, read_json, write_json
from mmrepro.records.provenance import versions

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

BATCH = 64  # images decoded together
BLOCK = 1024  # rows of a matrix looked at together


@dataclass(frozen=True)
class Contents:
    """What items hold of one source.

    Attributes
    ----------
    content
        One row an item: pixels (3, side, side), uint8; token ids (length,), int64; or a vector of floats. It may be
        mapped from a file. What stands in the row of an item without this source does not matter.
    present
        Shape (items, tokens), bool: the tokens that there are.
    absent
        Item -> the reason why it has nothing of this source.
    same
        Shape (items,), int64: items with equal content share a number.
    """

    content: np.ndarray
    present: np.ndarray
    absent: dict[int, str]
    same: np.ndarray

    def without(self, items: np.ndarray) -> Contents:
        """Return the contents with this source taken from some items, for the reason `masked`."""
        present = self.present.copy()
        present[items] = False
        return Contents(self.content, present, {**self.absent, **dict.fromkeys(items.tolist(), MASKED)}, self.same)


class Square:
    """From a PIL image to the pixels of its middle square, as CLIP does: the short side becomes `side`, bicubic."""

    def __init__(self, side: int) -> None:
        self.side = side

    def __repr__(self) -> str:
        return f"Square({self.side})"

    def __call__(self, image: Image) -> Tensor:
        """Return pixels (3, side, side), uint8."""
        import torch
        from PIL import ImageOps
        from PIL.Image import Resampling

        fitted = ImageOps.fit(image.convert("RGB"), (self.side, self.side), Resampling.BICUBIC)
        return torch.from_numpy(np.array(fitted).transpose(2, 0, 1).copy())


def read_images(
    items: pd.DataFrame,
    raw: Path,
    hashes: list[str],
    transform: Callable[[Any], Any],
    side: int,
    n_tokens: int,
    folder: Path | None = None,
) -> Contents:
    """Decode the images of items.

    Parameters
    ----------
    items
        Columns `image` and `image_reason`, as prepared.
    raw
        Folder that the images are relative to.
    hashes
        Of each item's image file.
    transform
        From a PIL image to pixels (3, side, side), uint8; can be pickled; told from others by its `repr`.
    side
        Pixels of the square.
    n_tokens
        Patches of an image.
    folder
        Where pixels are kept, in a hidden file mapped into memory (items * 3 * side * side bytes); none: in memory.
    """
    shape = (len(items), 3, side, side)
    if folder is None:
        pixels: np.ndarray = np.zeros(shape, dtype=np.uint8)
        reasons = _decode(items, raw, transform, pixels)
    else:
        path = pixel_file(folder, [hashes, repr(transform), versions()["pillow"]])
        if not path.is_file():
            with atomic_path(path) as temporary:
                pixels = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
                reasons = _decode(items, raw, transform, pixels)
                write_json(path.with_suffix(".json"), [[item, reason] for item, reason in reasons.items()])
        pixels, reasons = np.load(path, mmap_mode="r"), dict(read_json(path.with_suffix(".json")))
    usable = ~np.isin(np.arange(len(items)), list(reasons))
    return Contents(pixels, np.repeat(usable[:, None], n_tokens, axis=1), reasons, _numbered(hashes))


def pixel_file(folder: Path, facts: Any) -> Path:
    """Return the hidden file of decoded pixels that depend on these facts."""
    return folder / f".pixels-{content_hash(facts)[:16]}.npy"


def remove_pixels(folder: Path) -> None:
    """Delete the files of decoded pixels."""
    for path in sorted(folder.glob(".pixels-*")):
        path.unlink()


def _decode(items: pd.DataFrame, raw: Path, transform: Callable[[Any], Any], pixels: np.ndarray) -> dict[int, str]:
    """Fill the rows of the usable images; return the others' reasons."""
    reasons = missing_images(items)
    named = np.flatnonzero(items[Columns.IMAGE].notna())
    paths = [raw / name for name in items[Columns.IMAGE].iloc[named]]
    starts = range(0, len(paths), BATCH)
    with image_preparer(transform, len(paths)) as prepare:
        batches = prepare(paths[start : start + BATCH] for start in starts)
        for start, (images, failed) in zip(starts, batches, strict=True):
            rows = named[start : start + BATCH]
            usable = np.array(failed) == ""
            if images is not None:
                pixels[rows[usable]] = images
            reasons |= {int(row): reason for row, reason in zip(rows, failed, strict=True) if reason}
    return dict(sorted(reasons.items()))


def read_texts(texts: pd.Series, vocabulary: Vocabulary, length: int) -> Contents:
    """Split texts into at most `length` tokens; a text without any is absent."""
    ids, present = vocabulary.tokenise(texts.tolist(), length)
    absent = dict.fromkeys(np.flatnonzero(~present.any(axis=1)).tolist(), MISSING_TEXT)
    return Contents(ids, present, absent, _numbered(row.tobytes() for row in ids))


def read_vectors(matrix: np.ndarray, path: Path, keys: pd.Series) -> Contents:
    """Look at the vectors of items (n, dim) block by block; those that hold NaN are absent, infinity is an error."""
    present = np.zeros(len(matrix), dtype=bool)
    digests: list[bytes] = []
    for start in range(0, len(matrix), BLOCK):
        rows = np.ascontiguousarray(matrix[start : start + BLOCK])
        require_no_infinity(rows, path, keys.iloc[start : start + BLOCK])
        present[start : start + BLOCK] = ~np.isnan(rows).any(axis=1)
        digests += [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
    absent = dict.fromkeys(np.flatnonzero(~present).tolist(), NAN_VECTOR)
    return Contents(matrix, present[:, None], absent, _numbered(digests))


def _numbered(keys: Iterable[str | bytes]) -> np.ndarray:
    """A number for each distinct key, in order of appearance."""
    return pd.factorize(np.array(list(keys), dtype=object))[0]
