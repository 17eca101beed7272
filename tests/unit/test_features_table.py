from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmrepro.config.features import ItemGraphSection
from mmrepro.errors import MmreproError
from mmrepro.features.encoders.base import fill_missing
from mmrepro.features.item_graph import build_item_graph, load_neighbours
from mmrepro.features.matrix import FeatureMatrix, present_items
from mmrepro.records.files import file_sha256, write_json


def small_table(folder: Path, n_items: int = 5) -> FeatureMatrix:
    matrix = np.random.default_rng(0).normal(size=(n_items, 4)).astype(np.float32)
    return FeatureMatrix(matrix, "text", {"item_list_hash": "h", "missing": []}).save(folder)


def test_table_round_trip(tmp_path: Path) -> None:
    saved = small_table(tmp_path)
    loaded = FeatureMatrix.load(tmp_path, "text", 5, "h")
    np.testing.assert_array_equal(loaded.matrix, saved.matrix)
    assert loaded.record == saved.record
    assert (loaded.record["n_items"], loaded.record["dim"], loaded.record["dtype"]) == (5, 4, "float32")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["text.json", "text.npy"]


def test_table_of_the_wrong_length_or_item_list_is_refused(tmp_path: Path) -> None:
    small_table(tmp_path)
    with pytest.raises(MmreproError, match=r"text\.npy: 5 rows, but the data set has 6 items"):
        FeatureMatrix.load(tmp_path, "text", 6)
    with pytest.raises(MmreproError, match="another list of items"):
        FeatureMatrix.load(tmp_path, "text", 5, "other")


def test_table_with_nan_is_neither_written_nor_read(tmp_path: Path) -> None:
    matrix = np.ones((4, 2), dtype=np.float32)
    matrix[2, 1] = np.nan
    with pytest.raises(MmreproError, match=r"text\.npy: NaN or infinity in the rows of 1 of 4 items"):
        FeatureMatrix(matrix, "text", {}).save(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    small_table(tmp_path, 4)
    np.save(tmp_path / "text.npy", matrix)
    with pytest.raises(MmreproError, match=r"does not belong to text\.json"):
        FeatureMatrix.load(tmp_path, "text")
    write_json(tmp_path / "text.json", {"matrix_sha256": file_sha256(tmp_path / "text.npy")})
    with pytest.raises(MmreproError, match=r"NaN or infinity in the rows of 1 of 4 items"):
        FeatureMatrix.load(tmp_path, "text")


def test_missing_or_damaged_table_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match=r"text\.json: no such file"):
        FeatureMatrix.load(tmp_path, "text")
    small_table(tmp_path)
    (tmp_path / "text.npy").unlink()
    with pytest.raises(MmreproError, match=r"text\.npy: no such file"):
        FeatureMatrix.load(tmp_path, "text")
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(MmreproError, match=r"text\.json: no valid JSON"):
        FeatureMatrix.load(tmp_path, "text")
    (tmp_path / "text.json").write_text("{}")
    with pytest.raises(MmreproError, match="not the record of a feature table"):
        FeatureMatrix.load(tmp_path, "text")


def test_item_graph_round_trip_and_its_refusals(tmp_path: Path) -> None:
    small_table(tmp_path)
    build_item_graph(ItemGraphSection(neighbours=3), "text", tmp_path, tmp_path)
    written = (tmp_path / "text.neighbours.npz").read_bytes()
    build_item_graph(ItemGraphSection(neighbours=3), "text", tmp_path, tmp_path)
    assert (tmp_path / "text.neighbours.npz").read_bytes() == written
    indices, cosines = load_neighbours(tmp_path, "text", 5, 2)
    assert indices.shape == cosines.shape == (5, 2) and indices.dtype == torch.int64
    assert indices[:, 0].tolist() == list(range(5))
    with pytest.raises(MmreproError, match=f"raise `neighbours` to 4 in config/features/{tmp_path.name}.yaml"):
        load_neighbours(tmp_path, "text", 5, 4)
    with pytest.raises(MmreproError, match="5 rows, but the data set has 7 items"):
        load_neighbours(tmp_path, "text", 7, 2)
    FeatureMatrix(np.eye(5, dtype=np.float32), "text", {}).save(tmp_path)
    with pytest.raises(MmreproError, match="made from another feature matrix"):
        load_neighbours(tmp_path, "text", 5, 2)
    (tmp_path / "text.neighbours.npz").write_bytes(written[:100])
    with pytest.raises(MmreproError, match="not a readable item graph"):
        load_neighbours(tmp_path, "text", 5, 2)


def test_the_mask_of_present_items_is_read_from_the_record() -> None:
    record = {
        "missing": [{"item": 1, "key": "K1", "reason": "no image"}, {"item": 3, "key": "K3", "reason": "no image"}]
    }
    assert present_items(record, 5).tolist() == [True, False, True, False, True]
    assert present_items({"missing": []}, 2).tolist() == [True, True]


def test_mean_is_that_of_present_rows_only() -> None:
    matrix = np.array([[1.0, 2.0], [9.0, 9.0], [3.0, 6.0]], dtype=np.float32)
    fill_missing(matrix, [1], "mean", "t")
    np.testing.assert_array_equal(matrix, [[1, 2], [2, 4], [3, 6]])
    fill_missing(matrix, [0, 2], "zero", "t")
    np.testing.assert_array_equal(matrix, [[0, 0], [2, 4], [0, 0]])


@given(arrays(np.float32, (30, 3), elements=st.floats(-1e6, 1e6, width=32)), st.sets(st.integers(0, 29), max_size=29))
def test_filling_in_place_gives_the_bits_of_the_mean_over_the_present_rows(
    matrix: np.ndarray, missing: set[int]
) -> None:
    before = matrix.copy()
    fill_missing(matrix, missing, "mean", "t")
    kept = [i for i in range(30) if i not in missing]
    np.testing.assert_array_equal(matrix[kept], before[kept])
    expected = before[kept].mean(axis=0, dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(matrix[sorted(missing)], np.tile(expected, (len(missing), 1)))


def test_missing_items_under_error_are_counted_with_the_fix() -> None:
    with pytest.raises(MmreproError, match=r"s\.image: 2 of 3 items have no features; .*missing: mean"):
        fill_missing(np.ones((3, 1), dtype=np.float32), [2, 1], "error", "s.image")
