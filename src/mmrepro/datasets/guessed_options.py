"""Options of the reader `tabular`, guessed from somebody's tables, each with the reason for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mmrepro.datasets.guesses import (
    Table,
    are_pictures,
    are_times,
    are_words,
    has_markup,
    looks_like,
    named,
    shared_keys,
    time_format,
    unlike_a_number,
    unlike_a_time,
)
from mmrepro.errors import MmreproError

NONE = "none"
OPTIONS = {"user": "user_column", "item": "item_column", "time": "timestamp_column", "rating": "rating_column"}


@dataclass
class Guess:
    """What is taken for what, and why.

    Attributes
    ----------
    options
        Of the reader `tabular`.
    said
        A line for each guess.
    """

    options: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def note(self, option: str, value: Any, why: str) -> None:
        """Take a value for an option."""
        self.options[option] = value
        self.said.append(f"{option}: {value}  ({why})")


def guess_options(interactions: Table, items: Table | None, images: Path | None, given: dict[str, str]) -> Guess:
    """Return the options by which tables are read.

    Parameters
    ----------
    interactions, items
        The tables.
    images
        Folder of pictures.
    given
        Options that are not to be guessed; a column that is `none` is not there.

    Raises
    ------
    MmreproError
        When a column cannot be told, with the option that tells.
    """
    none = {option for option, value in given.items() if _is_none(option, value, interactions, items)}
    given = {option: value for option, value in given.items() if option not in none}
    guess = Guess()
    guess.note("interactions_file", interactions.path.name, _written(interactions))
    taken = [value for option, value in given.items() if option in OPTIONS.values()]
    for option, value in given.items():
        guess.note(option, value, "as told")
    _pair(interactions, items, guess, taken)
    if guess.options["user_column"] == guess.options["item_column"]:
        raise MmreproError(
            f"{interactions.path}: '{guess.options['item_column']}' cannot be user and item; name another"
        )
    for holds in ("time", "rating"):
        option = OPTIONS[holds]
        if option in given or option in none:
            continue
        called = named(interactions, holds, taken)
        found = [name for name in called if _fits(interactions, name, holds)]
        if not found:
            _refuse_damaged(interactions, called, holds)
        if len(found) > 1 and holds == "time":
            raise MmreproError(
                f"{interactions.path}: {' and '.join(found)} both say when; say which with --timestamp-column"
            )
        if found:
            guess.note(option, found[0], "by its name")
            taken.append(found[0])
    unused = [name for name in interactions.columns if name not in taken]
    if unused:
        guess.said.append(f"not used of {interactions.path.name}: {', '.join(unused)}")
    if "timestamp_column" in guess.options and "timestamp_format" not in given:
        _time(interactions, guess)
    if items is not None:
        _contents(items, guess, given, none)
    if images is not None:
        guess.note("images_folder", images.name, "pictures named after the keys")
    return guess


def _is_none(option: str, value: str, interactions: Table, items: Table | None) -> bool:
    """Whether somebody says that there is no such column; one of that name is one."""
    of_items = option in ("title_column", "image_column")
    table = items if of_items else interactions
    return (
        value == NONE and (of_items or option in (OPTIONS["time"], OPTIONS["rating"]))
        and (table is None or NONE not in table.columns)
    )  # fmt: skip


def _written(table: Table) -> str:
    separators = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", None: "parquet"}
    return f"{len(table.frame)} rows, {separators[table.separator]}"


def _pair(interactions: Table, items: Table | None, guess: Guess, taken: list[str]) -> None:
    """User and item: by what is told, by keys that both tables share, by names."""
    free = [name for name in interactions.columns if name not in taken]
    if items is not None and "item_column" not in guess.options:
        found = shared_keys(interactions, items, free)
        if found is None:
            raise MmreproError(
                f"{interactions.path} and {items.path}: no two columns share half of their keys; say which with "
                "--item-column and --key-column, or leave the table of items out"
            )
        column, key, loose = found
        guess.note("item_column", column, f"its values are those of '{key}' in {items.path.name}")
        guess.options.setdefault("key_column", key)
        if loose:
            guess.note("item_keys", "normalised", "the two files write keys differently, such as 0012 and 12")
        taken.append(column)
    for holds in ("user", "item"):
        option = OPTIONS[holds]
        if option in guess.options:
            continue
        found_named = named(interactions, holds, taken)
        if not found_named:
            raise MmreproError(
                f"{interactions.path}: which column is the {holds}? Its names are {', '.join(interactions.columns)}; "
                f"say --{holds}-column NAME"
            )
        others = f"; also so called: {', '.join(found_named[1:])}" if len(found_named) > 1 else ""
        guess.note(option, found_named[0], f"by its name{others}")
        taken.append(found_named[0])


def _fits(table: Table, column: str, holds: str) -> bool:
    """Whether values can be what the name says: moments, or numbers."""
    if holds == "time":
        return are_times(table, column)
    numbers = pd.to_numeric(table.values(column).str.replace(",", ".", regex=False), errors="coerce")
    return bool(len(numbers)) and bool(numbers.notna().all())


def _refuse_damaged(table: Table, called: list[str], holds: str) -> None:
    """Refuse a column that most of its values make what its name says: without it, another study would be run."""
    unlike, kind = {"time": (unlike_a_time, "date"), "rating": (unlike_a_number, "number")}[holds]
    option = OPTIONS[holds].replace("_", "-")
    for name in called:
        value = unlike(table, name)
        if value is not None:
            form = ", say how with --timestamp-format" if holds == "time" else ""
            raise MmreproError(
                f"{table.path}: column '{name}': '{value}' is no {kind} that can be read; mend it{form}, or say "
                f"--{option} none"
            )


def _time(table: Table, guess: Guess) -> None:
    column = guess.options["timestamp_column"]
    form, fitting = time_format(table, column)
    if len(fitting) > 1 and len({_day_first(one) for one in fitting}) > 1:
        shown = " or ".join(f'"{one}"' for one in fitting[:3])
        raise MmreproError(
            f"{table.path}: column '{column}': '{table.values(column).iloc[0]}' can be read as {shown}; say "
            "--timestamp-format"
        )
    if form is not None:
        guess.note("timestamp_format", form, f"as '{table.values(column).iloc[0]}'")


def _day_first(form: str) -> bool:
    return form.index("%d") < form.index("%m") if "%m" in form else False


def _contents(items: Table, guess: Guess, given: dict[str, str], none: set[str]) -> None:
    """Title, texts and pictures of the items but what there is none of, and whether texts hold HTML."""
    guess.note("items_file", items.path.name, _written(items))
    key = guess.options.setdefault("key_column", guess.options["item_column"])
    if key not in items.columns:
        raise MmreproError(f"{items.path}: no column '{key}' of keys; say --key-column NAME")
    taken = [key]
    for option, holds, fits in (
        ("image_column", "image", are_pictures), ("title_column", "title", are_words),
    ):  # fmt: skip
        if option in none:
            continue
        if option in given:
            taken.append(given[option])
            continue
        column = next(iter(named(items, holds, taken)), None)
        if column is not None and holds == "image" and not are_pictures(items.values(column)):
            column = None
        why = "by its name"
        if column is None:
            column, why = looks_like(items, taken, fits), "by its values"
        if column is not None:
            guess.note(option, column, why)
            taken.append(column)
    title, text = guess.options.get("title_column"), next(iter(named(items, "text", taken)), None)
    texts = [name for name in (title, text) if name is not None]
    if text is not None:
        guess.note("text_columns", texts, "title and description")
    if texts and has_markup(items, texts):
        guess.note("markup", "strip", "tags or entities of HTML stand in the texts")
