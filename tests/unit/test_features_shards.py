import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from features_hand_made import CLIP, feature_set, make_items, write_posters
from PIL import Image

from mmrepro.features import pixels as images
from mmrepro.features.encoders import open_clip
from mmrepro.features.extract import extract
from mmrepro.features.matrix import FeatureMatrix
from mmrepro.features.shards import Advance, Arrays, Shards, shard_size
from mmrepro.runtime.devices import Device

IMAGE = {**CLIP, "source": "image", "batch_size": 2}


class Squares:
    """Encodes entry i as i squared; stops at one entry, as if it were killed there."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.encoded: list[int] = []

    def __call__(self, start: int, stop: int, advance: Advance) -> Arrays:
        for i in range(start, stop):
            if i == self.stop_at:
                raise KeyboardInterrupt
            self.encoded.append(i)
            advance(1)
        return {"rows": np.arange(start, stop) ** 2}


def shards_of(folder: Path, modality: str = "image", code: str = "c") -> Shards:
    return Shards(folder, modality, code, {"item_list_hash": "h"})


def made(shards: Shards, squares: Squares, facts: dict[str, Any] | None = None, part: str = "") -> list[int]:
    address = shards.address(facts or {})
    return [int(x) for *_, arrays in shards.make(address, 7, 3, squares, part) for x in arrays["rows"]]


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def stopped(folder: Path, at: int = 4) -> None:
    with pytest.raises(KeyboardInterrupt):
        made(shards_of(folder), Squares(at))


def test_finished_shards_are_used_again_and_the_rest_is_made(tmp_path: Path) -> None:
    stopped(tmp_path)
    again = Squares()
    assert made(shards_of(tmp_path), again) == [i * i for i in range(7)]
    assert again.encoded == [3, 4, 5, 6]
    (folder,) = tmp_path.iterdir()
    assert hidden(folder) == ["00000.npz", "00001.npz", "00002.npz"]


@pytest.mark.parametrize("change", ["facts", "code", "list"])
def test_shards_of_another_address_are_discarded(change: str, tmp_path: Path) -> None:
    stopped(tmp_path)
    (before,) = hidden(tmp_path)
    squares = Squares()
    facts = {"texts": "other"} if change == "facts" else {}
    shards = shards_of(tmp_path, code="other" if change == "code" else "c")
    if change == "list":
        shards = Shards(tmp_path, "image", "c", {"item_list_hash": "other"})
    made(shards, squares, facts)
    assert squares.encoded == list(range(7))
    (after,) = hidden(tmp_path)
    assert before != after


@pytest.mark.parametrize("damage", [b"", b"no zip", None])
def test_a_damaged_shard_is_made_again(damage: bytes | None, tmp_path: Path) -> None:
    made(shards_of(tmp_path), Squares())
    (file,) = tmp_path.glob(".*/00001.npz")
    whole = file.read_bytes()
    file.write_bytes(whole[:-30] if damage is None else damage)
    again = Squares()
    assert made(shards_of(tmp_path), again) == [i * i for i in range(7)]
    assert again.encoded == [3, 4, 5] and file.read_bytes() == whole


def test_other_modalities_and_other_parts_keep_their_shards(tmp_path: Path) -> None:
    for modality, part in [("image", ""), ("image", ".descriptions"), ("image-2", ""), ("text", "")]:
        made(shards_of(tmp_path, modality), Squares(), part=part)
    (tmp_path / "image.npy").touch()
    assert len(hidden(tmp_path)) == 5
    shards_of(tmp_path).clear()
    assert [name.rpartition("-")[0] for name in hidden(tmp_path)] == [".image-2", ".text", ""]


@pytest.mark.parametrize(("target", "batch", "size"), [(1024, 64, 1024), (1024, 100, 1100), (4, 64, 64), (64, 1, 64)])
def test_a_shard_holds_whole_batches(target: int, batch: int, size: int) -> None:
    assert shard_size(target, batch) == size


@pytest.fixture(scope="module")
def posters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven items, the third without an image, and their features made undisturbed in shards of two."""
    folder = tmp_path_factory.mktemp("posters")
    names = write_posters(folder / "raw", 7)
    make_items(folder / "prepared", ["t"] * 7, [*names[:2], None, *names[3:]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "SHARD", 2)
        extract(feature_set("image", **IMAGE), "image", folder / "prepared", folder / "raw", folder / "whole")
    return folder


def interrupt(folder: Path, output: Path, patch: pytest.MonkeyPatch, at: int) -> list[Path]:
    """Extract in shards of two until image number `at` is opened; return the list of images that are opened after."""
    opened: list[Path] = []
    original = images.open_image

    def open_until(path: Path) -> Image.Image:
        if len(opened) == at:
            raise KeyboardInterrupt
        opened.append(path)
        return original(path)

    def open_and_note(path: Path) -> Image.Image:
        opened.append(path)
        return original(path)

    patch.setattr(images, "SHARD", 2)
    patch.setattr(images, "open_image", open_until)
    with pytest.raises(KeyboardInterrupt):
        extract(feature_set("image", **IMAGE), "image", folder / "prepared", folder / "raw", output)
    opened.clear()
    patch.setattr(images, "open_image", open_and_note)
    return opened


def test_a_stopped_extraction_goes_on_and_ends_in_the_same_bytes(
    posters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = interrupt(posters, tmp_path, monkeypatch, at=5)
    assert [path.name for path in tmp_path.glob(".image-*/*")] and not list(tmp_path.glob("image.*"))
    config = feature_set("image", **IMAGE, missing="mean")
    extract(config, "image", posters / "prepared", posters / "raw", tmp_path)
    assert [path.name for path in opened] == ["5.png", "6.png"]
    assert hidden(tmp_path) == ["image.json", "image.npy"]
    for name in ("image.npy", "image.json"):
        assert (tmp_path / name).read_bytes() == (posters / "whole" / name).read_bytes()


def test_an_image_replaced_in_between_is_encoded_anew(
    posters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = interrupt(posters, tmp_path, monkeypatch, at=5)
    file = posters / "raw/0.png"
    whole = file.read_bytes()
    try:
        file.write_bytes((posters / "raw/1.png").read_bytes())
        extract(feature_set("image", **IMAGE), "image", posters / "prepared", posters / "raw", tmp_path)
    finally:
        file.write_bytes(whole)
    assert len(opened) == 6
    changed, before = FeatureMatrix.load(tmp_path, "image"), FeatureMatrix.load(posters / "whole", "image")
    np.testing.assert_allclose(changed.matrix[0], before.matrix[1], rtol=1e-4, atol=1e-5)
    assert not np.allclose(changed.matrix[0], before.matrix[0], atol=1e-2)
    assert changed.record["address"] != before.record["address"]


def test_another_treatment_of_missing_items_uses_the_same_shards(
    posters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = interrupt(posters, tmp_path, monkeypatch, at=5)
    extract(feature_set("image", **IMAGE, missing="zero"), "image", posters / "prepared", posters / "raw", tmp_path)
    assert len(opened) == 2
    zero, mean = FeatureMatrix.load(tmp_path, "image"), FeatureMatrix.load(posters / "whole", "image")
    assert not zero.matrix[2].any() and mean.matrix[2].any()
    np.testing.assert_array_equal(np.delete(zero.matrix, 2, 0), np.delete(mean.matrix, 2, 0))
    assert zero.record["address"] == mean.record["address"]


def test_half_precision_is_near_and_recorded(posters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_clip, "encoding_device", lambda wanted: Device("cpu", "bfloat16", "cpu"))
    extract(feature_set("image", **IMAGE), "image", posters / "prepared", posters / "raw", tmp_path)
    half, full = FeatureMatrix.load(tmp_path, "image"), FeatureMatrix.load(posters / "whole", "image")
    assert (half.record["precision"], full.record["precision"]) == ("bfloat16", "float32")
    assert half.record["weights_hash"] == full.record["weights_hash"]
    assert half.matrix.dtype == np.float32 and not np.array_equal(half.matrix, full.matrix)
    cosines = (
        (half.matrix * full.matrix).sum(1) / np.linalg.norm(half.matrix, axis=1) / np.linalg.norm(full.matrix, axis=1)
    )
    assert cosines.min() > 0.99


@pytest.mark.slow
def test_worker_processes_change_no_bit(posters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, few in [("inline", 512), ("workers", 0)]:
        monkeypatch.setattr(images, "FEW_IMAGES", few)
        monkeypatch.setattr(os, "cpu_count", lambda: 2)
        config = feature_set("image", **IMAGE, threads=2)
        extract(config, "image", posters / "prepared", posters / "raw", tmp_path / name)
    for name in ("image.npy", "image.json"):
        assert (tmp_path / "inline" / name).read_bytes() == (tmp_path / "workers" / name).read_bytes()


KILLED = """
import os, signal, sys
from pathlib import Path
from features_hand_made import feature_set
from mmrepro.features import pixels as images
from mmrepro.features.extract import extract

original, opened = images.open_image, []
def open_until(path):
    opened.append(path)
    if len(opened) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(path)
images.SHARD, images.open_image = 2, open_until
folder, output = Path(sys.argv[1]), Path(sys.argv[2])
encoder = dict(encoder="open_clip", architecture="ViT-S-32-alt", weights="random:7", batch_size=2, source="image")
extract(feature_set("image", **encoder), "image", folder / "prepared", folder / "raw", output)
"""


@pytest.mark.slow
def test_a_killed_process_leaves_shards_that_the_next_one_uses(
    posters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", KILLED, str(posters), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    assert subprocess.run(command, env=environment).returncode == -signal.SIGKILL
    (shard,) = tmp_path.glob(".image-*/0*.npz")
    monkeypatch.setattr(images, "SHARD", 2)
    extract(feature_set("image", **IMAGE), "image", posters / "prepared", posters / "raw", tmp_path)
    assert not shard.exists()
    for name in ("image.npy", "image.json"):
        assert (tmp_path / name).read_bytes() == (posters / "whole" / name).read_bytes()
