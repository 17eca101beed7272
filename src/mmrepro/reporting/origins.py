"""The runs behind the rows of tables, as they are planned and as they were found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mmrepro.columns import TEST, Columns
from mmrepro.records.files import read_lines, read_object
from mmrepro.reporting.finished import cell_of
from mmrepro.reporting.records import measured, read_record
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan, PlannedRun

REFERENCE = Path("results/reference")
RUNS_FILE = "runs.jsonl"
UNKNOWN = "unknown"


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
    tried = [
        _searched(line, run)
        for line in lines
        if line.get("purpose") == "trial" and cell_of_line(line) == cell_of_run(run)
    ]
    found = exact or [line for line in alike if not tried or _searched(line, run) in tried]
    return found[0] if len({line.get("folder") for line in found}) == 1 else None


def _is_of(plan: Plan, line: Mapping[str, Any], run: PlannedRun) -> bool:
    """Whether a record has the settings of a planned run, as far as no search sets them."""
    spec, parameters = run.spec, line.get("parameters", {})
    if line.get("purpose") != spec.purpose or line.get("seed") != run.seed:
        return False
    if cell_of_line(line) != cell_of_run(run):
        return False
    switches = spec.protocol.model_dump(mode="json")
    if any(switches.get(key) != value for key, value in (line.get("protocol") or {}).items()):
        return False
    planned = plan.parameters_of(spec)
    return all(parameters.get(key, value) == value for key, value in planned.items() if key not in spec.selects)


def cell_of_run(run: PlannedRun) -> tuple[Any, Any, Any]:
    """Return data set, features and model of a planned run."""
    return run.spec.dataset, run.spec.features, run.spec.model


def _searched(line: Mapping[str, Any], run: PlannedRun) -> list[Any]:
    """What a record has of the parameters that a search sets."""
    return [(line.get("parameters") or {}).get(name) for name in run.spec.selects]


def cell_of_line(line: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Return those of a record."""
    return line.get(Columns.DATASET), line.get(Columns.FEATURES), line.get(Columns.MODEL)
