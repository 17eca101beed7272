"""Images or texts through one tower of an open_clip model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from mmrepro.columns import Columns
from mmrepro.config import OpenClipEncoder, nearest
from mmrepro.errors import MmreproError
from mmrepro.features.encoders import Encoded, encode_texts, first_line, scatter_rows, state_hash, weights_label
from mmrepro.provenance import file_sha256


class UnusableImage(Exception):
    """An item has no image, or one that cannot be read; the message is the recorded reason."""


def encode_open_clip(encoder: OpenClipEncoder, items: pd.DataFrame, raw: Path) -> Encoded:
    """Encode each item's image, text or title; the output is the tower's, not normalised, in float32.

    Parameters
    ----------
    encoder
        Source, architecture and weights.
    items
        The items of the prepared data set, in item order.
    raw
        Folder that the image paths are relative to.

    Raises
    ------
    MmreproError
        When architecture or weights cannot be had, or no item is usable.
    """
    import torch

    model, preprocess = load_model(encoder.architecture, encoder.weights)
    description = {
        "weights": weights_label(encoder.weights),
        "weights_hash": state_hash(model),
        "threads": torch.get_num_threads(),
    }
    if Path(encoder.weights).is_file():
        description["weights_file_sha256"] = file_sha256(Path(encoder.weights))
    with torch.inference_mode():
        if encoder.source == "image":
            matrix, reasons = _encode_images(model, preprocess, items[Columns.IMAGE], raw, encoder.batch_size)
            description["preprocessing"] = {**model.visual.preprocess_cfg}
        else:
            matrix, reasons = _encode_texts(model, encoder, items[encoder.source])
            description["preprocessing"] = {"context_length": model.context_length}
    return Encoded(matrix, reasons, description)


def load_model(architecture: str, weights: str) -> tuple[Any, Callable[[Any], Any]]:
    """Load an open_clip model on the CPU.

    Parameters
    ----------
    architecture
        A name of `open_clip.list_models()`.
    weights
        A pretrained tag, a local file, or `random:<seed>`: the architecture's own initialisation after
        `torch.manual_seed(seed)`.

    Returns
    -------
    tuple
        The model in evaluation mode, and its image transform for evaluation.

    Raises
    ------
    MmreproError
        For an unknown architecture or tag, and for weights that cannot be loaded.
    """
    import open_clip
    import torch

    if architecture not in open_clip.list_models():
        raise MmreproError(
            f"open_clip: unknown architecture '{architecture}'; {nearest(architecture, open_clip.list_models())}"
        )
    seed = re.fullmatch(r"random:(\d+)", weights)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not seed and weights not in tags and not Path(weights).is_file():
        raise MmreproError(
            f"open_clip: weights '{weights}' are no file and no tag of '{architecture}'; {nearest(weights, [*tags, 'random:0'])}"
        )
    with torch.random.fork_rng(devices=[]):
        if seed:
            torch.manual_seed(int(seed[1]))
        try:
            model, _, preprocess = open_clip.create_model_and_transforms(
                architecture, pretrained=None if seed else weights, pretrained_text=False
            )
        except Exception as error:  # the library raises errors of many packages
            raise MmreproError(
                f"open_clip: weights '{weights}' of '{architecture}' cannot be loaded ({first_line(error)}); without a "
                "network name a local file of this architecture, or `random:<seed>`"
            ) from None
    return model.eval(), preprocess


def _encode_texts(model: Any, encoder: OpenClipEncoder, texts: pd.Series) -> tuple[np.ndarray, dict[int, str]]:
    import open_clip

    tokenize = open_clip.get_tokenizer(encoder.architecture)

    def encode(distinct: list[str]) -> np.ndarray:
        starts = tqdm(range(0, len(distinct), encoder.batch_size), desc="texts", unit="batch", disable=None)
        batches = (distinct[start : start + encoder.batch_size] for start in starts)
        return np.concatenate([model.encode_text(tokenize(batch)).float().numpy() for batch in batches])

    return encode_texts(texts, encode, encoder.source)


def _encode_images(
    model: Any, preprocess: Callable[[Any], Any], names: pd.Series, raw: Path, batch_size: int
) -> tuple[np.ndarray, dict[int, str]]:
    import torch

    indices: list[int] = []
    rows: list[np.ndarray] = []
    reasons: dict[int, str] = {}
    images = _usable_images(names, raw, preprocess, reasons)
    while batch := list(islice(images, batch_size)):
        indices += [index for index, _ in batch]
        rows.append(model.encode_image(torch.stack([image for _, image in batch])).float().numpy())
    return scatter_rows(len(names), indices, np.concatenate(rows) if rows else np.empty((0, 0)), "image"), reasons


def _usable_images(
    names: pd.Series, raw: Path, preprocess: Callable[[Any], Any], reasons: dict[int, str]
) -> Iterator[tuple[int, Any]]:
    """Yield item and preprocessed image, and note the reason for every item that is left out."""
    for index, name in enumerate(tqdm(names, desc="images", unit="image", disable=None)):
        try:
            yield index, preprocess(read_image(raw, name))
        except UnusableImage as reason:
            reasons[index] = str(reason)


def read_image(raw: Path, name: str | None) -> Any:
    """Read one image as RGB.

    Parameters
    ----------
    raw
        Folder of the raw files.
    name
        Path of the image below it; null where the item has none.

    Returns
    -------
    PIL.Image.Image
        Fully decoded.

    Raises
    ------
    UnusableImage
        With a reason that names no local folder.
    """
    from PIL import Image

    if name is None or pd.isna(name):
        raise UnusableImage("no image")
    path = raw / name
    if not path.is_file():
        raise UnusableImage("image file not found")
    if path.stat().st_size == 0:
        raise UnusableImage("image file is empty")
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise UnusableImage(f"image is unreadable ({type(error).__name__})") from None
