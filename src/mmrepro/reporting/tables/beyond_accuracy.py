"""What lists are like apart from their accuracy: the metrics by which models are not ranked, for readers."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from mmrepro.columns import TEST, Columns
from mmrepro.evaluation.metrics import METRICS, Metric
from mmrepro.reporting.cells import main_of
from mmrepro.reporting.headline import headline_cutoffs
from mmrepro.reporting.means import main_blocks, mean_text, seeds_note, selection_notes, study_note
from mmrepro.reporting.render import Block, Table, cells
from mmrepro.reporting.report import Built, Report
from mmrepro.study.plan import Plan
from mmrepro.study.products import Product

PRODUCT = Product("tables/beyond_accuracy")
SHOWN = tuple(metric for metric in METRICS if not metric.accuracy)


def build(report: Report) -> Iterator[Built]:
    """Yield the table."""
    cutoff = headline_cutoffs(report.plan.study)[-1]
    frame = beyond_accuracy_frame(report.made(main_of), cutoff)
    yield "beyond_accuracy", frame, beyond_accuracy_table(report.plan, frame, cutoff)


def beyond_accuracy_frame(main: pd.DataFrame, cutoff: int) -> pd.DataFrame:
    """Return the rows of the main frame that are of such a metric, on test, at one cutoff.

    Parameters
    ----------
    main
        The frame of the main table.
    cutoff
        Length at which lists are cut.
    """
    shown = main[Columns.METRIC].isin([metric.name for metric in SHOWN])
    rows = main[shown & main[Columns.SPLIT].eq(TEST) & main[Columns.K].eq(cutoff)]
    return rows.drop(columns=[Columns.PUBLISHED, Columns.VERDICT]).reset_index(drop=True)


def beyond_accuracy_table(plan: Plan, frame: pd.DataFrame, cutoff: int) -> Table:
    """Return the table for readers: a block for each data set and protocol, a column for each metric."""
    blocks = []
    for name, block in main_blocks(plan, frame):
        lines = []
        for model, rows in block.groupby(Columns.MODEL, sort=False):
            found = {row[Columns.METRIC]: row for row in rows.to_dict("records")}
            lines.append(cells(str(model), *(mean_text(found[metric.name]) for metric in SHOWN)))
        blocks.append(Block(name, tuple(lines)))
    headings = ("model", *(f"{metric.short}@{cutoff}" for metric in SHOWN))
    legend = f"{'; '.join(map(_described, SHOWN))}. On the test split, {seeds_note(plan.study.seeds)}."
    title = f"{plan.study.title}: beyond accuracy"
    return Table(title, headings, tuple(blocks), (legend, *selection_notes(plan.runs), *study_note(plan.study)))


def _described(metric: Metric) -> str:
    """What a heading stands for, its unit, and where values are better."""
    better = f", {metric.better} is better" if metric.better else ""
    return f"{metric.short} {metric.label} ({metric.unit}{better})"
