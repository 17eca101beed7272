"""Pictures in a folder: which file is whose item's, and which are nobody's."""

from __future__ import annotations

import unicodedata
import urllib.parse
from collections import defaultdict
from pathlib import Path

import pandas as pd

from mmrepro.datasets.item_keys import Matching, match_keys
from mmrepro.datasets.raw import Pictures
from mmrepro.datasets.raw_folder import require_inside
from mmrepro.errors import MmreproError

SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".gif", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".avif",
)  # fmt: skip
"""Of several pictures of one name, the first in this order is the item's."""


def pictures_of_keys(
    raw: Path, folder: str, keys: pd.Series, matching: Matching | None = None
) -> tuple[pd.Series, Pictures]:
    """Find each item's picture: `<folder>/<key><suffix>`, or a file of that name in any folder below.

    Keys with slashes are paths below the folder; a file may also have the key's percent-encoded name. How an accent is
    written, as one character or two, makes no difference, nor does the case of a suffix.

    Parameters
    ----------
    raw
        Folder of the raw files.
    folder
        Folder of the pictures in it.
    keys
        Keys of the items, each once.
    matching
        As in `match_keys`.

    Returns
    -------
    tuple
        The path of each item's picture relative to `raw`, null where there is none, in the order of `keys`; and what
        files there are.

    Raises
    ------
    MmreproError
        When there is no such folder, or several of its folders hold a picture of one item.
    """
    require_inside(folder, f"config/datasets/{raw.name}.yaml: folder")
    place = raw / folder
    if not place.is_dir():
        raise MmreproError(f"{place}: no such folder; list it under 'files' with `folder: true`, and fetch again")
    files = [path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()]
    files = [file for file in files if not any(part.startswith(".") for part in file.split("/"))]
    named = _by_name([file for file in files if _suffix(file) in SUFFIXES])
    composed = keys.map(lambda key: unicodedata.normalize("NFC", key))
    left = composed[~composed.isin(list(named))]
    used = set(composed) & set(named)
    spare = {name for name in named if not set(named[name]) & {file for key in used for file in named[key]}}
    found = match_keys(pd.Index(left.unique()), pd.Index(sorted(spare)), str(place), "picture", matching)
    names = composed.where(composed.isin(list(named)), composed.map(found.to_dict()))
    chosen = {name: _only(named[name], place) for name in names.dropna().unique()}
    result = names.map({name: f"{folder}/{file}" for name, file in chosen.items()}).astype("str")
    return result, Pictures(len(files), tuple(sorted(set(files) - set(chosen.values()))))


def _by_name(files: list[str]) -> dict[str, list[str]]:
    """The name by which an item's key finds files: the path in the folder, or its last part; without suffix."""
    found: dict[str, list[str]] = defaultdict(list)
    for file in sorted(files, key=lambda file: (SUFFIXES.index(_suffix(file)), file)):
        path = unicodedata.normalize("NFC", file[: -len(_suffix(file))])
        for name in {path, path.rpartition("/")[2], urllib.parse.unquote(path)}:
            found[name].append(file)
    return dict(found)


def _only(files: list[str], place: Path) -> str:
    """The first of a picture's suffixes; pictures in several folders cannot be told apart."""
    if len({file[: -len(_suffix(file))] for file in files}) > 1:
        raise MmreproError(f"{place}: '{files[0]}' and '{files[1]}' are both pictures of one item; keep one of them")
    return files[0]


def _suffix(file: str) -> str:
    return Path(file).suffix.lower()
