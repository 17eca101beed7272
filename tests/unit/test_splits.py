from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrepro.columns import SPLITS
from mmrepro.config.dataset import DatasetConfig, Split
from mmrepro.datasets.splits import split_by_time, split_last, split_per_user, split_rows
from mmrepro.errors import MmreproError

QUICK = settings(max_examples=60, deadline=None)
SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=12)
SHARES = st.sampled_from([0.1, 0.2, 0.29, 0.5])
ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 12)), min_size=1, max_size=50)


def names(codes: np.ndarray) -> np.ndarray:
    return np.array(SPLITS)[codes]


def data_set(kind: str, **split: Any) -> DatasetConfig:
    base = {"dataset": "toy", "title": "Toy", "reader": "movielens", "folder": "toy", "licence": "none"}
    return DatasetConfig.model_validate({**base, "split": {"kind": kind, **split}})


def frame_of(rows: list[tuple[int, int, int]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user", "item", "timestamp"]).drop_duplicates(
        ["user", "item"], ignore_index=True
    )


@QUICK
@given(SIZES, st.integers(0, 3), SHARES, st.integers(3, 12), st.sampled_from(["random-per-user", "time-per-user"]))
def test_split_gives_each_user_the_counts_of_the_rule(
    sizes: list[int], seed: int, holdout: float, few: int, kind: Any
) -> None:
    rng = np.random.default_rng(seed)
    users = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    split = Split(kind=kind, seed=seed, holdout=holdout, few=few)
    times = rng.integers(0, 9, len(users))
    by_time = kind == "time-per-user"
    labels = names(split_last(users, times, split)[0] if by_time else split_per_user(users, split))
    for user, n in enumerate(sizes):
        held_out = 0 if n < 3 else 2 if n < few else round(holdout * 100) * n // 100
        mine = labels[users == user].tolist()
        assert mine.count("valid") == held_out // 2
        assert mine.count("test") == held_out - held_out // 2
        assert mine.count("train") == n - held_out >= 1


def test_split_by_hand() -> None:
    labels = names(split_per_user(np.repeat([0, 1, 2], [9, 10, 25]), Split()))
    counts = [[(labels[a:b] == name).sum() for name in SPLITS] for a, b in [(0, 9), (9, 19), (19, 44)]]
    assert counts == [[7, 1, 1], [8, 1, 1], [20, 2, 3]]


def test_random_split_is_the_one_that_committed_results_were_made_with() -> None:
    codes = split_per_user(np.repeat([0, 1], [21, 4]), Split(seed=0))
    assert "".join("-vt"[code] for code in codes) == "---v-------v-t------tv--t"  # as commit e1deaa8 had it


def test_held_out_share_is_not_lost_to_rounding() -> None:
    labels = names(split_per_user(np.zeros(100, int), Split(holdout=0.29)))  # 0.29 * 100 is 28.999999999999996
    assert (labels != "train").sum() == 29


def test_split_depends_on_the_seed_and_on_nothing_else() -> None:
    users = np.repeat(np.arange(20), 15)
    first, again, other = (split_per_user(users, Split(seed=seed)) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_held_out_positions_are_spread_over_a_users_rows() -> None:
    users = np.repeat(np.arange(2000), 10)
    test = names(split_per_user(users, Split())).reshape(2000, 10) == "test"
    assert test.sum(0).min() > 140  # 200 expected at each position, standard deviation 13.4


def test_last_interactions_by_hand() -> None:
    frame = frame_of([(0, 4, 50), (0, 3, 10), (0, 2, 40), (0, 1, 30), (1, 4, 9), (1, 3, 8), (2, 0, 5)])
    for kind in ("time-per-user", "leave-one-out"):
        division = split_rows(frame, data_set(kind))
        assert division.splits.tolist() == ["test", "train", "valid", "train", "train", "train", "train"]
        assert division.decided_by_ties == 0  # users 1 and 2 have too few


def test_what_equal_times_decide_is_drawn_evenly_and_counted() -> None:
    frame = frame_of([(user, item, 7) for user in range(3000) for item in range(4)] + [(3000, i, i) for i in range(4)])
    division = split_rows(frame, data_set("leave-one-out"))
    tested = frame.loc[division.splits.eq("test") & frame["user"].lt(3000), "item"].value_counts()
    assert tested.min() > 650  # 750 expected of each item, standard deviation 23.7
    assert division.decided_by_ties == 3000
    assert (split_rows(frame, data_set("leave-one-out", seed=1)).splits != division.splits).any()


def test_equal_times_within_a_split_decide_nothing() -> None:
    frame = frame_of([(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 3, 8), (0, 4, 9)])
    assert split_rows(frame, data_set("leave-one-out")).decided_by_ties == 0


def test_leave_one_out_takes_one_of_each_from_long_histories_too() -> None:
    frame = frame_of([(0, item, item) for item in range(40)])
    assert split_rows(frame, data_set("leave-one-out")).splits.tolist() == ["train"] * 38 + ["valid", "test"]
    assert split_rows(frame, data_set("time-per-user")).splits.tolist() == ["train"] * 32 + ["valid"] * 4 + ["test"] * 4


def test_global_time_by_hand() -> None:
    assert "".join(name[0] + name[1] for name in names(split_by_time(np.arange(10), Split()))) == "tr" * 8 + "vate"
    tied = np.array([1, 2, 3, 4, 5, 6, 7, 8, 8, 9])  # the eighth is the last of training, and so is its twin
    assert names(split_by_time(tied, Split(holdout=0.2))).tolist() == ["train"] * 9 + ["test"]


@QUICK
@given(ROWS, SHARES)
def test_global_time_never_looks_back_and_never_parts_a_moment(rows: list[tuple[int, int, int]], share: float) -> None:
    frame = frame_of(rows)
    codes = split_by_time(frame["timestamp"].to_numpy(), Split(holdout=share))
    times = [frame.loc[codes == code, "timestamp"] for code in range(3)]
    for earlier in range(3):
        for later in range(earlier + 1, 3):
            if len(times[earlier]) and len(times[later]):
                assert times[earlier].max() < times[later].min()
    assert len(times[1]) + len(times[2]) <= share * len(frame) + 1e-6


@QUICK
@given(ROWS, st.sampled_from(["time-per-user", "leave-one-out"]))
def test_last_interactions_are_never_earlier_than_those_before(rows: list[tuple[int, int, int]], kind: str) -> None:
    frame = frame_of(rows)
    labels, moments = split_rows(frame, data_set(kind)).splits, frame["timestamp"]
    for user in frame["user"].unique():
        mine = [moments[(frame["user"] == user) & (labels == name)] for name in SPLITS]
        for earlier, later in [(0, 1), (1, 2), (0, 2)]:
            if len(mine[earlier]) and len(mine[later]):
                assert mine[earlier].max() <= mine[later].min()


@QUICK
@given(ROWS, st.sampled_from(["random-per-user", "time-per-user", "leave-one-out"]), st.randoms(use_true_random=False))
def test_no_rule_sees_the_order_of_rows(rows: list[tuple[int, int, int]], kind: str, random: Any) -> None:
    frame = frame_of(rows)
    order = list(range(len(frame)))
    random.shuffle(order)
    shuffled = frame.iloc[order].reset_index(drop=True)
    expected = split_rows(frame, data_set(kind)).splits.iloc[order].tolist()
    assert split_rows(shuffled, data_set(kind)).splits.tolist() == expected


@pytest.mark.parametrize("kind", ["time-per-user", "leave-one-out", "global-time"])
def test_missing_timestamps_are_an_error_that_says_what_to_do(kind: str) -> None:
    frame = frame_of([(0, item, item) for item in range(10)])
    with pytest.raises(
        MmreproError, match=f"data set 'toy': split '{kind}' needs timestamps, reader 'movielens' finds"
    ):
        split_rows(frame.drop(columns="timestamp"), data_set(kind))
    with pytest.raises(MmreproError, match=r"1 of 10 are missing; set split\.kind: random-per-user"):
        split_rows(frame.assign(timestamp=[None, *range(9)]), data_set(kind))


def test_global_time_refuses_times_that_only_order_a_users_own_interactions() -> None:
    frame = frame_of([(user, item, item) for user in range(3) for item in range(10)])
    with pytest.raises(MmreproError, match=r"only order the interactions of each user; set split\.kind: time"):
        split_rows(frame, data_set("global-time"), time_orders_users=False)
    assert split_rows(frame, data_set("time-per-user"), time_orders_users=False).splits.nunique() == 3


@pytest.mark.parametrize(("times", "holdout"), [([5] * 10, 0.2), (list(range(10)), 0.1), (list(range(4)), 0.2)])
def test_global_time_that_leaves_nothing_to_test_is_refused(times: list[int], holdout: float) -> None:
    frame = frame_of([(0, item, time) for item, time in enumerate(times)])
    with pytest.raises(MmreproError, match="leaves valid or test empty"):
        split_rows(frame, data_set("global-time", holdout=holdout))
