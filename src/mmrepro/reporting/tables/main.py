"""The main table of a study: models by metrics, for every data set and protocol."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mmrepro.reporting.cells import main_of
from mmrepro.reporting.report import Built, Report
from mmrepro.reporting.tables.datasets import dropped_notes, statistics_of
from mmrepro.reporting.tables.readable import main_table
from mmrepro.reporting.tables.significance import significance_of
from mmrepro.study.products import Product

PRODUCT = Product("tables/main")


def build(report: Report) -> Iterator[Built]:
    """Yield the main table; items that left data sets are named in its footer."""
    frame = report.made(main_of)
    table = main_table(report.plan, report.collection, frame, report.made(significance_of), report.numbers)
    yield "main", frame, replace(table, footer=(*table.footer, *dropped_notes(report.made(statistics_of))))
