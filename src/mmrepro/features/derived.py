"""Feature sets made from the tables of another, `<feature set>--<change>`: nothing is encoded again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from mmrepro.config.features import CHANGES, FeatureSetConfig
from mmrepro.errors import MmreproError
from mmrepro.features.encoders.base import fill_missing
from mmrepro.features.matrix import FeatureMatrix

Treatment = Literal["mean", "zero", "error"]
SEED = 0
CHUNK = 1024  # rows that are held in float64 at once


def derive_table(table: FeatureMatrix, config: FeatureSetConfig, keys: Sequence[str]) -> FeatureMatrix:
    """Return the table of a derived feature set.

    Parameters
    ----------
    table
        The table that it is made from; it is left as it is.
    config
        The derived feature set: its name says what is changed, its modality how missing items are treated.
    keys
        Original keys of the items, in item order, for the record.

    Returns
    -------
    FeatureMatrix
        Not saved. The record's `change` says what was changed; missing items keep their reason where they have one.

    Raises
    ------
    MmreproError
        Where masking leaves no row, or an item is missing under `error`; for a feature set without tables of its own.
    """
    origin = f"{config.feature_set}.{table.modality}"
    reasons = {entry["item"]: entry["reason"] for entry in table.record["missing"]}
    match config.name.kind:
        case "masked":
            lost = lost_sources(len(keys), config.masked_share, config.sources)
            matrix, reasons = _masked(table, lost, reasons, config.modalities[table.modality].missing, origin)
        case "shuffled":
            rows = np.random.default_rng(SEED).permutation(len(table.matrix))  # every modality's alike
            matrix = table.matrix[rows]
            reasons = {item: reasons[row] for item, row in enumerate(rows.tolist()) if row in reasons}
        case "noise":
            matrix, reasons = _noise_like(table), {}
        case _:
            raise MmreproError(f"{origin}: has no table of its own; read that of '{config.base}'")
    changes = {
        "feature_set": config.feature_set,
        "masked_share": config.masked_share,
        "change": change_of(config),
        "treatment": config.modalities[table.modality].missing,
        "n_missing": len(reasons),
        "missing": [{"item": i, "key": str(keys[i]), "reason": reasons[i]} for i in sorted(reasons)],
    }
    return FeatureMatrix(matrix, table.modality, {**table.record, **changes})


def change_of(config: FeatureSetConfig) -> str | None:
    """Return in words how a feature set differs from the one it is derived from; none where it is not derived."""
    if not config.name.kind:
        return None
    return f"{CHANGES[config.name.kind].replace('<percent>', config.name.argument + ' %')} (seed {SEED})"


def lost_sources(n_items: int, share: float, sources: Sequence[str], seed: int = SEED) -> np.ndarray:
    """Draw which source each item loses.

    The first `share` of one fixed permutation of the items lose the one they have drawn, so that whoever loses a
    source at one share loses the same at any larger one.

    Parameters
    ----------
    n_items
        Number of items.
    share
        Of the items, in [0, 1]; rounded to whole items.
    sources
        Names, at least two.
    seed
        Of the permutation and the draws.

    Returns
    -------
    np.ndarray
        Shape (n_items,), str: the source lost, or empty.

    Raises
    ------
    MmreproError
        For fewer than two sources.
    """
    if len(sources) < 2:
        raise MmreproError(
            f"masking: an item with the source {', '.join(sources)} alone would keep nothing to see; mask a "
            "feature set with at least two modalities"
        )
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(n_items)[: round(share * n_items)]
    drawn = (generator.random(n_items) * len(sources)).astype(np.int64)
    lost = np.full(n_items, "", dtype=f"<U{max(map(len, sources))}")
    lost[chosen] = np.array(sources)[drawn[chosen]]
    return lost


def _masked(
    table: FeatureMatrix, lost: np.ndarray, reasons: dict[int, str], treatment: Treatment, origin: str
) -> tuple[np.ndarray, dict[int, str]]:
    """Rows of items that lost the table's modality count as missing; those that were missing before keep their
    reason.
    """
    reasons = {**dict.fromkeys(np.flatnonzero(lost == table.modality).tolist(), "masked"), **reasons}
    if len(reasons) == len(table.matrix):
        raise MmreproError(f"{origin}: masked, no item keeps its row; choose a smaller share")
    matrix = table.matrix.copy()
    fill_missing(matrix, reasons, treatment, origin)
    return matrix, reasons


def _noise_like(table: FeatureMatrix) -> np.ndarray:
    """Gaussian noise of the matrix's shape and type, each column with its mean and variance; modalities differ."""
    generator = np.random.default_rng([SEED, *table.modality.encode()])
    mean = table.matrix.mean(axis=0, dtype=np.float64)
    chunks = [slice(start, start + CHUNK) for start in range(0, len(table.matrix), CHUNK)]
    variance = sum(((table.matrix[rows] - mean) ** 2).sum(axis=0) for rows in chunks) / len(table.matrix)
    noise = np.empty_like(table.matrix)
    for rows in chunks:
        noise[rows] = mean + np.sqrt(variance) * generator.standard_normal(noise[rows].shape)
    return noise
