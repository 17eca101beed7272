"""What features are worth without a recommender: the measurements of `evaluation/probe.py` as one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mmrepro.columns import Columns
from mmrepro.records.files import read_object
from mmrepro.reporting.headline import HEADLINE, LEGEND
from mmrepro.reporting.means import NOT_RUN, NOTHING, Row, decimal, difference_percent, study_note
from mmrepro.reporting.records import require_prepared_data
from mmrepro.reporting.render import Block, Table, cells
from mmrepro.reporting.report import Built, Report
from mmrepro.study.layout import NO_FEATURES
from mmrepro.study.plan import Plan, PlannedProbe
from mmrepro.study.products import Product

PRODUCT = Product("tables/feature_quality", when="probes")
MODALITY, SHARE, DROP = "modality", "masked_share", "drop_percent"
HISTORIES = ("mean", "last")
ZERO_SHOT = tuple(f"{metric.name}_at_{k}" for metric in HEADLINE for k in (10, 20))
NEIGHBOURS = (10, 20, 50)
QUALITY_COLUMNS = (
    Columns.DATASET, Columns.FEATURES, MODALITY, SHARE,
    *(f"{history}_{name}" for history in HISTORIES for name in ZERO_SHOT),
    *(f"item_cf_at_{n}" for n in NEIGHBOURS), DROP, "n_users", "n_items",
)  # fmt: skip
HEADINGS = {
    **{f"{history}_{m.name}_at_20": f"{history} {m.short}@20" for history in HISTORIES for m in HEADLINE},
    **{f"item_cf_at_{n}": f"CF@{n}" for n in NEIGHBOURS},
}  # fmt: skip
FLOORS = ("random", "popularity")
COMPARED = f"{HISTORIES[0]}_{HEADLINE[0].name}_at_20"
FOOTER = (
    "mean, last: test items are ranked by the cosine between their features and the mean of a user's training "
    f"items, or the last of them where times are known; {LEGEND}.",
    "CF@n: share of the n nearest items by co-occurrence in training that are among the n nearest by features.",
    "Floors: a random order and the order of popularity; they know no features.",
    "Drop: what mean R@20 loses, in percent, where a share of the items has lost one modality, against the "
    "feature set as it is.",
)


def build(report: Report) -> Iterator[Built]:
    """Yield the table."""
    frame = quality_frame(report.plan, report.root)
    yield "feature_quality", frame, quality_table(report.plan, frame)


def quality_frame(plan: Plan, root: Path) -> pd.DataFrame:
    """Return what each feature set of a study is worth.

    Parameters
    ----------
    plan
        The resolved study; a probe that has not been made has one row without values.
    root
        Folder that holds `results/`.

    Returns
    -------
    pd.DataFrame
        Columns `QUALITY_COLUMNS`: for each data set the floors (features `none`, `modality` the floor's name), then
        each feature set and modality (`all`: as one matrix); recalls and NDCG in [0, 1]; `drop_percent` where the
        feature set it is derived from has been measured, too.

    Raises
    ------
    MmreproError
        When a file is no JSON object, or was made of other data than the prepared ones.
    """
    found = {probe: _record(probe, root) for probe in plan.probes}
    rows: list[dict[str, Any]] = []
    for dataset in plan.study.datasets:
        of_dataset = {probe: record for probe, record in found.items() if probe.dataset == dataset}
        measured = [record for record in of_dataset.values() if record is not None]
        rows += [_floor(measured[0], name) for name in FLOORS if measured]
        for probe, record in of_dataset.items():
            rows += _rows(plan, probe, record)
    frame = pd.DataFrame(rows, columns=list(QUALITY_COLUMNS))
    texts = QUALITY_COLUMNS[:3]
    frame = frame.astype({name: "float64" for name in QUALITY_COLUMNS if name not in texts})
    frame[DROP] = _drops(plan, frame)
    return frame.astype({"n_users": "Int64", "n_items": "Int64"})


def _record(probe: PlannedProbe, root: Path) -> dict[str, Any] | None:
    record = read_object(root / probe.path)
    if record is not None:
        require_prepared_data(record, probe.dataset, probe.path, root)
    return record


def _rows(plan: Plan, probe: PlannedProbe, record: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """One row a modality, or one without values."""
    share = plan.feature_sets[probe.feature_set].masked_share
    key = {Columns.DATASET: probe.dataset, Columns.FEATURES: probe.feature_set, SHARE: share}
    if record is None:
        return [key]
    return [
        {
            **key, MODALITY: measured["modality"], "n_users": record["users"], "n_items": record["n_items"],
            **{f"{h}_{name}": value for h in HISTORIES for name, value in (measured["zero_shot"][h] or {}).items()},
            **{f"item_cf_at_{n}": value for n, value in measured["item_cf"].items()},
        }
        for measured in record["probes"]
    ]  # fmt: skip


def _floor(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Floors are those of a data set; any of its probes has them. A floor has no history: it stands under `mean`."""
    floors = record["floors"]
    return {
        Columns.DATASET: record["dataset"], Columns.FEATURES: NO_FEATURES, MODALITY: name,
        "n_users": record["users"], "n_items": record["n_items"],
        **{f"{HISTORIES[0]}_{key}": value for key, value in (floors.get(f"zero_shot_{name}") or {}).items()},
        **{f"item_cf_at_{n}": value for n, value in floors[name].items()},
    }  # fmt: skip


def _drops(plan: Plan, frame: pd.DataFrame) -> list[float | None]:
    """What the zero-shot recall of each masked row lacks of that of the feature set it is derived from."""
    records = frame.to_dict("records")
    values = {(row[Columns.DATASET], row[Columns.FEATURES], row[MODALITY]): row[COMPARED] for row in records}
    drops: list[float | None] = []
    for row in records:
        base = plan.feature_sets[row[Columns.FEATURES]].base if row[SHARE] > 0 else None
        whole = values.get((row[Columns.DATASET], base, row[MODALITY]))
        change = None if whole is None else difference_percent(row[COMPARED], whole)
        drops.append(None if change is None else -change)
    return drops


def quality_table(plan: Plan, frame: pd.DataFrame) -> Table:
    """Return the table for readers, from the frame of `quality_frame`: a block for each data set."""
    blocks = [
        Block(str(dataset), tuple(cells(*_texts(row)) for row in rows.to_dict("records")))
        for dataset, rows in frame.groupby(Columns.DATASET, sort=False)
    ]
    headings = ("features", MODALITY, *HEADINGS.values(), "drop")
    title = f"{plan.study.title}: features without a recommender"
    return Table(title, headings, tuple(blocks), (*FOOTER, *study_note(plan.study)))


def _texts(row: Row) -> list[str]:
    if pd.isna(row["n_users"]):
        return [row[Columns.FEATURES], *[NOT_RUN] * (len(HEADINGS) + 2)]
    floor = row[Columns.FEATURES] == NO_FEATURES
    drop = NOTHING if pd.isna(row[DROP]) else f"{row[DROP]:.1f} %".replace("-", "−")
    return ["floor" if floor else row[Columns.FEATURES], row[MODALITY], *(decimal(row[n]) for n in HEADINGS), drop]
