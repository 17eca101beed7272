"""The main table for readers: models by metrics, with marks, published numbers, and a footer that hides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from mmrepro.columns import TEST, Columns
from mmrepro.config.model import is_lists
from mmrepro.config.protocol import Protocol
from mmrepro.reporting import literature
from mmrepro.reporting.cells import PROGRAM, PUBLISHED, RANKS
from mmrepro.reporting.collect import Collection
from mmrepro.reporting.headline import LEGEND, SHORT, headline_columns
from mmrepro.reporting.literature import PublishedNumber
from mmrepro.reporting.means import (
    Row,
    difference_percent,
    difference_text,
    labelled,
    main_blocks,
    mean_text,
    seeds_note,
    selection_notes,
    signed,
    stars_note,
    study_note,
)
from mmrepro.reporting.render import Block, Cell, Table, cells
from mmrepro.study.plan import Plan


def main_table(
    plan: Plan,
    collection: Collection,
    frame: pd.DataFrame,
    significance: pd.DataFrame,
    numbers: Mapping[literature.Cell, PublishedNumber],
) -> Table:
    """Return the readable main table.

    Parameters
    ----------
    plan, collection
        The study and what exists of it.
    frame, significance
        What `main_frame` and `significance_frame` return.
    numbers
        Published numbers, for the footer.

    Returns
    -------
    Table
        A block for each data set and protocol; test recall and NDCG.
    """
    blocks, simple = [], []
    tests = {name: found.to_dict("records") for name, found in main_blocks(plan, significance)}
    for name, rows in main_blocks(plan, frame[frame[Columns.SPLIT] == TEST]):
        blocks.append(_block(plan, name, rows.to_dict("records"), tests[name]))
        simple += _simple_note(plan, name, rows)
    columns = ("model", *(f"{SHORT[metric]}@{k}" for metric, k in headline_columns(plan.study)))
    reading, *footer = _footer(plan, collection, significance, numbers)
    return Table(plan.study.title, columns, tuple(blocks), (reading, *simple, *footer))


def _block(plan: Plan, title: str, rows: Sequence[Row], tests: Sequence[Row]) -> Block:
    columns = headline_columns(plan.study)
    known = any(isinstance(row[Columns.PUBLISHED], float) for row in rows)
    lines: list[tuple[Cell, ...]] = []
    for model in plan.study.models:
        found = {(r[Columns.METRIC], r[Columns.K]): r for r in rows if r[Columns.MODEL] == model}
        chosen = [found[column] for column in columns]
        lines.append((Cell(_label(chosen[0])), *(_value(row) for row in chosen)))
        if known and any(row[Columns.PUBLISHED] is not None for row in chosen):
            by_program = any(f"{PROGRAM} " in str(row[Columns.VERDICT]) for row in chosen)
            label = "↳ the program, run by us" if by_program else "↳ published"
            lines.append((Cell(f"{label} (ours against it)"), *(_published(row) for row in chosen)))
    if tests:
        by_column = {(row[Columns.METRIC], row[Columns.K]): row for row in tests}
        chosen = [by_column[column] for column in columns]
        improvements = (difference_text(row["improvement_percent"], row["p_holm"]) for row in chosen)
        lines.append(cells(f"{plan.study.focus} over the best other", *improvements))
        lines.append(cells("↳ best other", *(str(row["other"]) for row in chosen)))
        lines.append(cells("↳ p, Holm-corrected", *(f"{row['p_holm']:.2g}" for row in chosen)))
    return Block(title, tuple(lines))


def _simple_note(plan: Plan, title: str, rows: pd.DataFrame) -> list[str]:
    """Which trained models the best model without training is ahead of."""
    metric, k = headline_columns(plan.study)[len(headline_columns(plan.study)) // 2 - 1]
    means = rows[(rows[Columns.METRIC] == metric) & (rows[Columns.K] == k)].set_index(Columns.MODEL)[Columns.MEAN]
    means = means.dropna().astype(float)
    untrained = means[[name for name in means.index if name in plan.fitted]]
    if untrained.empty:
        return []
    best = str(untrained.idxmax())
    trained = [name for name in means.index if not plan.schemas[name].closed_form]
    behind = [name for name in trained if means[name] < untrained[best]]
    of = "all trained models" if len(behind) == len(trained) else ", ".join(behind)
    return [f"{title}: {best}, which needs no training, is ahead of {of} in {SHORT[metric]}@{k}."] if behind else []


def _label(row: Row) -> str:
    """The model's name with what a reader must know about its runs."""
    parts = str(row[Columns.VERDICT]).split("; ")
    return labelled(
        row[Columns.MODEL],
        [p for p in parts if p not in RANKS.values() and p.split(" ")[0] not in (PUBLISHED, PROGRAM)],
    )


def _value(row: Row) -> Cell:
    parts = str(row[Columns.VERDICT]).split("; ")
    return Cell(mean_text(row), "best" if "best" in parts else "second" if "second" in parts else "")


def _published(row: Row) -> Cell:
    value = row[Columns.PUBLISHED]
    if not isinstance(value, float):
        return Cell(str(value))
    difference = difference_percent(row[Columns.MEAN], value) if row[Columns.N_SEEDS] else None
    return Cell(f"{value:.4f}" if difference is None else f"{value:.4f} ({signed(difference)} %)")


def _footer(
    plan: Plan, collection: Collection, significance: pd.DataFrame, numbers: Mapping[literature.Cell, PublishedNumber]
) -> tuple[str, ...]:
    study = plan.study
    lines = [
        f"{LEGEND} on the test split, {seeds_note(study.seeds)}; bold: best, underlined: second best of a block; "
        "equal values share a rank.",
    ]
    if plan.fitted and len(study.seeds) > 1:
        lines.append(f"Run once, because nothing is drawn: {', '.join(plan.fitted)}.")
    lines += _outside_notes(plan, collection)
    if len(significance):
        lines.append(
            f"Improvement of {study.focus} over the best other model in percent; {stars_note(len(significance))}"
        )
    else:
        lines.append(f"No improvement is tested: {study.focus} and another model must both have been run.")
    for name, config in study.protocols.items():
        lines.append(f"Protocol {name}: {_switches(config.resolve())}.")
    lines += _search_notes(plan)
    return (*lines, *_published_notes(plan, numbers), *_feature_notes(collection), *_run_notes(plan, collection))


def _switches(protocol: Protocol) -> str:
    values = protocol.model_dump(mode="json")
    return ", ".join(f"{key} {'no' if value is None else value}" for key, value in values.items())


def _search_notes(plan: Plan) -> list[str]:
    """How the hyper-parameters were chosen, of which models, and what of it read the test split."""
    search = plan.study.search
    searched = [name for name in plan.study.models if any(s.model == name for s in plan.selections)]
    if search is None or not searched:
        return []
    budget = "all combinations" if search.budget == "grid" else f"at most {search.budget} trials a model"
    where = f" on {', '.join(search.datasets)}" if search.datasets else ""
    line = f"Hyper-parameters searched ({search.sampler}, {budget}, seed {search.seed}): {', '.join(searched)}{where}."
    return [line, *selection_notes(plan.runs)]


def _published_notes(plan: Plan, numbers: Mapping[literature.Cell, PublishedNumber]) -> list[str]:
    """How often the published numbers that stand in the table are printed, and where they are found."""
    splits, columns = set(plan.literature.values()), headline_columns(plan.study)
    used = [
        number
        for (dataset, model, metric, k), number in numbers.items()
        if dataset in splits and model in plan.study.models and (metric, k) in columns
    ]
    notes = []
    if used:
        authors = sorted({printed.authors for number in used for printed in number.printed})
        notes.append(
            f"Published: the value that most independent sources print, of {len(authors)} ({', '.join(authors)}); each "
            "value with its source, how many agree, and what ours makes of it: tables/ledger.csv."
        )
    if splits:
        notes.append(
            f"'{literature.NOT_TRANSCRIBED}': the literature uses this split, but its number is not known here; "
            "add it to data/published/papers.csv."
        )
    return notes


def _feature_notes(collection: Collection) -> list[str]:
    """Encoders and items without features, as the runs record them."""
    encoders: dict[str, set[str]] = {}
    missing: dict[str, set[str]] = {}
    for run in collection.runs:
        data, spec = run.record.get("data", {}), run.planned.spec
        for modality, encoder in (data.get("encoders") or {}).items():
            warning = " (random weights, not trained)" if modality in data.get("untrained", ()) else ""
            encoders.setdefault(f"{modality} by {encoder}{warning}", set()).add(spec.dataset)
        for modality, count in (data.get("missing") or {}).items():
            if count:
                missing.setdefault(spec.dataset, set()).add(f"{count} {modality}")
    order = {name: i for i, name in enumerate(dict.fromkeys(r.planned.spec.dataset for r in collection.runs))}
    notes = [
        f"Features: {encoder} on {', '.join(sorted(datasets, key=order.__getitem__))}."
        for encoder, datasets in sorted(encoders.items())
    ]
    if missing:
        counts = "; ".join(
            f"{name}: {', '.join(sorted(missing[name]))}" for name in sorted(missing, key=order.__getitem__)
        )
        notes.append(f"Items without a feature of their own: {counts}.")
    return notes


def _run_notes(plan: Plan, collection: Collection) -> list[str]:
    """Holes, staleness, mixed versions and devices, and the study's own note."""
    notes = []
    if collection.holes:
        names = dict.fromkeys(
            f"{run.spec.dataset}/{run.spec.model}/{run.protocol_name} seed {run.seed}" for run in collection.holes
        )
        listed = [*names][:12]
        more = f" and {len(names) - len(listed)} more" if len(names) > len(listed) else ""
        notes.append(f"Not run: {len(collection.holes)} of {len(plan.runs)} runs: {', '.join(listed)}{more}.")
    if any("stale" in run.flags for run in collection.runs):
        notes.append("'stale': made by code that has changed since; run the study again.")
    for flag, values in (("mixed versions", _versions(collection)), ("mixed devices", _devices(collection))):
        if len(values) > 1:
            notes.append(f"Runs of {flag}: {' and '.join(values)}.")
    return [*notes, *study_note(plan.study)]


def _outside_notes(plan: Plan, collection: Collection) -> list[str]:
    """Where the rows come from that are no models of the package, and for whom another system made lists."""
    lines = [
        f"{name}: a class of this project, {outside}."
        for name, outside in plan.study.outside.items()
        if not is_lists(outside)
    ]
    for run in collection.runs:
        counts = (run.record.get("data", {}).get("listed") or {}).get(TEST)
        if counts is not None:
            known = f"; {counts['known']} pairs that users have had left out" if counts["known"] else ""
            known += (
                f"; {counts['unknown']} pairs of users or items left out that the data set does not have"
                if counts.get("unknown") else ""
            )  # fmt: skip
            lines.append(
                f"{run.planned.spec.model}: lists of another system, {run.planned.spec.outside}, for "
                f"{counts['listed']} of {counts['users']} test users of {run.planned.spec.dataset}{known}."
            )
    return lines


def _versions(collection: Collection) -> list[str]:
    """Only the packages whose versions differ."""
    records = [run.record.get("versions") or {} for run in collection.runs]
    names = sorted({name for record in records for name in record})
    differing = [name for name in names if len({record.get(name) for record in records}) > 1]
    return sorted({", ".join(f"{name} {record.get(name, 'none')}" for name in differing) for record in records})


def _devices(collection: Collection) -> list[str]:
    return sorted({f"{run.record.get('device')} ({run.record.get('device_name')})" for run in collection.runs})
