"""The item graph: each item's nearest items in one modality, made once and kept beside the features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmrepro.config.features import ItemGraphSection
from mmrepro.datasets.interactions import load_items
from mmrepro.errors import MmreproError
from mmrepro.features.given_graph import read_neighbours
from mmrepro.features.matrix import FeatureMatrix, load_record
from mmrepro.records.files import atomic_path

if TYPE_CHECKING:
    from torch import Tensor


def build_item_graph(
    section: ItemGraphSection, modality: str, features: Path, output: Path, prepared: Path = Path(), raw: Path = Path()
) -> None:
    """Write the neighbour lists of one modality.

    Parameters
    ----------
    section
        Length of the lists.
    modality
        A modality of the feature set.
    features
        Its folder.
    output
        Folder that gets `<modality>.neighbours.npz`: `indices` (int32) and `cosines` (float32), both (n_items,
        length), `matrix_sha256` of the feature matrix, and `left_out`, pairs of a file of neighbours that are of items
        the data set does not have.
    prepared, raw
        Folders of the prepared data set and of its raw files, where the section names a file of neighbours.

    Raises
    ------
    MmreproError
        When the feature table is missing or damaged, has fewer items than a list is long, or a file of neighbours
        cannot be read.
    """
    import torch

    from mmrepro.ops.neighbours import nearest_neighbours

    given, left_out = section.graphs.get(modality), 0
    if given is None:
        table = FeatureMatrix.load(features, modality)
        found, near = nearest_neighbours(torch.from_numpy(table.matrix), section.neighbours)
        indices, cosines = found.numpy().astype(np.int32), near.numpy()
    else:
        items = load_items(prepared)
        table = FeatureMatrix.load(features, modality, len(items))
        indices, cosines, left_out = read_neighbours(given, items, raw, section.neighbours)
    with atomic_path(graph_file(output, modality)) as temporary, temporary.open("wb") as handle:
        np.savez(
            handle,
            indices=indices,
            cosines=cosines,
            matrix_sha256=np.array(table.record["matrix_sha256"]),
            left_out=np.array(left_out),
        )


def load_neighbours(folder: Path, modality: str, n_items: int, k: int) -> tuple[Tensor, Tensor]:
    """Read the k nearest neighbours of every item.

    Parameters
    ----------
    folder
        Folder of the feature set.
    modality
        One of its modalities.
    n_items
        Number of items of the data set.
    k
        Length of a list, the item itself included; at most the stored length.

    Returns
    -------
    tuple of Tensor
        Indices (n_items, k), int64, and cosines (n_items, k), float32: the item itself, then falling cosines.

    Raises
    ------
    MmreproError
        When the file is missing or damaged, belongs to another feature matrix, or is too short.
    """
    import torch

    path = graph_file(folder, modality)
    if not path.is_file():
        raise MmreproError(f"{path}: no such file; make the item graph of '{folder.name}' first")
    try:
        with np.load(path, allow_pickle=False) as stored:
            indices, cosines, matrix_hash = stored["indices"], stored["cosines"], str(stored["matrix_sha256"])
    except Exception:  # zip, zlib, key and value errors alike
        raise MmreproError(f"{path}: not a readable item graph; delete it and run again") from None
    if matrix_hash != load_record(folder, modality)["matrix_sha256"]:
        raise MmreproError(f"{path}: made from another feature matrix; delete it and run again")
    if len(indices) != n_items:
        raise MmreproError(
            f"{path}: {len(indices)} rows, but the data set has {n_items} items; delete it and run again"
        )
    if k > indices.shape[1]:
        raise MmreproError(
            f"{path}: {k} neighbours wanted, {indices.shape[1]} stored; raise `neighbours` to {k} in "
            f"config/features/{folder.name}.yaml"
        )
    return torch.from_numpy(indices[:, :k].astype(np.int64)), torch.from_numpy(np.ascontiguousarray(cosines[:, :k]))


def graph_file(folder: Path, modality: str) -> Path:
    """Return the file of a modality's neighbour lists."""
    return folder / f"{modality}.neighbours.npz"
