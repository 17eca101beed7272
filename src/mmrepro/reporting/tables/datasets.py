"""The table of data sets, the first of most papers: size, density, splits, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from mmrepro.columns import SPLITS, TEST, VALID, Columns
from mmrepro.errors import MmreproError
from mmrepro.records.files import read_object
from mmrepro.reporting.render import Block, Table, cells
from mmrepro.reporting.report import Built, Report
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan
from mmrepro.study.products import Product

PRODUCT = Product("tables/datasets")
DATASET_COLUMNS = (
    Columns.DATASET, "users", "items", "interactions", "density", *SPLITS, "cold_users_test", "cold_items_test",
    "items_without_image", "items_without_text", "sparsity", "per_user", "per_item", "cold_users_valid",
    "cold_items_valid",
)  # fmt: skip
HEADINGS = {
    Columns.DATASET: "data set", "users": "users", "items": "items", "interactions": "interactions",
    "density": "density", **{name: name for name in SPLITS}, "cold_users_test": "cold users",
    "cold_items_test": "cold items", "items_without_image": "no image", "items_without_text": "no text",
    "sparsity": "sparsity", "per_user": "per user", "per_item": "per item",
}  # fmt: skip
NEEDED = (
    "n_users", "n_items", "density", "interactions", "cold_users", "cold_items", "items_without_image",
    "items_without_text", "items_dropped", "user_degrees", "item_degrees", "copies", "times", "records", "without",
    "distinct_texts", "pictures", "repairs", "notes", "steps", "decided_by_ties", "users_with_every_item",
)  # fmt: skip
FORMATS = {"density": "{:.3%}", "sparsity": "{:.3%}", "per_user": "{:.2f}", "per_item": "{:.2f}"}
FOOTER = (
    "Density: interactions / (users x items); sparsity: what it lacks of 100 %. Cold users and items: of the "
    "test split, "
    "without an interaction in training, counted before any is dropped; no image, no text: items that have none of "
    "their own. Per user, per item: mean number of interactions."
)


def build(report: Report) -> Iterator[Built]:
    """Yield the table."""
    statistics = report.made(statistics_of)
    frame = datasets_frame(report.plan, statistics)
    yield "datasets", frame, datasets_table(frame, dropped_notes(statistics))


def statistics_of(report: Report) -> dict[str, dict[str, Any]]:
    """Return what was counted of a report's data sets."""
    return load_statistics(report.plan, report.root)


def load_statistics(plan: Plan, root: Path) -> dict[str, dict[str, Any]]:
    """Return what `prepare` counted of each data set of a study that has been prepared.

    Raises
    ------
    MmreproError
        When a `statistics.json` is no JSON object or lacks a count.
    """
    found = {}
    for name in plan.study.datasets:
        path = root / Layout.prepared(name) / "statistics.json"
        statistics = read_object(path)
        if statistics is not None:
            missing = [key for key in NEEDED if key not in statistics]
            if missing:
                raise MmreproError(f"{path}: no key '{missing[0]}'; delete its folder and run the study again")
            found[name] = statistics
    return found


def datasets_frame(plan: Plan, statistics: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return one row a data set of the study; counts are missing where it has not been prepared.

    Parameters
    ----------
    plan
        The study.
    statistics
        From `load_statistics`.

    Returns
    -------
    pd.DataFrame
        Columns `DATASET_COLUMNS`; density and sparsity are shares of 1.
    """
    rows = [{Columns.DATASET: name, **_counts(statistics.get(name))} for name in plan.study.datasets]
    return pd.DataFrame(rows, columns=list(DATASET_COLUMNS)).astype(
        {name: "float64" if name in FORMATS else "Int64" for name in DATASET_COLUMNS[1:]}
    )


def dropped_notes(statistics: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    """Return a note on the items that left data sets because they had no usable image or text; none where none did."""
    counts = [
        f"{name}: {count} {kind}"
        for name, entry in statistics.items()
        for kind, count in entry["items_dropped"].items()
    ]
    return (f"Items dropped because they have none of their own: {'; '.join(counts)}.",) if counts else ()


def datasets_table(frame: pd.DataFrame, notes: tuple[str, ...] = ()) -> Table:
    """Return the data set table for readers, from the frame of `datasets_frame`, with notes in its footer."""
    rows = tuple(
        cells(row[Columns.DATASET], *(_text(name, row[name]) for name in HEADINGS if name != Columns.DATASET))
        for row in frame.to_dict("records")
    )
    return Table("Data sets as prepared", tuple(HEADINGS.values()), (Block("", rows),), (FOOTER, *notes))


def _counts(statistics: dict[str, Any] | None) -> dict[str, Any]:
    if statistics is None:
        return {}
    users, items, splits = statistics["n_users"], statistics["n_items"], statistics["interactions"]
    interactions = sum(splits[name] for name in SPLITS)
    return {
        "users": users, "items": items, "interactions": interactions, "density": statistics["density"],
        "sparsity": 1 - statistics["density"], "per_user": interactions / users, "per_item": interactions / items,
        **{name: splits[name] for name in SPLITS},
        **{f"{kind}_{name}": statistics[kind][name] for kind in ("cold_users", "cold_items") for name in (VALID, TEST)},
        **{f"items_without_{kind}": statistics[f"items_without_{kind}"] for kind in ("image", "text")},
    }  # fmt: skip


def _text(name: str, value: Any) -> str:
    return "not run" if pd.isna(value) else FORMATS.get(name, "{:,}").format(value).replace("%", " %")
