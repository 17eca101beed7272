"""From a number of a table to its origin: its runs, their settings, code, data, machine, and how to make them again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmrepro.columns import TEST
from mmrepro.config.base import nearest
from mmrepro.errors import MmreproError
from mmrepro.reporting.origins import REFERENCE, RUNS_FILE, Origin, Row, origins_of, traced_rows
from mmrepro.reporting.trace_words import again, lines_of_row
from mmrepro.study.plan import Plan, PlannedRun


def trace(
    plan: Plan, file: Path, model: str, metric: str, root: Path = Path(), dataset: str | None = None,
    protocol: str | None = None, committed: Path | None = None, comparison: str | None = None,
) -> str:  # fmt: skip
    """Say where a number of a study's main table, or of a comparison, comes from.

    Parameters
    ----------
    plan
        The resolved study.
    file
        Its file, for the command that makes a run again.
    model, metric
        Of the number; the metric as in `recall_at_20` or `recall@20`.
    root
        Folder that holds `config/` and `results/`.
    dataset, protocol
        Of the number; none: all of the study.
    committed
        A folder of published results to look in; none: the runs that lie here, and where there are none the study's
        folder in `results/reference`.
    comparison
        Name of the comparison whose variants are meant; none: the main table.

    Returns
    -------
    str
        For each cell the value, its runs and settings, the trials that chose them; for each run its values, code, data,
        machine, cost, entry in MLflow, and a command that makes it again in a clone.

    Raises
    ------
    MmreproError
        For a model, data set, protocol or metric that the study has not, with the nearest name, or a cell of which no
        run has finished.
    """
    name, rows, committed = _traced(plan, file, model, metric, root, dataset, protocol, committed, comparison)
    return "\n".join(
        line
        for where, runs, found in rows
        for line in lines_of_row(plan, file, where, runs, found, [name], root, committed)
    )


def trace_data(
    plan: Plan, file: Path, model: str, metric: str, root: Path = Path(), dataset: str | None = None,
    protocol: str | None = None, committed: Path | None = None, comparison: str | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return what `trace` tells, for programs; parameters and errors are the same.

    Returns
    -------
    list of dict
        A row each: `dataset`, `features`, `model`, `protocol`, `comparison`, `variant`, and `runs`, each with `seed`,
        `folder`, `value` of the metric on test, `metrics`, the whole `record`, and `again`, the command that makes it.
    """
    name, rows, _ = _traced(plan, file, model, metric, root, dataset, protocol, committed, comparison)
    return [
        {
            **where._asdict(),
            "metric": name,
            "runs": [
                {
                    "seed": origin.run.seed, "folder": origin.folder, "value": origin.metrics[TEST].get(name),
                    "metrics": origin.metrics, "record": origin.record, "again": again(file, origin),
                }
                for origin in found
            ],
        }
        for where, _, found in rows
    ]  # fmt: skip


def _traced(
    plan: Plan, file: Path, model: str, metric: str, root: Path, dataset: str | None, protocol: str | None,
    committed: Path | None, comparison: str | None,
) -> tuple[str, list[tuple[Row, Sequence[PlannedRun], list[Origin]]], Path | None]:  # fmt: skip
    """The metric's name, the rows that are meant with their runs as planned and as found, and where they were found."""
    name, model = _metric(plan, metric), _model(plan, model)
    for word, valid, kind in (
        (model, plan.study.models, "model"), (dataset, plan.study.datasets, "data set"),
        (protocol, tuple(plan.study.protocols), "protocol"), (comparison, tuple(plan.comparisons), "comparison"),
    ):  # fmt: skip
        if word is not None and word not in valid:
            raise MmreproError(f"{file}: the study has no {kind} '{word}'; {nearest(word, [*valid])}")
    rows = [
        (where, runs)
        for where, runs in traced_rows(plan)
        if where.model == model and dataset in (None, where.dataset) and protocol in (None, where.protocol)
        and where.comparison == comparison
    ]  # fmt: skip
    if not rows:
        raise MmreproError(f"{file}: no row of '{model}' there; see `mmrepro runs`")
    origins = {where: origins_of(plan, runs, root, committed) for where, runs in rows}
    published = root / REFERENCE / plan.name
    if committed is None and not any(origins.values()) and (published / RUNS_FILE).is_file():
        committed = published
        origins = {where: origins_of(plan, runs, root, committed) for where, runs in rows}
    if not any(origins.values()):
        raise MmreproError(f"{file}: no run of '{model}' has finished; run the study first")
    return name, [(where, runs, origins[where]) for where, runs in rows], committed


def _model(plan: Plan, word: str) -> str:
    """A model by its name or its title, whatever the case."""
    titles = {config.title.lower(): name for name, config in plan.models.items()}
    lower = word.lower()
    return lower if lower in plan.study.models else titles.get(lower, word)


def _metric(plan: Plan, metric: str) -> str:
    """The name of a column of the measures."""
    from mmrepro.evaluation.metrics import METRICS

    parts = re.fullmatch(r"([a-z_]+?)(?:@|_at_)(\d+)", metric.lower())
    short = {known.short.lower(): known.name for known in METRICS}
    names = [known.name for known in METRICS]
    name = short.get(parts[1], parts[1]) if parts else metric
    if name not in names:
        raise MmreproError(f"no metric '{metric}'; {nearest(name, names)}; write it as in recall_at_20")
    if parts is None:
        raise MmreproError(f"'{metric}': say at which cutoff, as in {name}_at_20")
    if int(parts[2]) not in plan.study.cutoffs:
        raise MmreproError(f"'{metric}': the study measures at {', '.join(map(str, plan.study.cutoffs))}; choose one")
    return f"{name}_at_{parts[2]}"
