"""Keys of items that two sources write: which are the same, and what to say where they are nearly so."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd

from mmrepro.errors import MmreproError

Matching = Literal["exact", "normalised"]


def normal_form(keys: pd.Index) -> pd.Index:
    """Return keys without what is lost on the way through a spreadsheet: white space, case, leading zeros, `.0`.

    Accents that are written as a letter and a mark become one character.
    """
    text = keys.to_series().astype("str").str.normalize("NFC").str.strip().str.casefold()
    return pd.Index(text.str.replace(r"^0*(\d+)(?:\.0+)?$", r"\1", regex=True))


def alike(keys: pd.Index) -> list[tuple[str, str]]:
    """Return pairs of keys that have one normal form, the first two of each form, sorted."""
    found = pd.Series(keys, index=normal_form(keys), dtype="str").sort_values()
    doubled = found[found.index.duplicated(keep=False)]
    return sorted((group.iloc[0], group.iloc[1]) for _, group in doubled.groupby(level=0))


OPTION = (
    "write both alike, or set `item_keys: normalised` in the options to match them (`exact`: they are different items)"
)


def _require_one_writing(wanted: pd.Index, where: str) -> None:
    """Keys of the interactions that are one when normalised must not be two items."""
    doubled = alike(wanted)
    if doubled:
        first, second = doubled[0]
        raise MmreproError(
            f"{where}: `item_keys: normalised` makes '{first}' and '{second}' of the interactions one key; write them "
            "alike"
        )


def match_keys(
    wanted: pd.Index, found: pd.Index, where: str, kind: str, matching: Matching | None, remedy: str = OPTION
) -> pd.Series:
    """Return for each wanted key the key under which it is found; null where there is none.

    Parameters
    ----------
    wanted
        Keys of the items in the interactions, each once.
    found
        Keys of a table of items, or of pictures, each once.
    where, kind
        What holds them, and what one of them is, for messages.
    matching
        `exact`: letter by letter; `normalised`: by `normal_form` where not letter by letter; None: letter by letter,
        and keys that only their normal form would match are an error.
    remedy
        What is done about such keys.

    Raises
    ------
    MmreproError
        When keys differ by their writing alone, or by it match more than one; names one of each side.
    """
    matched = pd.Series(wanted, index=wanted, dtype="str").where(wanted.isin(found))
    if matching == "exact":
        return matched
    if matching == "normalised":
        _require_one_writing(wanted, where)
    left = wanted[matched.isna().to_numpy()]
    spare = found.difference(wanted, sort=False)
    if left.empty or spare.empty:
        return matched
    here, there = pd.Series(left, index=normal_form(left)), pd.Series(spare, index=normal_form(spare))
    forms = here.index.intersection(there.index).unique()
    if forms.empty:
        return matched
    example = f"'{here.loc[[forms[0]]].iloc[0]}' against '{there.loc[[forms[0]]].iloc[0]}'"
    if matching is None:
        raise MmreproError(
            f"{where}: {here.index.isin(forms).sum()} of {len(wanted)} items have no {kind} of their key, but one that "
            f"differs by zeros in front, '.0', white space, case or accents alone: {example}; {remedy}"
        )
    doubled = [form for form in forms if len(here.loc[[form]]) > 1 or len(there.loc[[form]]) > 1]
    if doubled:
        keys = ", ".join(f"'{key}'" for key in [*here.loc[[doubled[0]]], *there.loc[[doubled[0]]]])
        raise MmreproError(f"{where}: `item_keys: normalised` makes {keys} one key; write them apart")
    matched.loc[here.loc[forms].to_numpy()] = there.loc[forms].to_numpy()
    return matched


def as_interacted(found: pd.Series, wanted: pd.Index, path: Path, matching: Matching | None) -> pd.Series:
    """Return keys of item records as the interactions write them.

    Parameters
    ----------
    found
        Keys of the records.
    wanted
        Keys of the items in the interactions, each once.
    path
        File of the records.
    matching
        As in `match_keys`.

    Raises
    ------
    MmreproError
        As `match_keys`, and when no item has a record.
    """
    matched = match_keys(wanted, pd.Index(found), str(path), "record", matching).dropna()
    if matched.empty:
        raise MmreproError(
            f"{path}: no item of the interactions has a record here: '{wanted[0]}' there against '{found.iloc[0]}' "
            "here; name the column of keys in `key_column`"
        )
    return found.replace({written: key for key, written in matched.items() if key != written})
