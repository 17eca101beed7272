"""What differs between results and the same results made again: values of metrics, files, and cells of tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mmrepro.columns import Columns
from mmrepro.evaluation.measure import MEASURED
from mmrepro.evaluation.metrics import METRICS
from mmrepro.evaluation.places import COUNTED

LISTS, PLACES = "its lists", "the places of its hits"
"""What metrics are measured again from."""
CLOSE = 1e-9
"""Difference of two values of a metric that rounding of sums in another order makes."""
SHOWN, WIDTH = 20, 160
IDENTITY = (
    Columns.DATASET, Columns.FEATURES, Columns.MODEL, Columns.PROTOCOL, Columns.SPLIT, Columns.METRIC, Columns.K,
    Columns.SEED, "comparison", "variant", "decile", "history", "other", "claim", "better", "than", "switches",
    "parameter", "modality", "what",
)  # fmt: skip
"""Columns that say which row of a table one is."""


@dataclass
class Verification:
    """What came out.

    Attributes
    ----------
    checked
        What was compared, a line each.
    differences
        What differs, a line each; empty: every number follows.
    stopped
        Whether something could not be read, so that what follows from it was not compared.
    """

    checked: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    stopped: bool = False

    @property
    def text(self) -> str:
        """All lines, the differences last; of many, the first ones."""
        more = len(self.differences) - SHOWN
        shown = [f"DIFFERS: {line}" for line in self.differences[:SHOWN]]
        end = "every number follows" if not self.differences else f"{len(self.differences)} differences"
        return "\n".join([*self.checked, *shown, *([f"and {more} more"] if more > 0 else []), end])


def differ(one: float | None, other: float | None) -> bool:
    """Return whether two values differ by more than rounding; NaN is no value, and like none."""
    if one is None or other is None:
        return one is not other
    return not abs(one - other) <= CLOSE


def compare_metrics(
    where: str, recorded: Mapping[str, Any], again: Mapping[str, Any], origin: str, cutoffs: Sequence[int],
    found: Verification,
) -> None:  # fmt: skip
    """Compare metrics with the same measured again.

    Parameters
    ----------
    where
        What the recorded ones were read from.
    recorded, again
        Run -> split -> metric -> value.
    origin
        `LISTS` or `PLACES`.
    cutoffs
        Those of the study.
    found
        Receives what was compared, and what differs.
    """
    count, known_names = 0, {f"{metric.name}_at_{k}" for metric in METRICS for k in cutoffs}
    for run, splits in again.items():
        for split in MEASURED:
            for metric, value in splits[split].items():
                known = (recorded.get(run, {}).get(split) or {}).get(metric)
                count += 1
                if differ(known, value):
                    found.differences.append(f"{where}: {run} {split} {metric} {known}, from {origin} {value}")
    for run, splits in recorded.items():
        for split, values in splits.items():
            for metric in sorted({*(values or {})} - known_names):
                found.differences.append(f"{where}: {run} {split} {metric}, which the study does not measure")
    for run in sorted({*recorded} - {*again}):
        found.differences.append(f"{where}: {run} could not be measured again")
    needing = " and ".join(metric.short for metric in METRICS if metric not in COUNTED)
    trusted = "" if origin == LISTS else f" (those that need the items, such as {needing}, are taken as they are)"
    found.checked.append(f"{where}: {count} values of {len(again)} runs are measured again from {origin}{trusted}")


def compare_files(there: Path, again: Path) -> Iterator[str]:
    """Yield what differs between a table or figure and the same built again: of a csv file a line for each cell."""
    if not there.is_file():
        yield f"{there}: missing"
    elif there.read_bytes() == again.read_bytes():
        return
    elif there.suffix == ".csv":
        yield from _compare_cells(there, again)
    elif there.suffix in (".md", ".tex", ".json", ".html"):
        old, new = (path.read_text(encoding="utf-8", errors="replace").splitlines() for path in (there, again))
        pairs = enumerate(zip(old, new, strict=False))
        number = next((n for n, (line, other) in pairs if line != other), min(len(old), len(new)))
        shown = [lines[number].strip()[:WIDTH] if number < len(lines) else "nothing" for lines in (old, new)]
        yield f"{there}: line {number + 1} is '{shown[0]}', built again '{shown[1]}'"
    else:
        yield f"{there}: drawn otherwise when it is built again; another version of matplotlib does so as well"


def _compare_cells(there: Path, again: Path) -> Iterator[str]:
    """A line for each cell of a table that differs."""
    try:
        old, new = (pd.read_csv(path, dtype="str", keep_default_na=False) for path in (there, again))
    except ValueError as error:
        yield f"{there}: no readable table ({' '.join(str(error).split())[:99]})"
        return
    if [*old.columns] != [*new.columns] or len(old) != len(new):
        yield f"{there}: {len(old)} rows of {len(old.columns)} columns, built again {len(new)} of {len(new.columns)}"
        return
    known = [name for name in IDENTITY if name in new]
    for row, column in zip(*(old.to_numpy() != new.to_numpy()).nonzero(), strict=True):
        which = " ".join(new.loc[row, known]) if known else f"row {row + 1}"
        yield f"{there}: {which}: {new.columns[column]} {old.iat[row, column]!r}, built again {new.iat[row, column]!r}"
