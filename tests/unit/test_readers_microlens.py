from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmrepro.config.dataset import DatasetConfig
from mmrepro.datasets.readers.microlens import read
from mmrepro.errors import MmreproError

TITLES = 'item,title\n11,"Cats, and dogs"\n12,None\n13,\n11,Again\n'


def config(interactions: str, **options: Any) -> DatasetConfig:
    options = {"interactions_file": interactions, "titles_file": "titles.csv", **options}
    return DatasetConfig(dataset="toy", title="Toy", reader="microlens", folder="toy", licence="none", options=options)


def write(folder: Path, name: str, content: str, titles: str = TITLES) -> Path:
    (folder / name).write_text(content)
    (folder / "titles.csv").write_text(titles)
    return folder


def test_a_users_list_is_in_order_of_time(tmp_path: Path) -> None:
    data = read(write(tmp_path, "pairs.tsv", "1\t13 11 12\n007\t11\n"), config("pairs.tsv"))
    assert data.interactions.to_numpy().tolist() == [["1", "13", 0], ["1", "11", 1], ["1", "12", 2], ["007", "11", 0]]
    assert not data.time_orders_users


def test_pairs_with_time_stamps_are_read(tmp_path: Path) -> None:
    data = read(
        write(tmp_path, "pairs.csv", "user,item,timestamp\n1,13,1600000\n007,11,1500000\n"), config("pairs.csv")
    )
    assert data.interactions.to_numpy().tolist() == [["1", "13", 1600000], ["007", "11", 1500000]]
    assert data.time_orders_users


def test_the_text_of_an_item_is_its_title(tmp_path: Path) -> None:
    data = read(write(tmp_path, "pairs.tsv", "1\t11\n"), config("pairs.tsv"))
    assert data.items["key"].tolist() == ["11", "12", "13"]
    assert data.items["title"].fillna("null").tolist() == ["Cats, and dogs", "None", "null"]
    assert data.items["text"].equals(data.items["title"].rename("text"))
    assert data.items["image"].isna().all()
    assert data.repairs == {"repeated_item_records": 1}


def test_covers_are_found_where_there_are_any(tmp_path: Path) -> None:
    write(tmp_path, "pairs.tsv", "1\t11\n")
    (tmp_path / "covers").mkdir()
    (tmp_path / "covers" / "12.jpg").write_bytes(b"jpg")
    data = read(tmp_path, config("pairs.tsv", covers_folder="covers"))
    assert data.items["image"].fillna("null").tolist() == ["null", "covers/12.jpg", "null"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("pairs.tsv", "1\t11 12\n2\t\n", "line 2 names no item"),
        ("pairs.tsv", "1\t11\t12\n", "3 columns, expected a user and a list of items"),
        ("pairs.csv", "user,item,timestamp\n1,11,5\n,12,6\n", "line 3, column 'user' is empty"),
        ("pairs.csv", "user,item,timestamp\n1,11,noon\n", "line 2, column 'timestamp': 'noon' is not an integer"),
        ("pairs.csv", "user,item\n1,11\n", "column 'timestamp' is missing"),
    ],
)
def test_malformed_interactions_name_file_and_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(MmreproError, match=rf"{name}: {message}"):
        read(write(tmp_path, name, content), config(name))


def test_a_title_without_item_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match=r"titles\.csv: line 3, column 'item' is empty"):
        read(write(tmp_path, "pairs.tsv", "1\t11\n", "item,title\n11,Cats\n,Dogs\n"), config("pairs.tsv"))


def test_a_user_with_two_lines_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "pairs.tsv", "u0\t11 12\nu1\t13\nu0\t13\n")
    with pytest.raises(MmreproError, match=r"pairs\.tsv: line 3: user 'u0' has a line already; write one a user"):
        read(tmp_path, config("pairs.tsv"))


def test_titles_and_covers_of_the_items_written_otherwise_are_refused_or_matched(tmp_path: Path) -> None:
    titles = "item,title\n011,A\n012,B\n"
    write(tmp_path, "pairs.tsv", "u0\t11 12\n", titles)
    with pytest.raises(MmreproError, match=r"2 of 2 items have no record of their key, .*'11' against '011'"):
        read(tmp_path, config("pairs.tsv"))
    (tmp_path / "covers").mkdir()
    (tmp_path / "covers/0011.jpg").write_bytes(b"x")
    found = read(tmp_path, config("pairs.tsv", item_keys="normalised", covers_folder="covers")).items.set_index("key")
    assert found["title"].to_dict() == {"11": "A", "12": "B"} and found.loc["11", "image"] == "covers/0011.jpg"


def test_a_user_called_na_is_a_user(tmp_path: Path) -> None:
    write(tmp_path, "pairs.csv", "user,item,timestamp\nNA,13,1600000\n")
    assert read(tmp_path, config("pairs.csv")).interactions["user"].tolist() == ["NA"]
