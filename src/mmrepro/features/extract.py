"""From prepared items to a feature table: encode, treat missing items, record."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from mmrepro.columns import Columns
from mmrepro.config import Encoder, FeatureSetConfig, OpenClipEncoder, PublishedEncoder, nearest
from mmrepro.datasets.interactions import STATISTICS, load_items
from mmrepro.errors import MmreproError
from mmrepro.features.encoders import Encoded, torch_threads, weights_label
from mmrepro.features.table import FeatureTable
from mmrepro.provenance import read_json


def extract(
    config: FeatureSetConfig, modality: str, prepared: Path, raw: Path, output: Path, *, threads: int = 1
) -> None:
    """Make one modality of a feature set and write its table.

    Parameters
    ----------
    config
        The feature set.
    modality
        One of its modalities.
    prepared
        Folder of the prepared data set.
    raw
        Folder of the raw files, which image and feature files are relative to.
    output
        Folder of the feature set; gets `<modality>.npy` and `<modality>.json`.
    threads
        Threads of torch; part of the result's last bits and therefore of the record.

    Raises
    ------
    MmreproError
        For an unknown modality, weights that cannot be had, no usable item, or missing items under `missing: error`.
    """
    if modality not in config.modalities:
        raise MmreproError(
            f"{config.feature_set}: no modality '{modality}'; {nearest(modality, sorted(config.modalities))}"
        )
    encoder = config.modalities[modality]
    items = load_items(prepared)
    encoded = _encode(encoder, items, raw, threads)
    matrix = fill_missing(encoded.matrix, encoded.reasons, encoder.missing, f"{config.feature_set}.{modality}")
    if config.shuffle_items is not None:
        matrix = matrix[np.random.default_rng(config.shuffle_items).permutation(len(matrix))]
    record = {
        "feature_set": config.feature_set,
        "modality": modality,
        "item_list_hash": read_json(prepared / STATISTICS)["item_list_hash"],
        "encoder": _encoder_record(encoder),
        **encoded.description,
        "shuffle_items": config.shuffle_items,
        "treatment": encoder.missing,
        "n_missing": len(encoded.reasons),
        "missing": [
            {"item": item, "key": str(items[Columns.KEY].iloc[item]), "reason": encoded.reasons[item]}
            for item in sorted(encoded.reasons)
        ],
    }
    FeatureTable(matrix, modality, record).save(output)


def _encode(encoder: Encoder, items: pd.DataFrame, raw: Path, threads: int) -> Encoded:
    if isinstance(encoder, PublishedEncoder):
        from mmrepro.features.encoders.published import encode_published

        return encode_published(encoder, len(items), raw)
    with torch_threads(threads):
        if isinstance(encoder, OpenClipEncoder):
            from mmrepro.features.encoders.open_clip import encode_open_clip

            return encode_open_clip(encoder, items, raw)
        from mmrepro.features.encoders.sentence_transformers import encode_sentences

        return encode_sentences(encoder, items)


def _encoder_record(encoder: Encoder) -> dict[str, Any]:
    """The encoder's configuration without local folders."""
    values = encoder.model_dump(mode="json")
    if "weights" in values:
        values["weights"] = weights_label(values["weights"])
    return values


def fill_missing(
    matrix: np.ndarray, missing: Iterable[int], treatment: Literal["mean", "zero", "error"], origin: str
) -> np.ndarray:
    """Give missing items a row.

    Parameters
    ----------
    matrix
        Shape (n_items, dim).
    missing
        Items without a row of their own; at least one item is present.
    treatment
        `mean` of the present rows, `zero`, or `error`.
    origin
        Feature set and modality, for the message.

    Returns
    -------
    np.ndarray
        A new matrix; present rows are unchanged.

    Raises
    ------
    MmreproError
        Under `error`, when an item is missing.
    """
    rows = sorted(missing)
    filled = matrix.copy()
    if not rows:
        return filled
    if treatment == "error":
        raise MmreproError(
            f"{origin}: {len(rows)} of {len(matrix)} items have no features, the first is item {rows[0]}; mend the data or "
            "set `missing: mean` or `missing: zero` in config/features"
        )
    present = np.delete(matrix, rows, axis=0)
    filled[rows] = present.mean(axis=0, dtype=np.float64) if treatment == "mean" else 0
    return filled
