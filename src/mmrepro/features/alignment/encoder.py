"""One vector an item from all its modalities, in the manner of BEiT-3 (methods, 5.2).

The tokens of all sources and CLS go through blocks of shared self-attention; in each block every source has a
feed-forward expert of its own. CLS has its own as well: it is then computed alike whatever an item has, and what an
item lacks changes no parameter that CLS depends on. What is absent, or padding, is masked as a key: no other token sees
it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mmrepro.config.features import AlignmentSource, AlignRecEncoder, ImageSource, TextSource
from mmrepro.errors import MmreproError
from mmrepro.features.alignment.embeddings import (
    SMALL,
    Embedding,
    Hidden,
    Parts,
    PatchEmbedding,
    TokenEmbedding,
    VectorEmbedding,
)

if TYPE_CHECKING:
    from mmrepro.features.alignment.clip_towers import Towers


class Block(nn.Module):
    """Shared self-attention and a feed-forward expert for each span of tokens, both on normalised input (pre-norm)."""

    def __init__(self, dim: int, heads: int, n_experts: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
            for _ in range(n_experts)
        )

    def forward(self, tokens: Tensor, seen: Tensor, spans: list[tuple[int, int]]) -> Tensor:
        """Transform tokens (items, n, dim); `seen` (items, n) are the keys, `spans` each expert's number and tokens."""
        tokens = tokens + self._attend(self.norm(tokens), seen)
        pieces = tokens.split([length for _, length in spans], dim=1)
        moved = [piece + self.experts[expert](piece) for piece, (expert, _) in zip(pieces, spans, strict=True)]
        return torch.cat(moved, dim=1)

    def _attend(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """Attention written out: the fused kernels for GPUs have no deterministic gradient."""
        items, n, dim = tokens.shape
        parts = self.query_key_value(tokens).view(items, n, 3, self.heads, dim // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        weights = (query * (dim // self.heads) ** -0.5) @ key.transpose(-1, -2)
        weights = weights.masked_fill(~seen[:, None, None], -torch.inf).softmax(-1)
        return self.output((weights.to(value.dtype) @ value).transpose(1, 2).reshape(items, n, dim))


class UnifiedEncoder(nn.Module):
    """The encoder.

    Parameters
    ----------
    embeddings
        Of each source, in their order.
    dim
        Width of the unified vector.
    layers, heads
        Blocks, and attention heads of each; `heads` divides `dim`.
    """

    def __init__(self, embeddings: dict[str, Embedding], dim: int, layers: int, heads: int) -> None:
        super().__init__()
        self.sources = list(embeddings)
        self.dim = dim
        self.embeddings = nn.ModuleList(embeddings.values())
        self.cls = nn.Parameter(SMALL * torch.randn(dim))
        self.positions = nn.ParameterList(SMALL * torch.randn(e.n_tokens, dim) for e in embeddings.values())
        self.blocks = nn.ModuleList(Block(dim, heads, 1 + len(embeddings)) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, parts: Parts, hidden: Hidden | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Encode a batch of items.

        Parameters
        ----------
        parts
            Any of the sources, at least one; all of the same items.
        hidden
            Tokens to replace by mask vectors, which are seen as such; none by default.

        Returns
        -------
        tuple
            The unified vectors (items, dim), and of each source given its tokens' states (items, tokens, dim), which
            mean nothing where a token is not present.
        """
        given = [(number, name) for number, name in enumerate(self.sources) if name in parts]
        items = len(parts[given[0][1]].content)
        tokens = [self.cls.expand(items, 1, self.dim)]
        seen = [torch.ones(items, 1, dtype=torch.bool, device=self.cls.device)]
        spans = [(0, 1)]
        for number, name in given:
            embedded = self.embeddings[number](parts[name].content, (hidden or {}).get(name))
            tokens.append(embedded + self.positions[number])  # each source has its own: they tell sources apart too
            seen.append(parts[name].present)
            spans.append((1 + number, embedded.shape[1]))
        states, keys = torch.cat(tokens, dim=1), torch.cat(seen, dim=1)
        for block in self.blocks:
            states = block(states, keys, spans)
        unified, *found = self.norm(states).split([length for _, length in spans], dim=1)
        return unified[:, 0], {name: state for (_, name), state in zip(given, found, strict=True)}


def check_settings(encoder: AlignRecEncoder, name: str) -> None:
    """Raise MmreproError for settings that do not fit together; `name` is feature set and modality, for the message."""
    if encoder.dim % encoder.heads:
        raise MmreproError(f"{name}: heads {encoder.heads} do not divide dim {encoder.dim}; change one of them")
    if encoder.architecture is not None:
        return
    if not re.fullmatch(r"random:\d{1,9}", encoder.weights):
        raise MmreproError(
            f"{name}: weights '{encoder.weights}' without `architecture`; name the open_clip model that they "
            "belong to, or set `weights: random:<seed>`"
        )
    for key, source in encoder.sources.items():
        if isinstance(source, ImageSource) and source.side % source.patch:
            raise MmreproError(
                f"{name}: source '{key}': patch {source.patch} does not divide side {source.side}; change one of them"
            )


def build_encoder(encoder: AlignRecEncoder, sizes: dict[str, int], towers: Towers | None) -> UnifiedEncoder:
    """Build the encoder with weights at their start, drawn from torch's generator (but for pretrained towers).

    Parameters
    ----------
    encoder
        The configuration.
    sizes
        Source -> number of token ids of a text, or columns of a vector.
    towers
        Of `architecture`; none: from scratch.
    """

    def embedding(name: str, source: AlignmentSource) -> Embedding:
        if not isinstance(source, ImageSource | TextSource):
            return VectorEmbedding(sizes[name], encoder.dim)
        if towers is not None:
            return towers.embedding(source, encoder.dim)
        if isinstance(source, ImageSource):
            return PatchEmbedding(source, encoder.dim)
        return TokenEmbedding(source, sizes[name], encoder.dim)

    embeddings = {name: embedding(name, source) for name, source in encoder.sources.items()}
    return UnifiedEncoder(embeddings, encoder.dim, encoder.layers, encoder.heads)
