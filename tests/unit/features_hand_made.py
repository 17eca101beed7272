"""Small items, images and feature sets for the tests of features."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from mmrepro.config.features import FeatureSetConfig
from mmrepro.config.files import validate
from mmrepro.datasets.interactions import ITEMS, write_prepared

CLIP = {"encoder": "open_clip", "architecture": "ViT-S-32-alt", "weights": "random:7", "batch_size": 3}


def make_items(folder: Path, titles: list[str | None], images: list[str | None], published: int | None = None) -> Path:
    """Items K0, K1, ...; where a publisher numbered some, 0, 1, ..."""
    n_items = len(titles)
    frame = pd.DataFrame(
        {
            "item": np.arange(n_items, dtype=np.int32),
            "key": [str(i) if published else f"K{i}" for i in range(n_items)],
            "title": pd.Series(titles, dtype="string"),
            "text": pd.Series(titles, dtype="string"),
            "image": pd.Series(images, dtype="string"),
        }
    ).set_index("item")
    hashes = {"dataset": "hand-made", "item_list_hash": f"hash-of-{n_items}"}
    numbers = {"users": 1, "items": published} if published else None
    write_prepared(folder, {ITEMS: frame}, {**hashes, "numbering": numbers})
    return folder


def feature_set(modality: str = "text", **encoder: Any) -> FeatureSetConfig:
    return validate(FeatureSetConfig, {"feature_set": "tiny", "modalities": {modality: encoder}}, "tiny.yaml")


def write_images(raw: Path) -> list[str | None]:
    raw.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    Image.fromarray(generator.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(raw / "a.png")
    Image.new("L", (30, 50), 200).save(raw / "b.png")
    Image.new("RGBA", (64, 64), (255, 0, 0, 128)).save(raw / "c.png")
    (raw / "empty.png").touch()
    (raw / "noise.png").write_bytes(b"this is no image")
    whole = (raw / "a.png").read_bytes()
    (raw / "cut.png").write_bytes(whole[: len(whole) // 2])
    return ["a.png", "b.png", "c.png", "empty.png", "noise.png", "cut.png", "gone.png", None]


def write_posters(raw: Path, n_items: int) -> list[str | None]:
    """Usable images, each another one."""
    raw.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(1)
    for i in range(n_items):
        Image.fromarray(generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(raw / f"{i}.png")
    return [f"{i}.png" for i in range(n_items)]
