"""What a publication keeps of ranked lists: the places of hits and how often items are listed, of which every metric
that needs no items, its spread and every test follow. Which items a user has had or was offered is not in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.columns import TEST, TRAIN, Columns
from mmrepro.datasets.interactions import PreparedDataset
from mmrepro.errors import MmreproError
from mmrepro.evaluation.groups import GROUP_CUTOFF, count_by_group, group_sizes, popularity_deciles
from mmrepro.evaluation.measure import (
    HISTORY,
    MEASURED,
    RUN,
    RunMeasures,
    held_out_of,
    load_lists,
    means_of,
    users_frame,
    values_of,
)
from mmrepro.evaluation.metrics import METRICS, Measured
from mmrepro.records.files import read_table, row_groups

USERS, ITEMS, HITS, EXPOSURE = "users.parquet", "items.parquet", "hits.parquet", "exposure.parquet"
N_RELEVANT, POPULARITY, HELD_OUT, DECILE, LISTED = "n_relevant", "popularity", "held_out", "decile", "listed"
REMEDY = "restore it from git"
COUNTED = tuple(metric for metric in METRICS if not metric.of_items)
"""Metrics that follow from places."""


@dataclass(frozen=True)
class Places:
    """The places of a run's hits on one split, and how often items are listed: an `Outcome`.

    Attributes
    ----------
    deciles
        Decile of the popularity of the item at each place that is a hit, negative for a cold item, 0 where there is no
        hit; shape (n, places), int8.
    users, n_relevant, history_lengths
        The n users, how many items were held out of each and how many it has in training, shapes (n,).
    popularity
        Training interactions of each item, shape (n_items,).
    n_users
        Users of the data set.
    listed
        Cutoff -> how often each item stands in a list cut there, shape (n_items,).
    """

    deciles: np.ndarray
    users: np.ndarray
    n_relevant: np.ndarray
    history_lengths: np.ndarray
    popularity: np.ndarray
    n_users: int
    listed: Mapping[int, np.ndarray]

    @property
    def hits(self) -> np.ndarray:
        """Whether each place is a hit, shape (n, places), bool."""
        return self.deciles != 0

    def exposure(self, k: int) -> np.ndarray:
        """Return how often each item stands among the first k, shape (n_items,)."""
        return self.listed[k]


def write_places(
    dataset: PreparedDataset, runs: Sequence[str], cutoffs: Sequence[int], root: Path, output: Path
) -> None:
    """Write the places of the hits of finished runs on a data set, one run after the other.

    Parameters
    ----------
    dataset
        The prepared data set.
    runs
        Folders of final runs, relative to `root`.
    cutoffs
        Lengths at which lists are cut; places beyond the largest are left out.
    root
        Folder that holds the runs.
    output
        Folder that gets `users.parquet` (split, user, held-out items, training items), `items.parquet` (training
        interactions and test pairs, in the order of items), `hits.parquet` (run, split, user, rank, decile of the
        item) and `exposure.parquet` (run, split, k, item, how often it is listed).

    Raises
    ------
    MmreproError
        For a run on other data than the prepared ones, or without lists.
    """
    popularity = dataset.of(TRAIN).popularity
    deciles = popularity_deciles(popularity)
    users = [
        pd.DataFrame(
            {
                Columns.SPLIT: split,
                Columns.USER: dataset.of(split).distinct_users.astype(np.int32),
                N_RELEVANT: dataset.of(split).history_lengths[dataset.of(split).distinct_users].astype(np.int32),
                HISTORY: dataset.of(TRAIN).history_lengths[dataset.of(split).distinct_users].astype(np.int32),
            }
        )
        for split in MEASURED
    ]
    held_out = held_out_of(dataset)
    items = pd.DataFrame({POPULARITY: popularity.astype(np.int32), HELD_OUT: held_out.astype(np.int32)})
    for name, frame in ((USERS, pd.concat(users)), (ITEMS, items)):
        with row_groups(output / name) as write:
            write(frame)
    with (
        row_groups(output / HITS, [Columns.USER]) as write_hits,
        row_groups(output / EXPOSURE, [Columns.ITEM]) as write_exposure,
    ):
        for run in runs:
            found = [*load_lists(dataset, root / run)]
            write_hits(pd.concat([_hits(run, split, one, deciles, max(cutoffs)) for split, one in found]))
            write_exposure(pd.concat([_exposure(run, split, one, k) for split, one in found for k in cutoffs]))


def _hits(run: str, split: str, measured: Measured, deciles: np.ndarray, depth: int) -> pd.DataFrame:
    rows, places = np.nonzero(measured.hits[:, :depth])
    return pd.DataFrame(
        {
            RUN: run,
            Columns.SPLIT: split,
            Columns.USER: measured.lists.users[rows].astype(np.int32),
            Columns.RANK: (places + 1).astype(np.int16),
            DECILE: deciles[measured.lists.items[rows, places]],
        }
    )


def _exposure(run: str, split: str, measured: Measured, k: int) -> pd.DataFrame:
    counts = measured.exposure(k)
    listed = np.flatnonzero(counts).astype(np.int32)
    return pd.DataFrame(
        {
            RUN: run, Columns.SPLIT: split, Columns.K: np.int16(k), Columns.ITEM: listed,
            LISTED: counts[listed].astype(np.int32),
        }
    )  # fmt: skip


def measure_places(
    folder: Path, n_users: int, recorded: Mapping[str, Mapping[str, Any]], cutoffs: Sequence[int]
) -> Iterator[RunMeasures]:
    """Measure runs again from the places of their hits.

    Parameters
    ----------
    folder
        That `write_places` wrote.
    n_users
        Users of the data set.
    recorded
        Run -> split -> metrics, as they were published; those that need the lists' items are taken from here.
    cutoffs
        Lengths at which lists are cut.

    Raises
    ------
    MmreproError
        When a file is missing or damaged, a run is not in it, or its hits contradict the held-out items.
    """
    for run, known in recorded.items():
        means: dict[str, dict[str, float | None]] = {}
        frames, hits = [], np.zeros(0, dtype=np.int8)
        for split in MEASURED:
            if split != TEST and all(value is None for value in known.get(split, {}).values()):
                means[split] = dict(known.get(split, {}))  # lists of another system, which are of test alone
                continue
            places = read_places(folder, run, split, n_users, cutoffs)
            values = values_of(places, cutoffs, COUNTED)
            taken = {name: value for name, value in known.get(split, {}).items() if name not in values}
            means[split] = {**means_of(values), **taken}
            frames.append(users_frame(run, split, places.users, places.history_lengths, values))
            hits = places.deciles[:, :GROUP_CUTOFF] if split == TEST else hits
        yield RunMeasures(run, means, pd.concat(frames, ignore_index=True), count_by_group(hits))


def read_places(folder: Path, run: str, split: str, n_users: int, cutoffs: Sequence[int]) -> Places:
    """Read the places of one run on one split; parameters and errors are those of `measure_places`."""
    users = read_table(folder / USERS, REMEDY, filters=[(Columns.SPLIT, "==", split)])
    popularity = read_table(folder / ITEMS, REMEDY, columns=[POPULARITY])[POPULARITY].to_numpy(np.int64)
    of_run = [(RUN, "==", run), (Columns.SPLIT, "==", split)]
    hits = read_table(folder / HITS, REMEDY, filters=of_run)
    exposure = read_table(folder / EXPOSURE, REMEDY, filters=of_run)
    if exposure.empty:
        raise MmreproError(f"{folder / EXPOSURE}: no rows of {run}; {REMEDY}")
    numbers = users[Columns.USER].to_numpy(np.int64)
    rows = np.searchsorted(numbers, hits[Columns.USER].to_numpy(np.int64))
    ranks = hits[Columns.RANK].to_numpy(np.int64)
    deciles = np.zeros((len(users), max(cutoffs)), dtype=np.int8)
    try:
        if (numbers[rows] != hits[Columns.USER].to_numpy()).any() or (ranks < 1).any():
            raise IndexError
        deciles[rows, ranks - 1] = hits[DECILE].to_numpy()
    except IndexError:
        raise MmreproError(f"{folder / HITS}: a hit of no user or no place of {run}; {REMEDY}") from None
    n_relevant = users[N_RELEVANT].to_numpy(np.int64)
    if len(hits) != (deciles != 0).sum() or ((deciles != 0).sum(axis=1) > n_relevant).any():
        raise MmreproError(f"{folder / HITS}: more hits of {run} than items that were held out; {REMEDY}")
    listed = {k: np.zeros(len(popularity), dtype=np.int64) for k in cutoffs}
    for k, counts in exposure.groupby(Columns.K):
        if k in listed:
            listed[int(str(k))][counts[Columns.ITEM].to_numpy()] = counts[LISTED].to_numpy()
    return Places(deciles, numbers, n_relevant, users[HISTORY].to_numpy(np.int64), popularity, n_users, listed)


def sizes_of_places(folder: Path) -> dict[str, np.ndarray]:
    """Return the sizes of the groups of popularity, as `groups.group_sizes` does.

    Raises
    ------
    MmreproError
        When the file is missing or damaged.
    """
    items = read_table(folder / ITEMS, REMEDY, columns=[POPULARITY, HELD_OUT])
    return group_sizes(items[POPULARITY].to_numpy(np.int64), items[HELD_OUT].to_numpy(np.int64))
