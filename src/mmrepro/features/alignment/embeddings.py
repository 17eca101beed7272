"""How an item's patches, tokens and vectors enter the encoder, from scratch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmrepro.config.features import ImageSource, TextSource

SMALL = 0.02
"""Standard deviation of CLS, positions and mask vectors at the start."""


@dataclass(frozen=True)
class Part:
    """What a batch of items holds of one source.

    Attributes
    ----------
    content
        Pixels (items, 3, side, side), uint8; or token ids (items, length), int64; or vectors (items, columns), float32.
        Rows of items without this source may hold anything finite.
    present
        Shape (items, tokens), bool: the tokens that there are; none for an item without this source.
    """

    content: Tensor
    present: Tensor


Parts = dict[str, Part]

Hidden = dict[str, Tensor]
"""Source -> (items, tokens), bool: tokens replaced by the source's mask vector."""


class Embedding(nn.Module):
    """From a source's content, and which tokens are hidden, to vectors (items, n_tokens, dim)."""

    n_tokens: int


class PatchEmbedding(Embedding):
    """Patches of an image by a linear layer; pixels come to lie in [-1, 1]."""

    def __init__(self, source: ImageSource, dim: int) -> None:
        super().__init__()
        self.side, self.patch = source.side, source.patch
        self.n_tokens = (source.side // source.patch) ** 2
        self.linear = nn.Linear(3 * source.patch**2, dim)
        self.mask = nn.Parameter(SMALL * torch.randn(dim))

    def forward(self, content: Tensor, hidden: Tensor | None) -> Tensor:
        """Embed pixels; shape (items, patches, dim), patches row by row."""
        rows, columns = (self.side // self.patch, self.patch), (self.side // self.patch, self.patch)
        patches = content.unflatten(3, columns).unflatten(2, rows).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        return cover(self.linear(patches / 127.5 - 1), hidden, self.mask)


class TokenEmbedding(Embedding):
    """Tokens of a text by a table."""

    def __init__(self, source: TextSource, n_ids: int, dim: int) -> None:
        super().__init__()
        self.n_tokens = source.length
        self.table = nn.Embedding(n_ids, dim)
        self.mask = nn.Parameter(SMALL * torch.randn(dim))

    def forward(self, content: Tensor, hidden: Tensor | None) -> Tensor:
        """Embed token ids; shape (items, length, dim)."""
        return cover(self.table(content), hidden, self.mask)


class VectorEmbedding(Embedding):
    """A vector, standardised per column over the training items, by a linear layer: one token."""

    n_tokens = 1
    mean: Tensor
    deviation: Tensor

    def __init__(self, n_columns: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_columns))
        self.register_buffer("deviation", torch.ones(n_columns))
        self.linear = nn.Linear(n_columns, dim)
        self.mask = nn.Parameter(SMALL * torch.randn(dim))

    def standardise(self, content: Tensor) -> Tensor:
        """Return vectors with mean 0 and variance 1 in each column over the training items."""
        return (content - self.mean) / self.deviation

    def forward(self, content: Tensor, hidden: Tensor | None) -> Tensor:
        """Embed vectors; shape (items, 1, dim)."""
        return cover(self.linear(self.standardise(content))[:, None], hidden, self.mask)


def cover(tokens: Tensor, hidden: Tensor | None, mask: Tensor) -> Tensor:
    """Return tokens (items, n, width) with the hidden ones replaced by the mask vector (width,)."""
    return tokens if hidden is None else torch.where(hidden[..., None], mask.to(tokens.dtype), tokens)
