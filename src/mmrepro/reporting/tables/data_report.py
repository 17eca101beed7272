"""What was read of each data set, what was left out and why, and what a reader should know of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from mmrepro.columns import Columns
from mmrepro.datasets.remarks import MENDED, NOT_READ, remarks_on
from mmrepro.records.files import read_arrays, read_object
from mmrepro.reporting.render import Block, Table, cells
from mmrepro.reporting.report import Built, Report
from mmrepro.reporting.tables.datasets import statistics_of
from mmrepro.study.layout import Layout
from mmrepro.study.products import Product

PRODUCT = Product("tables/data_report")
WHAT, COUNT, EXAMPLES = "what", "count", "examples"
REPORT_COLUMNS = (Columns.DATASET, WHAT, COUNT, EXAMPLES)
LACKING = {
    Columns.TITLE: "items without a title",
    Columns.TEXT: "items without a text",
    Columns.IMAGE: "items without a picture",
}
FOOTER = (
    "Counted when the data were prepared and the features made. A row is an interaction as the files have it; what a "
    "filter drops is named after it, in the order of the filters. Never had: described items without an interaction.",
)
Row = tuple[str, int | None, str]


def build(report: Report) -> Iterator[Built]:
    """Yield the report."""
    found = report_frame(report)
    yield "data_report", found, report_table(report, found)


def report_frame(report: Report) -> pd.DataFrame:
    """Return a row for each thing counted of a data set.

    Returns
    -------
    pd.DataFrame
        Columns `REPORT_COLUMNS`; examples are keys or file names, and of times their range.
    """
    statistics = report.made(statistics_of)
    rows = [
        (name, *row)
        for name in report.plan.study.datasets
        if name in statistics
        for row in (*rows_of(statistics[name]), *_features(report, name))
    ]
    return pd.DataFrame(rows, columns=list(REPORT_COLUMNS)).astype({COUNT: "Int64"})


def rows_of(statistics: Mapping[str, Any]) -> Iterator[Row]:
    """Yield what was counted of a prepared data set: what, how many, examples."""
    steps, copies = statistics["steps"], statistics["copies"]
    below = sum(statistics["repairs"].get(name) or 0 for name in NOT_READ)
    yield "rows read", steps[0]["interactions"] + below, ""
    yield from ((MENDED[name], count, "") for name, count in statistics["repairs"].items() if count)
    yield "repetitions of a row", copies["rows"], ""
    yield "further rows of a user and item", copies["pairs"], ""
    if copies["contradictory_ratings"]:
        yield "users and items with ratings that differ", copies["contradictory_ratings"], ""
    if copies["pairs_in_several_splits"]:
        yield "users and items in several splits", copies["pairs_in_several_splits"], ""
    for before, after in pairwise(steps):
        if before["interactions"] != after["interactions"]:
            yield f"rows left after: {after['step']}", after["interactions"], ""
    yield from ((f"rows of {split}", count, "") for split, count in statistics["interactions"].items())
    split = statistics.get("split") or {}
    for kind, does in split.get("would", {}).items():
        taken = "the rule taken" if kind == split["kind"] else f"as {statistics['dataset']}--{kind}"
        yield f"users tested if split {kind}", does["tested"], f"{does['trained']} rows to train on; {taken}"
    yield "users", statistics["n_users"], ""
    yield "items", statistics["n_items"], ""
    times = statistics["times"]
    if times.get("earliest"):
        yield (
            "rows with a time",
            steps[-1]["interactions"] - times["missing"],
            f"{times['earliest']} to {times['latest']}",
        )
        yield from (
            (f"rows {name.replace('_', ' ')}", times[name], "")
            for name in ("before_1990", "in_the_future")
            if times[name]
        )
    for kind, found in statistics["keys_alike"].items():
        if found["count"]:
            yield (
                f"pairs of {kind} whose keys differ by zeros, '.0' or case alone",
                found["count"],
                _listed(found["examples"]),
            )
    if statistics["decided_by_ties"]:
        yield "users of whom a tie in time decided what is held out", statistics["decided_by_ties"], ""
    yield from _items(statistics)


def _items(statistics: Mapping[str, Any]) -> Iterator[Row]:
    """What was counted of the items and their contents."""
    records = statistics["records"]
    yield "items with a record", records["described"], ""
    if records["not_described"]:
        yield "items without a record", statistics["n_items"] - records["described"], _listed(records["not_described"])
    if records["never_had"]:
        yield "described items that nobody has had", records["never_had"], _listed(records["examples"])
    for column, words in LACKING.items():
        yield words, statistics["without"][column]["items"], _listed(statistics["without"][column]["examples"])
    yield "texts that differ", statistics["distinct_texts"], ""
    if statistics["pictures"]:
        yield "picture files", statistics["pictures"]["found"], ""
        yield (
            "picture files of no item",
            statistics["pictures"]["unmatched"],
            _listed(statistics["pictures"]["listed"][:5]),
        )
    for kind, splits in (("users", "cold_users"), ("items", "cold_items")):
        yield from (
            (f"{kind} of {split} that training has not", count, "") for split, count in statistics[splits].items()
        )


def _features(report: Report, dataset: str) -> Iterator[Row]:
    """What was counted when the features of a data set were made."""
    for name, features in report.plan.feature_sets_read:
        if name != dataset or report.plan.feature_sets[features].name.kind:  # derived ones are made from these
            continue
        for modality in report.plan.feature_sets[features].modalities:
            record = read_object(report.root / Layout.features(dataset, features) / f"{modality}.json") or {}
            head = f"{features} {modality}"
            if "n_missing" in record:
                yield f"{head}: items without", record["n_missing"], _listed([m["key"] for m in record["missing"][:5]])
            for key, words in (("texts_cut", "texts cut at its limit"), ("n_sharing", "items that share a row")):
                if key in record:
                    yield f"{head}: {words}", record[key], ""
            if modality in report.plan.feature_sets[features].graphs:
                yield from _graph(report.root / Layout.features(dataset, features) / f"{modality}.neighbours.npz", head)


def _graph(path: Path, head: str) -> Iterator[Row]:
    """What was counted of a file of neighbours."""
    if path.is_file():
        indices, left_out = read_arrays(path, "indices", "left_out", remedy="delete it and run the study again")
        alone = (indices == indices[:, :1]).all(axis=1)
        yield f"{head}: items without a neighbour", int(alone.sum()), ""
        yield f"{head}: pairs of neighbours left out, of unknown items", int(left_out), ""


def report_table(report: Report, frame: pd.DataFrame) -> Table:
    """Return the report for readers: a block a data set, and its remarks in the footer."""
    blocks = [
        Block(str(name), tuple(cells(row[WHAT], f"{row[COUNT]:,}", row[EXAMPLES]) for row in rows.to_dict("records")))
        for name, rows in frame.groupby(Columns.DATASET, sort=False)
    ]
    remarks = [f"{name}: {line}." for name, found in report.made(statistics_of).items() for line in remarks_on(found)]
    return Table("What the data are", (WHAT, COUNT, EXAMPLES), tuple(blocks), (*FOOTER, *remarks))


def _listed(keys: list[str]) -> str:
    return ", ".join(keys)
