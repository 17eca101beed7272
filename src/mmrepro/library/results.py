"""What is known of lists: metrics, the values of each user, and how they compare with others'."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from mmrepro.columns import TEST, VALID, Columns
from mmrepro.config.base import nearest
from mmrepro.config.protocol import Protocol, ProtocolConfig
from mmrepro.config.run import WATCH
from mmrepro.datasets.interactions import load_items, load_users
from mmrepro.errors import MmreproError
from mmrepro.evaluation.evaluator import Evaluator
from mmrepro.evaluation.given_lists import checked_rows, given_lists, read_rows
from mmrepro.evaluation.lists import lists_frame, lists_of_rows
from mmrepro.evaluation.measure import means_of, values_of
from mmrepro.evaluation.metrics import METRICS, Measured
from mmrepro.evaluation.significance import Comparison, compare_columns
from mmrepro.library.data import Data
from mmrepro.study.layout import LIST_DEPTH

CUTOFFS = (5, 10, 20, 50)


def checked_cutoffs(cutoffs: Sequence[int]) -> tuple[int, ...]:
    """Return the cutoffs, once each is a length that lists have.

    Raises
    ------
    MmreproError
        For one outside 1 to 100.
    """
    found = tuple(cutoffs) if isinstance(cutoffs, list | tuple) else (cutoffs,)
    if wrong := [k for k in found if not isinstance(k, int) or not 1 <= k <= LIST_DEPTH]:
        raise MmreproError(
            f"cutoff {wrong[0]}: lists are {LIST_DEPTH} items long; name whole numbers from 1 to {LIST_DEPTH}"
        )
    return tuple(sorted(found))


@dataclass(frozen=True)
class Results:
    """Lists of validation and test users, measured.

    Attributes
    ----------
    data
        What they are measured by.
    lists
        Columns split, user, rank, item (keys), score.
    cutoffs
        Lengths at which they are cut.
    """

    data: Data
    lists: pd.DataFrame
    cutoffs: tuple[int, ...] = CUTOFFS

    @cached_property
    def _values(self) -> dict[str, tuple[Measured, dict[str, np.ndarray]]]:
        dataset = self.data.prepared_dataset()
        keys = {Columns.USER: self.data.users[Columns.KEY], Columns.ITEM: self.data.items[Columns.KEY]}
        places = {name: pd.Index(column.astype("str")) for name, column in keys.items()}
        numbered = self.lists.assign(
            **{n: i.get_indexer(pd.Index(self.lists[n].astype("str"))) for n, i in places.items()}
        )
        found = {}
        for split, rows in numbered.groupby(Columns.SPLIT):
            relevant = dataset.of(str(split))
            measured = Measured(lists_of_rows(rows, relevant.distinct_users), relevant, dataset.of("train"))
            found[str(split)] = measured, values_of(measured, self.cutoffs, METRICS)
        return found

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """Means over users, or values of all lists: a row a metric (`recall_at_20`), columns valid and test.

        Content metrics, which compare the items of a list, are of studies alone and missing here.
        """
        found = {split: means_of(values) for split, (_, values) in self._values.items()}
        frame = pd.DataFrame({split: found.get(split, {}) for split in (VALID, TEST)}, dtype="float64")
        return frame.dropna(how="all")

    @cached_property
    def users(self) -> pd.DataFrame:
        """Values of each user: split, user (key), and a column a metric."""
        per_user = [f"{metric.name}_at_{k}" for metric in METRICS if metric.per_user for k in self.cutoffs]
        frames = []
        for split, (measured, values) in self._values.items():
            known = self.data.users[Columns.KEY].to_numpy()[measured.lists.users]
            columns = {name: values[name] for name in per_user}
            frames.append(pd.DataFrame({Columns.SPLIT: split, Columns.USER: known, **columns}))
        return pd.concat(frames, ignore_index=True)

    def compare(self, other: Results, metric: str = WATCH, split: str = TEST) -> Comparison:
        """Compare with other results on the same data, paired over users, as the tables do.

        Parameters
        ----------
        other
            Of another model, or other lists.
        metric
            As in `recall_at_20`; one value a user.
        split
            `test` or `valid`.

        Raises
        ------
        MmreproError
            For results on other data, an unknown metric or a split that is not listed.
        """
        if not isinstance(other, Results):
            raise MmreproError(f"{other!r} is no run; train one, or evaluate lists")
        if self.data.statistics["content_hash"] != other.data.statistics["content_hash"]:
            raise MmreproError(f"compared data differ: {self.data.dataset} and {other.data.dataset}; load one data set")
        one, two = (results.of_users(metric, split) for results in (self, other))
        pair = pd.concat([one, two], axis=1, join="inner")
        [(_, _, found)] = compare_columns(pair.to_numpy())
        return found

    def of_users(self, metric: str, split: str = TEST) -> pd.Series:
        """Return a metric's value of each user of a split, by user's key.

        Raises
        ------
        MmreproError
            For an unknown metric or a split that is not listed.
        """
        known = [name for name in self.users.columns if "_at_" in name]
        if metric not in known:
            raise MmreproError(f"no metric '{metric}' of each user; {nearest(metric, known)}")
        rows = self.users[self.users[Columns.SPLIT] == split]
        if rows.empty:
            raise MmreproError(f"no lists of split '{split}'; those there are of {', '.join(self._values)}")
        return rows.set_index(Columns.USER)[metric]


def evaluate(
    lists: str | Path | pd.DataFrame, data: Data, cutoffs: Sequence[int] = CUTOFFS, protocol: str = "fair"
) -> Results:
    """Measure lists from elsewhere by the measures of all tables.

    Parameters
    ----------
    lists
        A csv, parquet or JSON lines file, or a frame, with columns user, item (keys) and score, and perhaps split; what
        a user has had is left out as it is of a model's lists. Without a split they are for test.
    data
        What they are for.
    cutoffs
        Lengths at which they are cut, at most 100.
    protocol
        `fair` or `released`: what is masked.

    Raises
    ------
    MmreproError
        When the data do not have most of the users or items, for doubled items, or missing columns.

    Warns
    -----
    UserWarning
        With the number of rows that are left out because the data do not have their user or item.
    """
    origin = "the lists" if isinstance(lists, pd.DataFrame) else str(lists)
    at = checked_cutoffs(cutoffs)
    rows = checked_rows(lists, Path(origin)) if isinstance(lists, pd.DataFrame) else read_rows(Path(lists))
    evaluator = Evaluator(data.prepared_dataset(), _protocol(protocol))
    given = given_lists(rows, data.prepared, evaluator, LIST_DEPTH, origin)
    for split, counts in given.counts.items():
        if counts["unknown"]:
            warnings.warn(
                f"{origin}: {counts['unknown']} rows for {split} left out, of users or items that the data do not have",
                stacklevel=2,
            )
    return Results(data, with_keys(lists_frame(given.lists), data.prepared), at)


def _protocol(name: str) -> Protocol:
    if name not in ("fair", "released"):
        raise MmreproError(f"no protocol '{name}'; {nearest(name, ['fair', 'released'])}")
    return ProtocolConfig.model_validate({"base": name}).resolve()


def with_keys(lists: pd.DataFrame, prepared: Path) -> pd.DataFrame:
    """Return lists whose users and items are known by their keys."""
    keys = {Columns.USER: load_users(prepared)[Columns.KEY], Columns.ITEM: load_items(prepared)[Columns.KEY]}
    return lists.assign(**{name: lists[name].map(column) for name, column in keys.items()})
