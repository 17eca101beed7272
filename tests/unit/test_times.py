"""Units of time and odd dates."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd
import pytest

from mmrepro.datasets.times import in_seconds, time_range
from mmrepro.errors import MmreproError

NOW = 1_700_000_000


def rows(*times: Any) -> pd.DataFrame:
    names = [f"u{n}" for n in range(len(times))]
    return pd.DataFrame({"user": names, "item": [f"i{n}" for n in range(len(times))], "timestamp": times})


@pytest.mark.parametrize(("factor", "name"), [(10**3, "milliseconds"), (10**6, "microseconds"), (10**9, "nanoseconds")])
def test_a_unit_is_told_from_the_size_of_the_numbers(factor: int, name: str) -> None:
    found, notes = in_seconds(rows(NOW * factor, (NOW + 5) * factor), None, "data set 'toy'")
    assert found["timestamp"].tolist() == [NOW, NOW + 5] and found["timestamp"].dtype == "int64"
    assert notes == (f"timestamps are {name}, by their size",)


def test_fractions_of_a_second_stay() -> None:
    found, _ = in_seconds(rows(NOW * 1000 + 1, NOW * 1000 + 2), None, "toy")
    assert found["timestamp"].tolist() == [NOW + 0.001, NOW + 0.002]


@pytest.mark.parametrize("times", [(NOW, NOW + 1), (1, 2, 3), (NOW, 0), (0.5, 7.25)])
def test_seconds_and_positions_stay_as_they_are(times: tuple[float, ...]) -> None:
    found, notes = in_seconds(rows(*times), None, "toy")
    assert found["timestamp"].tolist() == list(times) and notes == ()


def test_mixed_units_are_an_error_that_names_a_row_of_each() -> None:
    with pytest.raises(MmreproError) as error:
        in_seconds(rows(NOW, NOW * 1000, NOW + 3), None, "data set 'toy'")
    assert str(error.value) == (
        "data set 'toy': timestamps in several units: 2 in seconds (user 'u0', item 'i0': 1700000000), 1 in milliseconds "
        "(user 'u1', item 'i1': 1700000000000); write all in one unit"
    )


def test_what_the_user_says_is_taken() -> None:
    assert in_seconds(rows(5000, 7000), "ms", "toy")[0]["timestamp"].tolist() == [5, 7]
    assert in_seconds(rows(NOW, NOW * 1000), "s", "toy")[0]["timestamp"].tolist() == [NOW, NOW * 1000]


@pytest.mark.parametrize(("factor", "unit"), [(1, "ms"), (1000, "s"), (10**6, "ms")])
def test_what_the_user_says_must_agree_with_the_size_of_the_numbers(factor: int, unit: Any) -> None:
    with pytest.raises(MmreproError, match=r"toy: timestamps are said to be .*, but are .* by their size"):
        in_seconds(rows(NOW * factor), unit, "toy")


def test_odd_dates_are_counted() -> None:
    future = time.time() + 10**6
    found = time_range(rows(0, NOW, future), compares_users=True)
    assert (found["before_1990"], found["in_the_future"], found["earliest"]) == (1, 1, "1970-01-01T00:00:00")
    assert time_range(rows(1, 2), compares_users=False) == {}
    positions = time_range(rows(1, 2), compares_users=True)
    assert (positions["earliest"], positions["smallest"], positions["largest"]) == (None, 1, 2)  # not dates
    assert time_range(rows(NOW).drop(columns="timestamp"), compares_users=True) == {}
