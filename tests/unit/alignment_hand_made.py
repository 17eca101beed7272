"""A small catalogue whose images and titles tell the same, and encoders for it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from features_hand_made import make_items
from PIL import Image

from mmrepro.config.features import AlignRecEncoder
from mmrepro.config.files import validate
from mmrepro.features.alignment.embeddings import Part, Parts
from mmrepro.features.alignment.encoder import UnifiedEncoder, build_encoder
from mmrepro.features.alignment.objective import Objective
from mmrepro.features.alignment.targets import PatchTarget, Target, TokenTarget, VectorTarget
from mmrepro.features.alignment.vocabulary import Words

IMAGE: dict[str, Any] = {"kind": "image", "side": 16, "patch": 8}
TITLE: dict[str, Any] = {"kind": "text", "field": "title", "length": 4}
VECTOR: dict[str, Any] = {"kind": "vector", "file": "feat.npy"}
ALL = {"image": IMAGE, "text": TITLE, "sound": VECTOR}
SMALL = {"dim": 16, "layers": 2, "heads": 2, "batch_size": 16, "epochs": 7, "learning_rate": 3e-3, "held_out": 0.25}
WORDS = Words(("bright", "dark", "red"))

COLOURS = {
    "red": (230, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230), "yellow": (220, 210, 40),
    "violet": (160, 40, 190), "grey": (130, 130, 130), "cyan": (30, 200, 210), "orange": (240, 140, 20),
}  # fmt: skip
SHADES = {"dark": 0.4, "bright": 1.0}


def settings(sources: dict[str, Any] | None = None, **changes: Any) -> AlignRecEncoder:
    data = {"encoder": "alignrec", "sources": sources or {"image": IMAGE, "text": TITLE}, **SMALL, **changes}
    return validate(AlignRecEncoder, data, "tiny.yaml")


def write_catalogue(root: Path, n_items: int = 96) -> tuple[Path, Path]:
    """Each title names shade and colour of the picture; item 3 has no picture, item 5 no title, item 7 neither."""
    raw = root / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    titles: list[str | None] = []
    images: list[str | None] = []
    for i in range(n_items):
        colour, shade = list(COLOURS)[i % len(COLOURS)], list(SHADES)[i // len(COLOURS) % len(SHADES)]
        pixels = np.array(COLOURS[colour]) * SHADES[shade] + generator.normal(scale=12, size=(16, 16, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(raw / f"{i}.png")
        titles.append(None if i in (5, 7) else f"{shade} {colour}")
        images.append(None if i in (3, 7) else f"{i}.png")
    prepared = make_items(root / "prepared", titles, images, published=n_items)
    return prepared, raw


def random_parts(n_items: int, seed: int = 0, columns: int = 3) -> Parts:
    """All sources of some items, all present."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (n_items, 3, 16, 16), dtype=np.uint8)
    ids = generator.integers(2, 2 + len(WORDS.words), (n_items, 4))
    vectors = generator.normal(size=(n_items, columns)).astype(np.float32)
    contents = {"image": (pixels, 4), "text": (ids, 4), "sound": (vectors, 1)}
    return {
        name: Part(torch.from_numpy(content), torch.ones(n_items, n_tokens, dtype=torch.bool))
        for name, (content, n_tokens) in contents.items()
    }


def small_encoder(columns: int = 3, seed: int = 0, **changes: Any) -> UnifiedEncoder:
    torch.manual_seed(seed)
    return build_encoder(settings(ALL, **changes), {"text": WORDS.n_ids, "sound": columns}, None)


def small_targets(parts: Parts) -> dict[str, Target]:
    text = parts["text"]
    return {
        "image": PatchTarget(4, [parts["image"].content]),
        "text": TokenTarget(WORDS, text.content.numpy(), text.present.numpy()),
        "sound": VectorTarget(parts["sound"].content.shape[1], [parts["sound"].content]),
    }


def small_objective(parts: Parts, matching_weight: float = 1.0) -> Objective:
    encoder = small_encoder()
    return Objective(encoder, small_targets(parts), matching_weight)
