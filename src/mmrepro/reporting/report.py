"""What tables and figures are made from: a study and what exists of it, each part read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mmrepro.reporting.collect import Collection, collect
from mmrepro.reporting.literature import Cell, PublishedNumber, load_published
from mmrepro.study.plan import Plan
from mmrepro.study.products import published_files

if TYPE_CHECKING:
    import pandas as pd

    from mmrepro.reporting.render import Table

T = TypeVar("T")
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
    def numbers(self) -> dict[Cell, PublishedNumber]:
        """Published numbers."""
        return load_published(self.root / path for path in published_files(self.plan, self.root))

    def made(self, make: Callable[[Report], T]) -> T:
        """Return what a function makes of the report: called once, however many tables need it."""
        if make not in self._made:
            self._made[make] = make(self)
        found: T = self._made[make]
        return found

    @cached_property
    def _made(self) -> dict[Callable[[Report], Any], Any]:
        return {}
