"""Images or texts through one tower of an open_clip model."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.config.base import nearest
from mmrepro.config.features import OpenClipEncoder
from mmrepro.errors import MmreproError
from mmrepro.features.encoders.base import Encoded, encode_texts, first_line, state_hash
from mmrepro.features.pixels import encode_images
from mmrepro.features.shards import Advance, Shards
from mmrepro.records.files import file_sha256
from mmrepro.runtime.devices import Device, encoding_device
from mmrepro.study.weights import weights_label

TEXT_SHARD = 4096


def encode(encoder: OpenClipEncoder, items: pd.DataFrame, raw: Path, shards: Shards) -> Encoded:
    """Encode each item's image, text or title; the output is the tower's, not normalised, in float32.

    Parameters
    ----------
    encoder
        Source, architecture and weights.
    items
        The items of the prepared data set, in item order.
    raw
        Folder that the image paths are relative to.
    shards
        Keeps finished parts.

    Raises
    ------
    MmreproError
        When architecture or weights cannot be had, or no item is usable.
    """
    import torch

    device = encoding_device(encoder.device)
    model, transform = load_model(encoder.architecture, encoder.weights, encoder.image_size, encoder.context_length)
    image = encoder.source == "image"
    description = {
        "weights": weights_label(encoder.weights),
        "weights_hash": state_hash(model),
        "threads": torch.get_num_threads(),
        **device.description(),
    }
    if Path(encoder.weights).is_file():
        description["weights_file_sha256"] = file_sha256(Path(encoder.weights))
    description["preprocessing"] = (
        {**model.visual.preprocess_cfg} if image else {"context_length": model.context_length}
    )
    model.to(device.name)
    if image:
        rows = _image_rows(model, device)
        matrix, reasons, address = encode_images(items, raw, encoder, transform, rows, shards, description)
    else:
        texts = items[encoder.source]
        matrix, reasons, counts = encode_texts(
            texts, encoder, _text_rows(model, encoder, device), shards, description, TEXT_SHARD,
            partial(texts_cut, open_clip_tokenizer(encoder.architecture), length=model.context_length),
        )  # fmt: skip
        return Encoded(matrix, reasons, {**description, **counts})
    return Encoded(matrix, reasons, {**description, "address": address})


def open_clip_tokenizer(architecture: str) -> Any:
    """Return the tokenizer of an architecture."""
    import open_clip

    return open_clip.get_tokenizer(architecture)


def texts_cut(tokenizer: Any, texts: list[str], length: int) -> np.ndarray:
    """Return whether each text has more than `length` tokens, marks included, shape (n,), bool."""
    longer = tokenizer([*texts, ""], context_length=length + 1).numpy()
    return np.asarray(longer[:-1, -1] != longer[-1, -1])  # the empty text ends in padding


def load_model(
    architecture: str, weights: str, image_size: int | None = None, context_length: int | None = None
) -> tuple[Any, Callable[[Any], Any]]:
    """Load an open_clip model on the CPU.

    Parameters
    ----------
    architecture
        A name of `open_clip.list_models()`.
    weights
        A pretrained tag, a local file, or `random:<seed>`: the architecture's own initialisation after
        `torch.manual_seed(seed)`.
    image_size
        Pixels a side; None: the architecture's own.
    context_length
        Tokens of a text; None: the architecture's own.

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
    seed = re.fullmatch(r"random:(\d{1,9})", weights)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not seed and weights not in tags and not Path(weights).is_file():
        raise MmreproError(
            f"open_clip: weights '{weights}' are no file and no tag of '{architecture}'; "
            f"{nearest(weights, [*tags, 'random:0'])}"
        )
    with torch.random.fork_rng(devices=[]):
        if seed:
            torch.manual_seed(int(seed[1]))
        try:
            model, _, preprocess = open_clip.create_model_and_transforms(
                architecture,
                pretrained=None if seed else weights,
                pretrained_text=False,
                force_image_size=image_size,
                force_context_length=context_length,
            )
        except Exception as error:  # the library raises errors of many packages
            raise MmreproError(
                f"open_clip: weights '{weights}' of '{architecture}' cannot be loaded ({first_line(error)}); without a "
                "network name a local file of this architecture, or `random:<seed>`"
            ) from None
    return model.eval(), preprocess


def _image_rows(model: Any, device: Device) -> Callable[[Any], np.ndarray]:
    def rows(images: Any) -> np.ndarray:
        with device.inference():
            return model.encode_image(images.to(device.name)).float().cpu().numpy()

    return rows


def _text_rows(model: Any, encoder: OpenClipEncoder, device: Device) -> Callable[[list[str], Advance], np.ndarray]:
    tokenize = open_clip_tokenizer(encoder.architecture)

    def rows(texts: list[str], advance: Advance) -> np.ndarray:
        found = []
        for start in range(0, len(texts), encoder.batch_size):
            batch = texts[start : start + encoder.batch_size]
            with device.inference():
                found.append(
                    model.encode_text(tokenize(batch, context_length=model.context_length).to(device.name))
                    .float()
                    .cpu()
                    .numpy()
                )
            advance(len(batch))
        return np.concatenate(found)

    return rows
