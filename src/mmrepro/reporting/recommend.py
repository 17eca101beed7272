"""Answers from a final run or its refit: items for users, or for somebody who likes certain items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mmrepro.columns import Columns
from mmrepro.datasets.delimited import Dialect, guess_separator, read_delimited
from mmrepro.datasets.interactions import load_items, load_users
from mmrepro.errors import MmreproError
from mmrepro.evaluation.given_lists import nearest_key
from mmrepro.evaluation.lists import NO_ITEM
from mmrepro.records.files import atomic_path, read_table
from mmrepro.reporting.escape import one_line
from mmrepro.study.layout import Layout
from mmrepro.training.serving import Server

WRITTEN_AS = (".csv", ".parquet", ".jsonl")


@dataclass(frozen=True)
class Recommendations:
    """Lists with keys and titles, and what a reader must know of them.

    Attributes
    ----------
    frame
        Columns user, rank (from 1), item, title, score; users in the order asked for.
    notes
        What was left out, a sentence each.
    """

    frame: pd.DataFrame
    notes: tuple[str, ...]


def recommend_users(
    server: Server, keys: Sequence[str] | None = None, k: int = 10, root: Path = Path(), skip_unknown: bool = False
) -> Recommendations:
    """Recommend items to users; nobody is offered what the raw data say that he has had, in a split or in none.

    Parameters
    ----------
    server
        The run.
    keys
        Users' keys; none: all users of the data.
    k
        Number of items, at most; there are fewer where the user has had nearly all.
    root
        Folder that holds `data/`.
    skip_unknown
        Leave users out that the data do not have; else they are an error.

    Raises
    ------
    MmreproError
        For unknown keys, with the nearest known one.
    """
    prepared = root / Layout.prepared(server.spec.dataset)
    known = load_users(prepared)[Columns.KEY].astype("str")
    wanted = known.tolist() if keys is None else list(dict.fromkeys(map(str, keys)))
    notes = []
    if skip_unknown:
        strangers = sorted(set(wanted) - set(known))
        wanted = [key for key in wanted if key not in strangers]
        if strangers:
            notes.append(f"{len(strangers)} users left out that the data do not have, such as '{strangers[0]}'")
    users = np.asarray(positions(known, wanted, "user"), dtype=np.int64)
    rising = np.unique(users)
    lists = server.rank(rising, k)
    places = np.searchsorted(rising, users)
    listed = lists.items[places]
    items = load_items(prepared)
    kept = listed != NO_ITEM
    chosen = items.iloc[listed[kept]]
    frame = pd.DataFrame(
        {
            Columns.USER: np.repeat(np.asarray(wanted, dtype=object), kept.sum(axis=1)),
            Columns.RANK: np.tile(np.arange(1, listed.shape[1] + 1), (len(listed), 1))[kept],
            Columns.ITEM: chosen[Columns.KEY].to_numpy(),
            Columns.TITLE: chosen[Columns.TITLE].to_numpy(),
            Columns.SCORE: lists.scores[places][kept],
        }
    )
    short = int((kept.sum(axis=1) < min(k, len(items))).sum())
    notes += [f"{short} users have fewer than {k} items left"] * bool(short)
    return Recommendations(frame, (*notes, *_left_out(server)))


def recommend_liked(server: Server, keys: Sequence[str], k: int = 10, root: Path = Path()) -> Recommendations:
    """Recommend items to somebody who likes certain items, these left out; columns as of `recommend_users`, without
    user. Parameters are the same.

    Raises
    ------
    MmreproError
        For unknown keys, and for a model that knows nothing of any of them: nobody has had them in training, and it
        reads no content.
    """
    prepared = root / Layout.prepared(server.spec.dataset)
    items = load_items(prepared)
    liked = np.unique(positions(items[Columns.KEY].astype("str"), keys, "item"))
    unknown = liked[~server.offered[liked]]
    if len(unknown) == len(liked):
        raise MmreproError(
            f"{server.spec.model} knows nothing of the liked items: nobody has had them in training, and it reads no "
            "content; like others, or use a model that reads content"
        )
    ranked, scores = server.rank_history(np.setdiff1d(liked, unknown), k)
    chosen = items.iloc[ranked]
    frame = pd.DataFrame(
        {
            Columns.RANK: np.arange(1, len(ranked) + 1),
            Columns.ITEM: chosen[Columns.KEY].to_numpy(),
            Columns.TITLE: chosen[Columns.TITLE].to_numpy(),
            Columns.SCORE: scores,
        }
    )
    notes = [f"the model has only {len(ranked)} others to offer"] if len(ranked) < k else []
    notes += [f"{len(unknown)} liked items say nothing: nobody has had them in training"] if len(unknown) else []
    return Recommendations(frame, (*notes, *_left_out(server)))


def _left_out(server: Server) -> tuple[str, ...]:
    """What the lists do not hold."""
    notes = []
    if never := int((~server.offered).sum()):
        notes.append(
            f"{server.spec.model} reads no content, so that {never} items are not offered that nobody has had in "
            "training"
        )
    return tuple(notes)


def as_text(frame: pd.DataFrame) -> str:
    """Return recommendations as columns for a terminal; keys and titles stay on their line."""
    shown = frame.copy()
    for name in {Columns.USER, Columns.ITEM, Columns.TITLE} & set(frame.columns):
        shown[name] = ["" if pd.isna(text) else one_line(str(text)) for text in frame[name]]
    return str(shown.to_string(index=False))


def read_keys(path: Path) -> list[str]:
    """Return the users of a file: its column `user`, or, without a heading, a key a line.

    Raises
    ------
    MmreproError
        For a missing or empty file, or one of several columns none of which is `user`.
    """
    if not path.is_file():
        raise MmreproError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; name a file of users")
    if path.stat().st_size == 0:
        raise MmreproError(f"{path}: no user in it; write a key a line")
    if path.suffix == ".parquet":
        return _keys_of_table(path)
    separator = guess_separator(path, ",", [Columns.USER])
    table = read_delimited(path, Dialect.of(separator), dtype="str", header=None, keep_default_na=False)
    heading = [str(name).strip() for name in table.iloc[0]]
    if Columns.USER in heading:
        found = [str(key) for key in table.iloc[1:, heading.index(Columns.USER)]]
        if not found:
            raise MmreproError(f"{path}: no user in it; write a key a line")
        return found
    if len(heading) > 1:
        raise MmreproError(f"{path}: no column '{Columns.USER}' among {', '.join(heading[:9])}; name it so")
    return [str(key) for key in table.iloc[:, 0]]


def _keys_of_table(path: Path) -> list[str]:
    table = read_table(path, f"write {path.name} again")
    if Columns.USER not in table:
        raise MmreproError(f"{path}: no column '{Columns.USER}' among {', '.join(map(str, table))}; name it so")
    return [str(key) for key in table[Columns.USER]]


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a table whole or not at all, in the format that the name ends with.

    Raises
    ------
    MmreproError
        For another ending.
    """
    require_format(path)
    with atomic_path(path) as temporary:
        if path.suffix == ".csv":
            frame.to_csv(temporary, index=False)
        elif path.suffix == ".parquet":
            frame.to_parquet(temporary, index=False)
        else:
            frame.to_json(temporary, orient="records", lines=True, force_ascii=False)


def require_format(path: Path) -> None:
    """Raise MmreproError unless a table can be written by that name."""
    if path.suffix not in WRITTEN_AS:
        raise MmreproError(f"{path}: write a file that ends with {', '.join(WRITTEN_AS)}")


def positions(known: pd.Series, keys: Sequence[str], kind: str) -> list[int]:
    """Return the places of keys among those known.

    Raises
    ------
    MmreproError
        For an unknown key, with the nearest known one.
    """
    found = pd.Index(known).get_indexer(pd.Index(list(keys), dtype="object"))
    if (found < 0).any():
        unknown = [key for key, place in zip(keys, found, strict=True) if place < 0]
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise MmreproError(f"unknown {kind} '{unknown[0]}'{more}; {nearest_key(unknown[0], known)}")
    return [int(place) for place in found]
