"""Keys that two files write in two ways, and pictures named after keys."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_readers_tabular import config

from mmrepro.config.dataset import DatasetConfig
from mmrepro.datasets.interactions import load_statistics
from mmrepro.datasets.item_keys import match_keys, normal_form
from mmrepro.datasets.pictures import pictures_of_keys
from mmrepro.datasets.prepare import prepare
from mmrepro.datasets.readers.tabular import read
from mmrepro.datasets.remarks import remarks_on
from mmrepro.errors import MmreproError


def found(wanted: list[str], there: list[str], matching: Any = None) -> list[Any]:
    matched = match_keys(
        pd.Index(wanted, dtype="str"), pd.Index(there, dtype="str"), "products.csv", "record", matching
    )
    return [None if pd.isna(key) else key for key in matched]


@pytest.mark.parametrize(
    ("here", "there"),
    [("0", "0000"), ("12", "12.0"), ("007", "7"), (" a", "a"), ("Tea", "tea"), ("café", "cafe\u0301")],
)
def test_keys_that_differ_by_writing_alone_are_an_error_unless_told(here: str, there: str) -> None:
    with pytest.raises(MmreproError) as error:
        found(["x", here], ["x", there])
    assert str(error.value).startswith("products.csv: 1 of 2 items have no record of their key, but one that differs")
    assert f"'{here}' against '{there}'" in str(error.value) and "item_keys: normalised" in str(error.value)
    assert found(["x", here], ["x", there], "normalised") == ["x", there]
    assert found(["x", here], ["x", there], "exact") == ["x", None]


def test_equal_keys_are_never_normalised_and_unlike_ones_never_matched() -> None:
    assert found(["01", "1", "q"], ["1", "01", "z"]) == ["01", "1", None]
    assert normal_form(pd.Index(["0", "000", "0.0", "10", "1.5"])).tolist() == ["0", "0", "0", "10", "1.5"]


def test_two_keys_that_would_become_one_are_refused() -> None:
    with pytest.raises(MmreproError, match="makes '01' and '1' of the interactions one key; write them alike"):
        found(["1", "01"], ["001"], "normalised")
    with pytest.raises(MmreproError, match="makes '1', '01', '001' one key; write them apart"):
        found(["1"], ["01", "001"], "normalised")


def write_shop(folder: Path, keys: list[str]) -> Path:
    (folder / "orders.csv").write_text("user,item\n" + "".join(f"u{n % 3},{n % 4}\n" for n in range(12)))
    (folder / "products.csv").write_text("item,name\n" + "".join(f"{key},Thing {key}\n" for key in keys))
    return folder


SHOP = {
    "interactions_file": "orders.csv", "user_column": "user", "item_column": "item", "items_file": "products.csv",
    "title_column": "name",
}  # fmt: skip


def test_titles_reach_their_items_though_zeros_were_lost(tmp_path: Path) -> None:
    write_shop(tmp_path, ["0000", "0001", "0002", "0003"])
    with pytest.raises(MmreproError, match=r"products\.csv: 4 of 4 items have no record .*'0' against '0000'"):
        read(tmp_path, config(**SHOP))
    items = read(tmp_path, config(**SHOP, item_keys="normalised")).items.set_index("key")
    assert items["title"].to_dict() == {str(n): f"Thing 000{n}" for n in range(4)}


def test_floats_of_a_parquet_file_are_told_from_whole_numbers(tmp_path: Path) -> None:
    write_shop(tmp_path, [])
    pd.DataFrame({"item": [0.0, 1.0, 2.0, 3.0], "name": list("abcd")}).to_parquet(tmp_path / "items.parquet")
    options = {**SHOP, "items_file": "items.parquet"}
    with pytest.raises(MmreproError, match=r"items\.parquet: 4 of 4 items .*'0' against '0\.0'"):
        read(tmp_path, config(**options))
    assert read(tmp_path, config(**options, item_keys="normalised")).items["title"].tolist() == list("abcd")


def test_a_table_of_other_items_names_a_key_of_each_side(tmp_path: Path) -> None:
    write_shop(tmp_path, ["apple", "pear"])
    with pytest.raises(MmreproError, match="no item of the interactions has a record here: '0' there against 'apple'"):
        read(tmp_path, config(**SHOP))


def write_pictures(folder: Path, *names: str) -> None:
    for name in names:
        (folder / "img" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "img" / name).write_bytes(b"picture")


def test_pictures_are_found_by_path_by_name_by_any_suffix_and_either_accent(tmp_path: Path) -> None:
    accented = unicodedata.normalize("NFD", "café")
    write_pictures(
        tmp_path, "010/0108.JPG", "a/20.png", f"{accented}.webp", "x%2Fy.gif", "b.jfif", "b.bmp", "c.tiff", "nobody.jpg",
        "notes.txt", ".hidden.jpg",
    )  # fmt: skip
    keys = pd.Series(["0108", "a/20", "café", "x/y", "b", "c", "absent"])
    files, pictures = pictures_of_keys(tmp_path, "img", keys)
    assert files.fillna("none").tolist() == [
        "img/010/0108.JPG", "img/a/20.png", f"img/{accented}.webp", "img/x%2Fy.gif", "img/b.jfif", "img/c.tiff", "none",
    ]  # fmt: skip
    assert (pictures.found, pictures.unmatched) == (9, ("b.bmp", "nobody.jpg", "notes.txt"))


def test_pictures_whose_names_are_keys_without_zeros_are_told(tmp_path: Path) -> None:
    write_pictures(tmp_path, "010/0108775015.jpg")
    keys = pd.Series(["108775015"])
    with pytest.raises(
        MmreproError, match=r"1 of 1 items have no picture of their key.*'108775015' against '0108775015'"
    ):
        pictures_of_keys(tmp_path, "img", keys)
    assert pictures_of_keys(tmp_path, "img", keys, "normalised")[0].tolist() == ["img/010/0108775015.jpg"]


def test_two_pictures_of_one_item_in_two_folders_are_refused(tmp_path: Path) -> None:
    write_pictures(tmp_path, "front/7.jpg", "back/7.jpg")
    with pytest.raises(MmreproError, match=r"'back/7\.jpg' and 'front/7\.jpg' are both pictures of one item"):
        pictures_of_keys(tmp_path, "img", pd.Series(["7"]))
    assert pictures_of_keys(tmp_path, "img", pd.Series(["front/7"]))[0].tolist() == ["img/front/7.jpg"]


def test_pictures_in_hidden_folders_are_none(tmp_path: Path) -> None:
    write_pictures(tmp_path, ".thumbnails/7.jpg", "7.jpg")
    assert pictures_of_keys(tmp_path, "img", pd.Series(["7"]))[0].tolist() == ["img/7.jpg"]


def test_users_and_items_written_in_two_ways_are_counted(tmp_path: Path) -> None:
    rows = [("3", "8"), ("0003", "8.0"), ("3", "9"), ("u", "8"), ("u", "9")]
    (tmp_path / "orders.csv").write_text("user,item\n" + "".join(f"{user},{item}\n" for user, item in rows))
    base = {"dataset": "shop", "title": "Shop", "reader": "tabular", "folder": "shop", "licence": "none"}
    prepare(
        DatasetConfig.model_validate({**base, "options": {"interactions_file": "orders.csv"}}),
        tmp_path,
        tmp_path / "out",
    )
    statistics = load_statistics(tmp_path / "out")
    assert statistics["keys_alike"] == {
        "users": {"count": 1, "examples": ["'0003' and '3'"]}, "items": {"count": 1, "examples": ["'8' and '8.0'"]},
    }  # fmt: skip
    assert (
        "1 pairs of items have keys that differ by zeros in front, '.0' or case alone, such as '8' and '8.0'"
        in "\n".join(remarks_on(statistics))
    )
