"""Images of items through an encoder: decoded in worker processes where there are many, in batches, in shards."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mmrepro.columns import IMAGE_REASON, Columns
from mmrepro.config.base import content_hash
from mmrepro.config.features import NeuralEncoder
from mmrepro.datasets.image_download import UnusableImage, open_image
from mmrepro.datasets.raw_folder import verify
from mmrepro.features.encoders.base import gather_rows, require_complete, require_usable
from mmrepro.features.shards import Advance, Arrays, Shards, shard_size
from mmrepro.records.files import file_sha256

if TYPE_CHECKING:
    from torch import Tensor

SHARD = 1024
ABSENT = "absent"
FEW_IMAGES = 512
"""Fewer images are decoded before worker processes have started."""

Transform = Callable[[Any], Any]
Batch = tuple[np.ndarray | None, list[str]]
"""The prepared images that are usable, and for every path why it is not, empty where it is."""


def encode_images(
    items: pd.DataFrame,
    raw: Path,
    encoder: NeuralEncoder,
    transform: Transform,
    encode: Callable[[Tensor], np.ndarray],
    shards: Shards,
    facts: dict[str, Any],
) -> tuple[np.ndarray, dict[int, str], str]:
    """Encode the images of all items that have one.

    Parameters
    ----------
    items
        Column `image`, paths relative to `raw`, null where there is none; `image_reason` says why, where it is there.
    raw
        Folder of the raw files.
    encoder
        Batch size and treatment of missing items.
    transform
        Turns a PIL image into a tensor of fixed shape; can be pickled.
    encode
        Turns a batch of such tensors into a matrix with one row each.
    shards
        Keeps finished parts.
    facts
        What the rows depend on besides the images.

    Returns
    -------
    tuple
        Matrix (n_items, dim), the reasons of the items without a usable image, and the address.

    Raises
    ------
    MmreproError
        When no item has a usable image, or one has none at all under `missing: error`: before anything is encoded.
    """
    names = items[Columns.IMAGE]
    named = names.notna().to_numpy()
    reasons = missing_images(items)
    require_usable(int(named.sum()), len(items), "image")
    require_complete(reasons, len(items), encoder.missing, shards.name)
    owners = np.where(named, np.cumsum(named) - 1, -1)
    paths = [raw / name for name in names[named]]
    size = shard_size(SHARD, encoder.batch_size)
    address = shards.address({**facts, "images": content_hash(image_hashes(raw, names[named])), "shard_size": size})
    with image_preparer(transform, len(paths)) as prepare:

        def rows(start: int, stop: int, advance: Advance) -> Arrays:
            steps = range(start, stop, encoder.batch_size)
            batches = prepare(paths[step : min(step + encoder.batch_size, stop)] for step in steps)
            return _encode_batches(batches, encode, advance)

        matrix = gather_rows(owners, shards.make(address, len(paths), size, rows), reasons, "image")
    return matrix, reasons, address


def missing_images(items: pd.DataFrame) -> dict[int, str]:
    """Return item index -> reason of the items that name no image."""
    without = np.flatnonzero(items[Columns.IMAGE].isna())
    if IMAGE_REASON not in items:
        return dict.fromkeys(without.tolist(), "no image")
    known = items[IMAGE_REASON].iloc[without].fillna("no image")
    return dict(zip(without.tolist(), known.astype(str), strict=True))


def image_hashes(raw: Path, names: Iterable[str]) -> list[str]:
    """Return the SHA-256 of each raw image file's bytes, `absent` where there is no file.

    Raises
    ------
    MmreproError
        When a file is not the one that was fetched.
    """
    found = []
    for name in names:
        found.append(file_sha256(raw / name) if (raw / name).is_file() else ABSENT)
        if found[-1] != ABSENT:
            verify(raw, name, found[-1])
    return found


def unusable_reason(unusable: UnusableImage) -> str:
    """Return the reason as it is recorded."""
    return f"{unusable.status}: {unusable.reason}"


def _encode_batches(batches: Iterable[Batch], encode: Callable[[Tensor], np.ndarray], advance: Advance) -> Arrays:
    """Rows and reasons of one shard; rows of unusable images are zero."""
    import torch

    rows: list[np.ndarray] = []
    reasons: list[str] = []
    for images, failed in batches:
        if images is not None:
            rows.append(encode(torch.from_numpy(images)))
        reasons += failed
        advance(len(failed))
    known = np.array(reasons)
    matrix = np.zeros((len(reasons), rows[0].shape[1] if rows else 0), dtype=np.float32)
    if rows:
        matrix[known == ""] = np.concatenate(rows)
    return {"rows": matrix, "reasons": known}


@contextmanager
def image_preparer(transform: Transform, n_images: int) -> Iterator[Callable[[Iterable[list[Path]]], Iterator[Batch]]]:
    """Yield a function from batches of paths to prepared batches, in order.

    Parameters
    ----------
    transform
        Turns a PIL image into a tensor of fixed shape; can be pickled.
    n_images
        Number of images to come; where they are many, as many processes as torch has threads decode them.
    """
    import torch

    workers = min(os.cpu_count() or 1, torch.get_num_threads())
    if workers == 1 or n_images < FEW_IMAGES:
        yield partial(map, partial(prepare_batch, transform))
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of torch's threads
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(transform,)) as pool:
        yield partial(_ahead, pool, 2 * workers)


def _ahead(pool: ProcessPoolExecutor, depth: int, batches: Iterable[list[Path]]) -> Iterator[Batch]:
    """Prepared batches in order, a bounded number of them in advance."""
    waiting: deque[Future[Batch]] = deque()
    for batch in batches:
        waiting.append(pool.submit(_work, batch))
        if len(waiting) > depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


_worker_transform: Transform


def _start_worker(transform: Transform) -> None:
    global _worker_transform
    import torch

    torch.set_num_threads(1)
    _worker_transform = transform


def _work(paths: list[Path]) -> Batch:
    return prepare_batch(_worker_transform, paths)


def prepare_batch(transform: Transform, paths: list[Path]) -> Batch:
    """Decode and transform images one after the other."""
    images, reasons = [], []
    for path in paths:
        try:
            images.append(transform(open_image(path)).numpy())
            reasons.append("")
        except UnusableImage as unusable:
            reasons.append(unusable_reason(unusable))
    return np.stack(images) if images else None, reasons
