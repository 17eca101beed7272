from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmrepro.config.dataset import DatasetConfig
from mmrepro.config.files import load
from mmrepro.datasets.fetch import MANIFEST, fetch
from mmrepro.datasets.filters import k_core
from mmrepro.datasets.interactions import PreparedDataset, load_items
from mmrepro.datasets.prepare import prepare
from mmrepro.datasets.readers import load_reader
from mmrepro.records.files import read_json

ROOT = Path(__file__).parents[2]
MIRROR = Path(os.environ.get("MMREPRO_MIRROR") or ROOT.parent / "shared" / "data")

pytestmark = pytest.mark.real


def raw_files(name: str, tmp_path: Path) -> tuple[Path, DatasetConfig]:
    config = load(DatasetConfig, ROOT / "config" / "datasets" / f"{name}.yaml")
    if not (MIRROR / config.folder).is_dir():
        pytest.skip(f"no folder '{config.folder}' of real files; set MMREPRO_MIRROR")
    fetch(config, tmp_path / "raw", MIRROR)
    return tmp_path / "raw", config


def prepared(name: str, tmp_path: Path) -> tuple[PreparedDataset, dict[str, Any], Path]:
    raw, config = raw_files(name, tmp_path)
    prepare(config, raw, tmp_path / "prepared")
    statistics = read_json(tmp_path / "prepared" / "statistics.json")
    return PreparedDataset.load(tmp_path / "prepared"), statistics, tmp_path


def test_movielens_five_core(tmp_path: Path) -> None:
    data, statistics, folder = prepared("ml-100k", tmp_path)
    assert (data.n_users, data.n_items, len(data.interactions)) == (943, 1349, 99287)
    assert statistics["steps"][0] == {"step": "raw", "users": 943, "items": 1682, "interactions": 100000}
    assert statistics["repairs"] == {"repeated_item_records": 64}
    assert statistics["items_without_text"] == 0
    items = load_items(folder / "prepared").set_index("key")
    assert items.loc["1", "text"].startswith("Toy Story (1995) Led by Woody")
    assert items["title"].str.contains("é").any()
    assert (folder / "raw" / items.loc["1", "image"]).is_file()
    names = [entry["name"] for entry in read_json(folder / "raw" / MANIFEST)["files"]]
    assert len(names) == 2 + 1663 and names == sorted(names)


def test_baby_published_split(tmp_path: Path) -> None:
    data, statistics, folder = prepared("baby", tmp_path)
    assert (data.n_users, data.n_items) == (19445, 7050)
    assert statistics["interactions"] == {"train": 118551, "valid": 20559, "test": 21682}
    raw = np.loadtxt(folder / "raw" / "baby.inter", dtype=np.int64, skiprows=1)
    assert (data.interactions[["user", "item"]].to_numpy() == raw[np.lexsort((raw[:, 1], raw[:, 0])), :2]).all()


def test_tiktok_published_split(tmp_path: Path) -> None:
    data, statistics, folder = prepared("tiktok", tmp_path)
    assert (data.n_users, data.n_items) == (9308, 6710)
    assert statistics["cold_users"] == {"valid": 5, "test": 5}
    assert statistics["interactions"] == {"train": 59541, "valid": 3051 - 5, "test": 6130 - 5}
    assert len(np.load(folder / "raw" / "image_feat.npy")) == data.n_items


def test_gift_cards_five_core(tmp_path: Path) -> None:
    data, statistics, folder = prepared("gift-cards", tmp_path)
    assert (data.n_users, data.n_items, len(data.interactions)) == (453, 147, 2941)
    assert [step["interactions"] for step in statistics["steps"]][:3] == [2972, 2969, 2965]
    assert statistics["steps"][0] == {"step": "raw", "users": 458, "items": 148, "interactions": 2972}
    assert statistics["items_without_text"] == 0
    items = load_items(folder / "prepared").set_index("key")
    assert items.loc["B004LLIKVU", "title"] == " Amazon eGift Card"
    assert items.loc["B004LLIKVU", "text"] == " Amazon eGift Card   Gift Cards Gift Cards  "  # no brand, no description


def test_dropping_repeats_by_time_stamp_alone_gives_another_core_of_gift_cards(tmp_path: Path) -> None:
    raw, config = raw_files("gift-cards", tmp_path)
    rows = load_reader(config).read(raw, config).interactions
    by_time = k_core(rows.drop_duplicates(["user", "item", "timestamp"]), 5)
    assert (len(by_time), by_time["user"].nunique(), by_time["item"].nunique()) == (2949, 454, 147)


def test_images_of_gift_cards_are_named_by_url(tmp_path: Path) -> None:
    raw, config = raw_files("gift-cards", tmp_path)
    items = load_reader(config).read(raw, config).items
    assert len(items) == 148 and items["key"].is_unique
    urls = items["image_url"].dropna()
    assert len(urls) == 116 and urls.str.startswith("https://").all()


def test_microlens_five_core(tmp_path: Path) -> None:
    data, statistics, _ = prepared("microlens-50k", tmp_path)
    assert (data.n_users, data.n_items, len(data.interactions)) == (46420, 14079, 332730)
    assert statistics["steps"][0] == {"step": "raw", "users": 50000, "items": 19220, "interactions": 359708}
    assert statistics["items_without_text"] == 0
