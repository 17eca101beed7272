"""What stands below every table, because it bears on every number."""

from __future__ import annotations

from mmrepro.reporting.report import Report
from mmrepro.reporting.tables.datasets import statistics_of

MANY = 0.1
"""Share of a data set's items, or users, of which a reader is told."""


def warnings_of(report: Report) -> tuple[str, ...]:
    """Return the warnings of a study, a sentence each: rows of features that many items share, lists that hold all
    candidates, and splits that ties decided.
    """
    found: dict[str, None] = {}
    statistics = report.made(statistics_of)
    for run in report.collection.runs:
        dataset, data = run.planned.spec.dataset, run.record.get("data", {})
        n_items = statistics.get(dataset, {}).get("n_items")
        for modality, count in (data.get("sharing") or {}).items():
            if n_items and count > MANY * n_items:
                found[
                    f"Warning: {count} of {n_items} items of {dataset} share their row of {modality} features with "
                    "another item, which no model can tell apart by it."
                ] = None
        covered, watched = run.record.get("covered", 0), run.record.get("watch")
        if watched and watched != run.planned.spec.watch:
            asked = run.planned.spec.watch
            found[
                f"Warning: on {dataset} {covered:.0%} of the users have so few candidates that {asked} is the same for "
                f"every order of them; {watched} was watched instead, and metrics at such cutoffs say little."
            ] = None
    for name, counted in statistics.items():
        ties, users = counted["decided_by_ties"], counted["n_users"]
        if ties > MANY * users:
            found[
                f"Warning: on {name} a draw among equal times decided what is held out of {ties / users:.0%} of users."
            ] = None
    return tuple(found)
