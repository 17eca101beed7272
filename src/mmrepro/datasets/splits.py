"""How interactions are divided into training, validation and test.

=================== ==================================================================================================
kind                rule ===================
==================================================================================================
``published``       the split that the raw files name ``random-per-user`` each user's interactions at random; the counts
are those of the literature's preparation program ``time-per-user``   the same counts, but a user's last interactions
are test, and those before them valid ``leave-one-out``   a user's last interaction is test, and the one before it valid
``global-time``     two moments divide all interactions, whoever made them
=================== ==================================================================================================

A user with fewer than three interactions keeps all for training under every rule per user, because nobody could be
trained otherwise. The order of a user's interactions at one and the same time is drawn by the split's seed. No rule
sees the order of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmrepro.columns import SPLITS, TEST, TRAIN, Columns
from mmrepro.config.dataset import DatasetConfig, Split
from mmrepro.errors import MmreproError

SPLIT_TYPE = pd.CategoricalDtype(list(SPLITS))
RULES = ("time-per-user", "leave-one-out", "global-time", "random-per-user")
"""Rules by which interactions can be split, those that look at times first."""
TRAIN_CODE, VALID_CODE, TEST_CODE = np.arange(len(SPLITS), dtype=np.int8)


@dataclass(frozen=True)
class Division:
    """How interactions were divided.

    Attributes
    ----------
    splits
        `train`, `valid` or `test` for each row, in row order.
    decided_by_ties
        Users of whom a draw among interactions of one and the same time decided what is held out.
    """

    splits: pd.Series
    decided_by_ties: int = 0


def split_rows(frame: pd.DataFrame, config: DatasetConfig, time_orders_users: bool = True) -> Division:
    """Return the split of each interaction.

    Parameters
    ----------
    frame
        Columns `user` and `item` (numbers), one row a distinct pair; `timestamp` and `split` where the files have them.
    config
        The data set; `split` names the rule, its seed, share and threshold.
    time_orders_users
        Whether timestamps compare between users.

    Raises
    ------
    MmreproError
        When the files have no split or no timestamps and the rule needs them, or nothing is left for a split that the
        rule should fill.
    """
    origin, kind = f"data set '{config.dataset}'", config.split.kind
    ties = 0
    if kind == "published":
        if Columns.SPLIT not in frame:
            raise MmreproError(
                f"{origin}: reader '{config.reader}' finds no published split; set split.kind: random-per-user"
            )
        labels = frame[Columns.SPLIT]
    else:
        if kind != "random-per-user":
            _check_times(frame, config, time_orders_users, origin)
        codes, ties = _by_rule(frame, config.split)
        labels = pd.Series(pd.Categorical.from_codes(codes, dtype=SPLIT_TYPE), index=frame.index).astype("str")
    if not (labels == TRAIN).any():
        raise MmreproError(f"{origin}: no interaction is in the training split; check the split's settings")
    if kind == "global-time" and labels.nunique() < len(SPLITS):
        raise MmreproError(
            f"{origin}: split 'global-time' leaves valid or test empty, because too many interactions share one "
            f"time or holdout {config.split.holdout} is too small; raise holdout or choose another split.kind"
        )
    return Division(labels, ties)


def would_test(frame: pd.DataFrame, config: DatasetConfig, time_orders_users: bool = True) -> dict[str, dict[str, int]]:
    """Return what each rule that the files allow would do: the users that it tests, the interactions that it trains on.

    Parameters are those of `split_rows`; the rule of the data set is one of them.
    """
    found = {}
    for kind in RULES:
        other = config.model_copy(update={"split": config.split.model_copy(update={"kind": kind})})
        try:
            labels = split_rows(frame, other, time_orders_users).splits.to_numpy()
        except MmreproError:
            continue
        tested = frame.loc[labels == TEST, Columns.USER].nunique()
        found[kind] = {"tested": int(tested), "trained": int((labels == TRAIN).sum())}
    return found


def _check_times(frame: pd.DataFrame, config: DatasetConfig, time_orders_users: bool, origin: str) -> None:
    """Refuse a rule that needs times where they are missing or say nothing between users."""
    kind = config.split.kind
    fix = "set split.kind: random-per-user, or name files with timestamps"
    if Columns.TIMESTAMP not in frame:
        raise MmreproError(f"{origin}: split '{kind}' needs timestamps, reader '{config.reader}' finds none; {fix}")
    missing = int(frame[Columns.TIMESTAMP].isna().sum())
    if missing:
        raise MmreproError(f"{origin}: split '{kind}' needs timestamps, {missing} of {len(frame)} are missing; {fix}")
    if kind == "global-time" and not time_orders_users:
        raise MmreproError(
            f"{origin}: split 'global-time' compares times between users, but these files only order the interactions "
            "of each user; set split.kind: time-per-user or leave-one-out"
        )


def _by_rule(frame: pd.DataFrame, split: Split) -> tuple[np.ndarray, int]:
    """Code of the split of each row, a position in `SPLITS`, and how many users ties decided."""
    users, items = frame[Columns.USER].to_numpy(), frame[Columns.ITEM].to_numpy()
    if split.kind == "global-time":
        return split_by_time(frame[Columns.TIMESTAMP].to_numpy(), split), 0
    order = np.lexsort((items, users))
    codes, ties = np.empty(len(users), np.int8), 0
    if split.kind == "random-per-user":
        codes[order] = split_per_user(users[order], split)
    else:
        codes[order], ties = split_last(users[order], frame[Columns.TIMESTAMP].to_numpy()[order], split)
    return codes, ties


def held_out_counts(counts: np.ndarray, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return how many of each user's interactions go to valid and to test.

    A user with n < `few` interactions gives one to each; otherwise v = floor(holdout * n) are held out, floor(v / 2)
    for valid and the rest for test (the rule of the literature's preparation program). Leave-one-out takes one for
    each from everyone. A user with fewer than three gives none.

    Parameters
    ----------
    counts
        Number of interactions of each user.
    split
        Kind, share and threshold.
    """
    held_out = np.floor(split.holdout * counts + 1e-9).astype(np.int64)  # 0.29 * 100 is below 29
    held_out[(counts < split.few) | (split.kind == "leave-one-out")] = 2
    held_out[counts < 3] = 0
    return held_out // 2, held_out - held_out // 2


def split_per_user(users: np.ndarray, split: Split) -> np.ndarray:
    """Divide the interactions of each user at random.

    Parameters
    ----------
    users
        User indices (rows,). The result is a function of their order: sort the rows first.
    split
        Seed, share and threshold.

    Returns
    -------
    np.ndarray
        Position in `SPLITS` of each row's split, int8.
    """
    n_valid, n_test = held_out_counts(np.bincount(users), split)
    rank = _ranks(users, np.random.default_rng(split.seed).random(len(users)))
    in_valid, held_out = rank < n_valid[users], rank < (n_valid + n_test)[users]
    return np.select([in_valid, held_out], [VALID_CODE, TEST_CODE], TRAIN_CODE)


def split_last(users: np.ndarray, times: np.ndarray, split: Split) -> tuple[np.ndarray, int]:
    """Give the last interactions of each user to test and those before them to valid.

    Parameters
    ----------
    users, times
        Numbers and times (rows,). What is drawn among equal times is a function of their order: sort the rows first.
    split
        Kind, seed, share and threshold.

    Returns
    -------
    tuple
        Position in `SPLITS` of each row's split, int8, and the number of users of whom equal times lie on both sides of
        a border between splits.
    """
    counts = np.bincount(users)
    n_valid, n_test = held_out_counts(counts, split)
    left = counts[users] - _ranks(users, times, np.random.default_rng(split.seed).random(len(users)))
    in_test, held_out = left <= n_test[users], left <= (n_valid + n_test)[users]  # 1 for a user's last interaction
    codes = np.select([in_test, held_out], [TEST_CODE, VALID_CODE], TRAIN_CODE)
    order = np.lexsort((codes, times, users))
    same = (np.diff(users[order]) == 0) & (np.diff(times[order]) == 0)
    return codes, len(np.unique(users[order][1:][same & (np.diff(codes[order]) != 0)]))


def split_by_time(times: np.ndarray, split: Split) -> np.ndarray:
    """Divide all interactions at two moments.

    Of n interactions in order of time, the time of number n - v, v = floor(holdout * n), is the last of training; that
    of number n - v + floor(v / 2) is the last of valid. All interactions of one moment stand on its earlier side, so
    that test and valid are at most as large as asked for, and everything in training is older than anything in valid,
    and that than anything in test.

    Parameters
    ----------
    times
        Times (rows,).
    split
        Share held out.

    Returns
    -------
    np.ndarray
        Position in `SPLITS` of each row's split, int8.
    """
    held_out = int(split.holdout * len(times) + 1e-9)
    n_train = len(times) - held_out
    ordered = np.sort(times)
    ends = ordered[[n_train - 1, n_train + held_out // 2 - 1]]
    return np.searchsorted(ends, times, side="left").astype(np.int8)  # how many of the two ends are earlier


def _ranks(users: np.ndarray, *keys: np.ndarray) -> np.ndarray:
    """Position of each row among its user's rows, ordered by the keys, the first one first."""
    counts = np.bincount(users)
    order = np.lexsort((*reversed(keys), users))
    ranks = np.empty(len(users), np.int64)
    ranks[order] = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks
