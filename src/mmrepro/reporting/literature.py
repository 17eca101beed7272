"""Numbers as printed by others, read strictly from `data/published`."""

from __future__ import annotations

import csv
import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mmrepro.config.base import nearest
from mmrepro.config.dataset import DatasetConfig
from mmrepro.errors import MmreproError
from mmrepro.reporting.headline import ACCURACY, HEADLINE
from mmrepro.study.products import PAPERS

COLUMNS = ("dataset", "model", "metric", "k", "value", "protocol", "seed", "source")
NOT_TRANSCRIBED = "not transcribed"
TRANSCRIBED_METRICS = tuple(
    metric.name for metric in HEADLINE
)  # what the field prints; a missing one of these is worth saying

REPOSITORY = re.compile(r"([\w.-]+)/[\w.-]+@")
PAPERS_OWN = "the paper itself"
OUR_RUNS = "reference-runs"
"""File of what the authors' program has given when it was run for this project: no source of the literature."""
HALF_A_DIGIT = 0.00005
"""Of numbers that are printed with four."""

Cell = tuple[str, str, str, int]
"""Data set (in the literature), model, metric, cutoff."""


@dataclass(frozen=True)
class Printed:
    """A value as one source prints it.

    Attributes
    ----------
    value
        As a fraction.
    protocol
        How it was made.
    source
        Where it stands.
    authors
        Who answers for it: the owner of the repository, or the file. What the same authors print again is no second
        finding.
    std
        Sample standard deviation over seeds, where there are several.
    n_seeds
        How many runs it is the mean of.
    """

    value: float
    protocol: str
    source: str
    authors: str
    std: float | None = None
    n_seeds: int = 1

    @property
    def by_us(self) -> bool:
        """Whether nobody has published it: the authors' program has been run for this project."""
        return self.authors == OUR_RUNS


@dataclass(frozen=True)
class PublishedNumber:
    """A number of the literature: the value that most independent sources print, and every value that any prints."""

    printed: tuple[Printed, ...]
    """In the order of the files."""

    @cached_property
    def chosen(self) -> Printed:
        """The first that prints the value of most independent sources; of equally many, that of the earliest file."""
        if self.printed[0].authors == PAPERS_OWN:
            return self.printed[0]
        return max(self.printed, key=lambda found: (self._authors(found.value), -self.printed.index(found)))

    @property
    def value(self) -> float:
        """What most independent sources print."""
        return self.chosen.value

    @property
    def n_agreeing(self) -> int:
        """How many independent sources print that value."""
        return self._authors(self.value)

    @property
    def n_independent(self) -> int:
        """How many independent sources print any."""
        return len({found.authors for found in self.printed})

    @property
    def tied(self) -> bool:
        """Whether another value is printed by as many."""
        return any(
            abs(found.value - self.value) >= HALF_A_DIGIT and self._authors(found.value) == self.n_agreeing
            for found in self.printed
        )

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest value printed."""
        values = [found.value for found in self.printed]
        return min(values), max(values)

    def _authors(self, value: float) -> int:
        return len({found.authors for found in self.printed if abs(found.value - value) < HALF_A_DIGIT})


def load_published(files: Iterable[Path]) -> dict[Cell, PublishedNumber]:
    """Read published numbers.

    Parameters
    ----------
    files
        Files with the columns of `COLUMNS`, in the order in which sources are listed.

    Returns
    -------
    dict
        Cell to number; several seeds of one cell, authors and protocol in a file are averaged.

    Raises
    ------
    MmreproError
        For a missing file, a column too many or too few, a metric unknown, a value outside [0, 1], a row repeated.
    """
    numbers: dict[Cell, list[Printed]] = {}
    for path in files:
        for cell, printed in _load_one(path).items():
            numbers.setdefault(cell, []).extend(printed)
    return {cell: PublishedNumber(tuple(printed)) for cell, printed in numbers.items()}


def literature_number(
    numbers: dict[Cell, PublishedNumber], dataset: DatasetConfig, model: str, metric: str, k: int
) -> PublishedNumber | str | None:
    """Return the published number of a cell.

    Parameters
    ----------
    numbers
        What `load_published` returns.
    dataset
        Only a data set that names its `literature_split` is compared.
    model, metric, k
        The cell.

    Returns
    -------
    PublishedNumber, str or None
        The number; 'not transcribed' where the literature prints such numbers but none is known; None where there is
        nothing to compare with.
    """
    if dataset.literature_split is None:
        return None
    known = numbers.get((dataset.literature_split, model, metric, k))
    return known or (NOT_TRANSCRIBED if metric in TRANSCRIBED_METRICS else None)


def published_spread(numbers: Mapping[Cell, PublishedNumber], dataset: str, metric: str, k: int) -> float | None:
    """Return the largest standard deviation over seeds that is published for a data set, metric and cutoff, of whatever
    model; None where nobody has run several.
    """
    found = [
        printed.std
        for (split, _, name, cutoff), number in numbers.items()
        if (split, name, cutoff) == (dataset, metric, k)
        for printed in number.printed
        if printed.std is not None
    ]
    return max(found, default=None)


def _load_one(path: Path) -> dict[Cell, list[Printed]]:
    if not path.is_file():
        valid = sorted(p.name for p in path.parent.glob("*.csv"))
        raise MmreproError(f"{path}: no such file; `published` of the study names it, {nearest(path.name, valid)}")
    with path.open(newline="") as handle:
        reader = csv.DictReader(handle, strict=True)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise MmreproError(f"{path}: columns are {reader.fieldnames}; write {','.join(COLUMNS)}")
        rows = [(f"{path}, line {reader.line_num}", row) for row in reader]
    seeds: dict[tuple[Cell, str, str], dict[str, tuple[float, dict[str, str]]]] = {}
    for where, row in rows:
        cell, value = _parse(where, row)
        found = seeds.setdefault((cell, _authors(path, row["source"]), row["protocol"]), {})
        if row["seed"] in found:
            raise MmreproError(f"{where}: a second row for {cell} and seed '{row['seed']}'; remove one")
        found[row["seed"]] = (value, row)
    printed: dict[Cell, list[Printed]] = {}
    for (cell, authors, _), values in seeds.items():
        printed.setdefault(cell, []).append(_average([*values.values()], authors))
    return printed


def _authors(path: Path, source: str) -> str:
    """The owner of the repository that a source names, or the file."""
    if path.name == PAPERS:
        return PAPERS_OWN
    repository = REPOSITORY.match(source)
    return repository[1] if repository else path.stem


def _parse(where: str, row: dict[str, str]) -> tuple[Cell, float]:
    if None in row or None in row.values():
        raise MmreproError(f"{where}: expected {len(COLUMNS)} fields; put a text with a comma into quotes")
    if row["metric"] not in ACCURACY:
        raise MmreproError(f"{where}: unknown metric '{row['metric']}'; {nearest(row['metric'], list(ACCURACY))}")
    if not row["source"]:
        raise MmreproError(f"{where}: no source; say where the number stands")
    try:
        value, k = float(row["value"]), int(row["k"])
    except ValueError as error:
        raise MmreproError(f"{where}: {error}; k is a whole number, value a decimal fraction") from None
    if not 0 <= value <= 1:
        raise MmreproError(f"{where}: value {row['value']} is no fraction; divide a percentage by 100")
    return (row["dataset"], row["model"], row["metric"], k), value


def _average(found: list[tuple[float, dict[str, str]]], authors: str) -> Printed:
    row = found[0][1]
    note = f" (mean of {len(found)} seeds)" if len(found) > 1 else ""
    values = [value for value, _ in found]
    std = statistics.stdev(values) if len(values) > 1 else None
    return Printed(statistics.fmean(values), row["protocol"], row["source"] + note, authors, std, len(found))
