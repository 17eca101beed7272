from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mmrepro.config.dataset import DatasetConfig
from mmrepro.datasets.prepare import prepare
from mmrepro.datasets.raw import RawDataset
from mmrepro.datasets.readers import load_reader
from mmrepro.errors import MmreproError

Record = dict[str, Any]

OLD_REVIEW: Record = {"reviewerID": "A1", "asin": "B1", "overall": 5.0, "unixReviewTime": 1370000000, "summary": "x"}
OLD_ITEM: Record = {
    "asin": "B1",
    "title": "Bib",
    "brand": "Snug",
    "categories": [["Baby", "Feeding"], ["Other"]],
    "description": "Soft,\r\nit's washable",
    "imUrl": "http://ecx.example/1.jpg",
    "related": {"also_bought": ["B2"]},
    "price": 3.5,
}
MIDDLE_ITEM: Record = {
    "asin": "B1",
    "title": "Bib",
    "brand": "Snug",
    "category": ["Baby", "Feeding"],
    "description": ["Soft,\n", "", "washable"],
    "imageURL": ["http://x/small.jpg"],
    "imageURLHighRes": ["http://x/large.jpg", "http://x/back.jpg"],
}
NEW_REVIEW: Record = {"user_id": "A1", "asin": "V9", "parent_asin": "B1", "rating": 5.0, "timestamp": 1588687728923}
NEW_ITEM: Record = {
    "parent_asin": "B1",
    "title": "Bib",
    "store": "Snug",
    "categories": ["Baby", "Feeding"],
    "description": ["Soft", "washable"],
    "features": ["not in the text"],
    "images": [
        {"thumb": "http://x/t0", "large": "http://x/l0", "variant": "PT01", "hi_res": "http://x/h0"},
        {"thumb": "http://x/t1", "large": "http://x/l1", "variant": "MAIN", "hi_res": None},
    ],
}
RELEASES = {
    "amazon_2014": (OLD_REVIEW, OLD_ITEM),
    "amazon_2018": (OLD_REVIEW, MIDDLE_ITEM),
    "amazon_2023": (NEW_REVIEW, NEW_ITEM),
}


def config(reader: str, interactions: str = "reviews.gz", **changes: Any) -> DatasetConfig:
    options = {"interactions_file": interactions, "metadata_file": "meta.gz"}
    base = {"dataset": "toy", "title": "Toy", "reader": reader, "folder": "toy", "licence": "none", "options": options}
    return DatasetConfig.model_validate({**base, **changes})


def line(reader: str, item: Record) -> str:
    return repr(item) if reader == "amazon_2014" else json.dumps(item)


def write(folder: Path, reviews: list[str], items: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, lines in (("reviews.gz", reviews), ("meta.gz", items)):
        (folder / name).write_bytes(gzip.compress("".join(text + "\n" for text in lines).encode()))
    return folder


def read(folder: Path, reader: str, reviews: list[Record], items: list[Record]) -> RawDataset:
    write(folder, [json.dumps(review) for review in reviews], [line(reader, item) for item in items])
    return load_reader(config(reader)).read(folder, config(reader))


@pytest.mark.parametrize(
    ("reader", "time", "text", "url"),
    [
        ("amazon_2014", 1370000000, "Bib Snug Baby Feeding Soft,it's washable", "http://ecx.example/1.jpg"),
        ("amazon_2018", 1370000000, "Bib Snug Baby Feeding Soft, washable", "http://x/large.jpg"),
        ("amazon_2023", 1588687728, "Bib Snug Baby Feeding Soft washable", "http://x/l1"),
    ],
)
def test_a_release_is_read(reader: str, time: int, text: str, url: str, tmp_path: Path) -> None:
    review, item = RELEASES[reader]
    data = read(tmp_path, reader, [review], [item])
    expected = pd.DataFrame({"user": ["A1"], "item": ["B1"], "rating": [5.0], "timestamp": [time]})
    pd.testing.assert_frame_equal(data.interactions, expected)
    assert data.items.fillna("null").to_dict("records") == [
        {"key": "B1", "title": "Bib", "text": text, "image": "null", "image_url": url}
    ]
    assert not any(data.repairs.values())


@pytest.mark.parametrize("reader", list(RELEASES))
def test_a_missing_part_of_the_text_is_one_space(reader: str, tmp_path: Path) -> None:
    review = RELEASES[reader][0]
    key = "parent_asin" if reader == "amazon_2023" else "asin"
    bare = {key: "B1", "brand": None, "store": "", "categories": [], "category": [], "description": "Soft"}
    data = read(tmp_path, reader, [review], [bare])
    assert data.items["text"].tolist() == ["      Soft"]  # three parts of one space, three joints
    assert data.items[["title", "image_url"]].isna().all(axis=None)


@pytest.mark.parametrize("reader", list(RELEASES))
def test_only_items_with_interactions_are_read_and_the_first_record_counts(reader: str, tmp_path: Path) -> None:
    review, item = RELEASES[reader]
    key = "parent_asin" if reader == "amazon_2023" else "asin"
    records = [{**item, key: "B2"}, item, {**item, "title": "Later"}]
    data = read(tmp_path, reader, [review], records)
    assert data.items["title"].tolist() == ["Bib"]
    assert {name for name, n in data.repairs.items() if n} == {"repeated_item_records"}


@pytest.mark.parametrize("reader", list(RELEASES))
def test_without_metadata_items_are_keys_alone(reader: str, tmp_path: Path) -> None:
    write(tmp_path, [json.dumps(RELEASES[reader][0])], [])
    bare = config(reader, options={"interactions_file": "reviews.gz"})
    data = load_reader(bare).read(tmp_path, bare)
    assert (len(data.interactions), len(data.items)) == (1, 0)


@pytest.mark.parametrize("reader", list(RELEASES))
def test_lines_may_come_in_any_order(reader: str, tmp_path: Path) -> None:
    review, item = RELEASES[reader]
    new = reader == "amazon_2023"
    user, key, time = ("user_id", "parent_asin", "timestamp") if new else ("reviewerID", "asin", "unixReviewTime")
    reviews = [
        json.dumps({**review, user: f"A{u}", key: f"B{i}", time: 10**9 + 10**4 * (7 * u + i)})
        for u in range(6)
        for i in range(6)
    ]
    items = [line(reader, {**item, key: f"B{i}", "title": f"Bib {i}"}) for i in range(6)]
    prepare(config(reader, k_core=2), write(tmp_path / "a", reviews, items), tmp_path / "a")
    mixer = random.Random(3)
    mixer.shuffle(reviews)
    mixer.shuffle(items)
    prepare(config(reader, k_core=2), write(tmp_path / "b", reviews, items), tmp_path / "b")
    for file in ("interactions.parquet", "items.parquet", "users.parquet", "left_out.parquet", "statistics.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("reader", list(RELEASES))
def test_a_text_that_quotes_another_item_does_not_hide_its_own(reader: str, tmp_path: Path) -> None:
    review, item = RELEASES[reader]
    key = "parent_asin" if reader == "amazon_2023" else "asin"
    quoting = {"title": f"""see '{key}': 'B7' or "{key}": "B8" """, **{k: v for k, v in item.items() if k != "title"}}
    assert len(read(tmp_path, reader, [review], [quoting]).items) == 1


def test_a_literal_in_another_notation_is_read_too(tmp_path: Path) -> None:
    write(tmp_path, [json.dumps(OLD_REVIEW)], ['{"asin" : "B1", "title": None}', "{'asin': 'B2', 'broken"])
    data = load_reader(config("amazon_2014")).read(tmp_path, config("amazon_2014"))
    assert data.items["key"].tolist() == ["B1"]  # the broken line is of an item that nobody has


def test_metadata_is_data_and_never_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    write(tmp_path, [json.dumps(OLD_REVIEW)], [f"{{'asin': 'B1', 'title': open({str(touched)!r}, 'w')}}"])
    with pytest.raises(MmreproError, match=r"meta\.gz: line 1 is no valid Python literal"):
        load_reader(config("amazon_2014")).read(tmp_path, config("amazon_2014"))
    assert not touched.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"overall": "five"}, "line 2: 'overall' must be a number and 'unixReviewTime' an integer"),
        ({"unixReviewTime": 1.5}, "line 2: 'overall' must be a number and 'unixReviewTime' an integer"),
        ({"unixReviewTime": 10**30}, "line 2: 'overall' must be a number and 'unixReviewTime' an integer"),
        ({"overall": float("nan")}, "line 2: 'overall' must be a number"),
        ({"reviewerID": 7}, "line 2: 'reviewerID' and 'asin' must be text"),
        ({"asin": ["B1"]}, "line 2: 'reviewerID' and 'asin' must be text"),
        ({"asin": None}, "line 2 has no 'asin'"),
    ],
)
def test_a_malformed_review_names_file_and_line(change: Record, message: str, tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match=rf"reviews\.gz: {message}"):
        read(tmp_path, "amazon_2018", [OLD_REVIEW, {**OLD_REVIEW, **change}], [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{'asin': 'B1', 'title': 'Bib", "line 2 is no valid Python literal"),
        ("{'asin': 'B1', 'title': f(1)}", "line 2 is no valid Python literal"),
        ("{'asin': 'B1', 'title': '\\ud800', " + "[" * 500, "line 2 is no valid Python literal"),
        ("['asin', 'B1']", "line 2 has no 'asin'"),
        ("{'asin': 3}", "line 2: 'asin' must be text"),
    ],
)
def test_malformed_metadata_names_file_and_line(text: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, [json.dumps(OLD_REVIEW)], [repr(OLD_ITEM), text])
    with pytest.raises(MmreproError, match=rf"meta\.gz: {message}") as error:
        load_reader(config("amazon_2014")).read(tmp_path, config("amazon_2014"))
    assert "\n" not in str(error.value)


def test_a_file_without_reviews_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match=r"reviews\.gz: the file has no rows"):
        read(tmp_path, "amazon_2023", [], [])


def test_ratings_without_header_are_read(tmp_path: Path) -> None:
    write(tmp_path, [], [repr(OLD_ITEM)])
    (tmp_path / "ratings.csv").write_text("A1,B1,4.0,1370000000\nNA,0000000007,1,1370000001\n")
    ratings = config("amazon_2014", "ratings.csv")
    data = load_reader(ratings).read(tmp_path, ratings)
    assert data.interactions.to_numpy().tolist() == [
        ["A1", "B1", 4.0, 1370000000],
        ["NA", "0000000007", 1.0, 1370000001],
    ]
    assert data.items["key"].tolist() == ["B1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("A1,B1,4.0\n", "3 columns, expected user, item, rating, time"),
        ("A1,B1,4.0,7\nA1,,4.0,7\n", "line 2, column 'item' is empty"),
        ("A1,B1,good,7\n", "line 1, column 'rating': 'good' is not a number"),
        ("A1,B1,4.0,7\nA1,B2,4.0\n", "line 2, column 'timestamp': '' is not an integer"),
        ("", "the file is empty"),
    ],
)
def test_malformed_ratings_name_file_and_line(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text(content)
    ratings = config("amazon_2014", "ratings.csv")
    with pytest.raises(MmreproError, match=rf"ratings\.csv: {message}"):
        load_reader(ratings).read(tmp_path, ratings)


def test_a_release_in_two_units_of_time_is_refused(tmp_path: Path) -> None:
    other = {**NEW_REVIEW, "user_id": "A2", "timestamp": 1588687728}
    with pytest.raises(
        MmreproError, match=r"several units: 1 in seconds \(user 'A2', .*, 1 in milliseconds \(user 'A1'"
    ):
        read(tmp_path, "amazon_2023", [NEW_REVIEW, other], [NEW_ITEM])


def test_a_release_that_counts_seconds_is_believed(tmp_path: Path) -> None:
    reviews = [{**NEW_REVIEW, "timestamp": 1588687728}, {**NEW_REVIEW, "user_id": "A2", "timestamp": 1588687730}]
    assert read(tmp_path, "amazon_2023", reviews, [NEW_ITEM]).interactions["timestamp"].tolist() == [
        1588687728,
        1588687730,
    ]


@pytest.mark.parametrize("change", [{"overall": True}, {"unixReviewTime": True}])
def test_a_truth_is_no_number(tmp_path: Path, change: Record) -> None:
    with pytest.raises(MmreproError, match="line 1: 'overall' must be a number and 'unixReviewTime' an integer"):
        read(tmp_path, "amazon_2018", [{**OLD_REVIEW, **change}], [MIDDLE_ITEM])


def test_keys_of_a_release_that_look_the_same_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match="column 'asin': 'B1' and 'B1 ' differ by white space"):
        read(tmp_path, "amazon_2018", [OLD_REVIEW, {**OLD_REVIEW, "asin": "B1 "}], [MIDDLE_ITEM])
