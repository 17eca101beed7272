"""The stage that measures: from the lists of finished runs to the metrics of each user, and their means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mmrepro.columns import TEST, TRAIN, VALID, Columns
from mmrepro.datasets.interactions import PreparedDataset
from mmrepro.errors import MmreproError
from mmrepro.evaluation.lists import lists_of_rows
from mmrepro.evaluation.metrics import METRICS, Content, Measured, means
from mmrepro.features.matrix import FeatureMatrix, present_items
from mmrepro.records.files import atomic_path, file_sha256, read_object, read_table, recorded_file, write_record
from mmrepro.study.layout import NO_FEATURES, Layout

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetWriter

RUN = "run"
MEASURED = (VALID, TEST)


def measure_study(dataset: str, settings: Mapping[str, Any], output: Path, root: Path = Path()) -> None:
    """Measure a study's runs on a data set by the settings of its job; the rest is as in `measure`."""
    name = settings["features"]
    features = None if name == NO_FEATURES else root / Layout.features(dataset, name)
    prepared = root / Layout.prepared(dataset)
    measure(prepared, settings["runs"], output, settings["cutoffs"], root, features, settings["modalities"])


def measure(
    prepared: Path, runs: Sequence[str], output: Path, cutoffs: Sequence[int], root: Path = Path(),
    features: Path | None = None, modalities: Sequence[str] = (),
) -> None:  # fmt: skip
    """Measure the lists of all finished runs on a data set, one run after the other; of each, the lists are held whole.

    Parameters
    ----------
    prepared
        Folder of the prepared data set.
    runs
        Folders of final runs, relative to `root`; those that have not finished are left out.
    output
        The file of the means, JSON: `runs` has for each folder and split the mean over users, or the value of all
        lists, of each `<metric>_at_<cutoff>`; null where there is nothing to measure. Beside it, `.parquet` holds the
        values of each user: run, split, user, and a column a metric, one row group a run.
    cutoffs
        Lengths at which lists are cut.
    root
        Folder that holds the runs.
    features, modalities
        Folder and modalities of the features by which the items of a list are compared; none: they are not.

    Raises
    ------
    MmreproError
        For a run on other data than the prepared ones, or without lists.
    """
    dataset = PreparedDataset.load(prepared)
    content = _content(dataset, features, modalities) if features is not None else None
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    with atomic_path(output.with_suffix(".parquet")) as temporary:
        writer = None
        for run in runs:
            if (root / run / "run.json").is_file():
                found[run], rows = _measure_run(dataset, root / run, run, cutoffs, content)
                writer = _write(writer, temporary, rows)
        if writer is None:
            raise MmreproError(f"{output}: no run on '{dataset.dataset}' has finished; run the study first")
        writer.close()
        users = file_sha256(temporary)
    write_record(
        output,
        {
            "dataset": dataset.dataset, "data": dataset.content_hash, "cutoffs": [*cutoffs], "users_sha256": users,
            "runs": found,
        },
    )  # fmt: skip


def _measure_run(
    dataset: PreparedDataset, folder: Path, name: str, cutoffs: Sequence[int], content: Content | None
) -> tuple[dict[str, dict[str, float | None]], pd.DataFrame]:
    """Means by split, and the values of each user."""
    record = read_object(folder / "run.json") or {}
    if record.get("data", {}).get("interactions") != dataset.content_hash:
        raise MmreproError(f"{folder}: made from other data than the prepared ones; run the study again")
    rows = read_table(recorded_file(folder, record, "lists.parquet"))
    found: dict[str, dict[str, float | None]] = {}
    frames = []
    for split in MEASURED:
        relevant = dataset.of(split)
        lists = lists_of_rows(rows[rows[Columns.SPLIT] == split], relevant.distinct_users)
        values = _values(Measured(lists, relevant, dataset.of(TRAIN), content), cutoffs)
        found[split] = {key: _known(means(column)) for key, column in values.items()}
        per_user = {f"{m.name}_at_{k}": values[f"{m.name}_at_{k}"] for m in METRICS if m.per_user for k in cutoffs}
        frames.append(
            pd.DataFrame({RUN: name, Columns.SPLIT: split, Columns.USER: lists.users.astype(np.int32), **per_user})
        )
    return found, pd.concat(frames, ignore_index=True)


def _values(measured: Measured, cutoffs: Sequence[int]) -> dict[str, np.ndarray]:
    return {f"{metric.name}_at_{k}": metric.values(measured, k) for metric in METRICS for k in cutoffs}


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _write(writer: ParquetWriter | None, path: Path, rows: pd.DataFrame) -> ParquetWriter:
    """Write the rows of a run as a row group of its own."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    table: Any = pa.Table.from_pandas(rows, preserve_index=False)
    if writer is None:
        writer = ParquetWriter(path, table.schema)
    writer.write_table(table, row_group_size=max(1, len(rows)))
    return writer


def _content(dataset: PreparedDataset, folder: Path, modalities: Sequence[str]) -> Content:
    """Unit rows of all modalities side by side, so that an inner product is the mean of their cosines."""
    parts, present = [], np.ones(dataset.n_items, dtype=bool)
    for modality in modalities:
        table = FeatureMatrix.load(folder, modality, dataset.n_items, dataset.item_list_hash)
        rows = np.asarray(table.matrix, dtype=np.float32)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        parts.append(rows / np.maximum(lengths, 1e-12) / np.sqrt(len(modalities)))
        present &= present_items(table.record, dataset.n_items) & (lengths[:, 0] > 0)
    return Content(np.concatenate(parts, axis=1), present)
