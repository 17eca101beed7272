"""One command a stage, files in, files out; heavy packages are imported inside the commands."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from mmrepro import __version__
from mmrepro.errors import MmreproError
from mmrepro.housekeeping.commands import COMMANDS, DatasetFile, Output, Slice, StudyFile, resolved
from mmrepro.serving.commands import COMMANDS as SERVING

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False,
    help="Multimodal recommendation, reproduced: begin a study, look at its results, serve its runs.",
)  # fmt: skip
PEOPLE, WORKFLOW = "What people use", "What the workflow calls"


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mmrepro {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print it, and end")
    ] = False,
) -> None:
    """Take what all commands share."""


def fetch(
    config: DatasetFile,
    output: Annotated[Path | None, typer.Option(help="where the files go; none: data/raw/<data set>")] = None,
) -> None:
    """Bring a data set's raw files here, from MMREPRO_MIRROR or their urls, and verify them; also what has changed."""
    from mmrepro.config.files import load_dataset
    from mmrepro.datasets.fetch import fetch as run
    from mmrepro.datasets.mirror import mirror_folder
    from mmrepro.study.layout import Layout

    dataset = load_dataset(config)
    run(dataset, output or Layout.raw(dataset.raw_name), mirror_folder())


def images(config: DatasetFile, raw: Path) -> None:
    """Download the images of the items that survive a data set's filters, and list what became of each."""
    from mmrepro.config.files import load_dataset
    from mmrepro.datasets.image_download import download_images

    download_images(load_dataset(config), raw)


def prepare(config: DatasetFile, raw: Path, output: Output) -> None:
    """Clean, filter, re-index and split a data set."""
    from mmrepro.config.files import load_dataset
    from mmrepro.datasets.prepare import prepare as run

    run(load_dataset(config), raw, output)


def extract(
    config: Path,
    modality: str,
    prepared: Path,
    raw: Path,
    output: Output,
    pretrained: Annotated[Path | None, typer.Option(help="encoder.pt of align-content")] = None,
) -> None:
    """Encode one modality of all items into a feature table."""
    from mmrepro.config.files import load_feature_set
    from mmrepro.features.extract import extract as run

    run(load_feature_set(config), modality, prepared, raw, output, pretrained)


def align_content(
    config: Path,
    modality: str,
    prepared: Path,
    raw: Path,
    encoder: Annotated[Path, typer.Option(help="where the pre-trained encoder and its record are written")],
    output: Output,
) -> None:
    """Pre-train an encoder on the catalogue's own images and texts, and encode every item; a killed job is resumed."""
    from mmrepro.config.features import AlignRecEncoder
    from mmrepro.config.files import load_feature_set
    from mmrepro.features.alignment.pretrain import align_content as run
    from mmrepro.features.extract import extract as encode

    feature_set = load_feature_set(config)
    settings = feature_set.modalities.get(modality)
    if not isinstance(settings, AlignRecEncoder):
        raise MmreproError(f"{config}: no modality '{modality}' with `encoder: alignrec`, which alone is pre-trained")
    run(settings, f"{feature_set.feature_set}.{modality}", prepared, raw, encoder)
    encode(feature_set, modality, prepared, raw, output, encoder / "encoder.pt")


def item_graph(
    config: Path,
    modality: str,
    features: Path,
    output: Output,
    prepared: Annotated[Path, typer.Option(help="the prepared data set, for a file of neighbours")] = Path(),
    raw: Annotated[Path, typer.Option(help="its raw files")] = Path(),
) -> None:
    """Find each item's nearest items by feature cosine, or read them from a file of neighbours."""
    from mmrepro.config.files import load_feature_set
    from mmrepro.features.item_graph import build_item_graph

    build_item_graph(load_feature_set(config), modality, features, output, prepared, raw)


def probe(prepared: Path, features: Path, modalities: list[str], output: Output) -> None:
    """Measure what features are worth without a recommender: zero-shot ranking and item-CF neighbours."""
    from mmrepro.evaluation.probe import probe as run

    run(prepared, features, tuple(modalities), output)


def train(
    run: Annotated[str, typer.Option(help="the run's configuration as JSON")],
    seed: Annotated[int, typer.Option()],
    prepared: Annotated[Path, typer.Option()],
    output: Output,
    threads: Annotated[int, typer.Option(help="threads that the scheduler grants")],
    features: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Train, rank and record one run; a killed one is resumed."""
    from mmrepro.config.files import from_json, validate
    from mmrepro.config.run import RunSpec
    from mmrepro.training.run import train as start

    spec = validate(RunSpec, from_json(run, "--run"), "--run")
    _check_threads(spec.threads, threads)
    start(spec, seed, prepared, features, output)


def search(
    settings: Annotated[str, typer.Option(help="the search as JSON")],
    prepared: Annotated[Path, typer.Option()],
    output: Output,
    threads: Annotated[int, typer.Option(help="threads that the scheduler grants")],
    features: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Run a search whose trials follow from one another, and choose its winner; a killed one is resumed."""
    from mmrepro.config.files import from_json, validate
    from mmrepro.study.space import SequentialSearch
    from mmrepro.training.tpe import search as start

    found = validate(SequentialSearch, from_json(settings, "--settings"), "--settings")
    _check_threads(found.trial.threads, threads)
    start(found, prepared, features, output)


def _check_threads(asked: int, granted: int) -> None:
    """Refuse to train with fewer threads than the study asks for: they are part of the result."""
    if granted < asked:
        raise MmreproError(
            f"the study asks for threads: {asked}, the scheduler grants {granted}; raise --cores or lower `threads`"
        )


def select(
    trials: Annotated[list[Path], typer.Argument(help="folders of trials, in the order tried")],
    searched: Annotated[str, typer.Option(help="names of the searched parameters, comma separated")],
    output: Output,
) -> None:
    """Choose the winner of a search."""
    from mmrepro.training.selection import select as run

    run(trials, searched.split(","), output)


def measure(study: StudyFile, dataset: str, output: Output, slice: Slice = "{}") -> None:
    """Measure the lists of a study's finished runs on a data set."""
    from mmrepro.evaluation.measure import measure_study as run

    plan = resolved(study, slice)
    job = next((job for job in plan.jobs_of("measure") if job.labels["dataset"] == dataset), None)
    if job is None:
        raise MmreproError(f"{study}: no data set '{dataset}'; the study has {', '.join(plan.study.datasets)}")
    run(dataset, job.settings, output / job.product.relative_to("results"))


def tables(study: StudyFile, output: Output, slice: Slice = "{}") -> None:
    """Build a study's tables from the runs that exist; holes are marked."""
    from mmrepro.reporting.build import build_tables

    plan = resolved(study, slice)
    build_tables(plan, output / plan.name)


def page(study: StudyFile, output: Output, slice: Slice = "{}") -> None:
    """Build a study's page from its tables and runs: one HTML file, which opens from disk."""
    from mmrepro.reporting.page.build import build_page

    plan = resolved(study, slice)
    build_page(plan, study, output / plan.name / "report/index.html")


def track(
    study: StudyFile,
    slice: Slice = "{}",
    attempt: Annotated[
        int | None,
        typer.Option(help="given by the workflow: note an unusable store in the receipt, and succeed"),
    ] = None,
) -> None:
    """Import a study's finished runs into MLflow (MLFLOW_TRACKING_URI, or results/mlflow.db)."""
    from mmrepro.housekeeping.mlflow_store import StoreError
    from mmrepro.housekeeping.tracking import import_runs

    try:
        count = import_runs(resolved(study, slice), Path(), attempt=attempt)
    except StoreError as error:
        if attempt is None:
            raise
        print(f"{error}; the next run tries the import again, and so does `mmrepro track {shlex.quote(str(study))}`")
    else:
        print(f"{count} runs imported")


for command in (*COMMANDS, *SERVING):
    app.command(rich_help_panel=PEOPLE)(command)
STAGES = (
    fetch, images, prepare, extract, align_content, item_graph, probe, train, search, select, measure, tables, page,
    track,
)  # fmt: skip
for stage in STAGES:
    app.command(rich_help_panel=WORKFLOW)(stage)
