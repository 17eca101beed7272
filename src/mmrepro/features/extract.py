"""From prepared items to a feature table: encode, treat missing items, record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.columns import MASKED, Columns
from mmrepro.config.base import nearest
from mmrepro.config.features import AlignRecEncoder, Encoder, FeatureSetConfig, NeuralEncoder
from mmrepro.datasets.interactions import load_items, load_statistics
from mmrepro.errors import MmreproError
from mmrepro.features.derived import change_of, derive_table, lost_sources
from mmrepro.features.encoders.base import Encoded, fill_missing, load_encoder
from mmrepro.features.matrix import FeatureMatrix
from mmrepro.features.shards import Shards
from mmrepro.records.files import atomic_path
from mmrepro.runtime.devices import torch_threads
from mmrepro.study.kinds import code_of
from mmrepro.study.weights import weights_label


def extract(
    config: FeatureSetConfig, modality: str, prepared: Path, raw: Path, output: Path, pretrained: Path | None = None
) -> None:
    """Make one modality of a feature set and write its table; a killed extraction goes on where it stopped.

    A derived set is made from the tables of its base, but for unified vectors of which sources are masked: those are
    encoded anew.

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
        Folder of the feature set, beside that of its base; gets `<modality>.npy` and `<modality>.json`, from a
        multimodal language model also `<modality>.descriptions.parquet`; until then finished shards, in hidden folders.
    pretrained
        The encoder that was pre-trained on the data set, where the modality's encoder is of that kind.

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
    item_list_hash = load_statistics(prepared, "item_list_hash")["item_list_hash"]
    if config.encoded_anew(modality):
        lost = lost_sources(len(items), config.masked_share, config.sources)
        items = items.assign(**{MASKED: pd.Series(lost, index=items.index).replace("", None)})
    elif config.name.kind:
        table = FeatureMatrix.load(output.with_name(config.base), modality, len(items), item_list_hash)
        derive_table(table, config, items[Columns.KEY].tolist()).save(output)
        return
    if isinstance(encoder, AlignRecEncoder) and pretrained is not None:
        encoder = encoder.model_copy(update={"weights": str(pretrained)})
    configuration = _encoder_record(encoder)
    facts = {"encoder": {k: v for k, v in configuration.items() if k != "missing"}, "item_list_hash": item_list_hash}
    shards = Shards(output, modality, code_of("extract", encoder=encoder.encoder), facts)
    encoded = _encode(encoder, items, raw, shards)
    fill_missing(encoded.matrix, encoded.reasons, encoder.missing, shards.name)
    record = {
        "feature_set": config.feature_set,
        "modality": modality,
        "item_list_hash": item_list_hash,
        "encoder": configuration,
        **encoded.description,
        "change": change_of(config),
        "masked_share": config.masked_share,
        "treatment": encoder.missing,
        "n_missing": len(encoded.reasons),
        "missing": [
            {"item": item, "key": str(items[Columns.KEY].iloc[item]), "reason": encoded.reasons[item]}
            for item in sorted(encoded.reasons)
        ],
    }
    if encoded.texts is not None:
        _write_descriptions(encoded.texts, output / f"{modality}.descriptions.parquet")
    FeatureMatrix(encoded.matrix, modality, record).save(output)
    shards.clear()


def _encode(encoder: Encoder, items: pd.DataFrame, raw: Path, shards: Shards) -> Encoded:
    module = load_encoder(encoder)
    if not isinstance(encoder, NeuralEncoder):
        return module.encode(encoder, items, raw, shards)
    with torch_threads(encoder.threads):
        return module.encode(encoder, items, raw, shards)


def _encoder_record(encoder: Encoder) -> dict[str, Any]:
    """The encoder's configuration without local folders."""
    values = encoder.model_dump(mode="json")
    return {key: weights_label(value) if key.endswith("weights") else value for key, value in values.items()}


def _write_descriptions(texts: pd.Series, path: Path) -> None:
    """Columns `item` (int32) and `description`, null where there is none."""
    items = np.arange(len(texts), dtype=np.int32)
    with atomic_path(path) as temporary:
        pd.DataFrame({Columns.ITEM: items, "description": texts.to_numpy()}).to_parquet(temporary, index=False)
