"""One command a stage, files in, files out; heavy packages are imported inside the commands."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmrepro.errors import MmreproError

if TYPE_CHECKING:
    from mmrepro.study.plan import Plan

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)

Output = Annotated[Path, typer.Option(help="where the result is written")]


def study_path(value: Path) -> Path:
    """Return the file of a study given by its name; a path stays as it is."""
    return value if value.suffix else Path("config/studies") / f"{value}.yaml"


StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="a study's name, or its file", callback=study_path)]

Slice = Annotated[str, typer.Option(help="keys of the study replaced for this invocation, as JSON")]


def resolved(study: Path, slice: str = "{}") -> Plan:
    """Resolve a study: once in a process, here."""
    from mmrepro.study.resolve import plan_of_file

    return plan_of_file(study, **json.loads(slice))


def mirror_folder() -> Path | None:
    """Return the folder named by MMREPRO_MIRROR, if set."""
    value = os.environ.get("MMREPRO_MIRROR")
    return Path(value) if value else None


@app.command()
def fetch(config: Path, output: Output) -> None:
    """Bring a data set's raw files here, from MMREPRO_MIRROR or their urls, and verify them."""
    from mmrepro.config.files import load_dataset
    from mmrepro.datasets.fetch import fetch as run

    run(load_dataset(config), output, mirror_folder())


@app.command()
def images(config: Path, raw: Path) -> None:
    """Download the images of the items that survive a data set's filters, and list what became of each."""
    from mmrepro.config.files import load_dataset
    from mmrepro.datasets.image_download import download_images

    download_images(load_dataset(config), raw)


@app.command()
def prepare(config: Path, raw: Path, output: Output) -> None:
    """Clean, filter, re-index and split a data set."""
    from mmrepro.config.files import load_dataset
    from mmrepro.datasets.prepare import prepare as run

    run(load_dataset(config), raw, output)


@app.command()
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


@app.command()
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


@app.command()
def item_graph(config: Path, modality: str, features: Path, output: Output) -> None:
    """Find each item's nearest items by feature cosine."""
    from mmrepro.config.files import load_feature_set
    from mmrepro.features.item_graph import build_item_graph

    build_item_graph(features, modality, load_feature_set(config).neighbours, output)


@app.command()
def probe(prepared: Path, features: Path, modalities: list[str], output: Output) -> None:
    """Measure what features are worth without a recommender: zero-shot ranking and item-CF neighbours."""
    from mmrepro.evaluation.probe import probe as run
    from mmrepro.runtime.devices import torch_threads

    with torch_threads(1):
        run(prepared, features, tuple(modalities), output)


@app.command()
def train(
    run: Annotated[str, typer.Option(help="the run's configuration as JSON")],
    seed: Annotated[int, typer.Option()],
    prepared: Annotated[Path, typer.Option()],
    output: Output,
    threads: Annotated[int, typer.Option(help="threads that the scheduler grants")],
    features: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Train, rank and record one run; a killed one is resumed."""
    from mmrepro.config.files import validate
    from mmrepro.config.run import RunSpec
    from mmrepro.training.run import train as start

    spec = validate(RunSpec, json.loads(run), "--run")
    _check_threads(spec.threads, threads)
    start(spec, seed, prepared, features, output)


@app.command()
def search(
    settings: Annotated[str, typer.Option(help="the search as JSON")],
    prepared: Annotated[Path, typer.Option()],
    output: Output,
    threads: Annotated[int, typer.Option(help="threads that the scheduler grants")],
    features: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Run a search whose trials follow from one another, and choose its winner; a killed one is resumed."""
    from mmrepro.config.files import validate
    from mmrepro.study.space import SequentialSearch
    from mmrepro.training.tpe import search as start

    found = validate(SequentialSearch, json.loads(settings), "--settings")
    _check_threads(found.trial.threads, threads)
    start(found, prepared, features, output)


def _check_threads(asked: int, granted: int) -> None:
    """Refuse to train with fewer threads than the study asks for: they are part of the result."""
    if granted < asked:
        raise MmreproError(
            f"the study asks for threads: {asked}, the scheduler grants {granted}; raise --cores or lower `threads`"
        )


@app.command()
def select(
    trials: Annotated[list[Path], typer.Argument(help="folders of trials, in the order tried")],
    searched: Annotated[str, typer.Option(help="names of the searched parameters, comma separated")],
    output: Output,
) -> None:
    """Choose the winner of a search."""
    from mmrepro.training.selection import select as run

    run(trials, searched.split(","), output)


@app.command()
def measure(study: StudyFile, dataset: str, output: Output, slice: Slice = "{}") -> None:
    """Measure the lists of a study's finished runs on a data set."""
    from mmrepro.evaluation.measure import measure as run
    from mmrepro.study.layout import Layout

    plan = resolved(study, slice)
    job = next((job for job in plan.jobs_of("measure") if job.labels["dataset"] == dataset), None)
    if job is None:
        raise MmreproError(f"{study}: no data set '{dataset}'; the study has {', '.join(plan.study.datasets)}")
    content = plan.content_features(dataset)
    folder = Layout.features(dataset, content.feature_set) if content else None
    modalities = tuple(content.modalities) if content else ()
    file = output / job.product.relative_to("results")
    run(Layout.prepared(dataset), job.settings["runs"], file, plan.study.cutoffs, Path(), folder, modalities)


@app.command()
def tables(study: StudyFile, output: Output, slice: Slice = "{}") -> None:
    """Build a study's tables from the runs that exist; holes are marked."""
    from mmrepro.reporting.build import build_tables

    plan = resolved(study, slice)
    build_tables(plan, output / plan.study.study)


@app.command()
def track(study: StudyFile, slice: Slice = "{}") -> None:
    """Import a study's finished runs into MLflow (MLFLOW_TRACKING_URI, or results/mlflow.db)."""
    from mmrepro.housekeeping.tracking import import_runs

    count = import_runs(resolved(study, slice), Path(), os.environ.get("MLFLOW_TRACKING_URI"))
    print(f"{count} runs imported")


@app.command()
def status(study: StudyFile) -> None:
    """Show what is done, running, failed and left."""
    from mmrepro.housekeeping.status import status as describe

    print(describe(resolved(study), Path()))


@app.command()
def doctor(
    studies: Annotated[list[str] | None, typer.Argument(metavar="[STUDY]...", help="names or files; none: all")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="hash the files that are here")] = False,
) -> None:
    """Say which raw files are to be had, which are here, and what studies need of this machine."""
    from mmrepro.housekeeping.doctor import doctor as examine
    from mmrepro.study.resolve import plans_of_files

    named = [study_path(Path(study)) for study in studies or []] or sorted(Path("config/studies").glob("*.yaml"))
    plans, problems = plans_of_files(named)
    text, healthy = examine(plans, Path(), mirror_folder(), verify, problems)
    print(text)
    raise typer.Exit(0 if healthy else 1)


@app.command()
def track_raw(datasets: Annotated[list[str], typer.Argument(help="names of fetched data sets")]) -> None:
    """Version the raw files of data sets with DVC; the .dvc files name their urls."""
    from mmrepro.housekeeping.release import track_raw as run

    print(run(datasets, Path()))


@app.command()
def release(study: StudyFile) -> None:
    """Version a study's raw data, prepared data and features with DVC, for `dvc push`."""
    from mmrepro.housekeeping.release import release as run

    print(run(resolved(study), study, Path()))


@app.command()
def restore(study: StudyFile) -> None:
    """After `dvc pull`: let Snakemake know a release's files, so that it plans none of them."""
    from mmrepro.housekeeping.release import restore as run

    print(run(resolved(study), study, Path()))


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(help="a folder of results, such as results/reference/posters")],
) -> None:
    """Print a folder's main table; says STALE when the code has changed since."""
    from mmrepro.housekeeping.publish import show as describe

    print(describe(folder))


@app.command()
def publish(study: StudyFile, output: Output, allow_partial: bool = False) -> None:
    """Copy a study's tables and run records to a folder that is committed."""
    from mmrepro.housekeeping.publish import publish_reference

    publish_reference(resolved(study), output, Path(), allow_partial)


@app.command()
def recommend(
    run: Annotated[Path, typer.Argument(help="folder of a final run")],
    user: Annotated[str | None, typer.Option(help="a user's key")] = None,
    liked: Annotated[str | None, typer.Option(help="keys of items somebody likes, comma separated")] = None,
    k: Annotated[int, typer.Option(help="number of items", min=1)] = 10,
) -> None:
    """Recommend items to a user, or to somebody who likes certain items."""
    from mmrepro.reporting.recommend import recommend as answer

    items = [key.strip() for key in liked.split(",")] if liked else None
    print(answer(run, Path("data/prepared"), user, items, k).to_string(index=False))


@app.command()
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
            f"{file.stem}: loss {result.loss:.1e} (relative)  scores {result.scores:.1e} (absolute)  gradients"
            f" {worst:.1e} (of the largest entry; worst: {name})  {'agrees' if result.agrees else 'DOES NOT AGREE'}"
        )
        agree = agree and result.agrees
    raise typer.Exit(0 if agree else 1)


@app.command()
def schema(output: Annotated[Path, typer.Option()] = Path("config/schema")) -> None:
    """Write the JSON schemas of all configuration files."""
    from mmrepro.housekeeping.schemas import write_schemas

    write_schemas(output)


@app.command()
def dvc(output: Annotated[Path, typer.Option()] = Path("dvc.yaml")) -> None:
    """Write the stages of DVC, one a data set and one a study, from the configuration files."""
    from mmrepro.housekeeping.stages import dvc_stages
    from mmrepro.records.files import write_text

    write_text(output, dvc_stages(Path()))


@app.command()
def accept(study: StudyFile) -> None:
    """Accept a refactoring that changes no number: run one cell again, compare bit for bit, mark the rest current."""
    from mmrepro.housekeeping.accept import accept as run

    print(run(resolved(study), study, Path()))
