"""From a number of a table to its origin: its runs, their settings, code, data, machine, and how to make them again."""

from __future__ import annotations

import json
import re
import shlex
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrepro.columns import TEST, Columns
from mmrepro.config.base import nearest
from mmrepro.errors import MmreproError
from mmrepro.records.files import read_object
from mmrepro.reporting.finished import cell_of
from mmrepro.reporting.records import measured, read_record
from mmrepro.reporting.tables.settings import settings_frame_of
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan, PlannedRun

REFERENCE = Path("results/reference")
RUNS_FILE = "runs.jsonl"
UNKNOWN = "unknown"
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


def trace(
    plan: Plan, file: Path, model: str, metric: str, root: Path = Path(), dataset: str | None = None,
    protocol: str | None = None, committed: Path | None = None,
) -> str:  # fmt: skip
    """Say where a number of a study's main table comes from.

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
    name = _metric(plan, metric)
    for word, valid, kind in (
        (model, plan.study.models, "model"), (dataset, plan.study.datasets, "data set"),
        (protocol, tuple(plan.study.protocols), "protocol"),
    ):  # fmt: skip
        if word is not None and word not in valid:
            raise MmreproError(f"{file}: the study has no {kind} '{word}'; {nearest(word, [*valid])}")
    cells: dict[tuple[str, ...], list[PlannedRun]] = {}
    for run in plan.runs:
        spec = run.spec
        if spec.model == model and dataset in (None, spec.dataset) and protocol in (None, run.protocol_name):
            cells.setdefault(cell_of(run), []).append(run)
    origins = {cell: origins_of(plan, runs, root, committed) for cell, runs in cells.items()}
    published = root / REFERENCE / plan.name
    if committed is None and not any(origins.values()) and (published / RUNS_FILE).is_file():
        committed = published
        origins = {cell: origins_of(plan, runs, root, committed) for cell, runs in cells.items()}
    if not any(origins.values()):
        raise MmreproError(f"{file}: no run of '{model}' has finished; run the study first")
    lines: list[str] = []
    for cell, found in origins.items():
        lines += lines_of_cell(plan, file, cell, cells[cell], found, name, root, committed)
    return "\n".join(lines)


def _metric(plan: Plan, metric: str) -> str:
    """The name of a column of the measures."""
    from mmrepro.evaluation.metrics import METRICS

    parts = re.fullmatch(r"([a-z_]+?)(?:@|_at_)(\d+)", metric.lower())
    short = {known.short.lower(): known.name for known in METRICS}
    names = [known.name for known in METRICS]
    name = short.get(parts[1], parts[1]) if parts else metric
    if name not in names or parts is None:
        raise MmreproError(f"no metric '{metric}'; {nearest(name, names)} Write it as in recall_at_20")
    if int(parts[2]) not in plan.study.cutoffs:
        raise MmreproError(f"'{metric}': the study measures at {', '.join(map(str, plan.study.cutoffs))}; choose one")
    return f"{name}_at_{parts[2]}"


def origins_of(plan: Plan, runs: Sequence[PlannedRun], root: Path, committed: Path | None) -> list[Origin]:
    """Return the finished runs of a cell, in the order of seeds; parameters are those of `trace`."""
    found = []
    lines = _lines(committed) if committed else []
    ids = (read_object(root / Layout.study(plan.name) / "tracking.json") or {}).get("runs", {})
    for run in runs:
        if committed:
            line = next((line for line in lines if _is_of(plan, line, run)), None)
            if line is not None:
                metrics = line.get("metrics") or {split: line.get(split, {}) for split in (TEST, "valid")}
                found.append(Origin(run, line["folder"], line, metrics))
            continue
        record = read_record(run, root)
        metrics = measured(plan, run, record, root) if record is not None else None
        if record is not None and metrics is not None:
            folder = run.folder.as_posix()
            found.append(Origin(run, folder, record, metrics, ids.get(folder)))
    return found


def _lines(folder: Path) -> list[dict[str, Any]]:
    """The records of a folder of published results."""
    path = folder / RUNS_FILE
    if not path.is_file():
        raise MmreproError(f"{path}: no such file; name a folder such as results/reference/tiktok")
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise MmreproError(f"{path}: a line that is no JSON ({error}); restore the file from git") from None


def _is_of(plan: Plan, line: Mapping[str, Any], run: PlannedRun) -> bool:
    """Whether a record is that of a planned run: folders move with the configuration, what was set does not."""
    spec, parameters = run.spec, line.get("parameters", {})
    if line.get("purpose") != spec.purpose or line.get("seed") != run.seed:
        return False
    if (line["dataset"], line.get("features"), line["model"]) != (spec.dataset, spec.features, spec.model):
        return False
    switches = spec.protocol.model_dump(mode="json")
    if any(switches.get(key) != value for key, value in (line.get("protocol") or {}).items()):
        return False
    planned = plan.parameters_of(spec)
    return all(parameters.get(key, value) == value for key, value in planned.items() if key not in spec.selects)


def lines_of_cell(
    plan: Plan, file: Path, cell: Sequence[str], planned: Sequence[PlannedRun], found: Sequence[Origin], name: str,
    root: Path, committed: Path | None,
) -> Iterator[str]:  # fmt: skip
    """Yield the lines of `trace` for one cell."""
    dataset, features, model, protocol = cell
    yield f"{model}, {name} on {dataset}, protocol {protocol}, features {features}"
    if not found:
        yield "  not run"
        return
    values = [origin.metrics[TEST].get(name) for origin in found]
    known = [value for value in values if value is not None]
    spread = f" ± {statistics.stdev(known):.4f}" if len(known) > 1 else ""
    value = f"{statistics.fmean(known):.4f}{spread}" if known else "nothing to measure"
    folder = committed or Layout.study(plan.name)
    yield f"  {value}: mean of {len(known)} of {len(planned)} runs, in {(folder / 'tables/main.csv').as_posix()}"
    yield from _settings(plan, planned[0], found[0])
    yield from _selection(planned[0], root, committed, found[0])
    for origin, one in zip(found, values, strict=True):
        yield from _run(file, origin, one)


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
    lines = [line for line in _lines(committed) if line.get("purpose") == "trial"] if committed else []
    spec = run.spec
    trials = [line for line in lines if (line["dataset"], line["features"], line["model"])
              == (spec.dataset, spec.features, spec.model)]  # fmt: skip
    yield f"  chosen by {len(trials)} trials, in {RUNS_FILE}:"
    for line in trials:
        values = {name: line["parameters"].get(name) for name in spec.selects}
        mark = "*" if all(origin.record["parameters"].get(key) == value for key, value in values.items()) else " "
        watched = next(iter((line.get("valid") or {}).items()), (spec.watch, None))
        value = (line.get("valid") or {}).get(spec.watch, watched[1])
        yield f"   {mark} {UNKNOWN if value is None else f'{value:.4f}'}  {_named(values)}"


def _named(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {json.dumps(value)}" for key, value in sorted(values.items()))


def _run(file: Path, origin: Origin, value: float | None) -> Iterator[str]:
    record, run = origin.record, origin.run
    git, data = record.get("git") or {}, record.get("data") or {}
    shown = "nothing to measure" if value is None else f"{value:.4f}"
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
    for label, known in (("lists", (record.get("files") or {}).get("lists.parquet")), ("MLflow", origin.mlflow_id)):
        yield f"    {label} {known or UNKNOWN}"
    target = shlex.quote(run.record.as_posix())
    yield f"    again: snakemake --cores all --configfile {shlex.quote(file.as_posix())} -- {target}"
