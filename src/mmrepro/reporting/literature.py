"""Numbers as printed by others, read strictly from `data/published`."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmrepro.config.base import nearest
from mmrepro.config.dataset import DatasetConfig
from mmrepro.errors import MmreproError
from mmrepro.reporting.headline import ACCURACY, HEADLINE

COLUMNS = ("dataset", "model", "metric", "k", "value", "protocol", "seed", "source")
NOT_TRANSCRIBED = "not transcribed"
TRANSCRIBED_METRICS = tuple(
    metric.name for metric in HEADLINE
)  # what the field prints; a missing one of these is worth saying

Cell = tuple[str, str, str, int]
"""Data set (in the literature), model, metric, cutoff."""


@dataclass(frozen=True)
class PublishedNumber:
    """A number of the literature: the value, how it was made, and where it stands."""

    value: float
    protocol: str
    source: str


def load_published(files: Iterable[Path]) -> dict[Cell, PublishedNumber]:
    """Read published numbers.

    Parameters
    ----------
    files
        Files with the columns of `COLUMNS`; where two have the same cell, the earlier file wins.

    Returns
    -------
    dict
        Cell to number; several seeds of one cell are averaged.

    Raises
    ------
    MmreproError
        For a missing file, a column too many or too few, a metric unknown, a value outside [0, 1], a row repeated.
    """
    numbers: dict[Cell, PublishedNumber] = {}
    for path in files:
        numbers = {**_load_one(path), **numbers}
    return numbers


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


def _load_one(path: Path) -> dict[Cell, PublishedNumber]:
    if not path.is_file():
        valid = sorted(p.name for p in path.parent.glob("*.csv"))
        raise MmreproError(f"{path}: no such file; `published` of the study names it, {nearest(path.name, valid)}")
    with path.open(newline="") as handle:
        reader = csv.DictReader(handle, strict=True)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise MmreproError(f"{path}: columns are {reader.fieldnames}; write {','.join(COLUMNS)}")
        rows = [(f"{path}, line {reader.line_num}", row) for row in reader]
    seeds: dict[Cell, dict[str, tuple[float, dict[str, str]]]] = {}
    for where, row in rows:
        cell, value = _parse(where, row)
        if row["seed"] in seeds.setdefault(cell, {}):
            raise MmreproError(f"{where}: a second row for {cell} and seed '{row['seed']}'; remove one")
        seeds[cell][row["seed"]] = (value, row)
    return {cell: _average(list(found.values())) for cell, found in seeds.items()}


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


def _average(found: list[tuple[float, dict[str, str]]]) -> PublishedNumber:
    row = found[0][1]
    note = f" (mean of {len(found)} seeds)" if len(found) > 1 else ""
    return PublishedNumber(sum(value for value, _ in found) / len(found), row["protocol"], row["source"] + note)
