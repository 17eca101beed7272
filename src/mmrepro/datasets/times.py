"""Timestamps: their unit, and what is odd about them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.columns import Columns
from mmrepro.datasets.raw import TimeUnit
from mmrepro.errors import MmreproError

PER_SECOND: dict[TimeUnit, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
EARLIEST, LATEST = 631_152_000, 4_102_444_800
"""1990 and 2100 in seconds since 1970: between them a number tells its unit."""


def units_of(times: pd.Series) -> dict[TimeUnit, np.ndarray]:
    """Return unit -> which times are between 1990 and 2100 in it; units that none is in are left out."""
    values = times.to_numpy(np.float64)
    found: dict[TimeUnit, np.ndarray] = {
        unit: (values >= EARLIEST * factor) & (values < LATEST * factor) for unit, factor in PER_SECOND.items()
    }
    return {unit: inside for unit, inside in found.items() if inside.any()}


def in_seconds(rows: pd.DataFrame, unit: TimeUnit | None, origin: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return interactions whose timestamps are in seconds, and what was guessed for it.

    Parameters
    ----------
    rows
        Columns `user` and `item` (keys) and perhaps `timestamp`, a number or missing.
    unit
        Of the timestamps; None: told from the values, where all that are between 1990 and 2100 are so in one unit.
        Numbers that are in no unit, such as positions, stay as they are.
    origin
        What holds them, for messages.

    Raises
    ------
    MmreproError
        When some are in one unit and some in another; names a row of each.
    """
    if Columns.TIMESTAMP not in rows:
        return rows, ()
    times: pd.Series = rows[Columns.TIMESTAMP]
    notes: tuple[str, ...] = ()
    found = units_of(times)
    if unit is not None and found and unit not in found:
        told = next(iter(found))
        raise MmreproError(f"{origin}: timestamps are said to be {NAMES[unit]}, but are {NAMES[told]} by their size")
    if unit is None:
        if len(found) > 1:
            examples = ", ".join(
                f"{int(inside.sum())} in {NAMES[name]} (user '{rows[Columns.USER].iloc[row]}', item "
                f"'{rows[Columns.ITEM].iloc[row]}': {times.iloc[row]})"
                for name, inside in found.items()
                for row in [int(inside.argmax())]
            )
            raise MmreproError(f"{origin}: timestamps in several units: {examples}; write all in one unit")
        unit = next(iter(found), "s")
        if unit != "s":
            notes = (f"timestamps are {NAMES[next(iter(found))]}, by their size",)
    if unit == "s":
        return rows, notes
    factor = PER_SECOND[unit or "s"]
    whole = pd.api.types.is_integer_dtype(times) and bool((times % factor == 0).all())
    return rows.assign(**{Columns.TIMESTAMP: times // factor if whole else times / factor}), notes


def time_range(rows: pd.DataFrame, compares_users: bool) -> dict[str, Any]:
    """Return the first and last time of interactions, and how many are odd.

    Parameters
    ----------
    rows
        Perhaps with `timestamp`, in seconds since 1970.
    compares_users
        Whether the times are times, and no positions in each user's list.

    Returns
    -------
    dict
        `earliest`, `latest` (ISO dates; None where no time is between 1990 and 2100, or it is after 9999), `smallest`,
        `largest` (numbers), `missing`, `before_1990` and `in_the_future` (later than now); empty without timestamps.
    """
    if Columns.TIMESTAMP not in rows or not compares_users:
        return {}
    times = rows[Columns.TIMESTAMP].to_numpy(np.float64)
    known = times[~np.isnan(times)]
    dated = bool(len(known)) and bool(((known >= EARLIEST) & (known < LATEST)).any())
    return {
        "earliest": _date(known.min()) if dated else None,
        "latest": _date(known.max()) if dated else None,
        "missing": int(np.isnan(times).sum()),
        "before_1990": int((known < EARLIEST).sum()) if dated else 0,
        "in_the_future": int((known > time.time()).sum()) if dated else 0,
        "smallest": float(known.min()) if len(known) else None,
        "largest": float(known.max()) if len(known) else None,
    }


def _date(seconds: float) -> str | None:
    return str(np.datetime64(int(seconds), "s")) if abs(seconds) < 253_402_300_800 else None  # the year 10000
