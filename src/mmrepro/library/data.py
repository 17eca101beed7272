"""Data to train on and to measure by, prepared as the workflow prepares them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from mmrepro.columns import Columns
from mmrepro.datasets.interactions import PreparedDataset, load_items, load_statistics, load_users
from mmrepro.errors import MmreproError
from mmrepro.library.project import ensure_data, name_in, plan_of, project_folder, working_in
from mmrepro.study.layout import Layout

ANY_MODEL, CONTENT_MODEL = "popularity", "vbpr"
"""Models that read nothing but interactions, and the features too: what must be there for any of their kind."""


@dataclass(frozen=True)
class Data:
    """A prepared data set and perhaps features of its items.

    Attributes
    ----------
    dataset, features
        Names; features None for models without content.
    folder
        The project.
    """

    dataset: str
    features: str | None
    folder: Path

    @property
    def prepared(self) -> Path:
        """Folder of the prepared data set."""
        return self.folder / Layout.prepared(self.dataset)

    def prepared_dataset(self) -> PreparedDataset:
        """Return the interactions by their indices.

        Raises
        ------
        MmreproError
            When the data have been prepared anew, and otherwise, since they were loaded: keys and indices that were
            read before are of others.
        """
        found = PreparedDataset.load(self.prepared)
        if found.content_hash != self.statistics["content_hash"]:
            raise MmreproError(f"data set '{self.dataset}': prepared anew since it was loaded; load it again")
        return found

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """What was counted while the data were prepared."""
        return load_statistics(self.prepared)

    @cached_property
    def items(self) -> pd.DataFrame:
        """Items in the order of their indices: key, title, text, image."""
        return load_items(self.prepared)

    @cached_property
    def users(self) -> pd.DataFrame:
        """Users in the order of their indices: key."""
        return load_users(self.prepared)

    @cached_property
    def interactions(self) -> pd.DataFrame:
        """Interactions with the keys of user and item, split, and rating and timestamp where known."""
        frame = self.prepared_dataset().interactions
        keys = {Columns.USER: self.users[Columns.KEY], Columns.ITEM: self.items[Columns.KEY]}
        return frame.assign(**{name: frame[name].map(column) for name, column in keys.items()})


def load(dataset: str | Path, features: str | Path | None = None, folder: str | Path | None = None) -> Data:
    """Return a data set, prepared and with features; what is missing or out of date is made on the way.

    Parameters
    ----------
    dataset
        Name or file of a data set in `config/datasets`.
    features
        Name or file of a feature set in `config/features`, for models that read content.
    folder
        The project; none: the nearest one from the working directory upward, or the one of this package.

    Raises
    ------
    MmreproError
        For an unknown name (with the nearest), files that are not to be had, or a project that is not there.
    """
    root = project_folder(folder)
    name = name_in(root, dataset, "datasets")
    feature_set = None if features is None else name_in(root, features, "features")
    with working_in(root):
        ensure_data(plan_of(CONTENT_MODEL if feature_set else ANY_MODEL, name, feature_set))
    data = Data(name, feature_set, root)
    data.statistics  # noqa: B018 - what is loaded now is told from what may be prepared later
    return data
