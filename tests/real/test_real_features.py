import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmrepro.config.features import FeatureSetConfig
from mmrepro.config.files import load
from mmrepro.datasets.interactions import ITEMS, write_prepared
from mmrepro.features.extract import extract
from mmrepro.features.item_graph import build_item_graph, load_neighbours
from mmrepro.features.matrix import FeatureMatrix

ROOT = Path(__file__).parents[2]
MIRROR = Path(os.environ.get("MMREPRO_MIRROR") or ROOT.parent / "shared" / "data")

pytestmark = pytest.mark.real


def folder_of(name: str) -> Path:
    folder = MIRROR / name
    if not folder.is_dir():
        pytest.skip(f"no folder {name} of real data; set MMREPRO_MIRROR")
    return folder


def make_items(folder: Path, n_items: int, **columns: list[str]) -> Path:
    frame = pd.DataFrame(
        {"key": [str(i) for i in range(n_items)], "title": None, "text": None, "image": None, **columns}
    )
    frame.index = pd.Index(np.arange(n_items, dtype=np.int32), name="item")
    numbering = {"users": 1, "items": n_items}
    write_prepared(folder, {ITEMS: frame}, {"item_list_hash": "h", "numbering": numbering})
    return folder


def test_posters_and_overviews_of_twenty_films(tmp_path: Path) -> None:
    raw = folder_of("ml-100k")
    films = pd.read_csv(raw / "items.csv").drop_duplicates("movie_id").head(20)
    images = [f"posters/{movie}.jpg" for movie in films["movie_id"]]
    prepared = make_items(tmp_path / "prepared", 20, text=films["overview"].tolist(), image=images)
    config = load(FeatureSetConfig, ROOT / "config/features/posters.yaml")
    for modality, dim in [("image", 256), ("text", 384)]:
        extract(config, modality, prepared, raw, tmp_path / "out")
        table = FeatureMatrix.load(tmp_path / "out", modality, 20, "h")
        assert table.matrix.shape == (20, dim)
        assert table.record["n_missing"] <= 1
        assert len(np.unique(table.matrix, axis=0)) >= 19
        build_item_graph(config, modality, tmp_path / "out", tmp_path / "out")
        indices, _ = load_neighbours(tmp_path / "out", modality, 20, config.neighbours)
        assert indices[:, 0].tolist() == list(range(20))


def test_published_tiktok_features_are_kept_as_they_are(tmp_path: Path) -> None:
    raw = folder_of("tiktok")
    prepared = make_items(tmp_path / "prepared", 6710)
    config = load(FeatureSetConfig, ROOT / "config/features/published-tiktok.yaml")
    assert list(config.modalities) == ["image", "audio"]
    for modality in config.modalities:
        extract(config, modality, prepared, raw, tmp_path / "out")
        table = FeatureMatrix.load(tmp_path / "out", modality, 6710, "h")
        assert table.matrix.shape == (6710, 128) and table.matrix.dtype == np.float32
        np.testing.assert_array_equal(table.matrix, np.load(raw / f"{modality}_feat.npy").astype(np.float32))
        build_item_graph(config, modality, tmp_path / "out", tmp_path / "out")
        indices, cosines = load_neighbours(tmp_path / "out", modality, 6710, config.neighbours)
        assert indices[:, 0].tolist() == list(range(6710))
        assert bool((cosines[:, 1:-1] >= cosines[:, 2:]).all()) and bool(cosines.isfinite().all())
