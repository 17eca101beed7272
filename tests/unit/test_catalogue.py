"""Items that the files describe and nobody has had: left out, or kept where asked for."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from test_prepare import dense, movielens, published, write_inter, write_movies

from mmrepro.datasets.interactions import PreparedDataset, load_items
from mmrepro.datasets.prepare import prepare
from mmrepro.errors import MmreproError


def test_described_items_keep_a_place_without_interactions_where_asked_for(tmp_path: Path) -> None:
    raw = write_movies(tmp_path / "toy", dense(items=9))
    prepare(movielens(), raw, tmp_path / "interacted")
    prepare(movielens(catalogue="described"), raw, tmp_path / "described")
    before, after = (PreparedDataset.load(tmp_path / name) for name in ("interacted", "described"))
    assert (before.n_items, after.n_items) == (9, 12)
    pd.testing.assert_frame_equal(before.interactions, after.interactions)
    keys = load_items(tmp_path / "described")["key"].tolist()
    assert keys[:9] == load_items(tmp_path / "interacted")["key"].tolist() and keys[9:] == ["10", "11", "12"]
    assert load_items(tmp_path / "described")["title"].iloc[10] == "Movie 11"
    assert before.item_list_hash != after.item_list_hash and before.content_hash != after.content_hash


def test_a_published_numbering_takes_no_other_items(tmp_path: Path) -> None:
    raw = write_inter(tmp_path, "0 0 0", "0 1 1", "0 2 2")
    with pytest.raises(MmreproError, match="'catalogue: described' would break the published numbering"):
        prepare(published(catalogue="described"), raw, tmp_path / "out")
