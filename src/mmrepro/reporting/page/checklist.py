"""The questions that reviewers ask of an experiment, answered from the records; 'unknown' where they have nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mmrepro.evaluation.significance import DRAWS
from mmrepro.reporting.report import Report
from mmrepro.reporting.tables.cost import ENERGY, cost_frame
from mmrepro.reporting.tables.datasets import statistics_of
from mmrepro.study.plan import Plan

UNKNOWN = "unknown"
TESTS = (
    "Wilcoxon's signed-rank test over users, Holm-corrected; intervals by the paired bootstrap over users, "
    f"{DRAWS} draws"
)
Answer = tuple[str, str]


def checklist(report: Report) -> list[Answer]:
    """Return the questions of the field's checklists, on data, search, seeds, tests and compute, with answers."""
    plan, runs = report.plan, report.collection.runs
    records = [run.record for run in runs]
    return [
        ("Which data, under which terms?", _data(report)),
        ("Which version of the data?", _hashes(records)),
        ("How are they split?", "; ".join(f"{name}: {plan.datasets[name].split.kind}" for name in plan.study.datasets)),
        ("How large is the test set?", _users(report)),
        ("Which items are ranked?", _protocols(plan)),
        ("How were hyper-parameters chosen, on what, with which budget?", _search(plan)),
        ("How many seeds?", _seeds(plan)),
        ("How is significance tested?", TESTS),
        ("Which code?", _git(records)),
        ("Were there uncommitted changes?", _dirty(records)),
        ("Which versions of libraries?", _versions(records)),
        ("On which machines?", _several(map(_machine, records))),
        ("How long did it compute, with how much energy?", _compute(report)),
        ("What is missing?", f"{len(report.collection.missing)} of {len(plan.final_runs)} planned runs"),
    ]  # fmt: skip


def _several(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(values)) or UNKNOWN


def _data(report: Report) -> str:
    plan = report.plan
    return _several(f"{plan.datasets[name].title} ({plan.datasets[name].licence})" for name in plan.study.datasets)


def _hashes(records: Iterable[Mapping[str, Any]]) -> str:
    return _several(
        f"{record.get('dataset', UNKNOWN)} {str(record.get('data', {}).get('interactions') or UNKNOWN)[:16]}"
        for record in records
    )


def _users(report: Report) -> str:
    found = report.made(statistics_of)
    return (
        "; ".join(f"{name}: {known['interactions']['test']:,} test interactions" for name, known in found.items())
        or UNKNOWN
    )


def _protocols(plan: Plan) -> str:
    masks = {name: config.resolve().mask_at_test for name, config in plan.study.protocols.items()}
    return "; ".join(
        f"{name}: all but those of {mask.replace('+', ' and ')}, which the user has had" for name, mask in masks.items()
    )


def _search(plan: Plan) -> str:
    search = plan.study.search
    if search is None:
        return "nothing was searched"
    split = _several(f"{name}: on {config.resolve().select_on}" for name, config in plan.study.protocols.items())
    return f"{search.sampler} search, budget {search.budget}, seed {search.seed}, {len(plan.trials)} trials; {split}"


def _seeds(plan: Plan) -> str:
    seeds = plan.study.seeds
    words = {"derived": "derived from data set, model and seed", "literal": "the seed itself"}
    drawn = _several(words[config.resolve().seeding] for config in plan.study.protocols.values())
    return f"{len(seeds)}: {', '.join(map(str, seeds))}; {drawn}"


def _machine(record: Mapping[str, Any]) -> str:
    return f"{record.get('device', UNKNOWN)} ({record.get('device_name', UNKNOWN)})"


def _git(records: Iterable[Mapping[str, Any]]) -> str:
    return _several(f"commit {((record.get('git') or {}).get('commit')) or UNKNOWN}" for record in records)


def _dirty(records: Iterable[Mapping[str, Any]]) -> str:
    words = {True: "yes", False: "no", None: UNKNOWN}
    return _several(words[(record.get("git") or {}).get("dirty")] for record in records)


def _versions(records: Iterable[Mapping[str, Any]]) -> str:
    return _several(
        ", ".join(f"{name} {version}" for name, version in (record.get("versions") or {}).items()) or UNKNOWN
        for record in records
    )


def _compute(report: Report) -> str:
    frame = cost_frame(report.plan, report.root)
    if frame.empty:
        return UNKNOWN
    energy = frame[ENERGY].sum(skipna=False)
    known = UNKNOWN if energy != energy else f"{energy:.3f} kWh"
    return f"{frame['wall_hours'].sum():.2f} hours in all, one job after another; energy {known}"
