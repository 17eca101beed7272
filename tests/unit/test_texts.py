"""Texts that are page code, halves of characters, too long, or all alike."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from features_hand_made import CLIP, feature_set, make_items
from hypothesis import given
from hypothesis import strategies as st

from mmrepro.config.dataset import DatasetConfig
from mmrepro.datasets.readers import load_reader
from mmrepro.datasets.texts import cleaned, plain_text, whole_characters
from mmrepro.errors import MmreproError
from mmrepro.features.extract import extract
from mmrepro.features.matrix import load_record, sharing_rows

SPAN = '<span class="a-size-medium a-color-secondary"'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("&lt;b&gt;Bold&lt;/b&gt; tea", "Bold tea"),
        (f"{SPAN}>Green <b>tea</b></span>", "Green tea"),
        (f"{SPAN}>", ""),
        (SPAN, ""),
        ("<script>var aPageStart = (new Date()).getTime();</script>Cup", "Cup"),
        ("<style>.a{}</style>", ""),
        ("<p>one</p><p>two</p>", "one two"),
        ("a < b and I <3 you", "a < b and I <3 you"),
        ("5 &lt; 7", "5 < 7"),
        ("plain  text", "plain  text"),
        ("AT&T", "AT&T"),
        ("<!-- hidden -->seen", "seen"),
        ("Shirt, Size <L>", "Shirt, Size <L>"),
        ("<b>Shirt</b>, Size <XL>", "Shirt , Size <XL>"),
        ("<![if !IE]>Mug<![endif]><p>big</p>", "Mug big"),
        ("<b>Cup</b><![x[", "Cup"),
    ],
)  # fmt: skip
def test_a_text_is_what_a_page_shows(text: str, shown: str) -> None:
    assert plain_text(text) == shown


@given(st.text(max_size=60))
def test_any_text_has_a_plain_form_that_stays(text: str) -> None:
    plain = plain_text(text)
    assert "<script" not in plain.lower() or "<script" in text.lower().replace("<script>", "")
    if "<" not in text and "&" not in text:
        assert plain == text


@given(st.text(st.characters(), max_size=40))
def test_what_was_repaired_can_be_written(text: str) -> None:
    repaired = whole_characters(text)
    repaired.encode("utf-8")
    assert whole_characters(repaired) == repaired


def test_pairs_of_halves_are_one_character_and_single_ones_are_marked() -> None:
    assert whole_characters("\ud83d\ude00 ok \ud83d!") == "\U0001f600 ok \ufffd!"


def test_texts_that_are_markup_alone_become_missing_and_are_counted() -> None:
    texts = pd.Series(["<b></b>", "a &amp; b", None, "c"], dtype="str")
    found, count = cleaned(texts, "strip")
    assert found.fillna("missing").tolist() == ["missing", "a & b", "missing", "c"] and count == 2
    assert cleaned(texts, "keep")[1] == 0


def write_release(folder: Path, titles: list[str | None]) -> DatasetConfig:
    reviews = [
        {"reviewerID": f"U{user}", "asin": f"A{item}", "overall": 5.0, "unixReviewTime": 1500000000 + item}
        for user in range(3) for item in range(len(titles))
    ]  # fmt: skip
    records = [{"asin": f"A{item}", **({"title": title} if title else {})} for item, title in enumerate(titles)]
    for name, rows in (("reviews.json.gz", reviews), ("meta.json.gz", records)):
        (folder / name).write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    options = {"interactions_file": "reviews.json.gz", "metadata_file": "meta.json.gz"}
    base = {"dataset": "toy", "title": "Toy", "reader": "amazon_2018", "folder": "toy", "licence": "none"}
    return DatasetConfig.model_validate({**base, "options": options})


def test_page_code_in_place_of_titles_is_a_missing_title(tmp_path: Path) -> None:
    titles = [f"{SPAN}>", "Gift &amp; card", None, "half \ud83d", f"{SPAN}>Kept</span>"]
    config = write_release(tmp_path, titles)
    data = load_reader(config).read(tmp_path, config)
    expected = ["none", "Gift & card", "none", "half \ufffd", "Kept"]
    assert data.items.sort_values("key")["title"].fillna("none").tolist() == expected
    assert (data.repairs["item_records_with_markup"], data.repairs["item_records_with_half_characters"]) == (3, 1)
    config = config.model_copy(update={"options": {**config.options, "markup": "keep"}})
    assert load_reader(config).read(tmp_path, config).items.sort_values("key")["title"].iloc[1] == "Gift &amp; card"


def test_half_a_character_in_a_key_names_its_line(tmp_path: Path) -> None:
    config = write_release(tmp_path, ["a", "b"])
    with gzip.open(tmp_path / "reviews.json.gz", "at") as handle:
        handle.write('{"reviewerID": "U\\ud83d", "asin": "A0", "overall": 5.0, "unixReviewTime": 1}\n')
    with pytest.raises(
        MmreproError, match=r"reviews\.json\.gz: line 7: 'reviewerID' 'U\\ud83d' holds .* half a character"
    ):
        load_reader(config).read(tmp_path, config)


def test_texts_cut_at_the_limit_and_rows_that_become_equal_are_counted(tmp_path: Path) -> None:
    long = "one two three four five six seven eight"
    titles: list[str | None] = ["red hat", "red hat", long, f"{long} nine", f"{long} ten", None]
    prepared = make_items(tmp_path / "prepared", titles, [None] * 6)
    settings = {**CLIP, "source": "title", "context_length": 8}
    extract(feature_set("text", **settings), "text", prepared, tmp_path, tmp_path / "out")
    record = load_record(tmp_path / "out", "text")
    assert {key: record[key] for key in ("texts", "distinct_texts", "texts_cut", "n_sharing", "n_missing")} == {
        "texts": 5, "distinct_texts": 4, "texts_cut": 3, "n_sharing": 5, "n_missing": 1,
    }  # fmt: skip


def test_items_without_a_row_of_their_own_share_none() -> None:
    matrix = np.array([[1, 2], [1, 2], [0, 0], [0, 0], [3, 4]], dtype=np.float32)
    assert sharing_rows(matrix, []) == 4
    assert sharing_rows(matrix, [2, 3]) == 2
