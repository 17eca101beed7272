"""Answers from a final run: items for a user, or for somebody who likes certain items."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mmrepro.columns import TEST, TRAIN, VALID, Columns
from mmrepro.datasets.interactions import PreparedDataset, load_items, load_users
from mmrepro.errors import MmreproError
from mmrepro.records.files import read_json


def recommend(
    run_folder: Path, prepared: Path, user_key: str | None = None, liked: Sequence[str] | None = None, k: int = 10
) -> pd.DataFrame:
    """Recommend items from a final run.

    Parameters
    ----------
    run_folder
        Folder of a final run, with `run.json`.
    prepared
        Folder of the prepared data sets, `data/prepared`.
    user_key
        Original key of a user: the run's test list, or, for a user without test items, the scores of the embeddings
        over items that the user has not had.
    liked
        Instead of a user, keys of items: items are ranked by the mean cosine with them, themselves left out.
    k
        Number of items, at most; lists hold the first 100.

    Returns
    -------
    pd.DataFrame
        Columns rank (from 1), key, title, score.

    Raises
    ------
    MmreproError
        For an unfinished run, an unknown key (with the nearest known one), or a run without the embeddings needed.
    """
    if not (run_folder / "run.json").is_file():
        raise MmreproError(f"{run_folder}: no run.json there; name the folder of a finished run (results/runs/...)")
    if (user_key is None) == (not liked):
        raise MmreproError("give either a user or a list of liked items, not both and not neither")
    folder = prepared / read_json(run_folder / "run.json")["dataset"]
    items = load_items(folder)
    if user_key is not None:
        users = load_users(folder)
        user = _positions(users, [user_key], "user")[0]
        ranked, scores = _for_user(run_folder, folder, user, k)
    else:
        ranked, scores = _for_liked(run_folder, _positions(items, list(liked or ()), "item"), k)
    chosen = items.iloc[ranked]
    result = chosen[[Columns.KEY, Columns.TITLE]].reset_index(drop=True)
    result.insert(0, Columns.RANK, np.arange(1, len(ranked) + 1))
    return result.assign(**{Columns.SCORE: scores})


def _for_user(run_folder: Path, folder: Path, user: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    filters = [(Columns.USER, "==", user), (Columns.SPLIT, "==", TEST)]
    lists = pd.read_parquet(run_folder / "lists.parquet", filters=filters).sort_values(Columns.RANK).head(k)
    if len(lists):
        return lists[Columns.ITEM].to_numpy(), lists[Columns.SCORE].to_numpy()
    users, items = _embeddings(run_folder, "the user has no test list")
    scores = items @ users[user]
    interactions = PreparedDataset.load(folder).interactions
    had = (interactions[Columns.USER] == user) & interactions[Columns.SPLIT].isin([TRAIN, VALID])
    return _best(scores, interactions.loc[had, Columns.ITEM].to_numpy(), k)


def _for_liked(run_folder: Path, liked: Sequence[int], k: int) -> tuple[np.ndarray, np.ndarray]:
    _, items = _embeddings(run_folder, "liked items are compared by embeddings")
    norms = np.linalg.norm(items, axis=1, keepdims=True)
    unit = np.divide(items, norms, out=np.zeros_like(items), where=norms > 0)
    return _best(unit @ unit[list(liked)].mean(axis=0), np.asarray(liked), k)


def _embeddings(run_folder: Path, why: str) -> tuple[np.ndarray, np.ndarray]:
    path = run_folder / "embeddings.npz"
    if not path.is_file():
        raise MmreproError(f"{path}: no such file, and {why}; use a run of a model with embeddings, such as cm3")
    with np.load(path) as stored:
        return stored["users"].astype(np.float32), stored["items"].astype(np.float32)


def _best(scores: np.ndarray, excluded: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k highest scores, equal ones by increasing item."""
    candidates = np.setdiff1d(np.arange(len(scores)), excluded)
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
