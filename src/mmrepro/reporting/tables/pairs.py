"""Every pair of models, tested: who is better than whom, by how much, and how sure that is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.columns import Columns
from mmrepro.evaluation.significance import DRAWS, LEVEL, compare_columns
from mmrepro.reporting.collect import Collection
from mmrepro.reporting.finished import user_means
from mmrepro.reporting.headline import SHORT, drawn_metric, headline_columns
from mmrepro.reporting.means import corrected, main_blocks, signed, study_note
from mmrepro.reporting.render import Block, Table, cells
from mmrepro.reporting.report import Built, Report
from mmrepro.study.plan import Plan
from mmrepro.study.products import Product

PRODUCT = Product("tables/pairs", ("csv", "md"))
OTHER = "other"
FAMILY = [Columns.DATASET, Columns.PROTOCOL, Columns.METRIC, Columns.K]
PAIRS_COLUMNS = (
    *FAMILY, Columns.MODEL, OTHER, Columns.MEAN, "other_mean", "difference", "lower", "upper", "effect", "p", "p_holm",
    "n_users",
)  # fmt: skip


def build(report: Report) -> Iterator[Built]:
    """Yield the tests; the readable table counts them."""
    frame = report.made(pairs_of)
    yield "pairs", frame, pairs_table(report.plan, frame)


def pairs_of(report: Report) -> pd.DataFrame:
    """Return the tests of a report's pairs of models."""
    return pairs_frame(report.plan, report.collection)


def pairs_frame(plan: Plan, collection: Collection) -> pd.DataFrame:
    """Compare every two models that have been run, on test, over users, in the order of their means.

    Parameters
    ----------
    plan, collection
        The study and what exists of it.

    Returns
    -------
    pd.DataFrame
        Columns `PAIRS_COLUMNS`, a row for each data set, protocol, metric and cutoff of the readable tables and pair,
        the better model first. Each user's mean over seeds is compared: `difference` of the means, its 95 % interval by
        the paired bootstrap over users (`lower`, `upper`), `effect` the matched-pairs rank-biserial correlation, `p` of
        Wilcoxon's signed-rank test, `p_holm` corrected over the pairs of a data set, protocol, metric and cutoff.
    """
    rows: list[tuple[Any, ...]] = []
    for dataset, protocol in itertools.product(plan.study.datasets, plan.study.protocols):
        rows += _block(plan, collection, dataset, protocol)
    frame = pd.DataFrame(rows, columns=[name for name in PAIRS_COLUMNS if name != "p_holm"])
    families = frame.groupby(FAMILY, sort=False)["p"]
    frame["p_holm"] = families.transform(corrected) if len(frame) else pd.Series(dtype="float64")
    return frame[list(PAIRS_COLUMNS)]


def _block(plan: Plan, collection: Collection, dataset: str, protocol: str) -> Iterator[tuple[Any, ...]]:
    """Rows of one data set and protocol, without the correction."""
    columns = headline_columns(plan.study)
    names = [f"{metric}_at_{k}" for metric, k in columns]
    of_model = {
        model: [r for r in collection.runs if (r.cell[0], r.cell[2], r.cell[3]) == (dataset, model, protocol)]
        for model in plan.study.models
    }
    users = {model: user_means(runs, names) for model, runs in of_model.items() if runs}
    if len(users) < 2:
        return
    for (metric, k), name in zip(columns, names, strict=True):
        table = pd.concat({model: frame[name] for model, frame in users.items()}, axis=1, join="inner")
        order = table.mean().round(12).sort_values(ascending=False, kind="stable").index.tolist()
        values = table[order].to_numpy()
        for one, other, comparison in compare_columns(values):
            yield (dataset, protocol, metric, k, order[one], order[other], *comparison)


def outcomes(rows: pd.DataFrame, models: list[str]) -> np.ndarray:
    """Return for each two models 1 where the first is better and the corrected p-value below 0.05, -1 where the second
    is, 0 where neither, NaN where they have not been compared; shape (models, models).
    """
    found = np.full((len(models), len(models)), np.nan)
    for row in rows.to_dict("records"):
        a, b = models.index(row[Columns.MODEL]), models.index(row[OTHER])
        better = float(row["p_holm"] < LEVEL) * np.sign(row["difference"])
        found[a, b], found[b, a] = better, -better
    return found


def pairs_table(plan: Plan, frame: pd.DataFrame) -> Table:
    """Return the pairs for readers: how many others each model is better and worse than, and the closest below it."""
    metric, k = drawn_metric(plan.study)
    blocks = []
    for name, block in main_blocks(plan, frame[(frame[Columns.METRIC] == metric) & (frame[Columns.K] == k)]):
        if block.empty:
            continue
        first = block[Columns.MODEL].drop_duplicates().tolist()
        models = [*first, *(other for other in block[OTHER].drop_duplicates() if other not in first)]
        better = outcomes(block, models)
        lines = []
        for place, model in enumerate(models):
            wins, losses = int((better[place] == 1).sum()), int((better[place] == -1).sum())
            below = block[(block[Columns.MODEL] == model) & (block[OTHER] == models[min(place + 1, len(models) - 1)])]
            lines.append(cells(model, str(wins), str(losses), str(len(models) - 1 - wins - losses), _next(below)))
        blocks.append(Block(name, tuple(lines)))
    notes = (
        f"{SHORT[metric]}@{k} on test, each user's mean over seeds; better and worse: by Wilcoxon's signed-rank test "
        f"over users, Holm-corrected over the pairs of a block, p < {LEVEL:g}. Even is what the test cannot tell.",
        "Over the next: the difference of the means to the model below, in thousandths, with its 95 % interval by the "
        f"paired bootstrap over users ({DRAWS} draws), and the rank-biserial correlation r. All pairs and metrics: "
        "pairs.csv.",
    )
    headings = ("model", "better than", "worse than", "even with", "over the next")
    return Table(
        f"{plan.study.title}: every pair of models", headings, tuple(blocks), (*notes, *study_note(plan.study))
    )


def _next(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "–"
    row = rows.iloc[0]
    difference, lower, upper = (signed(1000 * row[name]) for name in ("difference", "lower", "upper"))
    return f"{difference} ({lower} to {upper}), r {row['effect']:.2f}".replace("r -", "r −")
