"""All sources of a data set's items, read as its encoder needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mmrepro.columns import MASKED, Columns
from mmrepro.config.base import content_hash
from mmrepro.config.features import AlignRecEncoder, ImageSource, TextSource, VectorSource
from mmrepro.features.alignment.clip_towers import Towers, load_towers
from mmrepro.features.alignment.contents import Contents, Square, read_images, read_texts, read_vectors
from mmrepro.features.alignment.embeddings import Part, Parts
from mmrepro.features.alignment.vocabulary import ClipTokens, Vocabulary, Words, is_given
from mmrepro.features.pixels import image_hashes
from mmrepro.features.vectors import open_vectors
from mmrepro.records.files import file_sha256

Catalogue = dict[str, Contents]


def read_parts(catalogue: Catalogue, items: np.ndarray, device: str = "cpu") -> Parts:
    """Return what some items hold, in this order, as tensors on a device; absent vectors become zeros, never seen."""

    def part(contents: Contents) -> Part:
        content, present = contents.content[items], contents.present[items]
        if content.dtype.kind == "f":
            content = np.where(present, content.astype(np.float32), np.float32(0))
        return Part(torch.from_numpy(content).to(device), torch.from_numpy(present).to(device))

    return {name: part(contents) for name, contents in catalogue.items()}


def has_any(catalogue: Catalogue) -> np.ndarray:
    """Return which items have at least one source, bool (items,)."""
    return np.logical_or.reduce([contents.present.any(axis=1) for contents in catalogue.values()])


class Reader:
    """Reads the sources of a data set.

    Parameters
    ----------
    encoder
        The sources, and perhaps an architecture, whose model says how images are cut and texts are split.
    items
        The items of the prepared data set, in item order; a column `masked` may name the source that each has lost.
    raw
        Folder that image and matrix files are relative to.
    weights
        Of the architecture's towers.

    Raises
    ------
    MmreproError
        When a matrix file or the architecture cannot be had, or a matrix does not fit the items.
    """

    def __init__(self, encoder: AlignRecEncoder, items: pd.DataFrame, raw: Path, weights: str) -> None:
        self.sources, self.items, self.raw = encoder.sources, items, raw
        self.towers: Towers | None = None
        if encoder.architecture is not None:
            lengths = [source.length for source in self.sources.values() if isinstance(source, TextSource)]
            self.towers = load_towers(encoder.architecture, weights, max(lengths, default=0))
        vectors = {name: source for name, source in self.sources.items() if isinstance(source, VectorSource)}
        self.vectors = {name: open_vectors(source, items, raw) for name, source in vectors.items()}
        images = any(isinstance(source, ImageSource) for source in self.sources.values())
        self.image_hashes = _hashes(items[Columns.IMAGE], raw) if images else []

    def hashes(self) -> dict[str, str]:
        """Return a hash of what each source is read from: the image files, the texts, or the matrix file."""

        def digest(name: str) -> str:
            source = self.sources[name]
            if isinstance(source, ImageSource):
                return content_hash(self.image_hashes)
            if isinstance(source, TextSource):
                return content_hash([str(text) if is_given(text) else None for text in self.items[source.field]])
            return content_hash([file_sha256(self.vectors[name].path), self.vectors[name].rows.tolist()])

        return {name: digest(name) for name in self.sources}

    def words(self, trained: np.ndarray) -> dict[str, list[str]]:
        """Return the words of each text source that the training items know; none where the architecture has its
        own.
        """
        texts = {name: source for name, source in self.sources.items() if isinstance(source, TextSource)}
        if self.towers is not None:
            return {}
        return {name: list(Words.fit(self.items[source.field].iloc[trained]).words) for name, source in texts.items()}

    def vocabularies(self, words: dict[str, list[str]]) -> dict[str, Vocabulary]:
        """Return each text source's vocabulary: the architecture's, or these words."""
        texts = [name for name, source in self.sources.items() if isinstance(source, TextSource)]
        if self.towers is None:
            return {name: Words(tuple(words[name])) for name in texts}
        return {name: ClipTokens(self.towers.architecture, self.towers.n_ids) for name in texts}

    def texts_cut(self, vocabularies: dict[str, Vocabulary]) -> int:
        """Return how many texts are longer than their source reads."""
        sources = [(name, source) for name, source in self.sources.items() if isinstance(source, TextSource)]
        return sum(vocabularies[name].cut(self.items[source.field].tolist(), source.length) for name, source in sources)

    def read(self, rows: slice, vocabularies: dict[str, Vocabulary], folder: Path | None = None) -> Catalogue:
        """Read a run of items, which the catalogue counts from 0; decoded images are kept in `folder`, if one is
        given.
        """
        items = self.items.iloc[rows]
        catalogue: Catalogue = {}
        for name, source in self.sources.items():
            if isinstance(source, ImageSource):
                side, patch = (self.towers.side, self.towers.patch) if self.towers else (source.side, source.patch)
                transform = self.towers.transform if self.towers else Square(side)
                n_tokens = (side // patch) ** 2
                contents = read_images(items, self.raw, self.image_hashes[rows], transform, side, n_tokens, folder)
            elif isinstance(source, TextSource):
                contents = read_texts(items[source.field], vocabularies[name], source.length)
            else:
                contents = read_vectors(self.vectors[name].of(rows), self.vectors[name].path, items[Columns.KEY])
            if MASKED in items:
                contents = contents.without(np.flatnonzero(items[MASKED] == name))
            catalogue[name] = contents
        return catalogue

    def preprocessing(self) -> dict[str, Any]:
        """Return what is done to each source before the encoder, as JSON values."""

        def description(source: Any) -> dict[str, Any]:
            if isinstance(source, ImageSource):
                own = {"size": source.side, "interpolation": "bicubic", "resize_mode": "shortest"}
                return {**self.towers.model.visual.preprocess_cfg} if self.towers else own
            if isinstance(source, TextSource):
                return {"context_length": source.length, "tokens": "open_clip's" if self.towers else "words"}
            return {"standardised": "per column over the training items"}

        return {name: description(source) for name, source in self.sources.items()}


def _hashes(images: pd.Series, raw: Path) -> list[str]:
    """The hash of each item's image file; one without is like no other."""
    named = images.notna().to_numpy()
    found = iter(image_hashes(raw, images[named]))
    return [next(found) if there else f"none of item {item}" for item, there in enumerate(named)]
