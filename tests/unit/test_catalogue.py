"""Items that the files describe and nobody has had: left out, or kept where asked for."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from test_prepare import dense, movielens, published, write_inter, write_movies

from mmrepro.datasets.interactions import PreparedDataset, load_items, load_left_out, load_users
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


def test_what_a_filter_took_from_users_who_stay_is_left_out_and_known(tmp_path: Path) -> None:
    rows = [*dense(users=4, items=3), (1, 9, 3, 1), (9, 1, 3, 1)]  # movie 9 and user 9 have one row each
    raw = write_movies(tmp_path / "toy", rows)
    for catalogue, expected in (("interacted", []), ("described", [("1", "9")])):
        prepare(movielens(catalogue=catalogue, k_core=3), raw, tmp_path / catalogue)
        left_out = load_left_out(tmp_path / catalogue)
        users, items = (load(tmp_path / catalogue)["key"] for load in (load_users, load_items))
        assert [*zip(users.loc[left_out["user"]], items.loc[left_out["item"]], strict=True)] == expected


def test_a_published_numbering_takes_no_other_items(tmp_path: Path) -> None:
    raw = write_inter(tmp_path, "0 0 0", "0 1 1", "0 2 2")
    with pytest.raises(MmreproError, match="'catalogue: described' would break the published numbering"):
        prepare(published(catalogue="described"), raw, tmp_path / "out")
