"""Finished parts of an extraction, kept beside the table until it stands: a killed extraction goes on where it stopped.

A part is used again only under the same address, which hashes all that decides its content: the encoder with weights
and preprocessing, the list of items, what is encoded, shard and batch size, threads, device and precision. The folder's
name hashes the code and the versions of the packages too, which no record of a table names.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mmrepro.config.base import content_hash
from mmrepro.records.files import atomic_path

Arrays = dict[str, np.ndarray]
Advance = Callable[[int], object]

PACKAGES = ("torch", "torchvision", "open_clip_torch", "sentence-transformers", "transformers", "tokenizers", "pillow")


@dataclass(frozen=True)
class Shards:
    """The shards of one modality.

    Attributes
    ----------
    output
        Folder of the feature set.
    modality
        Name of the modality.
    code
        Fingerprint of the code that makes the shards.
    facts
        What every part of this extraction depends on, as JSON values.
    """

    output: Path
    modality: str
    code: str
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """Feature set and modality, for messages."""
        return f"{self.output.name}.{self.modality}"

    def address(self, facts: dict[str, Any]) -> str:
        """Return the hash of this extraction's facts and of further ones: sixteen hexadecimal digits."""
        return content_hash({**self.facts, **facts})[:16]

    def make(
        self, address: str, n_entries: int, size: int, encode: Callable[[int, int, Advance], Arrays], part: str = ""
    ) -> Iterator[tuple[int, int, Arrays]]:
        """Yield all shards in order; those that stand are read, the others are made and written.

        Parameters
        ----------
        address
            Names the content, from `address`; shards of this part with another address are removed.
        n_entries
            Number of things to encode.
        size
            Entries of a shard; the last one may have fewer.
        encode
            Makes the arrays of the entries from start to stop, and calls its third argument with the number of entries
            done. No array holds Python objects.
        part
            Distinguishes the steps of an extraction that has several; begins with a dot.

        Yields
        ------
        tuple
            Start, stop, and the arrays of these entries.
        """
        folder = self.output / f".{self.modality}{part}-{content_hash([address, self.code, _versions()])[:16]}"
        self._remove(re.escape(part), keep=folder)
        starts = range(0, n_entries, size)
        with tqdm(total=n_entries, desc=f"{self.modality}{part}", unit="item", disable=None) as bar:
            for number, start in enumerate(starts):
                stop = min(start + size, n_entries)
                path = folder / f"{number:05d}.npz"
                arrays = _read(path)
                if arrays is None:
                    arrays = encode(start, stop, bar.update)
                    with atomic_path(path) as temporary, temporary.open("wb") as handle:
                        np.savez(handle, **arrays)  # type: ignore[arg-type]
                else:
                    if not bar.disable:
                        bar.initial += stop - start  # not counted in the items a second
                    bar.update(stop - start)
                yield start, stop, arrays

    def clear(self) -> None:
        """Remove all shards of the modality, whatever their address."""
        self._remove(r"(\.\w+)?")

    def _remove(self, parts: str, keep: Path | None = None) -> None:
        pattern = re.compile(rf"\.{re.escape(self.modality)}{parts}-[0-9a-f]{{16}}")
        for folder in sorted(self.output.glob(".*-*")):
            if folder != keep and pattern.fullmatch(folder.name):
                shutil.rmtree(folder)


def shard_size(target: int, batch_size: int) -> int:
    """Return the multiple of the batch size that reaches the target: no batch straddles two shards."""
    return -(-target // batch_size) * batch_size


def _read(path: Path) -> Arrays | None:
    """The arrays of a shard; none where it is absent or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception:  # missing file, zip, zlib and value errors alike
        return None


def _versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES}
