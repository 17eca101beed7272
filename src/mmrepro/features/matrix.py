"""A feature matrix with the record of where it comes from."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmrepro.errors import MmreproError
from mmrepro.records.files import atomic_path, file_sha256, read_object, write_record


@dataclass(frozen=True)
class FeatureMatrix:
    """One modality of a feature set.

    Attributes
    ----------
    matrix
        Shape (n_items, dim), float32 or float16, rows in item order, all finite.
    modality
        Name of the modality, which is also the stem of both files.
    record
        Encoder with its configuration, weights and their hash, preprocessing, hash of the item list, missing items with
        reason and treatment; after saving or loading also shape, type and SHA-256 of the matrix file, and how many
        items share a row (`n_sharing`).
    """

    matrix: np.ndarray
    modality: str
    record: dict[str, Any]

    @property
    def description(self) -> str:
        """Encoder, architecture or file, weights and change, in words."""
        encoder = self.record["encoder"]
        words = [encoder["encoder"], encoder.get("architecture"), encoder.get("file"), self.record["weights"]]
        words.append(self.record.get("change") and f"({self.record['change']})")
        return " ".join(word for word in words if word)

    @property
    def untrained(self) -> bool:
        """Whether the encoder's weights were drawn at random and never trained."""
        return str(self.record["weights"]).startswith("random:")

    def save(self, folder: Path) -> FeatureMatrix:
        """Write `<modality>.npy`, then `<modality>.json`.

        Parameters
        ----------
        folder
            Folder of the feature set.

        Returns
        -------
        FeatureMatrix
            The table with the completed record.

        Raises
        ------
        MmreproError
            When the matrix holds NaN or infinity; nothing is written then.
        """
        path = folder / f"{self.modality}.npy"
        _require_finite(self.matrix, path)
        with atomic_path(path) as temporary, temporary.open("wb") as handle:
            np.save(handle, np.ascontiguousarray(self.matrix))
        n_items, dim = self.matrix.shape
        shape = {"n_items": n_items, "dim": dim, "dtype": str(self.matrix.dtype), "matrix_sha256": file_sha256(path)}
        sharing = sharing_rows(self.matrix, [entry["item"] for entry in self.record.get("missing", ())])
        record = {**self.record, "n_sharing": sharing, **shape}
        write_record(path.with_suffix(".json"), record)
        return FeatureMatrix(self.matrix, self.modality, record)

    @classmethod
    def load(
        cls, folder: Path, modality: str, n_items: int | None = None, item_list_hash: str | None = None
    ) -> FeatureMatrix:
        """Read and check one modality.

        Parameters
        ----------
        folder
            Folder of the feature set.
        modality
            Name of the modality.
        n_items
            Number of items of the data set; not checked when none.
        item_list_hash
            Hash of the data set's item list; not checked when none.

        Raises
        ------
        MmreproError
            When a file is missing or damaged, the length or the item list is another one, or a value is not finite.
        """
        path = folder / f"{modality}.npy"
        record = load_record(folder, modality)
        matrix = _load_matrix(path, record)
        if n_items is not None and len(matrix) != n_items:
            raise MmreproError(
                f"{path}: {len(matrix)} rows, but the data set has {n_items} items; delete it and run again"
            )
        if item_list_hash is not None and record.get("item_list_hash") != item_list_hash:
            raise MmreproError(f"{path}: made for another list of items than the data set's; delete it and run again")
        _require_finite(matrix, path)
        return cls(matrix, modality, record)


def load_record(folder: Path, modality: str) -> dict[str, Any]:
    """Read `<modality>.json`.

    Raises
    ------
    MmreproError
        When it is missing or damaged.
    """
    path = folder / f"{modality}.json"
    record = read_object(path)
    if record is None:
        raise MmreproError(f"{path}: no such file; make the features of '{folder.name}' first")
    if "matrix_sha256" not in record:
        raise MmreproError(f"{path}: not the record of a feature table; delete it and run again")
    return record


def sharing_rows(matrix: np.ndarray, missing: Collection[int]) -> int:
    """Return how many items have the very row that another one has, those without a row of their own left out.

    Parameters
    ----------
    matrix
        Shape (n_items, dim).
    missing
        Items without a row.
    """
    present = np.setdiff1d(np.arange(len(matrix)), np.fromiter(missing, dtype=np.int64))
    counts = Counter(hashlib.blake2b(matrix[item].tobytes(), digest_size=16).digest() for item in present)
    return sum(count for count in counts.values() if count > 1)


def present_items(record: dict[str, Any], n_items: int) -> np.ndarray:
    """Return the mask of the items with a row of their own, which a treatment such as `zero` leaves behind.

    Parameters
    ----------
    record
        Record of a feature table.
    n_items
        Number of items of the data set.

    Returns
    -------
    np.ndarray
        Shape (n_items,), bool.
    """
    present = np.ones(n_items, dtype=bool)
    present[[entry["item"] for entry in record["missing"]]] = False
    return present


def _load_matrix(path: Path, record: dict[str, Any]) -> np.ndarray:
    if not path.is_file():
        raise MmreproError(f"{path}: no such file; delete {path.with_suffix('.json').name} and run again")
    if file_sha256(path) != record["matrix_sha256"]:
        raise MmreproError(f"{path}: does not belong to {path.with_suffix('.json').name}; delete both and run again")
    matrix = np.load(path, allow_pickle=False)
    if matrix.ndim != 2 or matrix.dtype not in (np.float32, np.float16):
        raise MmreproError(
            f"{path}: expected a float32 or float16 matrix, found {matrix.dtype} {matrix.shape}; delete it and "
            f"run again"
        )
    return matrix


def _require_finite(matrix: np.ndarray, path: Path) -> None:
    broken = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(broken):
        raise MmreproError(
            f"{path}: NaN or infinity in the rows of {len(broken)} of {len(matrix)} items; check the weights and the "
            "items' sources, then make the features again"
        )
