"""The unified vectors of an encoder that was pre-trained on the catalogue itself (AlignRec, stage 1)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.columns import MASKED, Columns
from mmrepro.config.features import AlignRecEncoder
from mmrepro.errors import MmreproError
from mmrepro.features.alignment.catalogue import Reader, has_any, read_parts
from mmrepro.features.alignment.encoder import UnifiedEncoder, build_encoder
from mmrepro.features.alignment.vocabulary import Vocabulary
from mmrepro.features.encoders.base import Encoded, gather_rows, state_hash
from mmrepro.features.shards import Advance, Arrays, Shards, shard_size
from mmrepro.runtime.devices import Device, encoding_device

SHARD = 1024
SETTINGS = ("sources", "architecture", "dim", "layers", "heads")
"""Settings that the pre-trained encoder must share."""


def encode(encoder: AlignRecEncoder, items: pd.DataFrame, raw: Path, shards: Shards) -> Encoded:
    """Encode all that each item has, nothing hidden; the unified vector in float32.

    Parameters
    ----------
    encoder
        The settings; its `weights` is the `encoder.pt` that pre-training wrote.
    items
        The items of the prepared data set, in item order; a column `masked` may name the source that an item has lost.
    raw
        Folder that images and matrix files are relative to.
    shards
        Keeps finished parts.

    Raises
    ------
    MmreproError
        When `weights` is no such file or belongs to other settings, a source cannot be had, or no item has any.
    """
    import torch

    device = encoding_device(encoder.device)
    stored = _stored(encoder, shards.name)
    reader = Reader(encoder, items, raw, "random:0")
    vocabularies = reader.vocabularies(stored["words"])
    model = _model(encoder, stored, reader, vocabularies)
    description = {
        "weights": _origin(stored["configuration"]),
        "weights_hash": state_hash(model),
        "preprocessing": reader.preprocessing(),
        "threads": torch.get_num_threads(),
        **device.description(),
    }
    masked = [None if pd.isna(lost) else lost for lost in items[MASKED]] if MASKED in items else None
    size = shard_size(SHARD, encoder.batch_size)
    facts = {**description, "data": reader.hashes(), "masked": masked, "shard_size": size}
    address = shards.address(facts)
    model.to(device.name).eval()

    def rows(start: int, stop: int, advance: Advance) -> Arrays:
        return _shard(model, reader, slice(start, stop), vocabularies, encoder.batch_size, device, advance)

    absent: dict[str, dict[int, str]] = {name: {} for name in encoder.sources}
    reasons: dict[int, str] = {}
    found = _collect(shards.make(address, len(items), size, rows), absent)
    matrix = gather_rows(np.arange(len(items)), found, reasons, " or ".join(encoder.sources))
    keys = items[Columns.KEY]
    listed = {
        name: [{"item": item, "key": str(keys.iloc[item]), "reason": reason} for item, reason in lacking.items()]
        for name, lacking in absent.items()
    }
    counts = {"absent": listed, "texts_cut": reader.texts_cut(vocabularies), "address": address}
    return Encoded(matrix, reasons, {**description, **counts})


def _stored(encoder: AlignRecEncoder, name: str) -> dict[str, Any]:
    """What pre-training wrote, which must be of the same settings."""
    import torch

    path, stored = Path(encoder.weights), None
    if path.is_file():
        try:
            stored = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # no file of torch's: zip, pickle and runtime errors alike
            stored = None
    if not isinstance(stored, dict) or "configuration" not in stored:
        raise MmreproError(f"{name}: weights '{path}' are no encoder.pt of `mmrepro align-content`; run it first")
    settings = encoder.model_dump(mode="json")
    differing = [key for key in SETTINGS if stored["configuration"][key] != settings[key]]
    if differing:
        raise MmreproError(f"{path}: pre-trained with another `{differing[0]}`; run `mmrepro align-content` again")
    return stored


def _model(
    encoder: AlignRecEncoder, stored: dict[str, Any], reader: Reader, vocabularies: dict[str, Vocabulary]
) -> UnifiedEncoder:
    """The pre-trained encoder on the CPU."""
    sizes = {name: vocabulary.n_ids for name, vocabulary in vocabularies.items()}
    sizes |= {name: vectors.matrix.shape[1] for name, vectors in reader.vectors.items()}
    model = build_encoder(encoder, sizes, reader.towers)
    model.load_state_dict(stored["state"])
    return model


def _origin(configuration: dict[str, Any]) -> str:
    """Where the weights come from, in words."""
    started = " ".join(str(configuration[key]) for key in ("architecture", "weights"))
    scratch = str(configuration["weights"]).startswith("random:")
    return f"pre-trained on this catalogue, from {'scratch' if scratch else started}"


def _shard(
    model: UnifiedEncoder,
    reader: Reader,
    rows: slice,
    vocabularies: dict[str, Vocabulary],
    batch_size: int,
    device: Device,
    advance: Advance,
) -> Arrays:
    """Rows of a run of items; for each item why it has none, and why it has nothing of each source."""
    catalogue = reader.read(rows, vocabularies)
    n_items = rows.stop - rows.start
    found = []
    for start in range(0, n_items, batch_size):
        items = np.arange(start, min(start + batch_size, n_items))
        with device.inference():
            found.append(model(read_parts(catalogue, items, device.name))[0].float().cpu().numpy())
        advance(len(items))
    absent = {
        f"absent {number}": np.array([contents.absent.get(item, "") for item in range(n_items)])
        for number, contents in enumerate(catalogue.values())
    }
    lacking = zip(*absent.values(), strict=True)
    together = ["; ".join(f"{name}: {why}" for name, why in zip(catalogue, row, strict=True)) for row in lacking]
    reasons = np.where(has_any(catalogue), "", np.array(together))
    return {"rows": np.concatenate(found), "reasons": reasons, **absent}


def _collect(
    shards: Iterator[tuple[int, int, Arrays]], absent: dict[str, dict[int, str]]
) -> Iterator[tuple[int, int, Arrays]]:
    """Pass shards on, and note which items have nothing of each source."""
    for start, stop, arrays in shards:
        for number, lacking in enumerate(absent.values()):
            why = arrays[f"absent {number}"]
            lacking.update({start + int(item): str(why[item]) for item in np.flatnonzero(why != "")})
        yield start, stop, arrays
