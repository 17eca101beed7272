"""open_clip's towers as embeddings of patches and tokens, fine-tuned with the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmrepro.config.features import ImageSource, TextSource
from mmrepro.errors import MmreproError
from mmrepro.features.alignment.embeddings import SMALL, Embedding, cover
from mmrepro.features.encoders.open_clip import load_model


class PatchTower(Embedding):
    """A vision transformer: hidden patches are replaced before its blocks; its final states go through a linear
    layer.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, visual: Any, dim: int) -> None:
        super().__init__()
        self.side, self.patch = visual.image_size[0], visual.patch_size[0]
        self.n_tokens = visual.grid_size[0] * visual.grid_size[1]
        width = len(visual.class_embedding)
        self.patches, self.before, self.blocks = visual.conv1, visual.ln_pre, visual.transformer
        self.after = visual.ln_post
        self.cls, self.places = visual.class_embedding, visual.positional_embedding
        self.mask = nn.Parameter(SMALL * torch.randn(width))
        self.linear = nn.Linear(width, dim)
        for name, values in (("mean", "mean"), ("deviation", "std")):
            self.register_buffer(name, torch.tensor(visual.preprocess_cfg[values])[:, None, None], persistent=False)

    def forward(self, content: Tensor, hidden: Tensor | None) -> Tensor:
        """Embed pixels; shape (items, patches, dim), patches row by row."""
        pixels = (content / 255 - self.mean) / self.deviation
        tokens = cover(self.patches(pixels).flatten(2).transpose(1, 2), hidden, self.mask)
        tokens = torch.cat([self.cls.to(tokens.dtype).expand(len(tokens), 1, -1), tokens], dim=1) + self.places
        return self.linear(self.after(self.blocks(self.before(tokens)))[:, 1:])


class TokenTower(Embedding):
    """CLIP's text transformer, causal as it was trained; hidden tokens are replaced before its blocks."""

    causal: Tensor

    def __init__(self, model: Any, length: int, dim: int) -> None:
        super().__init__()
        self.n_tokens = length
        width = model.token_embedding.embedding_dim
        self.table, self.blocks, self.after = model.token_embedding, model.transformer, model.ln_final
        self.places = nn.Parameter(model.positional_embedding.detach()[:length].clone())
        self.register_buffer("causal", model.attn_mask[:length, :length].clone(), persistent=False)
        self.mask = nn.Parameter(SMALL * torch.randn(width))
        self.linear = nn.Linear(width, dim)

    def forward(self, content: Tensor, hidden: Tensor | None) -> Tensor:
        """Embed token ids; shape (items, length, dim)."""
        tokens = cover(self.table(content), hidden, self.mask) + self.places
        return self.linear(self.after(self.blocks(tokens, attn_mask=self.causal)))


@dataclass(frozen=True)
class Towers:
    """The towers of an open_clip model.

    Attributes
    ----------
    architecture
        Name of the model.
    model
        The whole model, on the CPU.
    transform
        From a PIL image to pixels (3, side, side), uint8: the model's own without its normalisation.
    side, patch
        Pixels of the square that an image is cut to, and of a patch's side.
    n_ids
        Number of token ids.
    """

    architecture: str
    model: Any
    transform: Callable[[Any], Any]
    side: int
    patch: int
    n_ids: int

    def embedding(self, source: ImageSource | TextSource, dim: int) -> Embedding:
        """Return the tower of a source with a linear layer to `dim` columns."""
        if isinstance(source, ImageSource):
            return PatchTower(self.model.visual, dim)
        return TokenTower(self.model, source.length, dim)


def load_towers(architecture: str, weights: str, length: int) -> Towers:
    """Load a model and check that its towers are ones that masked prediction is written for.

    Parameters
    ----------
    architecture
        A name of `open_clip.list_models()`.
    weights
        A pretrained tag, a local file, or `random:<seed>`.
    length
        Longest text, in tokens.

    Raises
    ------
    MmreproError
        When the model cannot be had, a tower is of another kind, or its context is shorter than `length`.
    """
    import open_clip
    from open_clip.transformer import VisionTransformer

    model, transform = load_model(architecture, weights)
    visual = getattr(model, "visual", None)
    if not (isinstance(model, open_clip.CLIP) and isinstance(visual, VisionTransformer) and visual.attn_pool is None):
        raise MmreproError(
            f"alignrec: architecture '{architecture}' has no plain vision transformer with CLIP's text transformer; "
            "choose one such as 'ViT-B-32'"
        )
    if length > model.context_length:
        raise MmreproError(
            f"alignrec: length {length} exceeds the context of '{architecture}'; set `length` to at most "
            f"{model.context_length}"
        )
    pixels = _Pixels(transform.transforms[:-1])  # type: ignore[attr-defined]
    return Towers(architecture, model, pixels, visual.image_size[0], visual.patch_size[0], model.vocab_size)


class _Pixels:
    """A model's transforms but for its normalisation, which the tower does; the result in whole steps of 1/255."""

    def __init__(self, transforms: list[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __repr__(self) -> str:
        return repr(self.transforms)

    def __call__(self, image: Any) -> Tensor:
        for transform in self.transforms:
            image = transform(image)
        return (image * 255).round().to(torch.uint8)
