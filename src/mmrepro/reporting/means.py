"""Means over seeds, differences in percent, tests over users, and how they are printed: what all tables share."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from mmrepro.columns import TEST, Columns
from mmrepro.config.study import StudyConfig
from mmrepro.evaluation.significance import holm, paired_test
from mmrepro.study.plan import Plan, PlannedRun

NOT_RUN, NOTHING = "not run", "–"
STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))

Row = Mapping[Hashable, Any]


def over_seeds(rows: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    """Return rows with the mean of their values, the sample standard deviation, and how many values there are.

    Parameters
    ----------
    rows
        The keys of a table, one row a cell.
    values
        The same columns and `value`, one row a seed; a value may be NaN where there was nothing to measure.

    Returns
    -------
    pd.DataFrame
        `rows` with `mean`, `std` (NaN for a single seed) and `n_seeds` (0 where nothing has been run).
    """
    keys = list(rows.columns)
    grouped = values.astype({Columns.VALUE: "float64"}).groupby(keys)[Columns.VALUE]
    found = grouped.agg(["mean", "std", "size"]).reset_index()
    found = found.rename(columns={"mean": Columns.MEAN, "std": Columns.STD, "size": Columns.N_SEEDS})
    frame = rows.merge(found, on=keys, how="left")
    return frame.assign(**{Columns.N_SEEDS: frame[Columns.N_SEEDS].fillna(0).astype(int)})


def difference_percent(value: float, reference: float) -> float | None:
    """Return how much `value` exceeds `reference` in percent of it; None where the reference is zero."""
    return 100 * (value - reference) / reference if reference else None


def paired_users(a: pd.Series, b: pd.Series) -> tuple[float, int]:
    """Return the p-value of Wilcoxon's signed-rank test and the number of users that both have values for."""
    left, right = a.align(b, join="inner")
    return paired_test(left.to_numpy(), right.to_numpy()), len(left)


def corrected(p: pd.Series) -> pd.Series:
    """Return Holm's correction over the p-values that are there; the others stay NaN."""
    known = p[p.notna()]
    return pd.Series(holm(known.tolist()), index=known.index, dtype="float64").reindex(p.index)


def remarks(n_seeds: int, n_planned: int, flags: Iterable[str]) -> list[str]:
    """Return what a reader must know about a row: 'not run', or missing seeds and flags."""
    if n_seeds == 0:
        return [NOT_RUN]
    return [*([f"{n_seeds} of {n_planned} seeds"] if n_seeds < n_planned else []), *flags]


def labelled(name: str, parts: Iterable[str]) -> str:
    """Return a row's name with its remarks; that it was not run is seen in its cells."""
    listed = [part for part in parts if part not in (NOT_RUN, "")]
    return f"{name} [{', '.join(listed)}]" if listed else name


def mean_text(row: Row) -> str:
    """Print mean and spread of a row of `over_seeds`."""
    if row[Columns.N_SEEDS] == 0:
        return NOT_RUN
    return decimal(row[Columns.MEAN]) + ("" if pd.isna(row[Columns.STD]) else f" ± {decimal(row[Columns.STD])}")


def decimal(value: float | None) -> str:
    """Print a number with four digits, a dash where there is none."""
    return NOTHING if value is None or pd.isna(value) else f"{value:.4f}"


def difference_text(percent: float | None, p: float = 1.0) -> str:
    """Print a difference in percent, with the stars of its corrected p-value."""
    if percent is None or pd.isna(percent):
        return "n/a"
    return f"{signed(percent)} %{next((stars for level, stars in STARS if p < level), '')}"


def signed(value: float) -> str:
    """Print a number with one digit and its sign."""
    return f"{value:+.1f}".replace("-", "−")


def main_blocks(plan: Plan, frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the rows of each data set and protocol, in the study's order, with the heading of their block."""
    return [
        (
            f"{dataset}, protocol {protocol}",
            frame[frame[Columns.DATASET].eq(dataset) & frame[Columns.PROTOCOL].eq(protocol)],
        )
        for dataset, protocol in itertools.product(plan.study.datasets, plan.study.protocols)
    ]


def study_note(study: StudyConfig) -> tuple[str, ...]:
    """Return the study's own line of a footer, where it has one."""
    return (study.note,) if study.note else ()


def selection_notes(runs: Iterable[PlannedRun]) -> tuple[str, ...]:
    """Return a line of a footer for each protocol under which a search of these runs read the split that is
    reported.
    """
    models: dict[str, dict[str, None]] = {}
    for run in runs:
        if run.selection is not None and run.spec.protocol.select_on == TEST:
            models.setdefault(run.protocol_name, {})[run.spec.model] = None
    return tuple(
        f"Selected on test: under protocol {protocol} the hyper-parameters of {', '.join(found)} were chosen on "
        "the test split itself."
        for protocol, found in models.items()
    )


def seeds_note(seeds: Sequence[int]) -> str:
    """Return the words of a footer that say what a value is made of."""
    if len(seeds) == 1:
        return f"one run, with seed {seeds[0]}"
    return f"mean ± sample standard deviation over seeds {', '.join(map(str, seeds))}"


def stars_note(n_comparisons: int) -> str:
    """Return the words of a footer that say what the stars mean."""
    return (
        "stars by the p-value of Wilcoxon's signed-rank test over users (each user's mean over seeds first), "
        f"Holm-corrected over the {n_comparisons} comparisons of this table: *** p < 0.001, ** p < 0.01, * p < 0.05."
    )
