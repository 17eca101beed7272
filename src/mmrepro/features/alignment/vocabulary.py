"""Texts as token ids: by the words of the catalogue, or by the tokenizer of an open_clip model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmrepro.features.encoders.open_clip import texts_cut

PADDING, UNKNOWN, FIRST_WORD = 0, 1, 2
MOST_WORDS = 30_000
FEWEST_ITEMS = 2
"""A word of a single item can neither be learnt nor tested."""


def is_given(text: object) -> bool:
    """Return whether there is a text: not null and not blank."""
    return not pd.isna(text) and bool(str(text).strip())  # type: ignore[call-overload]


def words_of(text: object) -> list[str]:
    """Return the lower-cased words of a text; none where there is no text."""
    return re.findall(r"\w+", str(text).lower()) if is_given(text) else []


@dataclass(frozen=True)
class Words:
    """A vocabulary of words.

    Attributes
    ----------
    words
        Sorted; the first has id 2. Id 0 is padding, and 1 any other word, which is seen but never predicted.
    """

    words: tuple[str, ...]
    special = (PADDING, UNKNOWN)

    @classmethod
    def fit(cls, texts: Iterable[object]) -> Words:
        """Take the words of at least two texts, at most 30,000: the most frequent, ties in alphabetical order."""
        counts = Counter(word for text in texts for word in set(words_of(text)))
        frequent = sorted((-n, word) for word, n in counts.items() if n >= FEWEST_ITEMS)[:MOST_WORDS]
        return cls(tuple(sorted(word for _, word in frequent)))

    @property
    def n_ids(self) -> int:
        """Number of ids."""
        return FIRST_WORD + len(self.words)

    def tokenise(self, texts: Sequence[object], length: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the first `length` token ids of each text, int64, and which of them there are, bool."""
        number = {word: FIRST_WORD + i for i, word in enumerate(self.words)}
        ids = np.full((len(texts), length), PADDING, dtype=np.int64)
        for row, text in enumerate(texts):
            known = [number.get(word, UNKNOWN) for word in words_of(text)[:length]]
            ids[row, : len(known)] = known
        return ids, ids != PADDING

    def cut(self, texts: Sequence[object], length: int) -> int:
        """Return how many texts have more than `length` tokens."""
        return sum(len(words_of(text)) > length for text in texts)


class ClipTokens:
    """The tokenizer of an open_clip model; a text stands between its marks of start and end.

    Parameters
    ----------
    architecture
        Name of the model.
    n_ids
        Number of ids of the model's table.
    """

    def __init__(self, architecture: str, n_ids: int) -> None:
        import open_clip

        self.tokenizer, self.n_ids = open_clip.get_tokenizer(architecture), n_ids
        self.special = (self.tokenizer.sot_token_id, self.tokenizer.eot_token_id)

    def tokenise(self, texts: Sequence[object], length: int) -> tuple[np.ndarray, np.ndarray]:
        """Return `length` token ids of each text, int64, and which of them there are, bool."""
        given = np.array([is_given(text) for text in texts], dtype=bool)
        strings = [str(text) if there else "" for text, there in zip(texts, given, strict=True)]
        ids = self.tokenizer(strings, context_length=length).numpy().astype(np.int64)
        last = (ids == self.special[1]).argmax(axis=1)
        return ids, (np.arange(length) <= last[:, None]) & given[:, None]

    def cut(self, texts: Sequence[object], length: int) -> int:
        """Return how many texts have more than `length` tokens, marks included."""
        return int(texts_cut(self.tokenizer, [str(text) for text in texts if is_given(text)], length).sum())


Vocabulary = Words | ClipTokens
