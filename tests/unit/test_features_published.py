from pathlib import Path

import numpy as np
import pytest
from features_hand_made import feature_set, make_items

from mmrepro.errors import MmreproError
from mmrepro.features.extract import extract
from mmrepro.features.matrix import FeatureMatrix


def extract_published(tmp_path: Path, content: np.ndarray | bytes | None, missing: str = "mean") -> FeatureMatrix:
    prepared = make_items(tmp_path / "prepared", ["a", "b", "c"], [None] * 3, published=3)
    if isinstance(content, bytes):
        (tmp_path / "feat.npy").write_bytes(content)
    elif content is not None:
        np.save(tmp_path / "feat.npy", content)
    config = feature_set("audio", encoder="published", file="feat.npy", missing=missing)
    extract(config, "audio", prepared, tmp_path, tmp_path / "out")
    return FeatureMatrix.load(tmp_path / "out", "audio", 3, "hash-of-3")


def test_published_half_precision_becomes_float32_with_the_same_values(tmp_path: Path) -> None:
    matrix = np.array([[0.5, 1], [2, 3], [4, 0.1]], dtype=np.float16)
    table = extract_published(tmp_path, matrix)
    assert table.matrix.dtype == np.float32
    np.testing.assert_array_equal(table.matrix, matrix.astype(np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"one file 'feat.npy' is expected, found none; list it under `files` in config/datasets/.*\.yaml"),
        (b"\x93NUMPY\x01", "not a readable .npy matrix"),
        (b"", "the file is empty"),
        (np.ones(3), "expected one matrix of numbers"),
        (np.ones((4, 2)), "feat.npy: 4 rows, but the publisher numbered 3 items"),
        (np.array([[1, 2], [np.nan, 0], [np.inf, 1]]), "feat.npy: the vector of item '2' holds infinity"),
        (np.full((3, 2), np.nan), "none of 3 items has a usable row in feat.npy"),
    ],
)
def test_bad_published_file_is_named_and_leaves_nothing(
    content: np.ndarray | bytes | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(MmreproError, match=message):
        extract_published(tmp_path, content)
    assert not (tmp_path / "out").exists()


def test_rows_with_nan_are_missing_and_rows_of_zeros_are_rows(tmp_path: Path) -> None:
    table = extract_published(tmp_path, np.array([[2, 4], [np.nan, 1], [0, 0]], dtype=np.float32))
    np.testing.assert_array_equal(table.matrix, [[2, 4], [1, 2], [0, 0]])
    assert table.record["missing"] == [{"item": 1, "key": "1", "reason": "NaN in its vector"}]


def test_rows_with_nan_are_refused_under_missing_error(tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match="1 of 3 items have no features; mend"):
        extract_published(tmp_path, np.array([[2, 4], [np.nan, 1], [0, 0]]), "error")
    assert not (tmp_path / "out").exists()


def test_a_pattern_names_the_one_file_that_it_matches(tmp_path: Path) -> None:
    prepared = make_items(tmp_path / "prepared", ["a", "b"], [None] * 2, published=2)
    (tmp_path / "baby_beit3").mkdir()
    np.save(tmp_path / "baby_beit3/image_feat.npy", np.eye(2))
    np.save(tmp_path / "image_feat.npy", np.ones((2, 2)))
    config = feature_set("unified", encoder="published", file="*_beit3/image_feat.npy")
    extract(config, "unified", prepared, tmp_path, tmp_path / "out")
    np.testing.assert_array_equal(FeatureMatrix.load(tmp_path / "out", "unified", 2, "hash-of-2").matrix, np.eye(2))
    (tmp_path / "sports_beit3").mkdir()
    np.save(tmp_path / "sports_beit3/image_feat.npy", np.eye(2))
    names = "baby_beit3/image_feat.npy, sports_beit3/image_feat.npy"
    with pytest.raises(MmreproError, match=f"is expected, found {names}; list it under"):
        extract(config, "unified", prepared, tmp_path, tmp_path / "out")
