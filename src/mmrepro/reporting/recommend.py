"""Answers from a final run or its refit: items for a user, or for somebody who likes certain items."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.columns import EVERYONE, TEST, Columns
from mmrepro.datasets.interactions import PreparedDataset, load_items, load_users
from mmrepro.errors import MmreproError
from mmrepro.evaluation.lists import tie_order
from mmrepro.records.files import AGAIN, read_arrays, read_object, read_table, recorded_file
from mmrepro.reporting.escape import one_line

Record = Mapping[str, Any]


def recommend(
    run_folder: Path, prepared: Path, user_key: str | None = None, liked: Sequence[str] | None = None, k: int = 10
) -> pd.DataFrame:
    """Recommend items from a final run or its refit; nobody is offered what interactions say that he has had.

    Parameters
    ----------
    run_folder
        Folder of a final run, or of what `refit` has written, with `run.json`.
    prepared
        Folder of the prepared data sets, `data/prepared`.
    user_key
        Original key of a user: the list that the run keeps of the user (a final run of users with test items, a refit
        of everybody), or, for a user without one, the scores of the embeddings.
    liked
        Instead of a user, keys of items: items are ranked by the mean cosine with them, themselves left out.
    k
        Number of items, at most; there are fewer where the run's list or the catalogue has no more that the user has
        not had. Lists hold the first 100.

    Returns
    -------
    pd.DataFrame
        Columns rank (from 1), key, title, score.

    Raises
    ------
    MmreproError
        For an unfinished run, one made of other data than the prepared ones, an unknown key (with the nearest known
        one), a damaged file, or a run without the embeddings needed.
    """
    record = read_object(run_folder / "run.json")
    if record is None:
        raise MmreproError(f"{run_folder}: no run.json there; name the folder of a finished run (results/runs/...)")
    if (user_key is None) == (not liked):
        raise MmreproError("give either a user or a list of liked items, not both and not neither")
    if not isinstance(record.get("dataset"), str):
        raise MmreproError(f"{run_folder / 'run.json'}: no dataset; {AGAIN}")
    folder = prepared / record["dataset"]
    dataset = PreparedDataset.load(folder)
    if record.get("data", {}).get("interactions") != dataset.content_hash:
        raise MmreproError(f"{run_folder}: made of other data than those in {folder}; run the study again")
    items = load_items(folder)
    if user_key is not None:
        user = _positions(load_users(folder), [user_key], "user")[0]
        known = dataset.interactions.loc[dataset.interactions[Columns.USER] == user, Columns.ITEM].to_numpy()
        ranked, scores = _for_user(run_folder, record, user, known, k)
    else:
        ranked, scores = _for_liked(run_folder, record, _positions(items, list(liked or ()), "item"), k)
    chosen = items.iloc[ranked]
    result = chosen[[Columns.KEY, Columns.TITLE]].reset_index(drop=True)
    result.insert(0, Columns.RANK, np.arange(1, len(ranked) + 1))
    return result.assign(**{Columns.SCORE: scores})


def as_text(found: pd.DataFrame) -> str:
    """Return what `recommend` has found as columns for a terminal; keys and titles stay on their line."""
    shown = found.copy()
    for name in (Columns.KEY, Columns.TITLE):
        shown[name] = ["" if pd.isna(text) else one_line(str(text)) for text in found[name]]
    return shown.to_string(index=False)


def _for_user(run_folder: Path, record: Record, user: int, known: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    split = EVERYONE if record.get("purpose") == "serving" else TEST
    filters = [(Columns.USER, "==", user), (Columns.SPLIT, "==", split)]
    lists = read_table(recorded_file(run_folder, record, "lists.parquet"), filters=filters).sort_values(Columns.RANK)
    if len(lists):
        new = lists[~lists[Columns.ITEM].isin(known)].head(k)
        return new[Columns.ITEM].to_numpy(), new[Columns.SCORE].to_numpy()
    users, items = _embeddings(run_folder, record, f"the user has no {split} list", "`mmrepro refit` it")
    return _best(items @ users[user], known, k)


def _for_liked(run_folder: Path, record: Record, liked: Sequence[int], k: int) -> tuple[np.ndarray, np.ndarray]:
    remedy = "use a run of a model with embeddings, such as cm3"
    _, items = _embeddings(run_folder, record, "liked items are compared by embeddings", remedy)
    norms = np.linalg.norm(items, axis=1, keepdims=True)
    unit = np.divide(items, norms, out=np.zeros_like(items), where=norms > 0)
    return _best(unit @ unit[list(liked)].mean(axis=0), np.asarray(liked), k)


def _embeddings(run_folder: Path, record: Record, why: str, remedy: str) -> tuple[np.ndarray, np.ndarray]:
    path = recorded_file(run_folder, record, "embeddings.npz")
    if not path.is_file():
        raise MmreproError(f"{path}: no such file, and {why}; {remedy}")
    users, items = read_arrays(path, "users", "items")
    return users.astype(np.float32), items.astype(np.float32)


def _best(scores: np.ndarray, excluded: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k highest scores, equal ones in the order in which runs list them."""
    candidates = tie_order(len(scores))
    candidates = candidates[~np.isin(candidates, excluded)]
    order = candidates[np.argsort(-scores[candidates], kind="stable")][:k]
    return order, scores[order]


def _positions(table: pd.DataFrame, keys: Sequence[str], kind: str) -> list[int]:
    """Indices of original keys."""
    known = {str(key): index for index, key in enumerate(table[Columns.KEY])}
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.0)
            hint = f"did you mean '{near[0]}'?" if near else f"the data set has no {kind}s"
            raise MmreproError(f"unknown {kind} '{key}'; {hint}")
    return [known[key] for key in keys]
