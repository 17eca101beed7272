"""Tables beside the main one: the same models under several variants, each compared with the first."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from mmrepro.columns import TEST, Columns
from mmrepro.config.study import Variant
from mmrepro.reporting.collect import finished_runs, flags_of
from mmrepro.reporting.finished import FinishedRun, user_means, value_of
from mmrepro.reporting.headline import LEGEND, SHORT, headline_columns
from mmrepro.reporting.means import (
    Row,
    corrected,
    difference_percent,
    difference_text,
    labelled,
    mean_text,
    over_seeds,
    paired_users,
    remarks,
    seeds_note,
    selection_notes,
    stars_note,
    study_note,
)
from mmrepro.reporting.render import Block, Table, cells
from mmrepro.reporting.report import Built, Report
from mmrepro.study.plan import Plan, PlannedVariant
from mmrepro.study.products import Product

PRODUCT = Product("tables/{comparison}", when="comparisons")
VARIANT, FLAGS = "variant", "flags"
COMPARISON_COLUMNS = (
    Columns.DATASET, Columns.MODEL, VARIANT, Columns.FEATURES, Columns.PROTOCOL, Columns.METRIC, Columns.K,
    Columns.MEAN, Columns.STD, Columns.N_SEEDS, "difference_percent", "p", "p_holm", "n_users", FLAGS,
)  # fmt: skip
KEYS = [Columns.DATASET, Columns.MODEL, VARIANT, Columns.METRIC, Columns.K]

Found = Sequence[tuple[PlannedVariant, list[FinishedRun]]]
"""Every row of a comparison with its runs that have finished."""


def build(report: Report) -> Iterator[Built]:
    """Yield every comparison."""
    for name, frame in report.made(comparisons_of).items():
        yield name, frame, comparison_table(report.plan, name, frame)


def comparisons_of(report: Report) -> dict[str, pd.DataFrame]:
    """Return the frames of a report's comparisons."""
    plan, root, code = report.plan, report.root, report.current_code
    return {name: comparison_frame(plan, name, root, code) for name in plan.comparisons}


def comparison_frame(plan: Plan, name: str, root: Path, current_code: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return a comparison of a study as a frame.

    Parameters
    ----------
    plan
        The resolved study.
    name
        One of `plan.comparisons`.
    root
        Folder that holds `results/`.
    current_code
        Model to the fingerprint of today's code.

    Returns
    -------
    pd.DataFrame
        Columns `COMPARISON_COLUMNS`, a row for each data set, model, variant and headline metric, on test: mean and
        sample standard deviation over seeds; difference to the first variant of the same data set and model in percent;
        p-value of Wilcoxon's signed-rank test over users, each user's mean over seeds first, all p-values of the table
        being the family of Holm's correction; flags, 'not run' where there is nothing.

    Raises
    ------
    MmreproError
        When a run's record or its metrics of users cannot be read.
    """
    variants = plan.comparisons[name]
    planned = (run for row in variants for run in row.runs)
    finished = {run.planned.folder: run for run in finished_runs(plan, planned, root, current_code)}
    found = [(row, [finished[run.folder] for run in row.runs if run.folder in finished]) for row in variants]
    columns = headline_columns(plan.study)
    rows = [
        (row.dataset, row.model, row.variant, *column, row.runs[0].features_name, row.runs[0].protocol_name)
        for row, column in itertools.product(variants, columns)
    ]
    values = [
        (row.dataset, row.model, row.variant, *column, value_of(run, TEST, *column))
        for (row, runs), column in itertools.product(found, columns)
        for run in runs
    ]
    frame = pd.DataFrame(rows, columns=[*KEYS, Columns.FEATURES, Columns.PROTOCOL])
    frame = frame.merge(over_seeds(frame[KEYS], pd.DataFrame(values, columns=[*KEYS, Columns.VALUE])), on=KEYS)
    frame = frame.merge(_differences(frame, found, columns), on=KEYS, how="left")
    frame["p_holm"] = corrected(frame["p"])
    flags = {(row.dataset, row.model, row.variant): (len(row.runs), flags_of(runs)) for row, runs in found}
    frame[FLAGS] = [
        "; ".join(remarks(row[Columns.N_SEEDS], *flags[row[Columns.DATASET], row[Columns.MODEL], row[VARIANT]]))
        for row in frame.to_dict("records")
    ]
    return frame[list(COMPARISON_COLUMNS)].astype({"n_users": "Int64"})


def _differences(frame: pd.DataFrame, found: Found, columns: tuple[tuple[str, int], ...]) -> pd.DataFrame:
    """Difference and p-value of every variant that has been run, where the first one of its group has been, too."""
    means = frame.set_index(KEYS)[Columns.MEAN]
    names = [f"{metric}_at_{k}" for metric, k in columns]
    rows = []
    for (dataset, model), members in itertools.groupby(found, key=lambda row: (row[0].dataset, row[0].model)):
        (first, first_runs), *others = members
        reference = user_means(first_runs, names) if first_runs else None
        for variant, runs in others:
            if reference is None or not runs:
                continue
            users = user_means(runs, names)
            for (metric, k), name in zip(columns, names, strict=True):
                mean, other = (means[dataset, model, v.variant, metric, k] for v in (variant, first))
                p, n_users = paired_users(users[name], reference[name])
                rows.append((dataset, model, variant.variant, metric, k, difference_percent(mean, other), p, n_users))
    types = {"difference_percent": "float64", "p": "float64"}
    return pd.DataFrame(rows, columns=[*KEYS, "difference_percent", "p", "n_users"]).astype(types)


def comparison_table(plan: Plan, name: str, frame: pd.DataFrame) -> Table:
    """Return the comparison for readers, from the frame of `comparison_frame`: a block for each data set and model."""
    comparison, columns = plan.study.comparisons[name], headline_columns(plan.study)
    blocks = []
    for (dataset, model), rows in frame.groupby([Columns.DATASET, Columns.MODEL], sort=False):
        lines = []
        for variant, found in rows.groupby(VARIANT, sort=False):
            by_column = {(row[Columns.METRIC], row[Columns.K]): row for row in found.to_dict("records")}
            chosen: list[Row] = [by_column[column] for column in columns]
            lines.append(cells(labelled(str(variant), chosen[0][FLAGS].split("; ")), *map(mean_text, chosen)))
            if not pd.isna(chosen[0]["p"]):
                texts = (difference_text(row["difference_percent"], row["p_holm"]) for row in chosen)
                lines.append(cells(f"↳ against {rows[VARIANT].iloc[0]}", *texts))
        blocks.append(Block(f"{dataset}, {model}", tuple(lines)))
    headings = (VARIANT, *(f"{SHORT[metric]}@{k}" for metric, k in columns))
    return Table(comparison.title, headings, tuple(blocks), _footer(plan, name, frame))


def _footer(plan: Plan, name: str, frame: pd.DataFrame) -> tuple[str, ...]:
    planned = {run.folder: run for row in plan.comparisons[name] for run in row.runs}
    seeds = sorted({run.seed for run in planned.values()})
    protocol = next(iter(plan.study.protocols))
    variants = plan.study.comparisons[name].variants
    lines = [
        f"{LEGEND} on the test split under protocol {protocol}, {seeds_note(seeds)}.",
        f"Difference to {next(iter(variants))} in percent; {stars_note(int(frame['p'].notna().sum()))}",
        f"Variants: {'; '.join(f'{label}: {_described(variant)}' for label, variant in variants.items())}.",
    ]
    incomplete = frame.loc[frame[FLAGS].str.contains(r"not run|\d of \d+ seeds"), KEYS[:3]].drop_duplicates()
    if len(incomplete):
        lines.append(f"Not run, or not with all seeds: {len(incomplete)} of {len(plan.comparisons[name])} rows.")
    return (*lines, *selection_notes(planned.values()), *study_note(plan.study))


def _described(variant: Variant) -> str:
    """How the runs of a variant differ from those of the main table."""
    parts = [f"features {variant.features}"] if variant.features else []
    parts += [f"{key} {json.dumps(value)}" for key, value in variant.parameters.items()]
    return ", ".join(parts) or "as in the main table"
