from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmrepro.config.dataset import DatasetConfig
from mmrepro.config.files import load
from mmrepro.datasets.fetch import MANIFEST, fetch
from mmrepro.datasets.interactions import PreparedDataset, load_items
from mmrepro.datasets.prepare import prepare
from mmrepro.datasets.readers import miniature
from mmrepro.datasets.readers.miniature_world import Options, make_world, pictures, titles
from mmrepro.errors import MmreproError
from mmrepro.records.files import read_json

CONFIGURATIONS = sorted((Path(__file__).parents[2] / "config" / "datasets").glob("mini-*.yaml"))
SMALL = {"prefix": "MTOY", "seed": 5, "nouns": ["cup", "hat", "pen"], "users": 40, "items": 25}


def small(**options: object) -> DatasetConfig:
    return DatasetConfig(
        dataset="mini-toy",
        title="Toy",
        reader="miniature",
        folder="mini-toy",
        licence="none",
        options={**SMALL, **options},
        k_core=3,
    )


def neighbour_recall(features: np.ndarray, data: PreparedDataset) -> float:
    """Recall@20 on test of the sum of similarities to the user's training items."""
    distance = ((features[:, None, :] - features[None, :, :]) ** 2).mean(-1)
    taken = np.zeros((data.n_users, data.n_items))
    taken[data.of("train").distinct] = 1
    scores = taken @ np.exp(-distance / (0.1 * distance.mean()))
    scores[taken > 0] = -1
    best = np.argsort(-scores, axis=1)[:, :20]
    wanted = np.zeros_like(taken)
    wanted[data.of("test").distinct] = 1
    hits = np.take_along_axis(wanted, best, axis=1).sum(1)
    return float(np.mean(hits[wanted.any(1)] / wanted.sum(1)[wanted.any(1)]))


def test_files_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fetch(small(), tmp_path / name, None)
    assert (tmp_path / "a" / MANIFEST).read_bytes() == (tmp_path / "b" / MANIFEST).read_bytes()
    fetch(small(seed=6), tmp_path / "c", None)
    assert (tmp_path / "a" / MANIFEST).read_bytes() != (tmp_path / "c" / MANIFEST).read_bytes()


def test_manifest_lists_records_and_images(tmp_path: Path) -> None:
    fetch(small(), tmp_path, None)
    files = json.loads((tmp_path / MANIFEST).read_text())["files"]
    assert len(files) == 2 + 25 - 1
    assert {file["source"] for file in files} == {"generated"}
    assert {file["name"] for file in files} == {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*") if path.name != MANIFEST
    }
    with Image.open(tmp_path / next(file["name"] for file in files if file["name"].endswith(".png"))) as image:
        assert (image.format, image.size, image.mode) == ("PNG", (64, 64), "RGB")


def test_reader_returns_what_was_generated(tmp_path: Path) -> None:
    fetch(small(), tmp_path, None)
    data = miniature.read(tmp_path, small())
    assert data.interactions["user"].str.fullmatch(r"MTOY-U\d{5}").all()
    assert data.items["key"].str.fullmatch(r"MTOY-I\d{5}").all()
    assert data.interactions.duplicated().sum() == miniature.DUPLICATES
    assert data.items["image"].isna().sum() == 1
    assert (data.items["text"] == "").sum() == 1


def test_missing_image_is_named(tmp_path: Path) -> None:
    fetch(small(), tmp_path, None)
    image = sorted((tmp_path / "images").iterdir())[0]
    image.unlink()
    with pytest.raises(MmreproError, match=f"{image.name}: image of item 'MTOY-I"):
        miniature.read(tmp_path, small())


def test_truncated_archive_is_named(tmp_path: Path) -> None:
    fetch(small(), tmp_path, None)
    path = tmp_path / miniature.REVIEWS
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MmreproError, match=r"reviews\.jsonl\.gz: changed since it was fetched; bring it back"):
        miniature.read(tmp_path, small())
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(MmreproError, match=r"reviews\.jsonl\.gz: truncated or damaged archive"):
        miniature.read(tmp_path, small())


def test_pictures_and_titles_show_tastes_and_noise_hides_them() -> None:
    def fit(options: Options, seen: np.ndarray) -> float:
        tastes = make_world(options).tastes
        design = np.column_stack([seen, np.ones(len(seen))])
        residual = tastes - design @ np.linalg.lstsq(design, tastes, rcond=None)[0]
        return 1 - residual.var() / tastes.var()

    def shown(**noise: float) -> tuple[float, float]:
        options = Options.model_validate({**SMALL, "items": 200, **noise})
        world = make_world(options)
        painted = pictures(world, options)
        corners_and_middle = np.concatenate([painted[:, 0, :4].mean(1), painted[:, 24:40, 24:40].mean((1, 2))], axis=1)
        words = np.array([title.split()[:4] for title in titles(world, options)])
        steps = np.array(
            [[["quiet", "tiny", "silky", "frosty"][slot] == word for slot, word in enumerate(row)] for row in words]
        )
        return fit(options, corners_and_middle), fit(options, steps)

    clear, hidden = shown(image_noise=0, text_noise=0), shown(image_noise=5, text_noise=5)
    assert clear[0] > 0.5 and clear[1] > 0.1
    assert hidden[0] < 0.25 and hidden[1] < 0.1


def test_five_flavours_exist() -> None:
    names = [path.stem for path in CONFIGURATIONS]
    assert names == ["mini-baby", "mini-clothing", "mini-elec", "mini-microlens", "mini-sports"]
    prefixes = {load(DatasetConfig, path).options["prefix"] for path in CONFIGURATIONS}
    assert len(prefixes) == 5


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_flavour_has_dirt_gaps_and_signal(path: Path, tmp_path: Path) -> None:
    config = load(DatasetConfig, path)
    fetch(config, tmp_path / "raw", None)
    prepare(config, tmp_path / "raw", tmp_path / "prepared")
    statistics = read_json(tmp_path / "prepared" / "statistics.json")
    first, cleaned, cored = statistics["steps"][0], statistics["steps"][2], statistics["steps"][3]
    assert cleaned["interactions"] == first["interactions"] - 16
    assert cored["users"] < cleaned["users"] and cored["items"] < cleaned["items"]
    assert 2400 <= cored["interactions"] <= 3500
    assert statistics["items_without_image"] == statistics["items_without_text"] == 1

    data, items = PreparedDataset.load(tmp_path / "prepared"), load_items(tmp_path / "prepared")
    images = [
        np.asarray(Image.open(tmp_path / "raw" / name)) if isinstance(name, str) else None for name in items["image"]
    ]
    grey = np.full((64, 64, 3), 128)
    pixels = np.stack([grey if image is None else image for image in images]).reshape(data.n_items, 8, 8, 8, 8, 3)
    features = pixels.mean((2, 4)).reshape(data.n_items, -1)
    shuffled = features[np.random.default_rng(0).permutation(data.n_items)]
    assert neighbour_recall(features, data) > 2 * neighbour_recall(shuffled, data)
