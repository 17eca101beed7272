"""The ledger: each published number against ours, with a verdict by a rule that was fixed before."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from mmrepro.columns import TEST, TRAIN, Columns
from mmrepro.reporting import literature
from mmrepro.reporting.cells import main_of
from mmrepro.reporting.collect import Collection
from mmrepro.reporting.finished import CELL, held_out_twice
from mmrepro.reporting.headline import SHORT, headline_columns
from mmrepro.reporting.literature import Printed, PublishedNumber, published_spread
from mmrepro.reporting.means import (
    Row,
    decimal,
    difference_percent,
    labelled,
    main_blocks,
    mean_text,
    signed,
    study_note,
)
from mmrepro.reporting.render import Block, Table, cells
from mmrepro.reporting.report import Built, Report
from mmrepro.study.plan import Plan, PlannedRun
from mmrepro.study.products import Product

PRODUCT = Product("tables/ledger", when="literature")
REPRODUCED, DIRECTION_ONLY, NOT_REPRODUCED = "reproduced", "direction only", "not reproduced"
NOT_COMPARABLE, NOT_RUN = "not comparable", "not run"
PROGRAM = "the program, run by us"
LEDGER_COLUMNS = (
    *CELL, Columns.METRIC, Columns.K, Columns.MEAN, Columns.STD, Columns.N_SEEDS, Columns.PUBLISHED, "n_agreeing",
    "n_independent", "origin", "lowest", "highest", "difference", "difference_percent", "deviations", Columns.VERDICT,
    "why", "sources",
)  # fmt: skip


def build(report: Report) -> Iterator[Built]:
    """Yield the table."""
    frame = ledger_frame(report.plan, report.collection, report.made(main_of), report.numbers)
    yield "ledger", frame, ledger_table(report.plan, frame)


def ledger_frame(
    plan: Plan, collection: Collection, frame: pd.DataFrame, numbers: Mapping[literature.Cell, PublishedNumber]
) -> pd.DataFrame:
    """Return every published number of the study's cells against ours.

    Parameters
    ----------
    plan, collection
        The study and what exists of it.
    frame
        The main frame.
    numbers
        Published numbers.

    Returns
    -------
    pd.DataFrame
        Columns `LEDGER_COLUMNS`, a row for each cell of the main table, metric and cutoff that some source prints.
        `published` is what most independent sources print (`n_agreeing` of `n_independent`, the others from `lowest` to
        `highest`; `origin` says whether as many print another one, or that nobody does and the authors' program was run
        for this project); `deviations` is the difference in standard deviations of a difference between the means over
        our seeds and theirs, NaN where nobody has run several seeds; `sources` has each value with its source.
    """
    runs = {(run.planned.spec.dataset, run.planned.features_name, run.planned.spec.model, run.planned.protocol_name):
            run.planned for run in collection.runs}  # fmt: skip
    of_dataset = {run.planned.spec.dataset: run for run in collection.runs}
    twice = {name: held_out_twice(run) for name, run in of_dataset.items() if name in plan.literature}
    rows: list[dict[str, Any]] = []
    for row in frame[frame[Columns.SPLIT] == TEST].to_dict("records"):
        split = plan.literature.get(row[Columns.DATASET])
        number = numbers.get((split, row[Columns.MODEL], row[Columns.METRIC], row[Columns.K])) if split else None
        if split is None or number is None:
            continue
        spread = published_spread(numbers, split, row[Columns.METRIC], row[Columns.K])
        ours = {str(name): row[name] for name in LEDGER_COLUMNS if name in row}
        run = runs.get(tuple(row[name] for name in CELL))
        why = _incomparable(plan, run, twice.get(row[Columns.DATASET], True))
        rows.append({**ours, **_printed(number), **_difference(row, number.chosen, spread), "why": why})
    baselines = {_place(row): row for row in rows if row[Columns.MODEL] == plan.study.verdict.baseline}
    for found in rows:
        found[Columns.VERDICT] = _verdict(plan, found, baselines.get(_place(found)))
    return pd.DataFrame(rows, columns=list(LEDGER_COLUMNS))


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What models are compared within."""
    return tuple(row[name] for name in (Columns.DATASET, Columns.PROTOCOL, Columns.METRIC, Columns.K))


def _printed(number: PublishedNumber) -> dict[str, Any]:
    lowest, highest = number.range
    return {
        Columns.PUBLISHED: number.value, "n_agreeing": number.n_agreeing, "n_independent": number.n_independent,
        "origin": PROGRAM if number.chosen.by_us else "a tie" if number.tied else "",
        "lowest": lowest, "highest": highest,
        "sources": "; ".join(f"{found.value:.4f} {found.source} ({found.protocol})" for found in number.printed),
    }  # fmt: skip


def _difference(row: Row, chosen: Printed, spread: float | None) -> dict[str, float | None]:
    """The difference: absolute, in percent, and in standard deviations."""
    mean, n_seeds = row[Columns.MEAN], row[Columns.N_SEEDS]
    if not n_seeds or pd.isna(mean):
        return {"difference": None, "difference_percent": None, "deviations": None}
    own = None if pd.isna(row[Columns.STD]) else float(row[Columns.STD])
    known = max((std for std in (own, spread) if std), default=None)
    published = chosen.value
    difference = mean - published
    deviations = difference / (known * math.sqrt(1 / chosen.n_seeds + 1 / n_seeds)) if known else None
    return {
        "difference": difference,
        "difference_percent": difference_percent(mean, published),
        "deviations": deviations,
    }


def _incomparable(plan: Plan, run: PlannedRun | None, twice: bool) -> str:
    """Why a run is another task than the published one; empty where it is the same."""
    if run is None:
        return ""
    # where nobody is held out for both, both masks leave the same items out
    if run.spec.protocol.mask_at_test != TRAIN and twice:
        return "protocol: other items are ranked, those of validation are left out"
    if run.spec.features and run.spec.features not in plan.study.verdict.features:
        return f"features: {run.spec.features}"
    return ""


def _verdict(plan: Plan, row: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> str:
    """The rule of `VerdictConfig`."""
    if row["difference"] is None:
        return NOT_RUN
    if row["why"]:
        return NOT_COMPARABLE
    if row["deviations"] is not None and abs(row["deviations"]) <= plan.study.verdict.deviations:
        return REPRODUCED
    if baseline is None or baseline is row or baseline["difference"] is None:
        return NOT_REPRODUCED
    if (baseline["origin"] == PROGRAM) != (row["origin"] == PROGRAM):
        return NOT_REPRODUCED  # one was printed, the other not: nobody has said which is larger
    printed = row[Columns.PUBLISHED] - baseline[Columns.PUBLISHED]
    ours = row[Columns.MEAN] - baseline[Columns.MEAN]
    return DIRECTION_ONLY if printed * ours > 0 else NOT_REPRODUCED


def ledger_table(plan: Plan, frame: pd.DataFrame) -> Table:
    """Return the ledger for readers: a block for each data set and protocol, a row for each model and metric."""
    columns = headline_columns(plan.study)
    blocks = []
    for name, block in main_blocks(plan, frame):
        rows = [row for row in block.to_dict("records") if (row[Columns.METRIC], row[Columns.K]) in columns]
        if rows:
            blocks.append(Block(name, tuple(cells(*_line(row)) for row in rows)))
    rule = plan.study.verdict
    notes = (
        "Published: the value that most independent sources print (what the same authors print twice counts once), and "
        "from where to where the others go; each with its source in ledger.csv.",
        "SD: the difference in standard deviations of a difference between the mean over our seeds and theirs, by the "
        "larger of our spread over seeds and that of published runs with several; none where nobody has run several.",
        f"{PROGRAM}: nobody has printed it; the authors' program was run for this project (data/published/README.md). "
        "A tie: as many independent sources print another value, and the earliest file counts.",
        f"{REPRODUCED}: within {rule.deviations:g} SD; {DIRECTION_ONLY}: outside, but on the same side of "
        f"{rule.baseline} as printed; {NOT_COMPARABLE}: another task, see the last column.",
    )
    headings = ("model", "ours", "published", "sources", "range", "difference", "%", "SD", "verdict", "why")
    return Table(
        f"{plan.study.title}: published numbers against ours",
        headings,
        tuple(blocks),
        (*notes, *study_note(plan.study)),
    )


def _line(row: Row) -> tuple[str, ...]:
    measure = f"{SHORT[row[Columns.METRIC]]}@{row[Columns.K]}"
    percent, deviations, difference = row["difference_percent"], row["deviations"], row["difference"]
    return (
        labelled(f"{row[Columns.MODEL]} {measure}", ()), mean_text(row), decimal(row[Columns.PUBLISHED]),
        ", ".join(filter(None, (f"{row['n_agreeing']} of {row['n_independent']}", row["origin"])))
        if row["origin"] != PROGRAM else PROGRAM, f"{row['lowest']:.4f} to {row['highest']:.4f}",
        "–" if pd.isna(difference) else f"{difference:+.4f}".replace("-", "−"),
        "–" if pd.isna(percent) else signed(percent), "–" if pd.isna(deviations) else signed(deviations),
        row[Columns.VERDICT], row["why"],
    )  # fmt: skip
