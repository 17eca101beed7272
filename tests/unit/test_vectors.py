"""Vectors belong to the items whose keys they have, in whatever order they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from features_hand_made import feature_set, make_items

from mmrepro.errors import MmreproError
from mmrepro.features.extract import extract
from mmrepro.features.matrix import FeatureMatrix

ORDER = [2, 0, 3, 1]
KEYS = [f"K{item}" for item in ORDER]
MATRIX = np.array([[item, item + 0.5] for item in ORDER], dtype=np.float32)
EXPECTED = [[item, item + 0.5] for item in range(4)]


def extracted(folder: Path, file: str = "vectors.npy", **options: Any) -> FeatureMatrix:
    prepared = make_items(folder / "prepared", ["a", "b", "c", "d"], [None] * 4)
    raw = folder / "raw"
    if not raw.is_dir():
        raw.mkdir()
    np.save(raw / "vectors.npy", options.pop("matrix", MATRIX))
    extract(feature_set("image", encoder="published", file=file, **options), "image", prepared, raw, folder / "out")
    return FeatureMatrix.load(folder / "out", "image", 4, "hash-of-4")


def write_keys(folder: Path, name: str, keys: list[str] = KEYS) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    if name.endswith(".npy"):
        np.save(folder / name, np.array(keys))
    elif name.endswith(".txt"):
        (folder / name).write_text("\n".join(keys) + "\n")
    elif name.endswith(".parquet"):
        pd.DataFrame({"item": keys, "other": 1}).to_parquet(folder / name)
    else:
        mark = ";" if "semicolons" in name else ","
        (folder / name).write_text(f"name{mark}item\n" + "".join(f"Thing{mark}{key}\n" for key in keys))
    return {"keys": name}


@pytest.mark.parametrize("name", ["keys.txt", "products.csv", "semicolons.csv", "keys.npy", "keys.parquet"])
def test_a_file_of_keys_puts_each_row_to_its_item(tmp_path: Path, name: str) -> None:
    options = write_keys(tmp_path / "raw", name)
    assert extracted(tmp_path, **options).matrix.tolist() == EXPECTED


@pytest.mark.parametrize("form", ["lists", "columns"])
def test_a_parquet_file_holds_keys_and_vectors(tmp_path: Path, form: str) -> None:
    (tmp_path / "raw").mkdir()
    columns = {"vector": list(MATRIX)} if form == "lists" else {"x1": MATRIX[:, 1], "x0": MATRIX[:, 0]}
    pd.DataFrame({"sku": KEYS, **columns}).to_parquet(tmp_path / "raw/vectors.parquet")
    assert extracted(tmp_path, "vectors.parquet", key_column="sku").matrix.tolist() == EXPECTED
    with pytest.raises(
        MmreproError, match=r"vectors\.parquet: no column 'item'; name the column of keys in `key_column`"
    ):
        extracted(tmp_path, "vectors.parquet")


def test_without_keys_nothing_says_whose_a_row_is(tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match=r"nothing says which row is which item's, .* in `keys` in config/features"):
        extracted(tmp_path)
    assert not (tmp_path / "out").exists()


def test_items_without_a_vector_are_missing_and_named(tmp_path: Path) -> None:
    options = write_keys(tmp_path / "raw", "keys.txt", ["K2", "K0", "X", "K1"])
    table = extracted(tmp_path, **options)
    assert table.record["missing"] == [{"item": 3, "key": "K3", "reason": "no vector of its key"}]
    assert table.matrix[2].tolist() == [2, 2.5]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["K0", "K1", "K2"], "4 rows, but 3 keys in 'keys.txt'"),
        (["K0", "K1", "K1", "K2"], "two rows have the key 'K1'; keep one of them"),
        (["a", "b", "c", "d"], "no row has the key of an item: 'a' here against 'K0' there"),
        (["K0", "K1", "K2", "k3"], "1 of 4 items have no vector of their key.*'K3' against 'k3'; write both alike"),
    ],
)
def test_keys_that_do_not_fit_are_named(tmp_path: Path, keys: list[str], message: str) -> None:
    options = write_keys(tmp_path / "raw", "keys.txt", keys)
    with pytest.raises(MmreproError, match=message):
        extracted(tmp_path, **options)


def test_a_published_numbering_is_followed_through_filters(tmp_path: Path) -> None:
    """Of six published items four are left; the row of each is its number, not its place."""
    prepared = make_items(tmp_path / "prepared", ["a", "b", "c", "d"], [None] * 4, published=6)
    (tmp_path / "raw").mkdir()
    np.save(tmp_path / "raw/vectors.npy", np.arange(12).reshape(6, 2))
    items = pd.read_parquet(prepared / "items.parquet").assign(key=["5", "0", "3", "2"])
    from mmrepro.datasets.interactions import ITEMS, load_statistics, write_prepared

    write_prepared(prepared, {ITEMS: items}, {k: v for k, v in load_statistics(prepared).items() if k != "files"})
    settings = feature_set("image", encoder="published", file="vectors.npy")
    extract(settings, "image", prepared, tmp_path / "raw", tmp_path / "out")
    matrix = FeatureMatrix.load(tmp_path / "out", "image", 4, "hash-of-4").matrix
    assert matrix.tolist() == [[10, 11], [0, 1], [6, 7], [4, 5]]


def test_a_matrix_without_columns_is_refused(tmp_path: Path) -> None:
    options = write_keys(tmp_path / "raw", "keys.txt")
    with pytest.raises(MmreproError, match="expected one matrix of numbers"):
        extracted(tmp_path, matrix=np.ones((4, 0)), **options)


@pytest.mark.parametrize("file", ["../vectors.npy", "/etc/vectors.npy", "", "a/../../b.npy"])
def test_a_file_outside_the_data_sets_folder_is_refused(tmp_path: Path, file: str) -> None:
    np.save(tmp_path / "vectors.npy", MATRIX)
    with pytest.raises(MmreproError, match=r"config/features: file '.*' leaves the data set's folder"):
        extracted(tmp_path, file)


@pytest.mark.parametrize(
    "others", [{"price": range(4)}, {"x0": range(4), "price": range(4)}, {"x0": range(4), "x2": range(4)}]
)
def test_columns_of_which_nothing_says_that_they_are_the_vector_are_refused(tmp_path: Path, others: dict) -> None:
    (tmp_path / "raw").mkdir()
    pd.DataFrame({"item": KEYS, **others}).to_parquet(tmp_path / "raw/vectors.parquet")
    with pytest.raises(MmreproError, match=r"which of the columns .* are the vector is not said; write one column of"):
        extracted(tmp_path, "vectors.parquet")


def test_a_price_beside_a_column_of_lists_is_no_part_of_the_vector(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    table = pd.DataFrame({"item": KEYS, "price": range(4), "vector": list(MATRIX)})
    table.to_parquet(tmp_path / "raw/vectors.parquet")
    assert extracted(tmp_path, "vectors.parquet").matrix.tolist() == EXPECTED


@pytest.mark.parametrize("vectors", [[[1.0], [2.0, 3.0], [1.0], [2.0]], [[1.0], None, [1.0], [2.0]]])
def test_vectors_that_are_missing_or_of_several_lengths_are_refused(tmp_path: Path, vectors: list) -> None:
    (tmp_path / "raw").mkdir()
    pd.DataFrame({"item": KEYS, "vector": vectors}).to_parquet(tmp_path / "raw/vectors.parquet")
    with pytest.raises(MmreproError, match="the vectors of 'vector' are missing or of several lengths"):
        extracted(tmp_path, "vectors.parquet")


def test_keys_of_a_table_with_a_name_too_few_are_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/keys.csv").write_text("item,name\n" + "".join(f"{n},{key},x\n" for n, key in enumerate(KEYS)))
    with pytest.raises(MmreproError, match=r"keys\.csv: line 2 has more values than the first line has names"):
        extracted(tmp_path, keys="keys.csv")


def test_keys_in_a_matrix_and_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    np.save(tmp_path / "raw/keys.npy", np.array(KEYS).reshape(2, 2))
    with pytest.raises(MmreproError, match=r"keys\.npy: not a readable \.npy vector of keys"):
        extracted(tmp_path, keys="keys.npy")
    (tmp_path / "raw/keys.csv").write_text("item,item\n" + "".join(f"{key},x\n" for key in KEYS))
    with pytest.raises(MmreproError, match=r"keys\.csv: two columns have the name 'item'"):
        extracted(tmp_path, keys="keys.csv")
    pd.DataFrame({"item": KEYS, "price1": range(4)}).to_parquet(tmp_path / "raw/vectors.parquet")
    with pytest.raises(MmreproError, match="which of the columns price1 are the vector is not said"):
        extracted(tmp_path, "vectors.parquet")
