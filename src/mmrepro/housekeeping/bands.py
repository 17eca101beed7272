"""How results lie against published ones, within what seeds do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from mmrepro.columns import Columns
from mmrepro.housekeeping.comparison import CLOSE, SHOWN
from mmrepro.reporting.finished import CELL
from mmrepro.reporting.headline import ACCURACY
from mmrepro.study.plan import Plan


def verdict_counts(folder: Path) -> Iterator[str]:
    """Yield a line that says how many published numbers are reproduced, by the ledger of a study's folder."""
    path = folder / "tables/ledger.csv"
    if path.is_file():
        counts = pd.read_csv(path, dtype="str", keep_default_na=False)[Columns.VERDICT].value_counts(sort=False)
        yield f"published numbers: {', '.join(f'{count} {verdict}' for verdict, count in sorted(counts.items()))}"


def bands_of(plan: Plan, folder: Path, published: Path) -> Iterator[str]:
    """Yield how many means over seeds are those of the study's publication, within what seeds do.

    Parameters
    ----------
    plan
        The study.
    folder, published
        Its results here, and as they are committed.
    """
    keys = [*CELL, Columns.SPLIT, Columns.METRIC, Columns.K]
    paths = [place / "tables/main.csv" for place in (folder, published)]
    if not all(path.is_file() for path in paths):
        return
    measured = [*keys, Columns.MEAN, Columns.STD, Columns.N_SEEDS]
    ours, theirs = (pd.read_csv(path)[measured] for path in paths)
    both = ours.merge(theirs, on=keys, suffixes=("", "_published")).dropna(subset=[Columns.MEAN, "mean_published"])
    both = both[both[Columns.METRIC].isin(ACCURACY)]
    spread = both[[Columns.STD, "std_published"]].max(axis=1)
    band = plan.study.verdict.deviations * spread * (1 / both[Columns.N_SEEDS] + 1 / both["n_seeds_published"]) ** 0.5
    known = band.notna()
    outside = both[known & ((both[Columns.MEAN] - both["mean_published"]).abs() > band + CLOSE)]
    yield (
        f"against {published}: {int(known.sum()) - len(outside)} of {int(known.sum())} means of accuracy within "
        f"{plan.study.verdict.deviations:g} standard deviations of their difference"
    )
    for row in outside.head(SHOWN).to_dict("records"):
        where = " ".join(str(row[key]) for key in keys)
        yield f"  outside: {where}: {row[Columns.MEAN]:.4f}, published {row['mean_published']:.4f}"
