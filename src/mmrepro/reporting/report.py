"""What tables and figures are made from: a study and what exists of it, each part read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrepro.reporting.collect import Collection, collect
from mmrepro.reporting.literature import Cell, PublishedNumber, load_published
from mmrepro.study.plan import Plan
from mmrepro.study.products import published_files

if TYPE_CHECKING:
    import pandas as pd

    from mmrepro.datasets.interactions import PreparedDataset
    from mmrepro.reporting.render import Table

Built = tuple[str, "pd.DataFrame", "Table | None"]
"""Name of a table, its frame, and what readers see of it."""


@dataclass(frozen=True)
class Report:
    """A study and what exists of it.

    Attributes
    ----------
    plan
        The resolved study.
    root
        Folder that holds `config/`, `data/` and `results/`.
    current_code
        Model to the fingerprint of today's code; computed unless given.
    """

    plan: Plan
    root: Path
    current_code: Mapping[str, str] | None = None

    @cached_property
    def collection(self) -> Collection:
        """The runs of the main table."""
        return collect(self.plan, self.root, self.current_code)

    @cached_property
    def statistics(self) -> dict[str, dict[str, Any]]:
        """What was counted of each data set that has been prepared."""
        from mmrepro.reporting.tables.datasets import load_statistics

        return load_statistics(self.plan, self.root)

    @cached_property
    def numbers(self) -> dict[Cell, PublishedNumber]:
        """Published numbers."""
        return load_published(self.root / path for path in published_files(self.plan.study))

    @cached_property
    def main(self) -> pd.DataFrame:
        """The frame of the main table."""
        from mmrepro.reporting.tables.main import main_frame

        return main_frame(self.plan, self.collection, self.numbers)

    @cached_property
    def significance(self) -> pd.DataFrame:
        """The tests of the focus model."""
        from mmrepro.reporting.tables.significance import significance_frame

        return significance_frame(self.plan, self.collection, self.main)

    @cached_property
    def comparisons(self) -> dict[str, pd.DataFrame]:
        """The frames of the comparisons."""
        from mmrepro.reporting.tables.comparisons import comparison_frame

        return {name: comparison_frame(self.plan, name, self.root, self.current_code) for name in self.plan.comparisons}

    @cached_property
    def trials(self) -> pd.DataFrame:
        """The frame of the trials."""
        from mmrepro.reporting.tables.search import search_frame

        return search_frame(self.plan, self.root)

    @cached_property
    def prepared(self) -> dict[str, PreparedDataset]:
        """The data sets that have been prepared."""
        from mmrepro.reporting.tables.cells import load_prepared

        return load_prepared(self.plan, self.root)
