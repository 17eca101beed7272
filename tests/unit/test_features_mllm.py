import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from features_hand_made import feature_set, make_items, write_images
from features_tiny_model import save_tiny_model
from PIL import Image

from mmrepro.datasets.image_files import open_image
from mmrepro.errors import MmreproError
from mmrepro.features.encoders import mllm
from mmrepro.features.extract import extract
from mmrepro.features.matrix import FeatureMatrix

TITLES = ["a red hat", "a blue shoe", "", "a red hat", "a red hat", "only a title", None]
pytestmark = pytest.mark.slow

PROMPT = "describe {title} in {words}:"


def settings(weights: Path) -> dict[str, Any]:
    return {"encoder": "mllm", "weights": str(weights), "prompt": PROMPT, "max_new_tokens": 6, "batch_size": 2}


def describe(folder: Path, output: Path, **changes: Any) -> pd.Series:
    """Extract; return the descriptions that were written."""
    config = feature_set("image", **{**settings(folder / "model"), **changes})
    extract(config, "image", folder / "prepared", folder / "raw", output)
    return pd.read_parquet(output / "image.descriptions.parquet").set_index("item")["description"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Items with image and title, with one of them, with a broken image, with neither; features made undisturbed."""
    folder = tmp_path_factory.mktemp("world")
    names = write_images(folder / "raw")
    images = [names[0], names[1], names[2], names[0], names[4], None, None]
    make_items(folder / "prepared", TITLES, images)
    save_tiny_model(folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mllm, "SHARD", 2)
        describe(folder, folder / "whole")
    return folder


def by_hand(folder: Path, title: str, image: Path | None) -> str:
    """One item alone, by the library's own calls."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    text = f"USER: {'<image>' if image else ''}describe {title} in {{words}}: ASSISTANT:"
    given = {"images": open_image(image)} if image else {}
    inputs = processor(text=text, return_tensors="pt", **given)
    output = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    return str(processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)).strip()


def test_descriptions_are_those_of_the_model_asked_about_each_item_alone(world: Path) -> None:
    found = pd.read_parquet(world / "whole/image.descriptions.parquet")
    assert list(found.columns) == ["item", "description"] and found["item"].tolist() == list(range(7))
    raw = world / "raw"
    asked = [("a red hat", raw / "a.png"), ("a blue shoe", raw / "b.png"), ("", raw / "c.png"), ("only a title", None)]
    expected = [by_hand(world / "model", *item) for item in asked]
    assert found["description"].iloc[[0, 1, 2, 5]].tolist() == expected
    assert len(set(expected)) == 4


def test_equal_items_have_equal_rows_and_items_with_nothing_are_missing(world: Path) -> None:
    table = FeatureMatrix.load(world / "whole", "image", 7, "hash-of-7")
    assert table.matrix.shape == (7, 384)
    np.testing.assert_array_equal(table.matrix[0], table.matrix[3])
    assert not np.allclose(table.matrix[0], table.matrix[1], atol=1e-3)
    assert table.record["missing"] == [{"item": 6, "key": "K6", "reason": "no image"}]
    descriptions = pd.read_parquet(world / "whole/image.descriptions.parquet")["description"]
    assert descriptions.isna().tolist() == [False] * 6 + [True]
    assert descriptions[4] == by_hand(world / "model", "a red hat", None)  # its image is broken


def test_the_record_names_both_models_and_no_folder(world: Path) -> None:
    text = (world / "whole/image.json").read_text()
    record = json.loads(text)
    assert str(world) not in text
    assert record["weights"] == record["encoder"]["weights"] == "model" and len(record["weights_hash"]) == 64
    assert record["text_encoder"]["weights"] == "offline" and len(record["text_encoder"]["weights_hash"]) == 64
    assert (record["device"], record["precision"]) == ("cpu", "float32")
    assert len(record["address"]) == len(record["descriptions_address"]) == 16


@pytest.mark.parametrize(("at", "opened_before", "opened_after"), [("describing", 2, 3), ("embedding", 5, 0)])
def test_a_stopped_extraction_goes_on_and_ends_in_the_same_bytes(
    at: str, opened_before: int, opened_after: int, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    original = mllm.open_image

    def note(path: Path) -> Image.Image:
        opened.append(path)
        return original(path)

    def note_until(path: Path) -> Image.Image:
        if len(opened) == opened_before:
            raise KeyboardInterrupt
        return note(path)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mllm, "SHARD", 2)
    with monkeypatch.context() as patch:
        patch.setattr(mllm, "open_image", note_until)
        if at == "embedding":
            patch.setattr(mllm, "embed", stop)
        with pytest.raises(KeyboardInterrupt):
            describe(world, tmp_path)
    assert len(opened) == opened_before and not list(tmp_path.glob("image*"))
    opened.clear()
    monkeypatch.setattr(mllm, "open_image", note)
    describe(world, tmp_path)
    assert len(opened) == opened_after
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.descriptions.parquet", "image.json", "image.npy"]
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (world / "whole" / path.name).read_bytes()


def test_other_weights_or_another_prompt_have_another_address(world: Path, tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model", seed=1)
    addresses = {json.loads((world / "whole/image.json").read_text())["descriptions_address"]}
    for name, changes in [("weights", {"weights": str(tmp_path / "model")}), ("prompt", {"prompt": "say {title}"})]:
        describe(world, tmp_path / name, **changes)
        addresses.add(json.loads((tmp_path / name / "image.json").read_text())["descriptions_address"])
    assert len(addresses) == 3


def test_a_model_without_chat_template_gets_a_plain_prompt(world: Path, tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model", chat_template=None)
    plain = describe(world, tmp_path / "out", weights=str(tmp_path / "model"))
    chat = pd.read_parquet(world / "whole/image.descriptions.parquet")["description"]
    assert plain.notna().tolist() == [True] * 6 + [False]
    assert plain.tolist() != chat.tolist()


def test_missing_error_stops_before_anything_is_described(world: Path, tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match=r"out\.image: 1 of 7 items have no features; mend"):
        describe(world, tmp_path / "out", missing="error")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_model_is_one_line(world: Path, tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match=r"mllm: weights '.*' cannot be loaded") as caught:
        describe(world, tmp_path / "out", weights=str(tmp_path))
    assert "\n" not in str(caught.value)
