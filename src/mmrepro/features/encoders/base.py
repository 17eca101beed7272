"""How an encoder is found, what it returns, and what encoders share."""

from __future__ import annotations

import hashlib
import importlib
import tempfile
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from mmrepro.config.base import content_hash
from mmrepro.config.features import Encoder, NeuralEncoder
from mmrepro.errors import MmreproError
from mmrepro.features.shards import Advance, Arrays, Shards, shard_size
from mmrepro.records.files import file_sha256

if TYPE_CHECKING:
    from torch import nn

MISSING_TEXT = "no text"


@dataclass(frozen=True)
class Encoded:
    """What an encoder made of the items.

    Attributes
    ----------
    matrix
        Shape (n_items, dim), float32; rows of missing items are zero.
    reasons
        Item index to the reason why it has no row of its own.
    description
        Weights, their hash, the preprocessing, and where shards were kept their address, as plain JSON values.
    texts
        What a language model wrote about each item, null where nothing; none for other encoders.
    """

    matrix: np.ndarray
    reasons: dict[int, str]
    description: dict[str, Any]
    texts: pd.Series | None = None


def load_encoder(encoder: Encoder) -> ModuleType:
    """Import the module of an encoder.

    Parameters
    ----------
    encoder
        Its `encoder` is the name of a module in this package.

    Returns
    -------
    ModuleType
        Has `encode(encoder, items: pd.DataFrame, raw: Path, shards: Shards) -> Encoded`: items in item order, the
        folder that files are relative to, and where finished parts are kept.
    """
    return importlib.import_module(f"mmrepro.features.encoders.{encoder.encoder}")


def require_usable(n_usable: int, n_items: int, source: str) -> None:
    """Raise MmreproError when no item is usable; `source` says what the items were to offer."""
    if not n_usable:
        raise MmreproError(
            f"none of {n_items} items has a usable {source}; choose another `source` in config/features or mend "
            f"the data"
        )


def require_complete(missing: Collection[int], n_items: int, treatment: str, origin: str) -> None:
    """Raise MmreproError when an item is missing and the treatment is `error`; `origin` is feature set and modality."""
    if missing and treatment == "error":
        raise MmreproError(
            f"{origin}: {len(missing)} of {n_items} items have no features; "
            "mend the data or set `missing: mean` or `missing: zero` in config/features"
        )


def fill_missing(
    matrix: np.ndarray, missing: Collection[int], treatment: Literal["mean", "zero", "error"], origin: str
) -> None:
    """Give missing items a row, in place; beyond the matrix it takes the memory of one row.

    Parameters
    ----------
    matrix
        Shape (n_items, dim); the rows of missing items are overwritten, the others unchanged.
    missing
        Items without a row of their own; at least one item is present.
    treatment
        `mean` of the present rows, `zero`, or `error`.
    origin
        Feature set and modality, for the message.

    Raises
    ------
    MmreproError
        Under `error`, when an item is missing.
    """
    require_complete(missing, len(matrix), treatment, origin)
    if not missing:
        return
    rows = sorted(missing)
    matrix[rows] = 0
    if treatment == "mean":
        matrix[rows] = matrix.sum(axis=0, dtype=np.float64) / (len(matrix) - len(rows))


def gather_rows(
    owners: np.ndarray, shards: Iterable[tuple[int, int, Arrays]], reasons: dict[int, str], source: str
) -> np.ndarray:
    """Place the rows of all shards in a matrix over all items.

    Parameters
    ----------
    owners
        Shape (n_items,), the entry that an item gets its row from, -1 where it has none.
    shards
        Start, stop, and arrays `rows` (stop - start, dim), float32, and perhaps `reasons`, empty where a row is usable.
    reasons
        Is completed with the items whose entry turned out unusable.
    source
        What the items were to offer, for the message.

    Returns
    -------
    np.ndarray
        Shape (n_items, dim), float32, zero where an item has no row.

    Raises
    ------
    MmreproError
        When no item is usable.
    """
    matrix = None
    for start, stop, arrays in shards:
        items = np.flatnonzero((owners >= start) & (owners < stop))
        entries = owners[items] - start
        failed = arrays["reasons"][entries] if "reasons" in arrays else np.full(len(items), "")
        usable = failed == ""
        if usable.any():
            rows = arrays["rows"]
            matrix = np.zeros((len(owners), rows.shape[1]), dtype=np.float32) if matrix is None else matrix
            matrix[items[usable]] = rows[entries[usable]]
        reasons.update(zip(items[~usable].tolist(), failed[~usable].tolist(), strict=True))
    require_usable(matrix is not None, len(owners), source)
    return matrix  # type: ignore[return-value]


def encode_texts(
    texts: pd.Series,
    encoder: NeuralEncoder,
    encode: Callable[[list[str], Advance], np.ndarray],
    shards: Shards,
    facts: dict[str, Any],
    target: int,
    is_cut: Callable[[list[str]], np.ndarray],
) -> tuple[np.ndarray, dict[int, str], dict[str, Any]]:
    """Encode the texts of all items that have one; equal texts are encoded once, so that their rows are equal.

    Parameters
    ----------
    texts
        One text an item in item order, null or blank where there is none; its name is used in messages.
    encoder
        Batch size and treatment of missing items.
    encode
        Turns a list of texts into a matrix with one row each.
    shards
        Keeps finished parts.
    facts
        What the rows depend on besides the texts.
    target
        Distinct texts of a shard, rounded up to whole batches.
    is_cut
        Whether each of a list of texts is longer than the encoder reads.

    Returns
    -------
    tuple
        Matrix (n_items, dim), the reasons of the items without text, and of the record: the address, how many items
        have a text (`texts`), how many texts differ (`distinct_texts`), and how many items' are cut (`texts_cut`).

    Raises
    ------
    MmreproError
        When no item has a text, or one has none under `missing: error`: before anything is encoded.
    """
    usable = {i: str(text).strip() for i, text in enumerate(texts) if not pd.isna(text) and str(text).strip()}
    reasons = {i: MISSING_TEXT for i in range(len(texts)) if i not in usable}
    require_usable(len(usable), len(texts), str(texts.name))
    require_complete(reasons, len(texts), encoder.missing, shards.name)
    distinct = sorted(set(usable.values()))
    position = {text: entry for entry, text in enumerate(distinct)}
    owners = np.full(len(texts), -1)
    owners[list(usable)] = [position[text] for text in usable.values()]
    size = shard_size(target, encoder.batch_size)
    address = shards.address({**facts, "texts": content_hash(distinct), "shard_size": size})

    def rows(start: int, stop: int, advance: Advance) -> Arrays:
        return {"rows": encode(distinct[start:stop], advance)}

    matrix = gather_rows(owners, shards.make(address, len(distinct), size, rows), reasons, str(texts.name))
    cut = is_cut(distinct)[owners[owners >= 0]]
    counts = {"texts": len(usable), "distinct_texts": len(distinct), "texts_cut": int(cut.sum())}
    return matrix, reasons, {"address": address, **counts}


def state_hash(module: nn.Module) -> str:
    """Return the SHA-256 of a module's parameters and buffers: name, shape, type and bytes, sorted by name."""
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        known = value.view(torch.int16) if value.dtype == torch.bfloat16 else value  # which numpy does not have
        array = known.detach().cpu().numpy()
        digest.update(f"{name}{array.shape}{array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def saved_hash(part: Any) -> str:
    """Return the SHA-256 of the files that a tokenizer or processor writes with `save_pretrained`."""
    with tempfile.TemporaryDirectory() as folder:
        part.save_pretrained(folder)
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return content_hash([[path.name, file_sha256(path)] for path in files])


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its class where it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)
