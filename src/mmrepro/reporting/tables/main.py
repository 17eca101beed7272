"""The main frame of a study, from which csv, Markdown and LaTeX are made, and the tests of its focus model."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from mmrepro.columns import TEST, VALID, Columns
from mmrepro.reporting import literature
from mmrepro.reporting.collect import CELL, Cell, Collection, FinishedRun, cell_of, flags_of, user_means
from mmrepro.reporting.literature import PublishedNumber
from mmrepro.reporting.means import corrected, difference_percent, over_seeds, paired_users, remarks
from mmrepro.reporting.products import ACCURACY_METRICS, METRICS, headline_columns
from mmrepro.study.plan import Plan

MAIN_COLUMNS = (
    *CELL, Columns.SPLIT, Columns.METRIC, Columns.K, Columns.MEAN, Columns.STD, Columns.N_SEEDS, Columns.PUBLISHED,
    Columns.VERDICT,
)  # fmt: skip
SIGNIFICANCE_COLUMNS = (
    Columns.DATASET, Columns.PROTOCOL, Columns.METRIC, Columns.K, "focus", "focus_mean", "other", "other_mean",
    "improvement_percent", "p", "p_holm", "n_users", "test",
)  # fmt: skip
RANKS = {1: "best", 2: "second"}
COMPARED = [Columns.DATASET, Columns.PROTOCOL, Columns.SPLIT, Columns.METRIC, Columns.K]


def main_frame(plan: Plan, collection: Collection, numbers: Mapping[literature.Cell, PublishedNumber]) -> pd.DataFrame:
    """Return the main table as a frame.

    Parameters
    ----------
    plan
        The resolved study; every planned cell has its rows, run or not.
    collection
        What exists of it.
    numbers
        Published numbers.

    Returns
    -------
    pd.DataFrame
        Columns `MAIN_COLUMNS`. `mean` and `std` (sample standard deviation, over seeds) are NaN where nothing was run
        or a single seed leaves no spread; `published` is a number, 'not transcribed' or None; `verdict` is text, its
        parts joined by '; '.
    """
    cells = list(dict.fromkeys(cell_of(run) for run in plan.runs))
    rows = [
        (*cell, split, metric, k)
        for cell, split, metric, k in itertools.product(cells, (TEST, VALID), METRICS, plan.study.cutoffs)
    ]
    keys = [*CELL, Columns.SPLIT, Columns.METRIC, Columns.K]
    frame = over_seeds(pd.DataFrame(rows, columns=keys), collection.frame)
    frame["rank"] = frame[Columns.MEAN].round(12).groupby([frame[c] for c in COMPARED]).rank("min", ascending=False)
    frame.loc[~frame[Columns.METRIC].isin(ACCURACY_METRICS), "rank"] = float("nan")
    flags = _flags(collection)
    planned = Counter(cell_of(run) for run in plan.runs)
    records = frame.to_dict("records")
    frame[Columns.PUBLISHED] = pd.Series([_published(plan, row, numbers) for row in records], dtype=object)
    frame[Columns.VERDICT] = [
        _verdict(row, value, planned[cell], flags.get(cell, ()))
        for row, value in zip(records, frame[Columns.PUBLISHED], strict=True)
        for cell in [(row[Columns.DATASET], row[Columns.FEATURES], row[Columns.MODEL], row[Columns.PROTOCOL])]
    ]
    return frame[list(MAIN_COLUMNS)]


def significance_frame(plan: Plan, collection: Collection, frame: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Compare the focus model with the best other model, on test, over users.

    Parameters
    ----------
    plan
        The resolved study; `study.focus` names the model.
    collection
        What exists of it.
    frame
        The main frame.
    root
        Folder that holds `results/`.

    Returns
    -------
    pd.DataFrame
        Columns `SIGNIFICANCE_COLUMNS`, a row for each data set, protocol, metric and cutoff of the readable tables in
        which both models have been run. Wilcoxon's signed-rank test over users, each user's mean over seeds first; all
        rows together are the family of Holm's correction.
    """
    rows = []
    for dataset, protocol in itertools.product(plan.study.datasets, plan.study.protocols):
        rows += _comparisons(plan, collection, frame, root, dataset, protocol)
    result = pd.DataFrame(rows, columns=[c for c in SIGNIFICANCE_COLUMNS if c != "p_holm"])
    result["p_holm"] = corrected(result["p"])
    return result[list(SIGNIFICANCE_COLUMNS)]


def _comparisons(
    plan: Plan, collection: Collection, frame: pd.DataFrame, root: Path, dataset: str, protocol: str
) -> list[tuple[object, ...]]:
    """Rows of one data set and protocol, without the correction."""
    focus, columns = plan.study.focus, headline_columns(plan.study)
    block = frame[(frame[Columns.DATASET] == dataset) & (frame[Columns.PROTOCOL] == protocol)]
    block = block[(block[Columns.SPLIT] == TEST) & block[Columns.MEAN].notna()]
    means = block.pivot(index=Columns.MODEL, columns=[Columns.METRIC, Columns.K], values=Columns.MEAN)
    if focus not in means.index or len(means) < 2:
        return []
    others = means.drop(index=focus).sort_index()
    best = {column: str(others[column].idxmax()) for column in columns}
    runs = {
        model: [r for r in collection.runs if (r.cell[0], r.cell[2], r.cell[3]) == (dataset, model, protocol)]
        for model in sorted({focus, *best.values()})
    }
    users = {model: user_means(found, root, [f"{m}_at_{k}" for m, k in columns]) for model, found in runs.items()}
    rows: list[tuple[object, ...]] = []
    for (metric, k), other in best.items():
        name = f"{metric}_at_{k}"
        mean, other_mean = float(means[metric, k][focus]), float(means[metric, k][other])
        improvement = difference_percent(mean, other_mean)
        p, n_users = paired_users(users[focus][name], users[other][name])
        rows.append((dataset, protocol, metric, k, focus, mean, other, other_mean, improvement, p, n_users, "wilcoxon"))
    return rows


def _flags(collection: Collection) -> dict[Cell, tuple[str, ...]]:
    found: dict[Cell, list[FinishedRun]] = {}
    for run in collection.runs:
        found.setdefault(run.cell, []).append(run)
    return {cell: flags_of(runs) for cell, runs in found.items()}


def _published(plan: Plan, row: Mapping, numbers: Mapping[literature.Cell, PublishedNumber]) -> float | str | None:
    """Literature reports test metrics only."""
    if row[Columns.SPLIT] != TEST:
        return None
    dataset = plan.datasets[row[Columns.DATASET]]
    known = literature.literature_number(
        dict(numbers), dataset, row[Columns.MODEL], row[Columns.METRIC], row[Columns.K]
    )
    return known.value if isinstance(known, PublishedNumber) else known


def _verdict(row: Mapping, published_value: float | str | None, n_planned: int, flags: tuple[str, ...]) -> str:
    """Rank, difference to the published number, missing seeds and flags."""
    parts = [RANKS[int(row["rank"])]] if row["rank"] in RANKS else []
    if isinstance(published_value, float) and row[Columns.N_SEEDS]:
        difference = difference_percent(row[Columns.MEAN], published_value)
        parts += [] if difference is None else [f"published {difference:+.1f} %"]
    return "; ".join([*parts, *remarks(row[Columns.N_SEEDS], n_planned, flags)])
