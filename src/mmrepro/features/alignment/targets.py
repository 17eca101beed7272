"""What is predicted of each source, how far a prediction is off, and what a predictor that sees nothing would say."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrepro.features.alignment.embeddings import Part

if TYPE_CHECKING:
    from mmrepro.features.alignment.vocabulary import Vocabulary

CELLS = 4
"""A patch is predicted as 4 x 4 cells of 3 colours."""

FEWEST_ITEMS = 2
"""A token of a single training item can neither be learnt nor tested."""


class Target(nn.Module, ABC):
    """What is predicted of one source; all tensors are buffers, fitted on the training items.

    Attributes
    ----------
    name, measure
        What is predicted, and in which unit a prediction is off, in words for the record.
    width
        Numbers that predict one token.
    places
        Places that are told apart when content is predicted from the unified vector alone: 1, or the number of tokens.
    scale
        Error of a predictor that sees nothing; a source's loss is divided by it, so that all sources count alike.
    """

    name: str
    measure: str
    width: int
    places: int
    scale = 1.0

    def predictable(self, part: Part) -> Tensor:
        """Return the tokens that may be hidden, bool (items, tokens)."""
        return part.present

    @abstractmethod
    def of(self, content: Tensor) -> Tensor:
        """Return the targets of all tokens: (items, tokens, width), or class numbers (items, tokens)."""

    @abstractmethod
    def errors(self, predictions: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
        """Return the error of each target (n,); the prediction of target i is row `rows[i]`."""

    @abstractmethod
    def baseline(self) -> Tensor:
        """Return what a predictor that sees nothing says of each place, (places, width)."""


class Values(Target):
    """Standardised values; the error is their mean squared difference."""

    measure = "mean squared error"
    expected: Tensor

    def errors(self, predictions: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
        """Return mean squared errors."""
        return (predictions.index_select(0, rows).float() - targets).square().mean(-1)

    def baseline(self) -> Tensor:
        """Return the mean at each place."""
        return self.expected


class PatchTarget(Values):
    """A patch's pixels averaged to 4 x 4 cells, standardised per cell and colour over the training items' patches.

    The paper's target, the tokens of BEiT-3's visual tokeniser, is not public. A patch is not standardised by itself
    as in masked autoencoders: that would remove the colour, which is content of a product, and of an even patch leave
    noise.
    """

    name = "patches"
    mean: Tensor
    deviation: Tensor

    def __init__(self, n_patches: int, contents: Iterable[Tensor]) -> None:
        super().__init__()
        self.places, self.width = n_patches, 3 * CELLS**2
        count = 0
        total, squares = torch.zeros(2, n_patches, self.width, dtype=torch.float64)
        for content in contents:
            cells = self._cells(content).double()
            count += len(cells)
            total += cells.sum(0)
            squares += cells.square().sum(0)
        n_patches_seen = max(count, 1) * n_patches
        mean = total.sum(0) / n_patches_seen
        deviation = (squares.sum(0) / n_patches_seen - mean.square()).clamp(min=1e-6).sqrt()
        self.register_buffer("mean", mean.float())
        self.register_buffer("deviation", deviation.float())
        self.register_buffer("expected", ((total / max(count, 1) - mean) / deviation).float())

    def _cells(self, content: Tensor) -> Tensor:
        """Shape (items, patches, width), in [0, 1]."""
        side = math.isqrt(self.places)
        means = F.adaptive_avg_pool2d(content.float() / 255, CELLS * side)
        cells = means.unflatten(3, (side, CELLS)).unflatten(2, (side, CELLS))  # item, colour, row, y, column, x
        return cells.permute(0, 2, 4, 3, 5, 1).reshape(len(content), self.places, self.width)

    def of(self, content: Tensor) -> Tensor:
        """Return (items, patches, 48)."""
        return (self._cells(content) - self.mean) / self.deviation


class VectorTarget(Values):
    """A vector, standardised per column over the training items."""

    name = "vector"
    places = 1
    mean: Tensor
    deviation: Tensor

    def __init__(self, n_columns: int, contents: Iterable[Tensor]) -> None:
        super().__init__()
        self.width = n_columns
        count = 0
        total, squares = torch.zeros(2, n_columns, dtype=torch.float64)
        for content in contents:
            count += len(content)
            total += content.double().sum(0)
            squares += content.double().square().sum(0)
        mean = total / max(count, 1)
        deviation = (squares / max(count, 1) - mean.square()).clamp(min=0).sqrt()
        self.register_buffer("mean", mean.float())
        self.register_buffer("deviation", torch.where(deviation > 0, deviation, 1.0).float())
        self.register_buffer("expected", torch.zeros(1, n_columns))

    def of(self, content: Tensor) -> Tensor:
        """Return (items, 1, columns)."""
        return ((content - self.mean) / self.deviation)[:, None]


class TokenTarget(Target):
    """A token, of those that at least two training items have; marks of start and end are never predicted.

    Parameters
    ----------
    vocabulary
        Says which ids are special.
    ids, present
        Of the training items: (items, length).
    """

    name = "tokens"
    measure = "nats a token"
    places = 1
    ids: Tensor
    frequencies: Tensor

    def __init__(self, vocabulary: Vocabulary, ids: np.ndarray, present: np.ndarray) -> None:
        super().__init__()
        counts = np.bincount(ids[present], minlength=vocabulary.n_ids)
        of_items = np.concatenate([np.unique(row[there]) for row, there in zip(ids, present, strict=True)])
        common = np.bincount(of_items, minlength=vocabulary.n_ids) >= FEWEST_ITEMS
        common[list(vocabulary.special)] = False
        predicted = np.flatnonzero(common)
        self.width = len(predicted)
        share = (counts[predicted] + 1) / (counts[predicted] + 1).sum()
        self.scale = float(-(share * np.log(share)).sum()) or 1.0
        self.register_buffer("ids", torch.from_numpy(predicted))
        self.register_buffer("frequencies", torch.from_numpy(np.log(share)).float())

    def predictable(self, part: Part) -> Tensor:
        """Return the tokens that are among those predicted."""
        return part.present & torch.isin(part.content, self.ids)

    def of(self, content: Tensor) -> Tensor:
        """Return the number of each token among those predicted; any number where it is not."""
        return torch.searchsorted(self.ids, content).clamp(max=self.width - 1)

    def errors(self, predictions: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
        """Return cross-entropies; a row of predictions is made probabilities once, whatever is asked of it."""
        logarithms = predictions.float().log_softmax(-1)
        return -logarithms.reshape(-1).index_select(0, rows * self.width + targets)

    def baseline(self) -> Tensor:
        """Return the logarithm of each token's frequency in the training items, one added to each count."""
        return self.frequencies[None]
