"""Which model to deploy: the cheapest of those that the best is not surely better than, and what each can do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from mmrepro.columns import TEST, Columns
from mmrepro.evaluation.significance import LEVEL
from mmrepro.reporting.cells import main_of
from mmrepro.reporting.headline import SHORT, drawn_metric
from mmrepro.reporting.means import NOT_RUN, decimal, main_blocks, study_note
from mmrepro.reporting.render import Block, Cell, Table, cells
from mmrepro.reporting.report import Built, Report
from mmrepro.reporting.tables.pairs import OTHER, pairs_of
from mmrepro.study.plan import Plan
from mmrepro.study.products import Product

PRODUCT = Product("tables/deployment", ("csv", "md"))
EVEN, SECONDS, COLD, CHOICE = "even_with_best", "training_seconds", "cold_items", "choice"
DEPLOYMENT_COLUMNS = (
    Columns.DATASET, Columns.PROTOCOL, Columns.MODEL, Columns.METRIC, Columns.K, Columns.MEAN, EVEN, SECONDS,
    "coverage", COLD, CHOICE,
)  # fmt: skip
OVERALL, FOR_COLD = "choice", "choice where items are new"


def build(report: Report) -> Iterator[Built]:
    """Yield the table."""
    frame = deployment_frame(report)
    yield "deployment", frame, deployment_table(report.plan, frame)


def deployment_frame(report: Report) -> pd.DataFrame:
    """Return what a choice among the models of the main table weighs.

    Parameters
    ----------
    report
        The study and what exists of it.

    Returns
    -------
    pd.DataFrame
        Columns `DEPLOYMENT_COLUMNS`, a row for each data set, protocol and model that has been run: the drawn metric on
        test; whether the test over users, corrected, can tell it from the best; the mean seconds of a final training;
        coverage of the catalogue at the same cutoff; whether items without interactions are offered (by content). Of
        the models that cannot be told from the best, `choice` is the one that trains fastest, of equal ones the better
        one; and the same of those that offer new items.
    """
    plan, (metric, k) = report.plan, drawn_metric(report.plan.study)
    main, pairs = report.made(main_of), report.made(pairs_of)
    main = main[main[Columns.SPLIT].eq(TEST) & main[Columns.K].eq(k)]
    worse = pairs[pairs[Columns.METRIC].eq(metric) & pairs[Columns.K].eq(k) & (pairs["p_holm"] < LEVEL)]
    rows: list[dict[str, Any]] = []
    for (dataset, protocol), block in main.groupby([Columns.DATASET, Columns.PROTOCOL], sort=False):
        values = block[block[Columns.METRIC].eq(metric)].dropna(subset=[Columns.MEAN]).set_index(Columns.MODEL)
        values = values.sort_values(Columns.MEAN, ascending=False, kind="stable")
        coverage = block[block[Columns.METRIC].eq("coverage")].set_index(Columns.MODEL)[Columns.MEAN]
        here = worse[worse[Columns.DATASET].eq(str(dataset)) & worse[Columns.PROTOCOL].eq(str(protocol))]
        beaten = set(here[here[Columns.MODEL].eq(next(iter(values.index), ""))][OTHER])
        found = [
            {
                Columns.DATASET: dataset, Columns.PROTOCOL: protocol, Columns.MODEL: model, Columns.METRIC: metric,
                Columns.K: k, Columns.MEAN: values.at[model, Columns.MEAN], EVEN: model not in beaten,
                SECONDS: _seconds(report, str(dataset), str(model), str(protocol)), "coverage": coverage.get(model),
                COLD: plan.schemas[str(model)].uses_features, CHOICE: "",
            }
            for model in values.index
        ]  # fmt: skip
        for label, fit in ((FOR_COLD, [row for row in found if row[COLD]]), (OVERALL, found)):
            _choose([row for row in fit if row[EVEN]] or fit[:1], label)
        rows += found
    return pd.DataFrame(rows, columns=list(DEPLOYMENT_COLUMNS))


def _choose(rows: list[dict[str, Any]], label: str) -> None:
    """Mark the row that trains fastest; rows come by decreasing quality, which parts equal ones."""
    timed = [row for row in rows if row[SECONDS] is not None]
    if timed:
        chosen = min(timed, key=lambda row: round(row[SECONDS]))
        chosen[CHOICE] = "; ".join(filter(None, (label, chosen[CHOICE])))


def _seconds(report: Report, dataset: str, model: str, protocol: str) -> float | None:
    """Mean seconds of a final training; none for lists of another system."""
    runs = [run for run in report.collection.runs if (run.cell[0], *run.cell[2:]) == (dataset, model, protocol)]
    times = [run.record.get("wall_seconds") for run in runs if model not in report.plan.given]
    known = [float(seconds) for seconds in times if seconds is not None]
    return sum(known) / len(known) if known else None


def deployment_table(plan: Plan, frame: pd.DataFrame) -> Table:
    """Return the choice for readers: a block for each data set and protocol."""
    metric, k = drawn_metric(plan.study)
    blocks = []
    for name, block in main_blocks(plan, frame):
        lines: list[tuple[Cell, ...]] = [cells(*_line(row)) for row in block.to_dict("records")]
        blocks.append(Block(name, tuple(lines or [cells(NOT_RUN, *[""] * 6)])))
    notes = (
        f"Even with the best: the test over users, Holm-corrected over all pairs, cannot tell the model from the best "
        f"in {SHORT[metric]}@{k} (p < {LEVEL:g}). Of these, the choice is the one whose training takes least.",
        "Coverage: the share of the catalogue that stands in somebody's list. New items: whether one that nobody has "
        "had is offered, by its content. All models but lists of other systems answer for known users, and by liked "
        "items for others (`mmrepro recommend`).",
    )
    headings = ("model", f"{SHORT[metric]}@{k}", "even with the best", "training", f"coverage@{k}", "new items", "")
    return Table(f"{plan.study.title}: which to deploy", headings, tuple(blocks), (*notes, *study_note(plan.study)))


def _line(row: dict[Any, Any]) -> tuple[str, ...]:
    seconds, coverage = row[SECONDS], row["coverage"]
    return (
        row[Columns.MODEL], decimal(row[Columns.MEAN]), "yes" if row[EVEN] else "no",
        "–" if pd.isna(seconds) else f"{seconds:.0f} s", "–" if pd.isna(coverage) else f"{coverage:.0%}",
        "yes" if row[COLD] else "no", row[CHOICE],
    )  # fmt: skip
