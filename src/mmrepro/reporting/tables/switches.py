"""What each switch of a protocol moves: a study that turns them one at a time, each against its first protocol."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
from scipy import stats

from mmrepro.columns import TEST, Columns
from mmrepro.reporting.cells import main_of
from mmrepro.reporting.collect import Collection
from mmrepro.reporting.finished import user_means
from mmrepro.reporting.headline import LEGEND, SHORT, headline_columns
from mmrepro.reporting.means import (
    NOT_RUN,
    corrected,
    difference_percent,
    difference_text,
    paired_users,
    stars_note,
    study_note,
)
from mmrepro.reporting.render import Block, Cell, Table, cells
from mmrepro.reporting.report import Built, Report
from mmrepro.study.plan import Plan
from mmrepro.study.products import Product

PRODUCT = Product("tables/switches", when="switches")
SWITCHES_COLUMNS = (
    Columns.DATASET, Columns.PROTOCOL, "switches", Columns.MODEL, Columns.METRIC, Columns.K, Columns.MEAN, "base_mean",
    "difference", "difference_percent", "p", "p_holm", "n_users", "order", "tau",
)  # fmt: skip
AFTER = " > "


def build(report: Report) -> Iterator[Built]:
    """Yield the table."""
    frame = switches_frame(report.plan, report.collection, report.made(main_of))
    yield "switches", frame, switches_table(report.plan, frame)


def switches_frame(plan: Plan, collection: Collection, main: pd.DataFrame) -> pd.DataFrame:
    """Return what each protocol of a study moves against its first.

    Parameters
    ----------
    plan, collection
        The study and what exists of it.
    main
        The main frame.

    Returns
    -------
    pd.DataFrame
        Columns `SWITCHES_COLUMNS`, a row for each data set, protocol but the first, model and headline metric, on test:
        both means over seeds, their difference, p-value of Wilcoxon's signed-rank test over users, each user's mean
        over seeds first, Holm-corrected over the table; `order` has the models from best to worst under the protocol,
        and `tau` is Kendall's rank correlation of their means with those under the first (NaN for a single model).
    """
    columns = headline_columns(plan.study)
    base = next(iter(plan.study.protocols))
    tested = main[main[Columns.SPLIT].eq(TEST)]
    keys = [Columns.DATASET, Columns.PROTOCOL, Columns.METRIC, Columns.K, Columns.MODEL]
    means = tested.set_index(keys)[Columns.MEAN].sort_index()
    rows: list[tuple[Any, ...]] = []
    for dataset, protocol in itertools.product(plan.study.datasets, plan.switches):
        p_values = _p_values(plan, collection, dataset, base, protocol)
        for (metric, k), model in itertools.product(columns, plan.study.models):
            new, old = (means[dataset, name, metric, k].dropna() for name in (protocol, base))
            head = (dataset, protocol, ", ".join(plan.switches[protocol]), model, metric, k)
            if model not in new or model not in old:
                rows.append((*head, *[None] * 8))
                continue
            value, was = float(new[model]), float(old[model])
            percent = difference_percent(value, was)
            rows.append((*head, value, was, value - was, percent, *p_values[model, metric, k], *_order(new, old)))
    frame = pd.DataFrame(rows, columns=[name for name in SWITCHES_COLUMNS if name != "p_holm"])
    numbers = (Columns.MEAN, "base_mean", "difference", "difference_percent", "p", "tau")
    frame = frame.astype({**dict.fromkeys(numbers, "float64"), "n_users": "Int64"})
    frame["p_holm"] = corrected(frame["p"])
    return frame[list(SWITCHES_COLUMNS)]


def _p_values(
    plan: Plan, collection: Collection, dataset: str, base: str, protocol: str
) -> dict[tuple[str, str, int], tuple[float, int]]:
    """Model, metric, cutoff -> p-value and number of users."""
    columns = headline_columns(plan.study)
    names = [f"{metric}_at_{k}" for metric, k in columns]
    found = {}
    for model in plan.study.models:
        runs = [
            [run for run in collection.runs if (run.cell[0], run.cell[2], run.cell[3]) == (dataset, model, name)]
            for name in (protocol, base)
        ]
        if all(runs):
            new, old = (user_means(of_protocol, names) for of_protocol in runs)
            for column, name in zip(columns, names, strict=True):
                found[model, *column] = paired_users(new[name], old[name])
    return found


def _order(new: pd.Series, old: pd.Series) -> tuple[str, float | None]:
    both = [model for model in new.index if model in old.index]
    best_first = sorted(new.index, key=lambda model: (-round(float(new[model]), 12), str(model)))
    tau = stats.kendalltau(new[both], old[both]).statistic if len(both) > 1 else None
    return AFTER.join(best_first), tau


def switches_table(plan: Plan, frame: pd.DataFrame) -> Table:
    """Return the switches for readers: a block for each data set and model, and one for the order of the models."""
    base, columns = next(iter(plan.study.protocols)), headline_columns(plan.study)
    blocks = []
    for (dataset, model), rows in frame.groupby([Columns.DATASET, Columns.MODEL], sort=False):
        blocks.append(Block(f"{dataset}, {model}", _lines(plan, rows, _moved)))
    for name, rows in frame.groupby(Columns.DATASET, sort=False):
        blocks.append(Block(f"{name}, models from best to worst", _lines(plan, rows, _ranking)))
    notes = (
        f"{LEGEND} on test. Each row turns one switch of protocol {base} and leaves the others; the last ones turn "
        "several. In percent of the value "
        f"under {base}; {stars_note(int(frame['p'].notna().sum()))}",
        _draws_note(plan, frame),
        "What the switches mean: docs/protocols.md.",
    )
    headings = ("switch", *(f"{SHORT[metric]}@{k}" for metric, k in columns))
    title = f"{plan.study.title}: what each switch moves"
    return Table(title, headings, tuple(blocks), (*filter(None, notes), *study_note(plan.study)))


def _draws_note(plan: Plan, frame: pd.DataFrame) -> str:
    """What a difference is to be held against: what other draws move."""
    if "seeding" not in set(frame["switches"]):
        return ""
    alone = " With one seed a larger one may be a draw as well, stars or not." if len(plan.study.seeds) == 1 else ""
    return f"What the switch seeding moves is what other draws move: a smaller difference says nothing.{alone}"


def _lines(plan: Plan, rows: pd.DataFrame, text: Callable[[dict[Any, Any]], str]) -> tuple[tuple[Cell, ...], ...]:
    """A line for each switch, a cell for each headline metric."""
    lines = []
    for switch, found in rows.groupby("switches", sort=False):
        by_column = {(row[Columns.METRIC], row[Columns.K]): row for row in found.to_dict("records")}
        lines.append(cells(_label(str(switch)), *(text(by_column[column]) for column in headline_columns(plan.study))))
    return tuple(lines)


def _label(switches: str) -> str:
    names = switches.split(", ")
    return names[0] if len(names) == 1 else f"all {len(names)}"


def _moved(row: dict[Any, Any]) -> str:
    if pd.isna(row[Columns.MEAN]):
        return NOT_RUN
    same = row["p"] == 1 and not row["difference"]
    return "the same" if same else difference_text(row["difference_percent"], row["p_holm"])


def _ranking(row: dict[Any, Any]) -> str:
    return NOT_RUN if not isinstance(row["order"], str) else row["order"].replace(AFTER, ", ")
