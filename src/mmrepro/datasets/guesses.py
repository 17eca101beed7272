"""What the columns of somebody's tables hold, guessed from their names and values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mmrepro.datasets.delimited import SEPARATORS, Dialect, header_line, read_delimited
from mmrepro.datasets.item_keys import normal_form
from mmrepro.datasets.parquet import read_parquet
from mmrepro.datasets.times import units_of
from mmrepro.errors import MmreproError

NAMES: dict[str, tuple[str, ...]] = {
    "user": ("user", "customer", "cust", "client", "reviewer", "visitor", "member", "person", "buyer", "account", "uid",
             "kunde", "nutzer", "utilisateur", "cliente", "usuario", "session"),
    "item": ("item", "product", "article", "asin", "sku", "isbn", "movie", "film", "book", "song", "track", "video",
             "iid", "dish", "recipe", "artikel", "produkt", "produit", "producto", "goods"),
    "time": ("timestamp", "ts", "time", "date", "day", "when", "created", "ordered", "bought", "purchased", "datum",
             "zeit", "tag", "fecha", "jour"),
    "rating": ("rating", "stars", "score", "overall", "grade", "bewertung", "note", "sterne"),
    "title": ("title", "name", "label", "titel", "bezeichnung", "titre", "nom", "nombre", "titulo"),
    "text": ("description", "text", "summary", "overview", "body", "content", "plot", "feature", "beschreibung"),
    "image": ("image", "picture", "photo", "img", "thumbnail", "poster", "bild", "foto"),
}  # fmt: skip
"""What a column holds -> words in its name, in several languages, the likelier first."""
ENDINGS = ("", "s", "n", "en", "id", "ids", "nr", "no", "key", "code", "number", "nummer", "nnr", "nid", "nnummer")
"""What may follow a word without a gap: a plural, or that it is a key."""
KEYS = {"id", "ids", "nr", "no", "key", "code", "number", "num", "nummer", "the", "of"}
"""Words beside it that change nothing: it is a key."""
OF_A_PURCHASE = {
    "order", "ordered", "purchase", "purchased", "created", "event", "review", "rating", "interaction", "transaction",
    "click", "unix", "at", "on", "bestell", "kauf", "bewertungs", "datum", "date", "time", "utc", "ms",
}  # fmt: skip
"""Words beside a time that say whose it is: of what the row tells."""
SAMPLED = 20_000
"""Rows of a table that are looked at, besides its keys."""
DATE_FORMS = (
    "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y",
    "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y/%m/%d %H:%M:%S",
    "%d %b %Y", "%b %d, %Y", "%d. %B %Y", "%d %B %Y", "%B %d, %Y", "%Y%m%d", "%d%m%Y", "%Y%m%d%H%M%S",
    "%d.%m.%y", "%d.%m.%y %H:%M", "%d/%m/%y", "%d/%m/%y %H:%M", "%m/%d/%y", "%m/%d/%y %H:%M",
    "%Y/%m/%d %I:%M %p", "%d/%m/%Y %I:%M %p", "%m/%d/%Y %I:%M %p", "%Y-%m-%d %I:%M %p",
)  # fmt: skip
DATE_LIKE = r"\d.*[^\w\s].*\d|\d\D+\d{4}"
PICTURE = r"(?i).+\.(?:jpe?g|png|webp|gif|bmp|tiff?)$"
MARKUP = r"<[a-zA-Z/][^<>]*>|&(?:#\d+|#x[0-9a-fA-F]+|[a-zA-Z]+);"


@dataclass(frozen=True)
class Table:
    """A table of text, and how its file is written.

    Attributes
    ----------
    path
        The file.
    frame
        Its columns as text, missing values null.
    separator
        Of its values; none: parquet.
    """

    path: Path
    frame: pd.DataFrame
    separator: str | None

    @classmethod
    def read(cls, path: Path) -> Table:
        """Read a table whose separator is the one that divides its first line into most columns.

        Raises
        ------
        MmreproError
            For a file that is no table, with what mends it.
        """
        kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
        if kind == ".parquet":
            frame = read_parquet(path, None)
            texts = {name: frame[name].astype("str").where(frame[name].notna(), None) for name in frame.columns}
            return cls(path, pd.DataFrame(texts), None)
        if kind not in (".csv", ".tsv", ".txt"):
            raise MmreproError(f"{path}: unknown kind of table; save it as .csv, .tsv or .parquet")
        line = header_line(path)
        separator = max(SEPARATORS, key=lambda mark: (line.count(mark), mark == ("\t" if kind == ".tsv" else ",")))
        if separator not in line:
            raise MmreproError(f"{path}: one column only, '{line[:60]}'; its first line must name at least two")
        frame = read_delimited(path, Dialect.of(separator), dtype="str", keep_default_na=False, na_values=[""])
        return cls(path, frame, separator)

    @property
    def columns(self) -> list[str]:
        """Names of its columns."""
        return [str(name) for name in self.frame.columns]

    def values(self, column: str) -> pd.Series:
        """The first values of a column that are there."""
        return self.frame[column].dropna().head(SAMPLED)


def named(table: Table, holds: str, taken: Iterable[str] = ()) -> list[str]:
    """Return the columns whose names say that they hold something, and nothing beside it; the likelier word first.

    `customer_id` and `order_date` do, `customer_type` and `delivery_time` do not.
    """
    free = [name for name in table.columns if name not in set(taken)]
    found = []
    for word in NAMES[holds]:
        found += [name for name in free if name not in found and _says(name, word, holds)]
    return found


def _says(name: str, word: str, holds: str) -> bool:
    """Whether a name is a word with what may stand beside it: that it is a key, or of a purchase."""
    parts = _words(name)
    beside = KEYS | (OF_A_PURCHASE if holds == "time" else set())
    hits = [part for part in parts if _is_word(part, word, holds)]
    return len(hits) == 1 and all(part in beside for part in parts if part not in hits)


def _is_word(part: str, word: str, holds: str) -> bool:
    """Whether a part of a name is a word, or one of its compounds, such as `kundennr` and `bestelldatum`."""
    if part.startswith(word) and part.removeprefix(word) in ENDINGS:
        return True
    return holds == "time" and len(word) > 3 and part.endswith(word) and part.removesuffix(word) in OF_A_PURCHASE


def _words(name: str) -> list[str]:
    """The words of a column's name, `customerId` and `customer_id` alike."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()
    return re.findall(r"[^\W\d_]+", parts)


def shared_keys(interactions: Table, items: Table, free: Sequence[str]) -> tuple[str, str, bool] | None:
    """Return the column of interactions and the one of items that hold the same keys, and whether only their normal
    forms are the same; none where no two share half of their values.
    """
    best: tuple[tuple[float, bool], str, str, bool] | None = None
    called = set(named(interactions, "item"))
    for key in items.columns:
        keys = pd.Index(items.frame[key].dropna().unique())
        if len(keys) < len(items.frame) / 2:  # no key names several items
            continue
        plain, normal = set(keys), set(normal_form(keys))
        for column in free:
            wanted = pd.Index(interactions.values(column).unique())
            if not len(wanted):
                continue
            exact = float(np.mean([value in plain for value in wanted]))
            loose = float(np.mean([value in normal for value in normal_form(wanted)]))
            found = ((round(max(exact, loose), 2), column in called), column, key, loose > exact)
            if best is None or found[0] > best[0]:
                best = found
    return best[1:] if best is not None and best[0][0] > 0.5 else None


def are_times(table: Table, column: str) -> bool:
    """Return whether values can be moments: dates, or numbers since 1970; a day of the month is none."""
    values = table.values(column)
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().all() and not _compact(values):
        return bool(len(numbers)) and bool(units_of(numbers))
    form, _ = time_format(table, column)
    return form is not None or bool(pd.to_datetime(values, format="ISO8601", errors="coerce", utc=True).notna().all())


def unlike_a_time(table: Table, column: str) -> str | None:
    """Return the first value of a column that is no moment, where most are, or look so; none where few do."""
    values = table.values(column)
    if pd.to_numeric(values, errors="coerce").notna().mean() > 0.5 or not values.str.contains(DATE_LIKE).mean() > 0.5:
        return None
    forms = ["ISO8601", *DATE_FORMS]
    parsed = [pd.to_datetime(values, format=form, errors="coerce", utc=True) for form in forms]
    best = max(parsed, key=lambda dates: dates.notna().mean())
    return str(values[best.isna()].iloc[0]) if best.isna().any() else str(values.iloc[0])


def unlike_a_number(table: Table, column: str) -> str | None:
    """Return the first value of a column that is no number, where most are; none where few are."""
    values = table.values(column)
    numbers = pd.to_numeric(values.str.replace(",", ".", regex=False), errors="coerce")
    return str(values[numbers.isna()].iloc[0]) if 0.5 < numbers.notna().mean() < 1 else None


def time_format(table: Table, column: str) -> tuple[str | None, list[str]]:
    """Return how times of a column are written, and the forms that fit; none for numbers and ISO dates.

    Several forms fit where no day is after the twelfth: which is meant only its owner knows.
    """
    values = table.values(column)
    if pd.to_numeric(values, errors="coerce").notna().all() and not _compact(values):
        return None, []
    if pd.to_datetime(values, format="ISO8601", errors="coerce", utc=True).notna().all() and not _compact(values):
        return None, []
    fitting = [form for form in DATE_FORMS if pd.to_datetime(values, format=form, errors="coerce").notna().all()]
    plausible = [form for form in fitting if pd.to_datetime(values, format=form).dt.year.between(1980, 2100).all()]
    return (plausible[0] if plausible else None), plausible


def _compact(values: pd.Series) -> bool:
    """Whether numbers are dates without separators."""
    return bool(values.str.fullmatch(r"(?:19|20)\d{6}(?:\d{6})?").all())


def looks_like(table: Table, taken: Iterable[str], fits: Callable[[pd.Series], bool]) -> str | None:
    """Return the first free column whose values fit."""
    free = [name for name in table.columns if name not in set(taken)]
    return next((name for name in free if len(table.values(name)) and fits(table.values(name))), None)


def are_pictures(values: pd.Series) -> bool:
    """Return whether values name pictures: paths or addresses."""
    return bool(values.str.match(PICTURE).mean() > 0.9 or values.str.match(r"https?://").mean() > 0.9)


def are_words(values: pd.Series) -> bool:
    """Return whether values are words of people and no codes: with spaces, or letters of some script alone."""
    return bool(values.str.contains(r"\s").mean() > 0.3 and values.nunique() > 1)


def has_markup(table: Table, columns: Iterable[str]) -> bool:
    """Return whether texts hold HTML tags or entities."""
    return any(bool(table.values(name).str.contains(MARKUP, regex=True).any()) for name in columns)
