"""Feature sets of which a share of the items has lost one modality: `<feature set>--masked-<percent>`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mmrepro.config_features import FeatureSetConfig
from mmrepro.errors import MmreproError
from mmrepro.features.encoders import fill_missing
from mmrepro.features.table import FeatureTable


def lost_sources(
    n_items: int, share: float, sources: Sequence[str], present: Mapping[str, np.ndarray] | None = None, seed: int = 0
) -> np.ndarray:
    """Draw which source each item loses.

    The first `share` of one fixed permutation of the items lose the one they have drawn, so that whoever loses a source at
    one share loses the same at any larger one.

    Parameters
    ----------
    n_items
        Number of items.
    share
        Of the items, in [0, 1]; rounded to whole items.
    sources
        Names, at least two.
    present
        Source to the items that have it, shape (n_items,), bool. An item draws among those it has; one that has fewer
        than two loses nothing, for nothing would be left to see. None: every item draws among all.
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
            f"masking: an item with the source {', '.join(sources)} alone would keep nothing to see; mask a feature set with "
            "at least two modalities"
        )
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(n_items)[: round(share * n_items)]
    draws = generator.random(n_items)
    everyone = np.ones(n_items, dtype=bool)
    has = np.stack([everyone if present is None else present[source] for source in sources], axis=1)
    ordered = np.argsort(~has, axis=1, kind="stable")  # the sources an item has, then the others
    n_sources = has.sum(axis=1)
    picked = ordered[np.arange(n_items), (draws * n_sources).astype(np.int64)]
    lost = np.full(n_items, "", dtype=f"<U{max(map(len, sources))}")
    chosen = chosen[n_sources[chosen] > 1]
    lost[chosen] = np.array(sources)[picked[chosen]]
    return lost


def mask_table(table: FeatureTable, lost: np.ndarray, config: FeatureSetConfig, keys: Sequence[str]) -> FeatureTable:
    """Return a table whose rows of items that lost its modality count as missing; nothing is encoded again.

    Parameters
    ----------
    table
        The whole table; it is left as it is.
    lost
        What each item loses, as `lost_sources` draws it.
    config
        The masked feature set: its name, its share, and how its modality treats missing items (`mean`: that of the rows
        that are left).
    keys
        Original keys of the items, in item order, for the record.

    Returns
    -------
    FeatureTable
        Not saved. Newly missing items have the reason "masked", those that were missing before keep theirs.

    Raises
    ------
    MmreproError
        When the rows are shuffled among items, an item is missing under `error`, or no item keeps its row.
    """
    origin = f"{config.feature_set}.{table.modality}"
    if table.record["shuffle_items"] is not None:
        raise MmreproError(
            f"{origin}: rows that are shuffled among items cannot be masked; mask the set without `shuffle_items`"
        )
    reasons = {entry["item"]: entry["reason"] for entry in table.record["missing"]}
    reasons = {**dict.fromkeys(np.flatnonzero(lost == table.modality).tolist(), "masked"), **reasons}
    if len(reasons) == len(table.matrix):
        raise MmreproError(f"{origin}: masked, no item keeps its row; choose a smaller share")
    matrix = table.matrix.copy()
    treatment = config.modalities[table.modality].missing
    fill_missing(matrix, reasons, treatment, origin)
    changes = {
        "feature_set": config.feature_set,
        "masked_share": config.masked_share,
        "treatment": treatment,
        "n_missing": len(reasons),
        "missing": [{"item": i, "key": str(keys[i]), "reason": reasons[i]} for i in sorted(reasons)],
    }
    return FeatureTable(matrix, table.modality, {**table.record, **changes})
