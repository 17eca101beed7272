"""The summary of a study, which `dvc metrics diff` reads."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mmrepro.columns import TEST, VALID, Columns
from mmrepro.reporting.collect import Collection
from mmrepro.study.plan import Plan


def summary(plan: Plan, collection: Collection, frame: pd.DataFrame) -> dict[str, Any]:
    """Return the summary of a study: test means to six significant digits, code fingerprints, number of holes in all
    tables.

    Parameters
    ----------
    plan, collection
        The study and what exists of it.
    frame
        The main frame.

    Returns
    -------
    dict
        `test` and `valid`: data set -> protocol -> model -> `recall_at_20` -> mean over seeds.
    """
    result: dict[str, Any] = {
        "study": plan.name,
        "watch": plan.study.watch,
        "code": _codes(collection),
        **({"outside": plan.study.outside} if plan.study.outside else {}),
        "data": _data(collection),
        TEST: {},
        VALID: {},
    }
    for row in frame[frame[Columns.MEAN].notna()].to_dict("records"):
        by_protocol = (
            result[row[Columns.SPLIT]].setdefault(row[Columns.DATASET], {}).setdefault(row[Columns.PROTOCOL], {})
        )
        by_metric = by_protocol.setdefault(row[Columns.MODEL], {})
        by_metric[f"{row[Columns.METRIC]}_at_{row[Columns.K]}"] = float(f"{row[Columns.MEAN]:.6g}")
    return {**result, "holes": len(collection.missing)}


def _data(collection: Collection) -> dict[str, str]:
    """Data set to the content hash that its runs were made of."""
    return {run.planned.spec.dataset: str(run.record.get("data", {}).get("interactions")) for run in collection.runs}


def _codes(collection: Collection) -> dict[str, str]:
    """Model to the fingerprints its runs were made with, several joined by a comma."""
    found: dict[str, set[str]] = {}
    for run in collection.runs:
        found.setdefault(run.planned.spec.model, set()).add(str(run.record.get("code")))
    return {model: ",".join(sorted(codes)) for model, codes in sorted(found.items())}
