"""The commands around the workflow, and what all commands take; heavy packages are imported inside them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmrepro.reporting.escape import one_line, visible

if TYPE_CHECKING:
    from mmrepro.study.plan import Plan

Output = Annotated[Path, typer.Option(help="where the result is written")]


def study_path(value: Path) -> Path:
    """Return the file of a study given by its name, with or without `.yaml`; any other path stays as it is."""
    alone = value.parent == Path() and not value.is_file()
    return (
        Path("config/studies") / f"{value.with_suffix('')}.yaml" if alone and value.suffix in ("", ".yaml") else value
    )


def results_folder(value: Path) -> Path:
    """Return the folder of a study's results given by its name: of its runs here, else as it is committed."""
    if value.parent != Path() or value.is_dir():
        return value
    places = [Path("results") / value, Path("results/reference") / value]
    return next((place for place in places if (place / "summary.json").is_file()), places[0])


def dataset_path(value: Path) -> Path:
    """Return the file of a data set given by its name; a path stays as it is."""
    return value if value.suffix else Path("config/datasets") / f"{value}.yaml"


DatasetFile = Annotated[
    Path, typer.Argument(metavar="DATASET", help="a data set's name, or its file", callback=dataset_path)
]
StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="a study's name, or its file", callback=study_path)]

Json = Annotated[bool, typer.Option("--json", help="for programs")]

Column = Annotated[str | None, typer.Option(help="a column's name, where the guess is wrong; `none`: there is no such")]

Slice = Annotated[str, typer.Option(help="keys of the study replaced for this invocation, as JSON")]


def resolved(study: Path, slice: str = "{}") -> Plan:
    """Resolve a study: once in a process, here."""
    from mmrepro.config.files import from_json
    from mmrepro.study.resolve import plan_of_file

    return plan_of_file(study, **from_json(slice, "--slice"))


def status(study: StudyFile, json: Json = False) -> None:
    """Show what is done, running, failed and left, and how long the rest may take."""
    from json import dumps

    from mmrepro.housekeeping.status import status as describe
    from mmrepro.housekeeping.status import status_data

    plan = resolved(study)
    print(dumps(status_data(plan), indent=2) if json else visible(describe(plan, Path())))


def doctor(
    studies: Annotated[list[str] | None, typer.Argument(metavar="[STUDY]...", help="names or files; none: all")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="hash the files that are here")] = False,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="of the Slurm cluster here: what works, which jobs can never start")
    ] = False,
    longest: Annotated[int, typer.Option(help="minutes that a job there may ask for, as in the profile")] = 1440,
) -> None:
    """Say which raw files are to be had, which are here, and what studies need of this machine, or cluster."""
    from mmrepro.datasets.mirror import mirror_folder
    from mmrepro.housekeeping.doctor import doctor as examine
    from mmrepro.study.resolve import plans_of_files

    named = [study_path(Path(study)) for study in studies or []] or sorted(Path("config/studies").glob("*.yaml"))
    plans, problems = plans_of_files(named)
    text, healthy = examine(plans, Path(), mirror_folder(), verify, problems, longest if cluster else None)
    print(visible(text))
    raise typer.Exit(0 if healthy else 1)


def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="of the data set and its study, such as shop")],
    interactions: Annotated[Path, typer.Argument(help="table of who had what: csv, tsv or parquet", exists=True)],
    items: Annotated[
        Path | None, typer.Argument(help="table of the items, or a folder of pictures", exists=True)
    ] = None,
    images: Annotated[
        Path | None, typer.Argument(help="folder of pictures, named after the keys of items", exists=True)
    ] = None,
    user_column: Column = None, item_column: Column = None, key_column: Column = None,
    timestamp_column: Column = None, rating_column: Column = None, title_column: Column = None,
    image_column: Column = None,
    timestamp_format: Annotated[str | None, typer.Option(help="of dates, such as %d.%m.%Y")] = None,
    empty_users: Annotated[str | None, typer.Option(help="`drop` rows without a user (guests)")] = None,
) -> None:  # fmt: skip
    """Look at your own files, and write data set, features and study for them, with comments."""
    from mmrepro.housekeeping.newcomer import init as write

    if items is not None and items.is_dir() and images is None:
        items, images = None, items
    told = {
        "user_column": user_column, "item_column": item_column, "key_column": key_column, "title_column": title_column,
        "timestamp_column": timestamp_column, "rating_column": rating_column, "image_column": image_column,
        "timestamp_format": timestamp_format, "empty_users": empty_users,
    }  # fmt: skip
    given = {option: value for option, value in told.items() if value is not None}
    print(visible(write(name, interactions, items, images, Path(), given)))


def track_raw(datasets: Annotated[list[str], typer.Argument(help="names of fetched data sets")]) -> None:
    """Version the raw files of data sets with DVC; the .dvc files name their urls."""
    from mmrepro.housekeeping.release import track_raw as run

    print(visible(run(datasets, Path())))


def release(
    study: StudyFile, data_only: Annotated[bool, typer.Option("--data-only", help="no runs and tables")] = False
) -> None:
    """Version a study's data, features, runs and tables with DVC, for `dvc push`."""
    from mmrepro.housekeeping.release import release as run

    print(visible(run(resolved(study), study, Path(), data_only)))


def restore(study: StudyFile) -> None:
    """After `dvc pull`: let Snakemake know a release's files, so that it plans none of them."""
    from mmrepro.housekeeping.release import restore as run

    print(visible(run(resolved(study), study, Path())))


def show(
    study: Annotated[
        Path, typer.Argument(metavar="STUDY", help="a study's name, or a folder such as results/reference/posters")
    ],
    json: Json = False,
) -> None:
    """Print a study's main table, of its runs here or else as it is committed; says STALE when the code has changed."""
    from mmrepro.housekeeping.publish import checked_table
    from mmrepro.housekeeping.publish import show as describe

    if json:
        import pandas as pd

        table = checked_table(results_folder(study), "main.csv")
        print(pd.read_csv(table).to_json(orient="records", indent=2))
        return
    text = visible(describe(results_folder(study)))
    if not sys.stdout.isatty():
        print(text)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text))


def trace(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="a study's name, its file, or its published folder")],
    model: str,
    metric: Annotated[str, typer.Argument(help="such as recall_at_20, recall@20 or R@20")],
    dataset: Annotated[str | None, typer.Option(help="none: all of the study")] = None,
    protocol: Annotated[str | None, typer.Option(help="none: all of the study")] = None,
    comparison: Annotated[str | None, typer.Option(help="the variants of a comparison; none: the main table")] = None,
    json: Json = False,
) -> None:
    """Say where a number of the main table, or of a comparison, comes from, and how its runs are made again."""
    from json import dumps

    from mmrepro.reporting.origins import RUNS_FILE
    from mmrepro.reporting.trace import trace as origin
    from mmrepro.reporting.trace import trace_data

    committed = study if (study / RUNS_FILE).is_file() else None
    file = study_path(Path(study.name) if committed or study.parent == Path("results") else study)
    plan = resolved(file)
    meant = (plan, file, model, metric, Path(), dataset, protocol, committed, comparison)
    print(dumps(trace_data(*meant), indent=2) if json else visible(origin(*meant)))


def verify(
    path: Annotated[Path, typer.Argument(help="a study's name or file, or a folder such as results/reference/tiktok")],
) -> None:
    """Measure a study's lists again, or its published hits, build its tables again, and say what differs."""
    from mmrepro.housekeeping.verify import verify_local, verify_published
    from mmrepro.records.files import read_object
    from mmrepro.reporting.origins import RUNS_FILE
    from mmrepro.study.products import SUMMARY

    if (path / RUNS_FILE).is_file():
        name = str((read_object(path / SUMMARY) or {}).get("study", path.name))  # the folder may have been moved
        found = verify_published(resolved(study_path(Path(name))), path)
    else:
        file = study_path(Path(path.name) if path.parent == Path("results") else path)
        found = verify_local(resolved(file), file)
    print(visible(found.text))
    raise typer.Exit(1 if found.differences else 0)


def publish(
    study: StudyFile,
    output: Annotated[Path, typer.Option(help="folder of the publications")] = Path("results/reference"),
    allow_partial: Annotated[bool, typer.Option("--allow-partial", help="although planned jobs are missing")] = False,
    again: Annotated[bool, typer.Option("--again", help="build tables again from what is published")] = False,
) -> None:
    """Write a study's tables, run records and evidence to a folder that is committed."""
    from mmrepro.housekeeping.publish import publish_again, publish_reference

    plan = resolved(study)
    if again:
        publish_again(plan, output / plan.name)
    else:
        publish_reference(plan, output, Path(), allow_partial)


def check_reference(
    files: Annotated[list[Path], typer.Argument(help="<model>.npz beside its dataset.npz, or a folder of such files")],
) -> None:
    """Compare models with the reference tensors of their published programs."""
    from mmrepro.evaluation.reference import check_reference as compare
    from mmrepro.evaluation.reference import reference_files

    agree = True
    for file in reference_files(files):
        result = compare(file)
        name, worst = max(result.gradients.items(), key=lambda entry: entry[1])
        print(
            f"{one_line(file.stem)}: loss {result.loss:.1e} (relative)  scores {result.scores:.1e} (absolute)"
            f"  gradients {worst:.1e} (of the largest entry; worst: {name})"
            f"  {'agrees' if result.agrees else 'DOES NOT AGREE'}"
        )
        agree = agree and result.agrees
    raise typer.Exit(0 if agree else 1)


def schema(
    output: Annotated[Path, typer.Option(help="a folder; of one class, a file")] = Path("config/schema"),
    outside: Annotated[str | None, typer.Option(help="`folder/file.py:Class`: of that class alone")] = None,
) -> None:
    """Write the JSON schemas of all configuration files, or of the parameters of a class outside the package."""
    from mmrepro.housekeeping.schemas import write_outside, write_schemas

    if outside is None:
        write_schemas(output)
    else:
        write_outside(outside, output)


def dvc(output: Annotated[Path, typer.Option()] = Path("dvc.yaml")) -> None:
    """Write the stages of DVC, one a data set and one a study, from the configuration files."""
    from mmrepro.housekeeping.stages import dvc_stages
    from mmrepro.records.files import write_text

    write_text(output, dvc_stages(Path()))


def accept(study: StudyFile) -> None:
    """Accept a refactoring that changes no number: run one cell again, compare bit for bit, mark the rest current."""
    from mmrepro.housekeeping.accept import accept as run

    print(visible(run(resolved(study), study, Path())))


COMMANDS = (
    init, status, doctor, track_raw, release, restore, show, trace, verify, publish, check_reference, schema, dvc,
    accept,
)  # fmt: skip
"""In the order of the command line's help."""
