"""Lists that another system has made, ranked and masked as those of a model are."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mmrepro.columns import SPLITS, TEST, Columns
from mmrepro.datasets.delimited import Dialect, guess_separator, read_delimited
from mmrepro.datasets.interactions import load_items, load_users
from mmrepro.datasets.raw import numbers, with_decimal_points
from mmrepro.errors import MmreproError
from mmrepro.evaluation.evaluator import Evaluator
from mmrepro.evaluation.lists import RankedLists, lists_of_rows, tie_order
from mmrepro.records.files import read_table

MOST_KNOWN = 0.5
"""Share of the users, or items, of lists that a data set may not have, such as those that a filter has taken out."""
WANTED = [Columns.USER, Columns.ITEM, Columns.SCORE]


@dataclass(frozen=True)
class GivenLists:
    """Lists, and what was found in them.

    Attributes
    ----------
    lists
        Split -> lists of its users; one that is not listed has an empty list.
    counts
        Split -> its users, those listed, the pairs that were left out because the user has had the item, and those of
        users or items that the data set does not have.
    """

    lists: dict[str, RankedLists]
    counts: dict[str, dict[str, int]]


def read_rows(path: Path) -> pd.DataFrame:
    """Read a table of lists.

    Parameters
    ----------
    path
        Delimited text, `.parquet` or `.jsonl` with columns user and item (keys of the data set), score (higher is
        better) and, where validation is listed too, split.

    Raises
    ------
    MmreproError
        For a missing or damaged file, a missing column or a score that is no number.
    """
    if not path.is_file():
        raise MmreproError(f"{path}: no such file; check the path")
    if path.suffix == ".parquet":
        rows = read_table(path, f"write {path.name} again")
    elif path.suffix == ".jsonl":
        try:
            rows = pd.read_json(path, lines=True, dtype={Columns.USER: str, Columns.ITEM: str})
        except ValueError as error:
            raise MmreproError(f"{path}: not an object a line ({error}); write it again") from None
    else:
        separator = guess_separator(path, ",", WANTED)
        rows = read_delimited(path, Dialect.of(separator), dtype="str", keep_default_na=False)
    return checked_rows(rows, path)


def checked_rows(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return rows of lists, once they have their columns, keys and numbers.

    Raises
    ------
    MmreproError
        For a missing column, a key that is missing, or a score that is no number.
    """
    if lacking := [name for name in WANTED if name not in rows]:
        raise MmreproError(f"{path}: no column '{lacking[0]}'; lists have the columns {', '.join(WANTED)}")
    for name in WANTED[:2]:
        if rows[name].isna().any():
            raise MmreproError(f"{path}: line {int(rows[name].isna().to_numpy().argmax()) + 2}: no {name}; name one")
    scores = with_decimal_points(path, rows[Columns.SCORE])
    return rows.assign(**{Columns.SCORE: numbers(path, scores, 2, integer=False)})


def given_lists(rows: pd.DataFrame, prepared: Path, evaluator: Evaluator, depth: int, origin: str) -> GivenLists:
    """Return lists by split from rows of keys and scores.

    Parameters
    ----------
    rows
        As `read_rows` returns them. Without a column `split` they are for test.
    prepared
        Folder of the prepared data set, whose keys they name.
    evaluator
        Knows whom a split asks about, and which items are never listed.
    depth
        Length at which lists are cut.
    origin
        Where the rows come from, for messages.

    Raises
    ------
    MmreproError
        When the data set does not have most of the users or items, for an item that is listed twice for a user, or
        rows of no split.
    """
    splits = rows[Columns.SPLIT].astype("str") if Columns.SPLIT in rows else pd.Series(TEST, index=rows.index)
    if (wrong := ~splits.isin(SPLITS[1:])).any():
        raise MmreproError(f"{origin}: split '{splits[wrong].iloc[0]}'; valid are {', '.join(SPLITS[1:])}")
    numbered = pd.DataFrame(
        {
            Columns.SPLIT: splits,
            Columns.USER: _indices(rows[Columns.USER], load_users(prepared)[Columns.KEY], "user", origin),
            Columns.ITEM: _indices(rows[Columns.ITEM], load_items(prepared)[Columns.KEY], "item", origin),
            Columns.SCORE: rows[Columns.SCORE].to_numpy(np.float64),
        }
    )
    strange = (numbered[[Columns.USER, Columns.ITEM]] < 0).any(axis=1)
    doubled = numbered.duplicated([Columns.SPLIT, Columns.USER, Columns.ITEM]) & ~strange
    if doubled.any():
        row = rows[doubled.to_numpy()].iloc[0]
        raise MmreproError(
            f"{origin}: item '{row[Columns.ITEM]}' twice for user '{row[Columns.USER]}'; list an item once"
        )
    found = GivenLists({}, {})
    for split in SPLITS[1:]:
        of_split = numbered[Columns.SPLIT] == split
        listed = numbered[of_split & ~strange]
        if len(listed):
            found.lists[split], counts = _ranked(listed, split, evaluator, depth)
            found.counts[split] = {**counts, "unknown": int((of_split & strange).sum())}
    if TEST not in found.lists:
        raise MmreproError(f"{origin}: no rows for test; write a row for each item of each list")
    return found


def _ranked(listed: pd.DataFrame, split: str, evaluator: Evaluator, depth: int) -> tuple[RankedLists, dict[str, int]]:
    """The lists of one split: by decreasing score, equal scores as everywhere drawn."""
    n_items, users = evaluator.dataset.n_items, evaluator.dataset.of(split).distinct_users
    user, item = listed[Columns.USER].to_numpy(), listed[Columns.ITEM].to_numpy()
    known_users, known_items = evaluator.masked(split).by_user
    known = np.isin(user * n_items + item, known_users * n_items + known_items)
    asked = np.isin(user, users)
    kept = listed[asked & ~known]
    places = np.argsort(tie_order(n_items))
    order = np.lexsort((places[kept[Columns.ITEM]], -kept[Columns.SCORE], kept[Columns.USER]))
    kept = kept.iloc[order]
    rank = kept.groupby(Columns.USER).cumcount() + 1
    kept = kept.assign(**{Columns.RANK: rank})[rank <= depth]
    lists = lists_of_rows(kept, users)
    counts = {"users": len(users), "listed": int(kept[Columns.USER].nunique()), "known": int((asked & known).sum())}
    return lists, counts


def nearest_key(unknown: str, known: pd.Series) -> str:
    """Return a hint: the known key of the same number, or one that is written nearly so; else what keys look like."""
    keys = known.astype("str").tolist()
    number = unknown.lstrip("0") if unknown.isdecimal() else None
    same = next((key for key in keys if key.isdecimal() and key.lstrip("0") == number), None)
    near = same or next(iter(difflib.get_close_matches(unknown, keys, n=1, cutoff=0.6)), None)
    if near is not None:
        return f"did you mean '{near}'?"
    return f"keys there look like '{keys[0]}'" if keys else "the data set has none"


def _indices(keys: pd.Series, table: pd.Series, kind: str, origin: str) -> np.ndarray:
    """Places of keys among those of the data set; below 0 of those that it does not have, unless these are most."""
    found = pd.Index(table.astype("str")).get_indexer(pd.Index(keys.astype("str")))
    unknown = keys[found < 0].astype("str")
    if unknown.nunique() > MOST_KNOWN * keys.nunique():
        raise MmreproError(
            f"{origin}: {unknown.nunique()} {kind}s that the data set does not have, such as '{unknown.iloc[0]}'; "
            f"{nearest_key(unknown.iloc[0], table)}"
        )
    return np.asarray(found, dtype=np.int64)
