"""What pre-training an encoder on a catalogue has achieved: its losses on held-out items, and the retrieval check."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from mmrepro.columns import Columns
from mmrepro.reporting.means import NOT_RUN, NOTHING, Row, decimal, study_note
from mmrepro.reporting.records import read_alignment
from mmrepro.reporting.render import Block, Table, cells
from mmrepro.reporting.report import Built, Report
from mmrepro.study.plan import Plan, PlannedAlignment
from mmrepro.study.products import Product

PRODUCT = Product("tables/alignment", ("csv", "md"), when="alignments")
MODALITY, MEASURE, PART = "modality", "measure", "part"
COUNTS = ("epochs", "n_parameters", "items_trained", "items_held_out", "items_without_any", "items_absent")
ALIGNMENT_COLUMNS = (
    Columns.DATASET, Columns.FEATURES, MODALITY, PART, MEASURE, "baseline", "untrained", "trained", *COUNTS,
)  # fmt: skip
HEADINGS = {
    PART: "of", MEASURE: "measure", "baseline": "baseline", "untrained": "untrained", "trained": "trained",
    "items_absent": "absent items",
}  # fmt: skip
FOOTER = (
    "All values are those of held-out items. Losses: what a predictor reaches that knows the mean, or the "
    "frequencies, of the trained items (baseline), and the encoder before and after training; lower is better.",
    "Retrieval: the place of an item's other part among those of other items, by cosine; its baseline is "
    "chance; higher is better.",
)


def build(report: Report) -> Iterator[Built]:
    """Yield the table; no paper prints it."""
    frame = alignment_frame(report.plan, report.root)
    yield "alignment", frame, alignment_table(report.plan, frame)


def alignment_frame(plan: Plan, root: Path) -> pd.DataFrame:
    """Return what each pre-training of a study has achieved.

    Parameters
    ----------
    plan
        The resolved study; a pre-training that has not finished has one row without values.
    root
        Folder that holds `data/encoders/`.

    Returns
    -------
    pd.DataFrame
        Columns `ALIGNMENT_COLUMNS`, a row for each source's loss (`part` is the source) and each measure of retrieval
        (`part` names the two sources and the number of candidates), each with its baseline and its value before and
        after training, on held-out items; `items_absent`: items that lack the source.

    Raises
    ------
    MmreproError
        When a record is no JSON object.
    """
    rows = [row for planned in plan.alignments for row in _rows(planned, read_alignment(planned, root))]
    types = {name: "float64" for name in ("baseline", "untrained", "trained")} | dict.fromkeys(COUNTS, "Int64")
    return pd.DataFrame(rows, columns=list(ALIGNMENT_COLUMNS)).astype(types)


def _rows(planned: PlannedAlignment, record: dict[str, Any] | None) -> list[dict[str, Any]]:
    key = {Columns.DATASET: planned.dataset, Columns.FEATURES: planned.feature_set, MODALITY: planned.modality}
    if record is None:
        return [key]
    items = {f"items_{name}": record["items"][name] for name in ("trained", "held_out", "without_any")}
    key |= {"epochs": record["epochs"], "n_parameters": record["n_parameters"], **items}
    rows = [
        {
            **key, PART: name, MEASURE: f"{source['target']}, {source['measure']}",
            "items_absent": record["absent"][name],
            **{state: source[state] for state in ("baseline", "untrained", "trained")},
        }
        for name, source in record["sources"].items()
    ]  # fmt: skip
    retrieval = record["retrieval"]
    part = f"{retrieval['query']} to {retrieval['candidates_from']}, {retrieval['candidates']} candidates"
    return rows + [
        {
            **key, PART: part, MEASURE: measure, "baseline": chance, "untrained": retrieval["untrained"][measure],
            "trained": retrieval["trained"][measure],
        }
        for measure, chance in (retrieval["chance"] or {}).items()
    ]  # fmt: skip


def alignment_table(plan: Plan, frame: pd.DataFrame) -> Table:
    """Return the table for readers, from the frame of `alignment_frame`: a block for each pre-training."""
    blocks = []
    for names, rows in frame.groupby([Columns.DATASET, Columns.FEATURES, MODALITY], sort=False):
        records = rows.to_dict("records")
        blocks.append(
            Block(_heading(", ".join(map(str, names)), records[0]), tuple(cells(*_texts(r)) for r in records))
        )
    title = f"{plan.study.title}: pre-trained encoders"
    return Table(title, tuple(HEADINGS.values()), tuple(blocks), (*FOOTER, *study_note(plan.study)))


def _heading(name: str, row: Row) -> str:
    if pd.isna(row["epochs"]):
        return name
    return (
        f"{name}: {row['epochs']} epochs, {row['n_parameters']:,} parameters, {row['items_trained']:,} items trained, "
        f"{row['items_held_out']:,} held out, {row['items_without_any']:,} without any content"
    )


def _texts(row: Row) -> list[str]:
    if pd.isna(row["epochs"]):
        return [NOT_RUN] * len(HEADINGS)
    absent = NOTHING if pd.isna(row["items_absent"]) else f"{row['items_absent']:,}"
    return [row[PART], row[MEASURE], *(decimal(row[name]) for name in ("baseline", "untrained", "trained")), absent]
