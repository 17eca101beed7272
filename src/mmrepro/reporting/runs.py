"""The runs of a study by names that a person can write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mmrepro.columns import TEST, Columns
from mmrepro.config.base import nearest
from mmrepro.errors import MmreproError
from mmrepro.records.files import read_object
from mmrepro.reporting.records import prepared_hash
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan, PlannedRun

RUN, STATE, FOLDER = "run", "state", "folder"


@dataclass(frozen=True)
class Wanted:
    """Which run of a study is meant; what is not said must follow from the study.

    Attributes
    ----------
    name
        Of a run, as `named_runs` has it; None: the run is one of the main table, and what follows says which.
    model, dataset, protocol
        Of the main table.
    seed
        None: the first.
    """

    name: str | None = None
    model: str | None = None
    dataset: str | None = None
    protocol: str | None = None
    seed: int | None = None


def name_of(run: PlannedRun) -> str:
    """Return the name of a run of the main table: model, data set, protocol and seed."""
    return f"{run.spec.model}/{run.spec.dataset}/{run.protocol_name}/seed{run.seed}"


def named_runs(plan: Plan) -> Iterator[tuple[str, PlannedRun]]:
    """Yield the runs of all tables by name; those of a comparison begin with it and the variant."""
    for run in plan.runs:
        yield name_of(run), run
    for comparison, rows in plan.comparisons.items():
        for row in rows:
            for run in row.runs:
                yield f"{comparison}/{row.variant}/{name_of(run)}", run


def runs_frame(plan: Plan, root: Path = Path()) -> pd.DataFrame:
    """Return the final runs of a study.

    Parameters
    ----------
    plan
        The study.
    root
        Folder that holds `results/`.

    Returns
    -------
    pd.DataFrame
        Columns run (its name), state (finished, stale or left), the watched metric on test, folder.
    """
    measures = {d: read_object(root / Layout.measures(plan.name, d)) or {} for d in plan.study.datasets}
    rows = []
    for name, run in named_runs(plan):
        record = read_object(root / run.record)
        found = measures[run.spec.dataset]
        made_of = (record or {}).get("data", {}).get("interactions")
        current = record is not None and record.get("code") == run.code
        current = current and made_of == prepared_hash(run.spec.dataset, root)
        state = "left" if record is None else "finished" if current else "stale"
        measured = found.get("data") == made_of  # else of what the folder held before
        values = found.get("runs", {}).get(run.folder.as_posix(), {}) if measured else {}
        rows.append((name, state, values.get(TEST, {}).get(plan.study.watch), run.folder.as_posix()))
    return pd.DataFrame(rows, columns=[RUN, STATE, plan.study.watch, FOLDER])


def find_run(plan: Plan, wanted: Wanted, root: Path = Path()) -> PlannedRun:
    """Return the finished run that is meant.

    Parameters
    ----------
    plan
        The study.
    wanted
        Which one.
    root
        Folder that holds `results/`.

    Raises
    ------
    MmreproError
        For a name that the study has not, one that is needed and not said, or a run that has not finished.
    """
    study = plan.study
    if wanted.name is not None:
        names = dict(named_runs(plan))
        if wanted.name not in names:
            raise MmreproError(f"{study.study}: the study has no run '{wanted.name}'; {nearest(wanted.name, [*names])}")
        return _finished(names[wanted.name], wanted.name, study.study, root)
    if wanted.model is None:
        raise MmreproError(f"{study.study}: say which model, with --model: {', '.join(study.models)}")
    for word, valid, kind in (
        (wanted.model, study.models, "model"), (wanted.dataset, study.datasets, "data set"),
        (wanted.protocol, tuple(study.protocols), "protocol"),
    ):  # fmt: skip
        if word is not None and word not in valid:
            raise MmreproError(f"{study.study}: the study has no {kind} '{word}'; {nearest(word, [*valid])}")
    if wanted.dataset is None and len(study.datasets) > 1:
        raise MmreproError(f"{study.study}: say which data set, with --dataset: {', '.join(study.datasets)}")
    dataset, protocol = wanted.dataset or study.datasets[0], wanted.protocol or next(iter(study.protocols))
    cell = (wanted.model, dataset, protocol)
    runs = [run for run in plan.runs if (run.spec.model, run.spec.dataset, run.protocol_name) == cell]
    found = [run for run in runs if wanted.seed in (None, run.seed)]
    if not found:
        raise MmreproError(f"{study.study}: no seed {wanted.seed}; {Columns.SEED}s are {[run.seed for run in runs]}")
    return _finished(found[0], name_of(found[0]), study.study, root)


def _finished(run: PlannedRun, name: str, study: str, root: Path) -> PlannedRun:
    if not (root / run.record).is_file():
        raise MmreproError(f"{study}: {name} has not finished; run the study first")
    return run
