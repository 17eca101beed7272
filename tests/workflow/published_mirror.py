"""The five published data sets at one hundredth of their size, in the exact form of the published folders."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

DATASETS = ("baby", "sports", "clothing", "elec", "microlens")
FEATURE_WIDTHS = {"microlens": {"image_feat.npy": 1024, "text_feat.npy": 1024}}
AMAZON_WIDTHS = {"image_feat.npy": 4096, "text_feat.npy": 384}
SPLITS = ("train", "valid", "test")


def make_mirror(mirror: Path, config: Path) -> None:
    """Write the five folders, and the counts that they have into the configuration files of a checkout."""
    for seed, dataset in enumerate(DATASETS):
        path = config / "datasets" / f"{dataset}.yaml"
        settings = yaml.safe_load(path.read_text())
        settings["expected"] = {key: count // 100 for key, count in settings["expected"].items()}
        _write_folder(mirror / settings["folder"], dataset, settings["expected"], np.random.default_rng(seed))
        path.write_text(yaml.safe_dump(settings))


def _write_folder(folder: Path, dataset: str, counts: Mapping[str, int], generator: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    _interactions(counts, generator).to_csv(folder / f"{dataset}.inter", sep="\t", index=False)
    for name, width in FEATURE_WIDTHS.get(dataset, AMAZON_WIDTHS).items():
        np.save(folder / name, generator.normal(size=(counts["items"], width)).astype(np.float32))


def _interactions(counts: Mapping[str, int], generator: np.random.Generator) -> pd.DataFrame:
    """Distinct pairs at random, with every user and every item in training."""
    n_users, n_items = counts["users"], counts["items"]
    n_rows = sum(counts[split] for split in SPLITS)
    covering = np.arange(max(n_users, n_items))
    pairs = (covering % n_users) * n_items + covering % n_items
    others = np.setdiff1d(np.arange(n_users * n_items), pairs)
    pairs = np.concatenate([pairs, generator.choice(others, n_rows - len(pairs), replace=False)])
    labels = np.repeat([0, 1, 2], [counts[split] for split in SPLITS])
    columns = {
        "userID": pairs // n_items,
        "itemID": pairs % n_items,
        "rating": generator.integers(1, 6, n_rows).astype(float),
        "timestamp": generator.integers(1_000_000_000, 1_400_000_000, n_rows),
        "x_label": labels,
    }
    return pd.DataFrame(columns).sort_values(["userID", "x_label"], kind="stable")
