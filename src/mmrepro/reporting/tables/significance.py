"""The tests of a study's focus model against the best other one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pandas as pd

from mmrepro.columns import TEST, Columns
from mmrepro.reporting.cells import main_of
from mmrepro.reporting.collect import Collection
from mmrepro.reporting.finished import user_means
from mmrepro.reporting.headline import headline_columns
from mmrepro.reporting.means import corrected, difference_percent, paired_users
from mmrepro.reporting.report import Built, Report
from mmrepro.study.plan import Plan
from mmrepro.study.products import Product

PRODUCT = Product("tables/significance", ("csv",))
SIGNIFICANCE_COLUMNS = (
    Columns.DATASET, Columns.PROTOCOL, Columns.METRIC, Columns.K, "focus", "focus_mean", "other", "other_mean",
    "improvement_percent", "p", "p_holm", "n_users", "test",
)  # fmt: skip


def build(report: Report) -> Iterator[Built]:
    """Yield the tests."""
    yield "significance", report.made(significance_of), None


def significance_of(report: Report) -> pd.DataFrame:
    """Return the tests of a report's focus model."""
    return significance_frame(report.plan, report.collection, report.made(main_of))


def significance_frame(plan: Plan, collection: Collection, frame: pd.DataFrame) -> pd.DataFrame:
    """Compare the focus model with the best other model, on test, over users.

    Parameters
    ----------
    plan
        The resolved study; `study.focus` names the model.
    collection
        What exists of it.
    frame
        The main frame.

    Returns
    -------
    pd.DataFrame
        Columns `SIGNIFICANCE_COLUMNS`, a row for each data set, protocol, metric and cutoff of the readable tables in
        which both models have been run. Wilcoxon's signed-rank test over users, each user's mean over seeds first; all
        rows together are the family of Holm's correction.
    """
    rows = []
    for dataset, protocol in itertools.product(plan.study.datasets, plan.study.protocols):
        rows += _comparisons(plan, collection, frame, dataset, protocol)
    result = pd.DataFrame(rows, columns=[c for c in SIGNIFICANCE_COLUMNS if c != "p_holm"])
    result["p_holm"] = corrected(result["p"])
    return result[list(SIGNIFICANCE_COLUMNS)]


def _comparisons(
    plan: Plan, collection: Collection, frame: pd.DataFrame, dataset: str, protocol: str
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
    users = {model: user_means(found, [f"{m}_at_{k}" for m, k in columns]) for model, found in runs.items()}
    rows: list[tuple[object, ...]] = []
    for (metric, k), other in best.items():
        name = f"{metric}_at_{k}"
        mean, other_mean = float(means[metric, k][focus]), float(means[metric, k][other])
        improvement = difference_percent(mean, other_mean)
        p, n_users = paired_users(users[focus][name], users[other][name])
        rows.append((dataset, protocol, metric, k, focus, mean, other, other_mean, improvement, p, n_users, "wilcoxon"))
    return rows
