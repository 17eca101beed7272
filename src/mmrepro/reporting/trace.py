"""From a number of a table to its origin: its runs, their settings, code, data, machine, and how to make them again."""

from __future__ import annotations

import csv
import json
import re
import shlex
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mmrepro.columns import TEST, Columns
from mmrepro.config.base import nearest
from mmrepro.config.run import metric_of
from mmrepro.errors import MmreproError
from mmrepro.records.files import read_lines, read_object
from mmrepro.reporting.finished import cell_of
from mmrepro.reporting.records import measured, read_record
from mmrepro.reporting.tables.settings import settings_frame_of
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan, PlannedRun

REFERENCE = Path("results/reference")
RUNS_FILE = "runs.jsonl"
UNKNOWN, VARIANT = "unknown", "variant"
PRINTED = 1e-5
"""Difference of a mean and what a table prints of it, in six digits."""
HEADINGS = {"search": "chosen by the search", "study": "set by the study", "default": "defaults"}


@dataclass(frozen=True)
class Origin:
    """One run behind a number.

    Attributes
    ----------
    run
        As it is planned today.
    folder
        Where it lay, or lies.
    record
        What it left.
    metrics
        Split -> metric -> value.
    mlflow_id
        Of its entry in MLflow, where it was imported from here.
    """

    run: PlannedRun
    folder: str
    record: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, float | None]]
    mlflow_id: str | None = None


class Row(NamedTuple):
    """A row of a table: of the main one, or of a comparison."""

    dataset: str
    features: str
    model: str
    protocol: str
    comparison: str | None = None
    variant: str = ""

    @property
    def label(self) -> str:
        """Its model, and the variant of a comparison."""
        return self.model if self.comparison is None else f"{self.model}, {self.comparison}: {self.variant}"


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
    return "\n".join(
        line
        for where, runs in rows
        for line in lines_of_row(plan, file, where, runs, origins[where], [name], root, committed)
    )


def traced_rows(plan: Plan) -> Iterator[tuple[Row, Sequence[PlannedRun]]]:
    """Yield the rows of the main table, then those of comparisons, with their runs."""
    cells: dict[tuple[str, ...], list[PlannedRun]] = {}
    for run in plan.runs:
        cells.setdefault(cell_of(run), []).append(run)
    for (dataset, features, model, protocol), runs in cells.items():
        yield Row(dataset, features, model, protocol), runs
    for comparison, variants in plan.comparisons.items():
        for one in variants:
            first = one.runs[0]
            cell = Row(one.dataset, first.features_name, one.model, first.protocol_name, comparison, one.variant)
            yield cell, one.runs


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


def origins_of(plan: Plan, runs: Sequence[PlannedRun], root: Path, committed: Path | None) -> list[Origin]:
    """Return the finished runs of a cell, in the order of seeds; parameters are those of `trace`."""
    found = []
    lines = read_lines(committed / RUNS_FILE) if committed else []
    ids = (read_object(root / Layout.study(plan.name) / "tracking.json") or {}).get("runs", {})
    for run in runs:
        if committed:
            line = _line_of(plan, lines, run)
            if line is not None:
                metrics = line.get("metrics") or {split: line.get(split, {}) for split in (TEST, "valid")}
                found.append(Origin(run, str(line.get("folder", UNKNOWN)), line, metrics))
            continue
        record = read_record(run, root)
        metrics = measured(plan, run, record, root) if record is not None else None
        if record is not None and metrics is not None:
            folder = run.folder.as_posix()
            found.append(Origin(run, folder, record, metrics, ids.get(folder)))
    return found


def _line_of(plan: Plan, lines: Sequence[Mapping[str, Any]], run: PlannedRun) -> Mapping[str, Any] | None:
    """The record of a planned run: by its folder, or, because folders move with the configuration, by what was set."""
    folder = run.folder.as_posix()
    exact = [line for line in lines if line.get("folder") == folder]
    others = {other.folder.as_posix() for other in plan.final_runs} - {folder}
    alike = [line for line in lines if line.get("folder") not in others and _is_of(plan, line, run)]
    tried = [_searched(line, run) for line in lines if line.get("purpose") == "trial" and _cell(line) == _cell_of(run)]
    found = exact or [line for line in alike if not tried or _searched(line, run) in tried]
    return found[0] if len({line.get("folder") for line in found}) == 1 else None


def _is_of(plan: Plan, line: Mapping[str, Any], run: PlannedRun) -> bool:
    """Whether a record has the settings of a planned run, as far as no search sets them."""
    spec, parameters = run.spec, line.get("parameters", {})
    if line.get("purpose") != spec.purpose or line.get("seed") != run.seed:
        return False
    if _cell(line) != _cell_of(run):
        return False
    switches = spec.protocol.model_dump(mode="json")
    if any(switches.get(key) != value for key, value in (line.get("protocol") or {}).items()):
        return False
    planned = plan.parameters_of(spec)
    return all(parameters.get(key, value) == value for key, value in planned.items() if key not in spec.selects)


def _cell_of(run: PlannedRun) -> tuple[Any, Any, Any]:
    return run.spec.dataset, run.spec.features, run.spec.model


def _searched(line: Mapping[str, Any], run: PlannedRun) -> list[Any]:
    """What a record has of the parameters that a search sets."""
    return [(line.get("parameters") or {}).get(name) for name in run.spec.selects]


def _cell(line: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return line.get(Columns.DATASET), line.get(Columns.FEATURES), line.get(Columns.MODEL)


def lines_of_row(
    plan: Plan, file: Path, row: Row, planned: Sequence[PlannedRun], found: Sequence[Origin], names: Sequence[str],
    root: Path, committed: Path | None, tracked: bool = True,
) -> Iterator[str]:  # fmt: skip
    """Yield the lines of `trace` for one row.

    Parameters
    ----------
    plan, file, root, committed
        As for `trace`.
    row, planned, found
        The row, its runs, and those that have finished.
    names
        Metrics.
    tracked
        Whether MLflow can have been told of the runs by now.
    """
    yield f"{row.label} on {row.dataset}, protocol {row.protocol}, features {row.features}"
    if not found:
        yield "  not run"
        return
    table = (committed or Layout.study(plan.name)) / f"tables/{row.comparison or 'main'}.csv"
    for name in names:
        known = [value for origin in found if (value := origin.metrics[TEST].get(name)) is not None]
        spread = f" ± {statistics.stdev(known):.4f}" if len(known) > 1 else ""
        mean = f"{statistics.fmean(known):.4f}{spread}" if known else "nothing to measure"
        where = _in_table(table, root, row, name, known)
        yield f"  {name} {mean}: mean of {len(known)} of {len(planned)} runs, {where}"
    yield from _settings(plan, planned[0], found[0])
    yield from _selection(planned[0], root, committed, found[0])
    for origin in found:
        yield from _run(file, origin, names, tracked)


def _in_table(table: Path, root: Path, row: Row, name: str, known: Sequence[float]) -> str:
    """Where the number stands, and whether it is the same there."""
    path = root / table
    if not path.is_file():
        return f"and no {table.as_posix()}"
    metric, k = metric_of(name)
    wanted = {
        Columns.DATASET: row.dataset, Columns.FEATURES: row.features, Columns.MODEL: row.model, Columns.METRIC: metric,
        Columns.PROTOCOL: row.protocol, Columns.K: str(k), Columns.SPLIT: TEST, VARIANT: row.variant,
    }  # fmt: skip
    with path.open(newline="", encoding="utf-8") as handle:
        printed = [
            line.get(Columns.MEAN)
            for line in csv.DictReader(handle)
            if all(line[key] == value for key, value in wanted.items() if key in line)
        ]
    same = len(printed) == 1 and known and abs(float(printed[0] or "nan") - statistics.fmean(known)) < PRINTED
    if same:
        return f"in {table.as_posix()}"
    return f"but {table.as_posix()} has {', '.join(map(str, printed)) or 'no such row'}"


def _settings(plan: Plan, run: PlannedRun, origin: Origin) -> Iterator[str]:
    rows = settings_frame_of(plan, run, origin.record)
    for source, part in rows.groupby("origin", sort=False):
        values = ", ".join(f"{key} {value}" for key, value in zip(part["parameter"], part[Columns.VALUE], strict=True))
        yield f"  {HEADINGS[str(source)]}: {values}"
    switches = (origin.record.get("protocol") or {}).items()
    yield f"  protocol: {', '.join(f'{key} {value}' for key, value in switches)}"


def _selection(run: PlannedRun, root: Path, committed: Path | None, origin: Origin) -> Iterator[str]:
    """The trials that chose."""
    if run.selection is None:
        return
    found = read_object(root / run.selection) if committed is None else None
    if found is not None:
        yield f"  chosen by {found['n_trials']} trials on {found['select_on']}, in {run.selection.as_posix()}:"
        for trial in found["trials"]:
            mark = "*" if trial["parameters"] == found["parameters"] else " "
            yield f"   {mark} {trial['value']:.4f}  {_named(trial['parameters'])}"
        return
    lines = read_lines(committed / RUNS_FILE) if committed else []
    spec = run.spec
    of_cell = [line for line in lines if _cell(line) == _cell_of(run)]
    trials = [line for line in of_cell if line.get("purpose") == "trial"]
    yield f"  chosen by {len(trials)} trials, in {RUNS_FILE}:"
    for line in trials:
        values = {name: (line.get("parameters") or {}).get(name) for name in spec.selects}
        mark = "*" if all(origin.record["parameters"].get(key) == value for key, value in values.items()) else " "
        watched = next(iter((line.get("valid") or {}).items()), (spec.watch, None))
        value = (line.get("valid") or {}).get(spec.watch, watched[1])
        yield f"   {mark} {UNKNOWN if value is None else f'{value:.4f}'}  {_named(values)}"


def _named(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {json.dumps(value)}" for key, value in sorted(values.items()))


def _run(file: Path, origin: Origin, names: Sequence[str], tracked: bool) -> Iterator[str]:
    record, run = origin.record, origin.run
    git, data = record.get("git") or {}, record.get("data") or {}
    values = [(name, origin.metrics[TEST].get(name)) for name in names]
    shown = ", ".join(f"{name} {'nothing to measure' if one is None else f'{one:.4f}'}" for name, one in values)
    yield f"  seed {run.seed}: {shown}, {origin.folder}"
    seconds, memory = record.get("wall_seconds"), record.get("peak_memory_mb")
    joules = record.get("energy_joules")
    cost = [
        f"{record.get('epochs', UNKNOWN)} epochs, the best {record.get('best_epoch', UNKNOWN)}",
        UNKNOWN if seconds is None else f"{seconds:.0f} s",
        "energy unknown" if joules is None else f"{joules / 3.6e6:.4f} kWh",
        "memory unknown" if memory is None else f"{memory:.0f} MB",
        f"{record.get('device', UNKNOWN)} ({record.get('device_name', UNKNOWN)})",
    ]
    yield f"    {', '.join(cost)}"
    today = "today's" if record.get("code") == run.code else "not today's"
    changes = {True: ", with uncommitted changes", False: "", None: ""}[git.get("dirty")]
    yield f"    code {record.get('code', UNKNOWN)} ({today}), commit {git.get('commit', UNKNOWN)}{changes}"
    yield f"    interactions {data.get('interactions', UNKNOWN)}"
    for kind in ("features", "graphs"):
        for modality, known in sorted((data.get(kind) or {}).items()):
            yield f"    {kind} {modality} {known}"
    versions = record.get("versions") or {}
    yield f"    {', '.join(f'{package} {version}' for package, version in versions.items()) or 'versions unknown'}"
    if "lists" in data:
        yield f"    given lists {data['lists']}"
    yield f"    lists {(record.get('files') or {}).get('lists.parquet') or UNKNOWN}"
    if tracked:
        yield f"    MLflow {origin.mlflow_id or UNKNOWN}"
    target = shlex.quote(run.record.as_posix())
    yield f"    again: snakemake --cores all --configfile {shlex.quote(file.as_posix())} -- {target}"
