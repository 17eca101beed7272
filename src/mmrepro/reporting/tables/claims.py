"""Claims: what papers say, each tested by two rows of a table on every data set."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from mmrepro.columns import Columns
from mmrepro.config.run import metric_of
from mmrepro.config.study import BEST_OTHER, Claim
from mmrepro.evaluation.significance import DRAWS, LEVEL, compare_columns
from mmrepro.reporting.collect import finished_runs
from mmrepro.reporting.finished import FinishedRun, user_means
from mmrepro.reporting.headline import SHORT
from mmrepro.reporting.means import NOT_RUN, corrected, decimal, study_note
from mmrepro.reporting.render import Block, Table, cells
from mmrepro.reporting.report import Built, Report
from mmrepro.study.plan import Plan
from mmrepro.study.products import Product

PRODUCT = Product("tables/claims", when="claims")
SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
CLAIMS_COLUMNS = (
    "claim", "source", Columns.DATASET, Columns.PROTOCOL, Columns.METRIC, Columns.K, "better", "than", Columns.MEAN,
    "other_mean", "difference", "lower", "upper", "effect", "p", "p_holm", "n_users", Columns.N_SEEDS,
    Columns.VERDICT,
)  # fmt: skip
MEASURED = (Columns.MEAN, "other_mean", "difference", "lower", "upper", "effect", "p")
Rows = dict[str, Sequence[FinishedRun]]
"""Model or variant -> its finished runs."""


def build(report: Report) -> Iterator[Built]:
    """Yield the table."""
    frame = report.made(claims_of)
    yield "claims", frame, claims_table(report.plan, frame)


def claims_of(report: Report) -> pd.DataFrame:
    """Return every claim of the report's study against what came out.

    Returns
    -------
    pd.DataFrame
        Columns `CLAIMS_COLUMNS`, a row for each claim, data set and protocol (of a comparison, the first). Each user's
        mean over seeds is compared: `difference` of the means, its 95 % interval by the paired bootstrap over users,
        `effect` the matched-pairs rank-biserial correlation, `p` of Wilcoxon's signed-rank test, `p_holm` corrected
        over the rows of the table; `n_seeds` of the drawn row that has fewer; `verdict` is supported or contradicted
        where `p_holm` is below 0.05, else undecided, or not run.

    Raises
    ------
    MmreproError
        When a run's record or its metrics of users cannot be read.
    """
    found = [
        row
        for claim in report.plan.claims
        for dataset, protocol, rows in _tables(report, claim)
        for row in [_tested(claim, dataset, protocol, rows, report.plan.fitted)]
    ]
    frame = pd.DataFrame(found, columns=[c for c in CLAIMS_COLUMNS if c not in ("p_holm", Columns.VERDICT)])
    frame = frame.astype({**dict.fromkeys(MEASURED, "float64"), "n_users": "Int64", Columns.N_SEEDS: "Int64"})
    frame["p_holm"] = corrected(frame["p"])
    frame[Columns.VERDICT] = [_verdict(row) for row in frame.to_dict("records")]
    return frame[list(CLAIMS_COLUMNS)]


def _tables(report: Report, claim: Claim) -> Iterator[tuple[str, str, Rows]]:
    """Data set and protocol, and the finished runs of each row that a claim may speak of."""
    plan = report.plan
    if claim.comparison is None:
        for dataset, protocol in itertools.product(plan.study.datasets, plan.study.protocols):
            runs = [run for run in report.collection.runs if (run.cell[0], run.cell[3]) == (dataset, protocol)]
            yield dataset, protocol, {m: [run for run in runs if run.cell[2] == m] for m in plan.study.models}
        return
    model = claim.model or plan.study.comparisons[claim.comparison].models[0]
    rows = [row for row in plan.comparisons[claim.comparison] if row.model == model]
    planned = (run for row in rows for run in row.runs)
    finished = {run.planned.folder: run for run in finished_runs(plan, planned, report.root, report.current_code)}
    for dataset, variants in itertools.groupby(rows, key=lambda row: row.dataset):
        there = [(v, [finished[run.folder] for run in v.runs if run.folder in finished]) for v in variants]
        yield dataset, there[0][0].runs[0].protocol_name, {variant.variant: runs for variant, runs in there}


def _tested(claim: Claim, dataset: str, protocol: str, rows: Rows, fitted: Sequence[str]) -> tuple[Any, ...]:
    """A row of the frame; `fitted` are models of which one run is all there is to see."""
    metric, k = metric_of(claim.metric)
    head = (claim.statement, claim.source, dataset, protocol, metric, k, claim.better)
    users = {name: user_means(runs, [claim.metric])[claim.metric] for name, runs in rows.items() if runs}
    others = {name: values.mean() for name, values in users.items() if name != claim.better}
    than = max(sorted(others), key=lambda name: others[name], default="") if claim.than == BEST_OTHER else claim.than
    if claim.better not in users or than not in users:
        return (*head, claim.than, *[None] * 9)
    pair = pd.concat([users[claim.better], users[than]], axis=1, join="inner").to_numpy()
    [(_, _, comparison)] = compare_columns(pair)
    drawn = [len(rows[name]) for name in (claim.better, than) if name not in fitted]
    return (*head, than, *comparison, min(drawn, default=1))


def _verdict(row: dict[Any, Any]) -> str:
    if pd.isna(row["p"]):
        return NOT_RUN
    if row["p_holm"] >= LEVEL or not row["difference"]:
        return UNDECIDED
    return SUPPORTED if row["difference"] > 0 else CONTRADICTED


def claims_table(plan: Plan, frame: pd.DataFrame) -> Table:
    """Return the claims for readers: a block for each, a row for each data set."""
    blocks = []
    for (claim, source), rows in frame.groupby(["claim", "source"], sort=False):
        lines = [cells(*_line(row)) for row in rows.to_dict("records")]
        verdicts = rows[Columns.VERDICT].tolist()
        counts = [f"{verdicts.count(v)} {v}" for v in (SUPPORTED, CONTRADICTED, UNDECIDED, NOT_RUN) if v in verdicts]
        blocks.append(Block(f"{claim} ({source}): {', '.join(counts)}", tuple(lines)))
    notes = (
        "The claims are in our words. Each user's mean over seeds on test; the difference of the means with its 95 % "
        f"interval by the paired bootstrap over users ({DRAWS} draws), r the rank-biserial correlation, p of "
        "Wilcoxon's signed-rank test, Holm-corrected over the rows of this table.",
        f"{SUPPORTED}, {CONTRADICTED}: p < {LEVEL:g}; {UNDECIDED}: the test cannot tell. It is over users: with one "
        "seed it says that these two runs differ, not that another draw would give the same.",
    )
    headings = (
        "data set",
        "metric",
        "better",
        "than",
        "means",
        "difference",
        "95 % interval",
        "r",
        "p",
        "seeds",
        "verdict",
    )
    title = f"{plan.study.title}: what is claimed, and what came out"
    return Table(title, headings, tuple(blocks), (*notes, *study_note(plan.study)))


def _line(row: dict[Any, Any]) -> tuple[str, ...]:
    head = (f"{row[Columns.DATASET]}, {row[Columns.PROTOCOL]}", f"{SHORT[row[Columns.METRIC]]}@{row[Columns.K]}")
    if row[Columns.VERDICT] == NOT_RUN:
        return (*head, row["better"], row["than"], *["–"] * 6, NOT_RUN)
    lower, upper, difference = (_signed(row[name]) for name in ("lower", "upper", "difference"))
    p = f"{row['p_holm']:.4f}" if row["p_holm"] >= 0.0001 else "< 0.0001"
    return (
        *head, row["better"], row["than"], f"{decimal(row[Columns.MEAN])} and {decimal(row['other_mean'])}", difference,
        f"{lower} to {upper}", f"{row['effect']:+.2f}".replace("-", "−"), p, str(row[Columns.N_SEEDS]),
        row[Columns.VERDICT],
    )  # fmt: skip


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")
