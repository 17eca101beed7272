"""What every encoder returns, and what the encoders share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mmrepro.errors import MmreproError

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
        Weights, their hash and the preprocessing, as plain JSON values.
    """

    matrix: np.ndarray
    reasons: dict[int, str]
    description: dict[str, Any]


def scatter_rows(n_items: int, indices: list[int], rows: np.ndarray, source: str) -> np.ndarray:
    """Place the rows of usable items in a matrix over all items.

    Parameters
    ----------
    n_items
        Number of rows of the result.
    indices
        Item of each row.
    rows
        Shape (len(indices), dim).
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
    if not indices:
        raise MmreproError(
            f"none of {n_items} items has a usable {source}; choose another `source` in config/features or mend the data"
        )
    matrix = np.zeros((n_items, rows.shape[1]), dtype=np.float32)
    matrix[indices] = rows
    return matrix


def encode_texts(
    texts: pd.Series, encode: Callable[[list[str]], np.ndarray], source: str
) -> tuple[np.ndarray, dict[int, str]]:
    """Encode the texts of all items that have one; equal texts are encoded once, so that their rows are equal.

    Parameters
    ----------
    texts
        One text an item in item order, null or blank where there is none.
    encode
        Turns a list of texts into a matrix with one row each.
    source
        Name of the column, for messages.

    Returns
    -------
    tuple
        Matrix (n_items, dim), and the reasons of the items without text.
    """
    usable = {i: str(text).strip() for i, text in enumerate(texts) if not pd.isna(text) and str(text).strip()}
    distinct = sorted(set(usable.values()))
    position = {text: row for row, text in enumerate(distinct)}
    rows = encode(distinct)[[position[text] for text in usable.values()]] if usable else np.empty((0, 0))
    reasons = {i: MISSING_TEXT for i in range(len(texts)) if i not in usable}
    return scatter_rows(len(texts), list(usable), rows, source), reasons


def state_hash(module: nn.Module) -> str:
    """Return the SHA-256 of a module's parameters and buffers: name, shape, type and bytes, sorted by name."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        array = value.detach().cpu().numpy()
        digest.update(f"{name}{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def weights_label(weights: str) -> str:
    """Return how weights are named in a record: a path by its last part, for records name no local folder."""
    path = Path(weights)
    return path.name if path.exists() else weights


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its class where it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Run torch with a fixed number of threads, which is part of the result, and restore the former number."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
