"""All tables and figures of a study, from the runs that exist: `results/<study>/tables`, `figures` and the summary."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mmrepro.records.files import atomic_path, file_sha256, write_json, write_text
from mmrepro.reporting.cells import main_of
from mmrepro.reporting.render import Table, to_latex, to_markdown
from mmrepro.reporting.report import Report
from mmrepro.reporting.summary import summary
from mmrepro.reporting.warnings import warnings_of
from mmrepro.study.plan import Plan
from mmrepro.study.products import SUMMARY, Product, products


def build_tables(plan: Plan, folder: Path, root: Path = Path(), current_code: Mapping[str, str] | None = None) -> None:
    """Write all tables of a study, its figures and its summary to a folder.

    Each module of `reporting/tables` yields what its `PRODUCT` names, each of `reporting/figures` draws it. Every file
    but `cost.*` and `deployment.*`, and the seconds of `search.csv`, is a function of data, code and seeds: building
    twice gives the same bytes.

    Parameters
    ----------
    plan
        The resolved study.
    folder
        Receives `tables/`, `figures/` and `summary.json`; usually `results/<study>`.
    root
        Folder that holds `config/`, `data/` and `results/`.
    current_code
        Model to the fingerprint of today's code; computed unless given.

    Raises
    ------
    MmreproError
        When a run's record, its measures or a file of published numbers cannot be read.
    """
    report = Report(plan, root, current_code)
    for name, product in products().items():
        if not product.is_made(plan):
            continue
        module = importlib.import_module(f"mmrepro.reporting.{name}")
        if name.startswith("figures."):
            module.draw(report, folder / f"{product.name}.{product.endings[0]}")
            continue
        for table, frame, readable in module.build(report):
            if readable is not None:
                readable = replace(readable, footer=(*readable.footer, *report.made(warnings_of)))
            _write(folder / "tables", table, product, frame, readable, plan.study.study)
    made = {path.name: file_sha256(path) for path in (folder / "tables/main.md", folder / "tables/main.csv")}
    write_json(folder / SUMMARY, {**summary(plan, report.collection, report.made(main_of)), "tables": made})


def _write(folder: Path, name: str, product: Product, frame: pd.DataFrame, readable: Table | None, study: str) -> None:
    with atomic_path(folder / f"{name}.csv") as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
    if readable is None:
        return
    write_text(folder / f"{name}.md", to_markdown(readable))
    if "tex" in product.endings:
        label = f"tab:{study}" if name == "main" else f"tab:{study}-{name.replace('_', '-')}"
        write_text(folder / f"{name}.tex", to_latex(readable, label))
