"""What a reader of results should know of a data set, in sentences, from what was counted when it was prepared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmrepro.columns import TEST, VALID

MENDED = {
    "rows_below_minimum_rating": "interactions below the minimum rating",
    "pairs_on_both_sides_of_it": "pairs of user and item that are rated below the minimum and above it, kept",
    "rows_without_user": "rows without a user, left out",
    "repeated_item_records": "repeated records of an item, of which the first is kept",
    "images_not_found": "images that the items name and no file is",
    "titles_with_markup": "titles with markup or entities, taken out",
    "texts_with_markup": "texts with markup or entities, taken out",
    "item_records_with_markup": "item records with markup or entities, taken out",
    "item_records_with_half_characters": "item records with half a character, replaced",
}
"""Repair -> what it counts."""
NOT_READ = ("rows_below_minimum_rating", "rows_without_user")
"""Repairs that count rows of the files which are no interactions."""


def remarks_on(statistics: Mapping[str, Any]) -> list[str]:
    """Return what is odd about a prepared data set, a sentence each; nothing of one in order.

    Parameters
    ----------
    statistics
        Content of `statistics.json`.
    """
    return [
        *statistics["notes"],
        *_held_out(statistics),
        *_copies(statistics),
        *_keys(statistics),
        *_times(statistics),
        *_split(statistics),
        *_items(statistics),
    ]


def _held_out(statistics: Mapping[str, Any]) -> Iterator[str]:
    lacking = [name for name in (VALID, TEST) if not statistics["interactions"][name]]
    if lacking:
        yield f"nobody is held out for {' and '.join(lacking)}, so that no model can be measured"
    everything = statistics["users_with_every_item"]
    if everything:
        yield (
            f"{len(everything)} users have every item in training, such as '{everything[0]}': models that draw "
            "negatives leave their pairs out"
        )


def _copies(statistics: Mapping[str, Any]) -> Iterator[str]:
    copies = statistics["copies"]
    dropped = "the earliest is kept" if statistics["duplicates_dropped"] else "all are kept"
    if copies["pairs"]:
        yield f"{copies['pairs']} interactions repeat a pair of user and item at another time; {dropped}"
    if copies["contradictory_ratings"]:
        yield (
            f"{copies['contradictory_ratings']} pairs of user and item have ratings that differ; of those at one time "
            "the lowest is kept"
        )
    if copies["pairs_in_several_splits"] and not statistics["duplicates_dropped"]:
        yield f"{copies['pairs_in_several_splits']} pairs of user and item stand in several splits, and all are kept"


def _keys(statistics: Mapping[str, Any]) -> Iterator[str]:
    for kind, found in statistics["keys_alike"].items():
        if found["count"]:
            yield (
                f"{found['count']} pairs of {kind} have keys that differ by zeros in front, '.0' or case alone, such "
                f"as {found['examples'][0]}, and count as two"
            )


def _times(statistics: Mapping[str, Any]) -> Iterator[str]:
    times = statistics["times"]
    if times and not times["earliest"] and times["smallest"] is not None:
        yield (
            f"no time is a date between 1990 and 2100: they go from {times['smallest']:g} to {times['largest']:g}, and "
            "their order alone counts"
        )
    if times.get("before_1990"):
        yield f"{times['before_1990']} interactions are before 1990, the first at {times['earliest']}"
    if times.get("in_the_future"):
        yield f"{times['in_the_future']} interactions are in the future, the last at {times['latest']}"
    if statistics["decided_by_ties"]:
        share = statistics["decided_by_ties"] / statistics["n_users"]
        yield (
            f"for {statistics['decided_by_ties']} of {statistics['n_users']} users ({share:.0%}) a draw among "
            "interactions at the same time decided what is held out"
        )


def _split(statistics: Mapping[str, Any]) -> Iterator[str]:
    """What a rule by time would do with files that have times, where a draw splits them."""
    split = statistics.get("split") or {}
    by_time = next((kind for kind in split.get("would", {}) if kind != "random-per-user"), None)
    if split.get("kind") == "random-per-user" and by_time is not None:
        ours, other = split["would"]["random-per-user"], split["would"][by_time]
        yield (
            f"the files have times, and a draw splits them (random-per-user, {ours['tested']} users tested): "
            f"'{statistics['dataset']}--{by_time}' tests what came last of {other['tested']} users"
        )


def _items(statistics: Mapping[str, Any]) -> Iterator[str]:
    records, pictures, total = statistics["records"], statistics["pictures"], statistics["n_items"]
    if records["not_described"]:
        unused = [
            f", and nobody has had {records['never_had']} described ones, such as '{key}'"
            for key in records["examples"]
        ]
        yield (
            f"{total - records['described']} of {total} items have no record, such as '{records['not_described'][0]}'"
            + "".join(unused[:1])
        )
    if pictures and pictures["unmatched"]:
        yield (
            f"{pictures['unmatched']} of {pictures['found']} pictures are of no item, such as '{pictures['listed'][0]}'"
        )
    without = statistics["without"]["image"]
    if pictures and without["items"]:
        yield f"{without['items']} of {total} items have no picture, such as '{without['examples'][0]}'"
    for repair in ("images_not_found", "item_records_with_half_characters", "pairs_on_both_sides_of_it"):
        if statistics["repairs"].get(repair):
            yield f"{statistics['repairs'][repair]} {MENDED[repair]}"
