"""The stage that measures: from the lists of finished runs to the metrics of each user, and their means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.columns import TEST, TRAIN, VALID, Columns
from mmrepro.datasets.interactions import PreparedDataset
from mmrepro.errors import MmreproError
from mmrepro.evaluation.groups import GROUP_CUTOFF, count_by_group, group_sizes, popularity_deciles
from mmrepro.evaluation.lists import lists_of_rows
from mmrepro.evaluation.metrics import METRICS, Content, Measured, Metric, Outcome, means
from mmrepro.features.matrix import FeatureMatrix, present_items
from mmrepro.records.files import file_sha256, read_object, read_table, recorded_file, row_groups, write_record
from mmrepro.study.layout import NO_FEATURES, Layout

RUN, HISTORY = "run", "history"
GIVEN = "lists"
"""Key of the data of a record whose lists another system has made, perhaps for test alone."""
MEASURED = (VALID, TEST)


@dataclass(frozen=True)
class RunMeasures:
    """What was measured of a run.

    Attributes
    ----------
    run
        Its folder.
    means
        Split -> `<metric>_at_<cutoff>` -> mean over users, or the value of all lists; None where there is nothing.
    users
        The values of each user: run, split, user, their number of training items, and a column a metric.
    hits_by_group
        Relevant test items among the first `GROUP_CUTOFF`, by group of their popularity, shape (11,).
    """

    run: str
    means: dict[str, dict[str, float | None]]
    users: pd.DataFrame
    hits_by_group: np.ndarray


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
        lists, of each `<metric>_at_<cutoff>`; null where there is nothing to measure; `recall_by_group` for each folder
        recall at 20 by popularity of the items, `groups` the size of each group. Beside it, `.parquet` holds the
        values of each user: run, split, user, training items, and a column a metric, one row group a run.
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
    content = load_content(dataset, features, modalities) if features is not None else None
    there = [run for run in runs if (root / run / "run.json").is_file()]
    found = (_measure_run(dataset, root / run, run, cutoffs, content) for run in there)
    sizes = group_sizes(dataset.of(TRAIN).popularity, held_out_of(dataset))
    write_measures(output, dataset.dataset, dataset.content_hash, cutoffs, sizes, found)


def write_measures(
    output: Path, dataset: str, content_hash: str, cutoffs: Sequence[int], groups: Mapping[str, np.ndarray],
    found: Iterable[RunMeasures],
) -> None:  # fmt: skip
    """Write the two files of `measure`.

    Parameters
    ----------
    output
        The file of the means.
    dataset, content_hash
        Name and hash of the data.
    cutoffs
        As for `measure`.
    groups
        From `groups.group_sizes`.
    found
        What was measured, one run after the other.

    Raises
    ------
    MmreproError
        When there is none.
    """
    means: dict[str, dict[str, dict[str, float | None]]] = {}
    by_group: dict[str, list[float | None]] = {}
    users = output.with_suffix(".parquet")
    with row_groups(users) as write:
        for one in found:
            means[one.run] = one.means
            by_group[one.run] = [
                int(hits) / int(pairs) if pairs else None
                for hits, pairs in zip(one.hits_by_group, groups["pairs"], strict=True)
            ]
            write(one.users)
        if not means:
            raise MmreproError(f"{output}: no run on '{dataset}' has finished; run the study first")
    write_record(
        output,
        {
            "dataset": dataset, "data": content_hash, "cutoffs": [*cutoffs], "users_sha256": file_sha256(users),
            "groups": {name: counts.tolist() for name, counts in groups.items()}, "recall_by_group": by_group,
            "runs": means,
        },
    )  # fmt: skip


def held_out_of(dataset: PreparedDataset) -> np.ndarray:
    """Return the number of test pairs of each item, shape (n_items,)."""
    return np.bincount(dataset.of(TEST).distinct[1], minlength=dataset.n_items)


def load_lists(
    dataset: PreparedDataset, folder: Path, content: Content | None = None
) -> Iterator[tuple[str, Measured]]:
    """Yield the splits of a finished run with its lists of them, and what they are measured by.

    Parameters
    ----------
    dataset
        That the run was made of.
    folder
        Of the run.
    content
        Features of the items, where there are any.

    Raises
    ------
    MmreproError
        For a run on other data, or without lists.
    """
    record = read_object(folder / "run.json") or {}
    if record.get("data", {}).get("interactions") != dataset.content_hash:
        raise MmreproError(f"{folder}: made from other data than the prepared ones; run the study again")
    rows = read_table(recorded_file(folder, record, "lists.parquet"))
    listed = set(rows[Columns.SPLIT]) if GIVEN in record["data"] else set(MEASURED)
    for split in [split for split in MEASURED if split in listed]:
        relevant = dataset.of(split)
        lists = lists_of_rows(rows[rows[Columns.SPLIT] == split], relevant.distinct_users)
        yield split, Measured(lists, relevant, dataset.of(TRAIN), content)


def _measure_run(
    dataset: PreparedDataset, folder: Path, name: str, cutoffs: Sequence[int], content: Content | None
) -> RunMeasures:
    names = [f"{metric.name}_at_{k}" for metric in METRICS for k in cutoffs]
    found: dict[str, dict[str, float | None]] = {split: dict.fromkeys(names) for split in MEASURED}
    frames = []
    for split, measured in load_lists(dataset, folder, content):
        values = values_of(measured, cutoffs, METRICS)
        found[split] = means_of(values)
        frames.append(users_frame(name, split, measured.lists.users, measured.history_lengths, values))
    deciles = popularity_deciles(measured.popularity)  # of the test split, which is the last
    hits = np.where(measured.hits, deciles[measured.lists.items], 0)[:, :GROUP_CUTOFF]
    return RunMeasures(name, found, pd.concat(frames, ignore_index=True), count_by_group(hits))


def values_of(outcome: Outcome, cutoffs: Sequence[int], metrics: Iterable[Metric]) -> dict[str, np.ndarray]:
    """Return `<metric>_at_<cutoff>` -> the values of all users, or the one value."""
    return {f"{metric.name}_at_{k}": metric.values(outcome, k) for metric in metrics for k in cutoffs}


def means_of(values: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """Return the mean of each metric's values; None where there are none."""
    found = {name: means(column) for name, column in values.items()}
    return {name: None if np.isnan(value) else value for name, value in found.items()}


def users_frame(
    run: str, split: str, users: np.ndarray, history: np.ndarray, values: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """Return the rows of a run and split for the file of the users' values."""
    per_user = {metric.name for metric in METRICS if metric.per_user}
    columns = {name: column for name, column in values.items() if name.rpartition("_at_")[0] in per_user}
    known = {RUN: run, Columns.SPLIT: split, Columns.USER: users.astype(np.int32), HISTORY: history.astype(np.int32)}
    return pd.DataFrame({**known, **columns})


def load_content(dataset: PreparedDataset, folder: Path, modalities: Sequence[str]) -> Content:
    """Return unit rows of modalities side by side, so that an inner product is the mean of their cosines.

    Parameters
    ----------
    dataset
        Whose items they are of.
    folder, modalities
        Of the features.

    Raises
    ------
    MmreproError
        When features are missing, damaged, or of other items.
    """
    parts, present = [], np.ones(dataset.n_items, dtype=bool)
    for modality in modalities:
        table = FeatureMatrix.load(folder, modality, dataset.n_items, dataset.item_list_hash)
        rows = np.asarray(table.matrix, dtype=np.float32)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        parts.append(rows / np.maximum(lengths, 1e-12) / np.sqrt(len(modalities)))
        present &= present_items(table.record, dataset.n_items) & (lengths[:, 0] > 0)
    return Content(np.concatenate(parts, axis=1), present)
