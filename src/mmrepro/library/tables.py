"""Tables of studies as frames."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd

from mmrepro.config.base import nearest
from mmrepro.errors import MmreproError
from mmrepro.housekeeping.publish import checked_table, stale_words
from mmrepro.library.project import project_folder, working_in
from mmrepro.study.products import SUMMARY

PLACES = ("results", "results/reference")


def results(study: str | Path, table: str = "main", folder: str | Path | None = None) -> pd.DataFrame:
    """Return a table of a study: of its runs here, or the one that is committed.

    Parameters
    ----------
    study
        Name, or a folder of results.
    table
        Such as `main`, `pairs`, `cost`, or a comparison's name.
    folder
        The project, as for `load`.

    Returns
    -------
    pd.DataFrame
        The csv file. A warning says where code or data have changed since.

    Raises
    ------
    MmreproError
        For a study or table that is not there, or a table that was edited.
    """
    root = project_folder(folder)
    given = Path(study).absolute()
    places = [root / place / str(study) for place in PLACES]
    path = next((place for place in (given, *places) if (place / SUMMARY).is_file()), None)
    if path is None:
        known = sorted({file.parent.name for place in PLACES for file in (root / place).glob(f"*/{SUMMARY}")})
        raise MmreproError(f"no tables of '{study}'; {nearest(str(study), known) if known else 'run a study first'}")
    tables = sorted(file.stem for file in (path / "tables").glob("*.csv"))
    if table not in tables:
        raise MmreproError(f"{path}: no table '{table}'; {nearest(table, tables)}")
    with working_in(root):
        if words := stale_words(path):
            warnings.warn(words, stacklevel=2)
        return pd.read_csv(checked_table(path, f"{table}.csv"))
