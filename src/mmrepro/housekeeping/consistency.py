"""Whether records agree with the plan and with one another: what is said twice must be the same both times."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mmrepro.columns import VALID
from mmrepro.config.features import matrices_of
from mmrepro.config.run import RunSpec
from mmrepro.housekeeping.comparison import differ
from mmrepro.records.files import read_object
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan, PlannedRun

Record = Mapping[str, Any]


def contradictions(plan: Plan, root: Path) -> Iterator[str]:
    """Yield where records of trainings contradict the plan, their data, the features or the searches.

    Parameters
    ----------
    plan
        The study.
    root
        Folder that holds the records, where jobs leave them.
    """
    trained: dict[str, Record] = {}
    for run in plan.trainings:
        record = read_object(root / run.record)
        if record is not None:
            trained[run.folder.as_posix()] = record
            yield from _against_plan(run, record, root)
            yield from _against_data(run, record, root)
    for selection in plan.selections:
        found = read_object(root / selection.path) or {}
        for trial in found.get("trials", []):
            digits = selection.spec.protocol.round_digits
            yield from _against_trial(selection.path, trial, found, trained.get(str(trial.get("run"))), digits)


def _against_plan(run: PlannedRun, record: Record, root: Path) -> Iterator[str]:
    """Settings in a record are those of its run; what a search sets is what its winner has."""
    planned = json.loads(run.spec.model_dump_json())
    chosen = (read_object(root / run.selection) or {}).get("parameters", {}) if run.selection else {}
    for name in [*RunSpec.model_fields, "seed"]:
        wanted = run.seed if name == "seed" else planned[name]
        if name == "parameters" or name not in record:
            continue
        if record[name] != wanted and not _is_older(record[name], wanted):
            yield f"{run.record}: {name} {record[name]}, planned {wanted}"
    for name, value in {
        **planned["parameters"],
        **{key: chosen[key] for key in run.spec.selects if key in chosen},
    }.items():
        if (written := record.get("parameters", {}).get(name, value)) != value:
            yield f"{run.record}: parameter {name} {written}, planned or chosen {value}"


def _is_older(written: Any, wanted: Any) -> bool:
    """Whether a record has the switches that were known when it was made, and these are the planned ones."""
    return (
        isinstance(written, dict) and isinstance(wanted, dict) and all(wanted.get(k) == v for k, v in written.items())
    )


def _against_data(run: PlannedRun, record: Record, root: Path) -> Iterator[str]:
    """Hashes in a record are those of the data and features beside it."""
    data, spec = record.get("data") or {}, run.spec
    prepared = read_object(root / Layout.prepared(spec.dataset) / "statistics.json")
    if prepared is not None and data.get("interactions") != prepared.get("content_hash"):
        yield f"{run.record}: interactions {data.get('interactions')}, prepared {prepared.get('content_hash')}"
    known = data.get("features") or {}
    if sorted(known) != sorted(spec.modalities):
        yield f"{run.record}: features of {', '.join(sorted(known)) or 'nothing'}, planned {', '.join(spec.modalities)}"
    for modality, sha256 in known.items():
        table = read_object(root / Layout.features(spec.dataset, matrices_of(str(spec.features))) / f"{modality}.json")
        if table is not None and table.get("matrix_sha256") != sha256:
            yield f"{run.record}: {modality} features {sha256}, extracted {table.get('matrix_sha256')}"


def _against_trial(
    path: Path, trial: Record, found: Record, record: Record | None, digits: int | None
) -> Iterator[str]:
    """A search lists of a trial what the trial's own record says."""
    if record is None:
        yield f"{path}: {trial.get('run')} is no trial of the study"
        return
    value = (record.get(str(found.get("select_on"))) or {}).get(str(found.get("metric")))
    if value is not None and digits is not None:
        value = round(value, digits)
    if differ(value, trial.get("value")):
        yield f"{path}: {trial.get('run')} {trial.get('value')}, its record {value}"
    for name, wanted in (trial.get("parameters") or {}).items():
        if record.get("parameters", {}).get(name) != wanted:
            yield f"{path}: {trial.get('run')} {name} {wanted}, its record {record.get('parameters', {}).get(name)}"


def watched_values(plan: Plan, measured: Mapping[str, Any], root: Path) -> Iterator[str]:
    """Yield final runs whose record has another watched value than is measured of their lists.

    Parameters
    ----------
    plan, root
        As for `contradictions`.
    measured
        Run -> split -> metric -> value, measured again.
    """
    for run in plan.final_runs:
        record = read_object(root / run.record) or {}
        watched = record.get("watch")
        value = (record.get(VALID) or {}).get(watched)
        again = measured.get(run.folder.as_posix(), {}).get(VALID, {}).get(watched)
        if value is not None and again is not None and differ(value, again):
            yield f"{run.record}: valid {watched} {value}, measured {again}"


def left_beside(plan: Plan, root: Path) -> Iterator[str]:
    """Yield final runs beside whose record lies a configuration or a history that is not the record's."""
    for run in plan.final_runs:
        record, folder = read_object(root / run.record), root / run.folder
        if record is None:
            continue
        try:
            written = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
            history = [json.loads(line) for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError, yaml.YAMLError) as error:
            yield f"{run.folder}: {type(error).__name__} where its configuration and history are read"
            continue
        if not isinstance(written, dict) or any(record.get(key) != value for key, value in written.items()):
            yield f"{folder / 'config.yaml'}: not the settings in run.json"
        if len(history) != record.get("epochs", 0):
            yield f"{folder / 'history.jsonl'}: {len(history)} epochs, {record.get('epochs')} in run.json"
