from __future__ import annotations

import gzip
import random
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from mmrepro.__main__ import main
from mmrepro.config.dataset import DatasetConfig
from mmrepro.datasets.interactions import PreparedDataset, load_items, load_left_out, load_users
from mmrepro.datasets.prepare import prepare
from mmrepro.datasets.raw import RawDataset
from mmrepro.datasets.readers.tabular import read
from mmrepro.errors import MmreproError

PURCHASES = """\
customer,product,stars,day
007,tea,5,2024-03-01
007,cup,4,2024-03-02
007,pot,2,2024-03-05
ann,tea,3,2024-03-01
ann,cup,5,2024-03-04
ann,pan,4,2024-03-07
bob,pot,5,2024-03-02
bob,cup,1,2024-03-03
bob,pan,4,2024-03-09
"""
PRODUCTS = (
    "product,name,about,picture\ntea,Green tea,Loose leaves,a/tea.jpg\ncup,Cup,,https://x/cup.png\npot,,,a/no.jpg\n"
)
COLUMNS = {"user_column": "customer", "item_column": "product"}
FULL = {"interactions_file": "purchases.csv", **COLUMNS, "rating_column": "stars", "timestamp_column": "day"}
ITEMS = {"items_file": "products.csv", "title_column": "name", "text_columns": ["name", "about"]}


def config(**options: Any) -> DatasetConfig:
    return DatasetConfig(dataset="shop", title="Shop", reader="tabular", folder="shop", licence="own", options=options)


def write(folder: Path, content: str = PURCHASES, items: str = PRODUCTS) -> Path:
    (folder / "purchases.csv").write_text(content)
    (folder / "products.csv").write_text(items)
    (folder / "a").mkdir(exist_ok=True)
    (folder / "a" / "tea.jpg").write_bytes(b"jpg")
    return folder


def times(folder: Path, *values: str) -> pd.Series:
    lines = "".join(f"u{number},i,{value}\n" for number, value in enumerate(values))
    (folder / "t.csv").write_text("user,item,time\n" + lines)
    return read(folder, config(interactions_file="t.csv", timestamp_column="time")).interactions["timestamp"]


def test_ten_lines_become_a_prepared_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "purchases.csv").write_text(PURCHASES)
    assert len(PURCHASES.splitlines()) == 10
    described = {
        "dataset": "shop",
        "title": "My shop",
        "reader": "tabular",
        "folder": "shop",
        "licence": "my own",
        "files": [{"name": "purchases.csv"}],
        "options": FULL,
    }
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(described))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMREPRO_MIRROR", ".")
    for command in ("fetch shop.yaml --output raw", "prepare shop.yaml raw --output prepared"):
        monkeypatch.setattr(sys, "argv", ["mmrepro", *command.split()])
        with pytest.raises(SystemExit) as exit_:
            main()
        assert not exit_.value.code
    data = PreparedDataset.load(tmp_path / "prepared")
    assert (data.n_users, data.n_items, len(data.interactions)) == (3, 4, 9)
    assert data.interactions["split"].value_counts().to_dict() == {"train": 3, "valid": 3, "test": 3}
    assert sorted(load_users(tmp_path / "prepared")["key"]) == ["007", "ann", "bob"]
    assert sorted(load_items(tmp_path / "prepared")["key"]) == ["cup", "pan", "pot", "tea"]


def test_low_ratings_are_left_out_and_counted(tmp_path: Path) -> None:
    data = read(write(tmp_path), config(**FULL, minimum_rating=4))
    assert data.interactions["rating"].tolist() == [5, 4, 5, 4, 5, 4]
    assert data.repairs["rows_below_minimum_rating"] == 3
    assert data.items["key"].tolist() == ["cup", "pan", "pot", "tea"]


def test_pairs_below_the_minimum_rating_stay_known_as_left_out(tmp_path: Path) -> None:
    # 007 and pot 2, ann and tea 3, bob and cup 1 are below; ann has bought tea again and liked it
    raw = write(tmp_path, PURCHASES + "ann,tea,5,2024-03-10\n")
    prepare(config(**FULL, minimum_rating=4), raw, tmp_path / "prepared")
    users, items = load_users(tmp_path / "prepared")["key"], load_items(tmp_path / "prepared")["key"]
    left_out = load_left_out(tmp_path / "prepared")
    pairs = list(zip(users.loc[left_out["user"]], items.loc[left_out["item"]], strict=True))
    assert sorted(pairs) == [("007", "pot"), ("bob", "cup")]
    assert left_out["user"].dtype == left_out["item"].dtype == "int32"
    prepare(config(**FULL), raw, tmp_path / "all")
    assert load_left_out(tmp_path / "all").empty


def test_dates_become_seconds(tmp_path: Path) -> None:
    day = 86400
    assert times(tmp_path, "1970-01-02", "1970-01-01T00:00:05", "1970-01-02T01:00:00+01:00").tolist() == [day, 5, day]
    assert times(tmp_path, "1970-01-01 00:00:01.5", "1970-01-02").tolist() == [1.5, day]


def test_numbers_stay_what_they_are(tmp_path: Path) -> None:
    whole = times(tmp_path, "1700000000", "12")
    assert whole.tolist() == [1700000000, 12] and whole.dtype == "int64"
    assert times(tmp_path, "1700000000.25", "12").tolist() == [1700000000.25, 12.0]


@pytest.mark.parametrize("form", ["csv", "tsv", "csv.gz", "tsv.gz", "parquet"])
def test_every_form_of_a_table_reads_alike(form: str, tmp_path: Path) -> None:
    write(tmp_path)
    file = tmp_path / f"same.{form}"
    table = pd.read_csv(tmp_path / "purchases.csv", dtype={"customer": "str"})
    if form == "parquet":
        table.assign(day=pd.to_datetime(table["day"])).set_index("customer").to_parquet(file)
    else:
        table.to_csv(file, sep="\t" if "tsv" in form else ",", index=False)
    expected = read(tmp_path, config(**FULL))
    found = read(tmp_path, config(**{**FULL, "interactions_file": file.name}))
    pd.testing.assert_frame_equal(found.interactions, expected.interactions)


def test_keys_are_text_whatever_they_look_like(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("user,item,more\nNA,007,\nnull,1e5,\n1.0, x,\n")
    found = read(tmp_path, config(interactions_file="t.csv")).interactions
    assert found.to_numpy().tolist() == [["NA", "007"], ["null", "1e5"], ["1.0", " x"]]
    pd.DataFrame({"user": [1, 2], "item": ["a", "b"]}).to_parquet(tmp_path / "t.parquet")
    found = read(tmp_path, config(interactions_file="t.parquet")).interactions
    assert found["user"].tolist() == ["1", "2"]


def described_items(folder: Path, **options: Any) -> RawDataset:
    return read(write(folder), config(**FULL, **ITEMS, **options))


def test_items_have_title_text_and_image(tmp_path: Path) -> None:
    data = described_items(tmp_path, image_column="picture")
    assert data.items.fillna("null").to_dict("records") == [
        {
            "key": "tea",
            "title": "Green tea",
            "text": "Green tea Loose leaves",
            "image": "a/tea.jpg",
            "image_url": "null",
        },
        {"key": "cup", "title": "Cup", "text": "Cup", "image": "null", "image_url": "https://x/cup.png"},
        {"key": "pot", "title": "null", "text": "null", "image": "null", "image_url": "null"},
    ]
    assert {name: n for name, n in data.repairs.items() if n} == {"images_not_found": 1}


def test_the_title_is_the_text_where_no_other_column_is(tmp_path: Path) -> None:
    options = {**ITEMS, "text_columns": []}
    items = read(write(tmp_path), config(**FULL, **options)).items
    assert items["text"].fillna("null").tolist() == ["Green tea", "Cup", "null"]


def test_a_folder_of_images_named_by_key(tmp_path: Path) -> None:
    write(tmp_path)
    for name in ("tea.png", "tea.jpg", "cup.JPEG", "pot.txt", "nobody.gif"):
        (tmp_path / "a" / name).write_bytes(b"image")
    expected = {"tea": "a/tea.jpg", "cup": "a/cup.JPEG", "pot": "null"}
    for options in ({}, ITEMS):
        items = read(tmp_path, config(**FULL, **options, images_folder="a")).items.set_index("key")
        assert {key: items["image"].fillna("null")[key] for key in expected} == expected


def test_repeated_items_are_counted_and_the_first_counts(tmp_path: Path) -> None:
    data = read(write(tmp_path, items=PRODUCTS + "tea,Black tea,,\n"), config(**FULL, **ITEMS))
    assert data.repairs["repeated_item_records"] == 1
    assert data.items["title"].tolist()[0] == "Green tea"


def test_lines_may_come_in_any_order(tmp_path: Path) -> None:
    purchases, products = PURCHASES.splitlines(keepends=True), PRODUCTS.splitlines(keepends=True)
    full = config(**FULL, **ITEMS, image_column="picture")
    for name, seed in (("a", 1), ("b", 2)):
        mixer = random.Random(seed)
        mixed = [[lines[0], *mixer.sample(lines[1:], len(lines) - 1)] for lines in (purchases, products)]
        (tmp_path / name).mkdir()
        prepare(full, write(tmp_path / name, *map("".join, mixed)), tmp_path / name)
    for file in ("interactions.parquet", "items.parquet", "users.parquet", "left_out.parquet", "statistics.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"user_column": "custumer"}, r"purchases\.csv: no column 'custumer'; did you mean 'customer'\?"),
        ({**ITEMS, "image_column": "pictures"}, r"products\.csv: no column 'pictures'; did you mean 'picture'\?"),
        ({"rating_column": "day"}, r"purchases\.csv: line 2, column 'day': '2024-03-01' is not a number"),
        ({"timestamp_column": "customer"}, r"line 5, column 'customer': 'ann' is not a number"),
        ({"timestamp_column": "product"}, r"line 2, column 'product': 'tea' is neither a number nor an ISO date"),
        ({"interactions_file": "purchases.xls"}, r"purchases\.xls: unknown kind of table; name it \.csv"),
        ({"interactions_file": "bought.csv"}, r"bought\.csv: no such file"),
        ({"minimum_rating": 6}, r"no rating reaches minimum_rating 6\.0; highest is 5"),
        ({"minimum_rating": 4, "rating_column": None}, "'minimum_rating' needs 'rating_column'"),
        ({"text_columns": ["name"]}, "'text_columns' needs 'items_file'"),
        ({**ITEMS, "image_column": "picture", "images_folder": "a"}, "both name images"),
        ({"images_folder": "pictures"}, "pictures: no such folder; list it under 'files' with `folder: true`"),
        (
            {"users_column": "customer"},
            r"config/datasets/shop\.yaml: options: unknown key 'users_column'; did you mean",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_mending(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match=message) as error:
        read(write(tmp_path), config(**{**FULL, **options}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"user,item\n", "the file has no rows"),
        (b"user,item\na,1\n,2\n", "line 3, column 'user' is empty"),
        (b"user,item\na,1\nb\n", "line 3, column 'item' is empty"),
        (b"user,item\na,1\nb,2,3\n", "Expected 2 fields in line 3, saw 3"),
        (
            b"user,item\na,1,2\nb,2,3\n",
            "line 2 has more values than the first line has names, between commas; name every column",
        ),
        (b"user:item\na:1\n", "no column 'user'; did you mean 'user:item'"),
        (b"user,item\n\xff,1\n", "not UTF-8"),
    ],
)
def test_a_malformed_table_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(MmreproError, match=rf"t\.csv: .*{message}"):
        read(tmp_path, config(interactions_file="t.csv"))


@pytest.mark.parametrize("name", ["t.csv.gz", "t.parquet"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"user,item\n" + random.Random(0).randbytes(500))[:-20])
    with pytest.raises(MmreproError, match=rf"{name}: (truncated or damaged archive|no readable parquet file)"):
        read(tmp_path, config(interactions_file=name))


@pytest.mark.parametrize("path", ["../secret.jpg", "/etc/secret.jpg"])
def test_an_image_outside_the_folder_is_refused(path: str, tmp_path: Path) -> None:
    write(tmp_path, items=PRODUCTS.replace("a/no.jpg", path))
    with pytest.raises(MmreproError, match=rf"products\.csv: image '{path}' leaves the data set's folder"):
        read(tmp_path, config(**FULL, **ITEMS, image_column="picture"))


def test_texts_of_a_parquet_file_may_be_bytes(tmp_path: Path) -> None:
    pd.DataFrame({"user": [b"a", b"b"], "item": ["1", "2"]}).to_parquet(tmp_path / "t.parquet")
    found = read(tmp_path, config(interactions_file="t.parquet")).interactions
    assert found["user"].tolist() == ["a", "b"]
    pd.DataFrame({"user": [b"a", b"\xff"], "item": ["1", "2"]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(MmreproError, match=r"t\.parquet: column 'user' is not UTF-8 .*; write it anew"):
        read(tmp_path, config(interactions_file="t.parquet"))


def test_lists_are_no_keys(tmp_path: Path) -> None:
    pd.DataFrame({"user": ["a", "b"], "item": [["1"], ["2"]]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(MmreproError, match="column 'item' holds lists, which are no keys; name another column"):
        read(tmp_path, config(interactions_file="t.parquet"))
