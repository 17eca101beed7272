"""All tables of a study, from the runs that exist: `results/<study>/tables`, its figures and its summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mmrepro.records.files import atomic_path, write_json, write_text
from mmrepro.reporting.collect import Collection, collect
from mmrepro.reporting.figures.accuracy import draw_figure
from mmrepro.reporting.figures.degrees import draw_degrees
from mmrepro.reporting.figures.search import draw_search
from mmrepro.reporting.figures.sensitivity import draw_sensitivity
from mmrepro.reporting.literature import load_published, published_files
from mmrepro.reporting.products import (
    DEGREE_FIGURE,
    SEARCH_FIGURE,
    SENSITIVITY_FIGURE,
    SUMMARY,
    WITHOUT_LATEX,
    figure_file,
    sensitivities,
)
from mmrepro.reporting.render import Table, to_latex, to_markdown
from mmrepro.reporting.summary import summary
from mmrepro.reporting.tables.alignment import alignment_frame, alignment_table
from mmrepro.reporting.tables.comparisons import comparison_frame, comparison_table
from mmrepro.reporting.tables.cost import cost_frame, cost_table
from mmrepro.reporting.tables.datasets import datasets_frame, datasets_table, dropped_notes, load_statistics
from mmrepro.reporting.tables.feature_quality import quality_frame, quality_table
from mmrepro.reporting.tables.groups import (
    load_prepared,
    long_tail_frame,
    long_tail_table,
    short_history_frame,
    short_history_table,
)
from mmrepro.reporting.tables.main import main_frame, significance_frame
from mmrepro.reporting.tables.readable import main_table
from mmrepro.reporting.tables.search import search_frame
from mmrepro.study.plan import Plan
from mmrepro.study.resolve import plan_of_file


def build_tables(
    study_file: Path,
    output: Path,
    root: Path = Path(),
    changes: Mapping[str, Any] | None = None,
    current_code: Mapping[str, str] | None = None,
) -> None:
    """Write all tables of a study, its figures and its summary to `<output>/<study>/`.

    Every file but `cost.*`, and the seconds of `search.csv`, is a function of data, code and seeds: building twice gives the same bytes.

    Parameters
    ----------
    study_file
        The study's file, relative to `root` or absolute.
    output
        Folder that receives `<study>/tables/`, `<study>/figures/` and `<study>/summary.json`; usually `results`.
    root
        Folder that holds `config/`, `data/` and `results/`.
    changes
        Keys of the study replaced for this call, as by Snakemake's --config.
    current_code
        Model to the fingerprint of today's code; computed unless given.

    Raises
    ------
    MmreproError
        When the study, a run's record or a file of published numbers cannot be read.
    """
    plan = plan_of_file(study_file, root, **(changes or {}))
    write_tables(plan, output / plan.study.study, root, current_code)


def write_tables(plan: Plan, folder: Path, root: Path, current_code: Mapping[str, str] | None = None) -> None:
    """Write the tables of a resolved study to a folder; see `build_tables`."""
    code = todays_code(plan.study.models) if current_code is None else current_code
    collection, statistics = collect(plan, root, code), load_statistics(plan, root)
    numbers = load_published(root / path for path in published_files(plan.study))
    frame = main_frame(plan, collection, numbers)
    significance = significance_frame(plan, collection, frame, root)
    main = main_table(plan, collection, frame, significance, numbers)
    main = replace(main, footer=(*main.footer, *dropped_notes(statistics)))
    tables = folder / "tables"
    written = [("main", frame, main), *_side_tables(plan, root, collection, statistics, code)]
    for name, rows, table in written:
        _write(tables, name, rows, table, plan.study.study)
    _write_csv(tables / "significance.csv", significance)
    if plan.selections:
        trials = search_frame(plan, root)
        _write_csv(tables / "search.csv", trials)
        draw_search(trials, folder / SEARCH_FIGURE)
    if sensitivities(plan):
        draw_sensitivity(plan, {name: rows for name, rows, _ in written}, folder / SENSITIVITY_FIGURE)
    draw_figure(plan, collection, folder / figure_file(plan.study))
    draw_degrees(plan.study.datasets, statistics, folder / DEGREE_FIGURE)
    write_json(folder / SUMMARY, summary(plan, collection, frame))


def _side_tables(
    plan: Plan, root: Path, collection: Collection, statistics: dict[str, dict[str, Any]], code: Mapping[str, str]
) -> Iterator[tuple[str, pd.DataFrame, Table]]:
    """Name, frame and readable form of every table beside the main one."""
    for name in plan.comparisons:
        frame = comparison_frame(plan, name, root, code)
        yield name, frame, comparison_table(plan, name, frame)
    prepared = load_prepared(plan, root)
    frame = long_tail_frame(plan, collection, prepared, root)
    yield "long_tail", frame, long_tail_table(plan, frame)
    frame = short_history_frame(plan, collection, prepared, root)
    yield "short_history", frame, short_history_table(plan, frame)
    frame = datasets_frame(plan, statistics)
    yield "datasets", frame, datasets_table(frame, dropped_notes(statistics))
    frame = cost_frame(plan, root)
    yield "cost", frame, cost_table(frame)
    if plan.probes:
        frame = quality_frame(plan, root)
        yield "feature_quality", frame, quality_table(plan, frame)
    if plan.alignments:
        frame = alignment_frame(plan, root)
        yield "alignment", frame, alignment_table(plan, frame)


def todays_code(models: tuple[str, ...]) -> dict[str, str]:
    """Return model to the fingerprint of the code that would train it now."""
    from mmrepro.records.fingerprint import training_fingerprint

    return {model: training_fingerprint(model) for model in models}


def _write_csv(path: Path, frame: pd.DataFrame) -> None:
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def _write(tables: Path, name: str, frame: pd.DataFrame, table: Table, study: str) -> None:
    _write_csv(tables / f"{name}.csv", frame)
    write_text(tables / f"{name}.md", to_markdown(table))
    if name not in WITHOUT_LATEX:
        label = f"tab:{study}" if name == "main" else f"tab:{study}-{name.replace('_', '-')}"
        write_text(tables / f"{name}.tex", to_latex(table, label))
