"""The main table as a table that can be sorted, and behind every number the runs that it is made of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mmrepro.columns import TEST, Columns
from mmrepro.reporting.cells import PROGRAM, main_of
from mmrepro.reporting.finished import CELL
from mmrepro.reporting.headline import SHORT, headline_columns
from mmrepro.reporting.means import mean_text
from mmrepro.reporting.origins import Row, origins_of, traced_rows
from mmrepro.reporting.report import Report
from mmrepro.reporting.trace_words import lines_of_row


def anchor(row: Row) -> str:
    """Return the name of a row's place on the page."""
    return "runs-" + re.sub(r"[^\w.-]+", "-", "-".join(part for part in row if part))


def number_table(report: Report, titles: Mapping[str, str]) -> dict[str, Any]:
    """Return headings and rows of the main table: of each number its text, what it is sorted by, its runs' place."""
    columns = headline_columns(report.plan.study)
    frame = report.made(main_of)
    rows = []
    order = {name: place for place, name in enumerate(report.plan.study.datasets)}
    tested = frame[frame[Columns.SPLIT].eq(TEST)]
    tested = tested.sort_values(Columns.DATASET, key=lambda names: names.map(order), kind="stable")
    for cell, found in tested.groupby([*CELL], sort=False):
        by_column = {(row[Columns.METRIC], row[Columns.K]): row for row in found.to_dict("records")}
        dataset, features, model, protocol = (str(part) for part in cell)
        values = [_value(by_column[column]) for column in columns]
        run = any(row["text"] != "not run" for row in values)
        place = anchor(Row(dataset, features, model, protocol)) if run else ""
        rows.append(
            {
                "dataset": dataset, "protocol": protocol, "model": titles[model], "features": features,
                "focus": model == report.plan.study.focus, "anchor": place, "values": values,
            }
        )  # fmt: skip
    return {"columns": [f"{SHORT[metric]}@{k}" for metric, k in columns], "rows": rows}


def _value(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A number, how it is sorted, and whether it is the best or second of its column."""
    verdict = str(row[Columns.VERDICT])
    mark = next((rank for rank in ("best", "second") if rank in verdict.split("; ")), "")
    published = row[Columns.PUBLISHED]
    whose = "its program here" if f"{PROGRAM} " in verdict else "published"
    note = f"{whose} {published:.4f}" if isinstance(published, float) and not pd.isna(published) else ""
    return {
        "text": mean_text(row), "order": -1.0 if pd.isna(row[Columns.MEAN]) else float(row[Columns.MEAN]), "mark": mark,
        "note": note, "remarks": "; ".join(part for part in verdict.split("; ") if part not in ("", "best", "second")),
    }  # fmt: skip


def runs_of_rows(report: Report, study_file: Path, titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return for each row of the main table and of comparisons its place, a heading, its values, and the lines of
    `mmrepro trace`.
    """
    plan, columns = report.plan, headline_columns(report.plan.study)
    names = [f"{metric}_at_{k}" for metric, k in columns]
    found = []
    for row, planned in traced_rows(plan):
        origins = origins_of(plan, planned, report.root, None)
        if not origins:
            continue
        lines = lines_of_row(plan, study_file, row, planned, origins, names, report.root, None, tracked=False)
        seeds = [
            {"seed": origin.run.seed, "values": [_measured(origin.metrics[TEST].get(name)) for name in names]}
            for origin in origins
        ]
        label = titles[row.model] + row.label.removeprefix(row.model)
        heading = f"{label} on {row.dataset}, protocol {row.protocol}"
        found.append({"anchor": anchor(row), "heading": heading, "seeds": seeds, "text": "\n".join(lines)})
    return found


def _measured(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
