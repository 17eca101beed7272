"""From a plan to its jobs: what each kind of job of a study reads, which settings decide it, and what it needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmrepro.config.dataset import (
    DatasetConfig,
    FilterSection,
    ImageSection,
    RawSection,
    ReaderSection,
    SplitSection,
)
from mmrepro.config.features import AlignRecEncoder, Encoder, FeatureSetConfig, ItemGraphSection, matrices_of
from mmrepro.config.model import is_lists
from mmrepro.config.run import RunSpec
from mmrepro.study.kinds import KINDS, training_parts
from mmrepro.study.layout import NO_FEATURES, Layout, cell_labels
from mmrepro.study.needs import EPOCHS, Needs, Stage, disk_mb, memory_mb, minutes, width
from mmrepro.study.plan import Job, Plan, PlannedRun, PlannedSelection, plan_hash
from mmrepro.study.products import SUMMARY, template_hash
from mmrepro.study.weights import local_weights


def jobs_of(plan: Plan, published: Sequence[Path] = ()) -> tuple[Job, ...]:
    """Return every job of a study, in the order in which data flow.

    Parameters
    ----------
    plan
        The resolved study, without its jobs.
    published
        Files of published numbers that its tables are compared with.
    """
    found = [*_datasets(plan), *_features(plan), *_probes(plan), *_trainings(plan), *_results(plan, published)]
    order = {kind: place for place, kind in enumerate(KINDS)}
    return tuple(sorted(found, key=lambda job: order[job.kind]))


def _datasets(plan: Plan) -> Iterator[Job]:
    for name, config in plan.raw_datasets.items():
        labels, parts = {"dataset": name}, {"reader": config.reader}
        file = {"config": (_dataset_file(name),)}
        yield Job("fetch", labels, {}, config.section(RawSection, ReaderSection), _needs("fetch", config), parts, file)
        if config.images:
            inputs = {"manifest": (Layout.raw(name) / "MANIFEST.json",)}
            settings = config.section(ReaderSection, ImageSection, FilterSection)
            yield Job("images", labels, inputs, settings, _needs("images", config), parts, file)
    for name, config in plan.datasets.items():
        yield Job(
            "prepare", {"dataset": name}, {"manifests": _manifests(config)},
            config.section(ReaderSection, FilterSection, SplitSection), _needs("prepare", config),
            {"reader": config.reader}, {"config": (_dataset_file(name),)},
        )  # fmt: skip


def _features(plan: Plan) -> Iterator[Job]:
    """Matrices of every feature set that is read, and of those that they are derived from; graphs where a model
    asks.
    """
    read = {(dataset, matrices_of(name)) for dataset, name in plan.feature_sets_read}
    derived = {(dataset, plan.feature_sets[name].base) for dataset, name in read}
    graphs = {graph for run in plan.trainings for graph in _graph_keys(plan, run.spec)}
    for dataset, name in sorted(read | derived):
        feature_set = plan.feature_sets[name]
        for modality, encoder in feature_set.modalities.items():
            yield _extraction(plan, dataset, feature_set, modality, encoder)
            if (dataset, name, modality) in graphs:
                yield _item_graph(plan, dataset, feature_set, modality)


def _extraction(plan: Plan, dataset: str, feature_set: FeatureSetConfig, modality: str, encoder: Encoder) -> Job:
    """Encode a modality; where its encoder is pre-trained on the data set, that job writes the matrix too."""
    config, name = plan.datasets[dataset], feature_set.feature_set
    prepared = Layout.prepared(dataset)
    encoded = not feature_set.name.kind or feature_set.encoded_anew(modality)
    inputs = {
        "manifests": _manifests(config),
        "item_list": (prepared / "items.parquet",),
        "statistics": (prepared / "statistics.json",),
        "weights": tuple(map(Path, local_weights(encoder))) if encoded else (),
    }
    kind: Stage = "align_content" if isinstance(encoder, AlignRecEncoder) and not feature_set.name.kind else "extract"
    if kind == "extract":
        inputs["derived_from"] = _derived_from(dataset, feature_set, modality, encoded)
    threads = getattr(encoder, "threads", 1) if encoded else 1
    gpus = int(encoded and getattr(encoder, "device", "cpu") == "cuda")
    needs = _needs(kind, config, [width(encoder, modality)], encoder=encoder.encoder, threads=threads, gpus=gpus,
                   epochs=getattr(encoder, "epochs", EPOCHS))  # fmt: skip
    labels = {"dataset": dataset, "features": name, "modality": modality}
    settings = encoder.model_dump(mode="json", exclude_defaults=True)
    if isinstance(encoder, AlignRecEncoder):
        settings["order"] = list(encoder.sources)  # which is part of the result, and of no other setting
    file = {"config": (Path(f"config/features/{feature_set.base}.yaml"),)}
    return Job(kind, labels, inputs, settings, needs, {"encoder": encoder.encoder}, file)


def _derived_from(dataset: str, feature_set: FeatureSetConfig, modality: str, encoded: bool) -> tuple[Path, ...]:
    """What a derived feature set is made from, besides the items: a matrix, or the pre-trained encoder."""
    if not feature_set.name.kind:
        return ()
    if encoded:
        return (Layout.encoder(dataset, feature_set.base, modality) / "run.json",)
    return (Layout.features(dataset, feature_set.base) / f"{modality}.json",)


def _item_graph(plan: Plan, dataset: str, feature_set: FeatureSetConfig, modality: str) -> Job:
    folder = Layout.features(dataset, feature_set.feature_set)
    needs = _needs("item_graph", plan.datasets[dataset], [width(feature_set.modalities[modality], modality)])
    undated = {
        "matrix": (folder / f"{modality}.npy",), "config": (Path(f"config/features/{feature_set.base}.yaml"),),
    }  # fmt: skip
    labels = {"dataset": dataset, "features": feature_set.feature_set, "modality": modality}
    inputs: dict[str, tuple[Path, ...]] = {"record": (folder / f"{modality}.json",)}
    if modality in feature_set.graphs:
        inputs |= {
            "manifests": _manifests(plan.datasets[dataset]),
            "item_list": (Layout.prepared(dataset) / "items.parquet",),
        }
    return Job("item_graph", labels, inputs, feature_set.section(ItemGraphSection), needs, undated=undated)


def _probes(plan: Plan) -> Iterator[Job]:
    for probe in plan.probes:
        prepared = Layout.prepared(probe.dataset)
        modalities = plan.feature_sets[probe.feature_set].modalities
        folder = Layout.features(probe.dataset, probe.feature_set)
        inputs = {
            "interactions": (prepared / "interactions.parquet",),
            "statistics": (prepared / "statistics.json",),
            "records": tuple(folder / f"{modality}.json" for modality in modalities),
        }
        needs = _needs("probe", plan.datasets[probe.dataset], _widths(plan, probe.feature_set))
        labels = {"dataset": probe.dataset, "features": probe.feature_set}
        yield Job("probe", labels, inputs, {"modalities": list(modalities)}, needs)


def _trainings(plan: Plan) -> Iterator[Job]:
    for run in plan.trainings:
        yield training_job(plan, run)
    for selection in plan.selections:
        yield _selection(plan, selection)


def training_job(plan: Plan, run: PlannedRun) -> Job:
    """Return the job that trains a run."""
    kind = {"trial": "train_trial", "final": "train"}[run.spec.purpose]
    labels = {**cell_labels(run.spec), "seed": str(run.seed)}
    needs, parts = _training_needs(plan, run.spec), _training_parts(run.spec)
    inputs, settings = _training_inputs(plan, run.spec), run.spec.differences()
    undated = {"selection": (run.selection,)} if run.selection else {}
    return Job(kind, labels, inputs, settings, needs, parts, undated, run.selection)


def _selection(plan: Plan, selection: PlannedSelection) -> Job:
    labels = {"search": selection.search, **cell_labels(selection.spec)}
    if selection.sequential is None:
        settings: dict[str, Any] = {
            "searched": list(selection.searched), "folders": [trial.folder.as_posix() for trial in selection.trials],
        }  # fmt: skip
        inputs = {"trials": tuple(trial.record for trial in selection.trials)}
        return Job("select", labels, inputs, settings)
    search = selection.sequential
    settings = search.model_dump(mode="json", exclude={"trial"}) | {"trial": search.trial.differences()}
    needs = _training_needs(plan, search.trial, trainings=search.budget)
    return Job("search", labels, _training_inputs(plan, search.trial), settings, needs, _training_parts(search.trial))


def _training_parts(spec: RunSpec) -> dict[str, str]:
    return training_parts(spec.model, spec.watch, spec.outside)


def _training_inputs(plan: Plan, spec: RunSpec) -> dict[str, tuple[Path, ...]]:
    files: dict[str, tuple[Path, ...]] = {"statistics": (Layout.prepared(spec.dataset) / "statistics.json",)}
    if spec.outside is not None and is_lists(spec.outside):
        files["lists"] = (Path(spec.outside),)
    for modality in spec.modalities:
        folder = Layout.features(spec.dataset, str(spec.features))
        files[modality] = (folder / f"{modality}.json",)
        if _graph_keys(plan, spec):
            files[f"{modality}_graph"] = (folder / f"{modality}.neighbours.npz",)
    return files


def _graph_keys(plan: Plan, spec: RunSpec) -> list[tuple[str, str, str]]:
    """Data set, feature set and modality of the item graphs that a training reads."""
    if spec.features is None or "neighbours" not in plan.schemas[spec.model].properties:
        return []
    return [(spec.dataset, matrices_of(spec.features), modality) for modality in spec.modalities]


def _training_needs(plan: Plan, spec: RunSpec, trainings: int = 1) -> Needs:
    parameters = plan.parameters_of(spec)
    size, epochs = int(parameters.get("embedding_size", 64)), int(parameters.get("max_epochs", EPOCHS))
    widths = _widths(plan, spec.features) if spec.features else []
    dataset = plan.datasets[spec.dataset]
    memory = memory_mb("train", dataset, widths, embedding_size=size, model=spec.model)
    expected = minutes("train", dataset, widths, model=spec.model, epochs=min(EPOCHS, epochs))
    disk = disk_mb("train", dataset, widths, size)
    gpus = int(spec.device == "cuda" and not plan.schemas[spec.model].closed_form)
    return Needs(spec.threads, memory, trainings * disk, trainings * expected, gpus)


def _results(plan: Plan, published: Sequence[Path]) -> Iterator[Job]:
    study = plan.study
    records = tuple(run.record for run in plan.final_runs)
    measures = [_measure(plan, name) for name in study.datasets]
    measured = tuple(job.product for job in measures)
    selections = tuple(selection.path for selection in plan.selections)
    alignments = tuple(alignment.folder / "run.json" for alignment in plan.alignments)
    inputs = {
        "runs": records,
        "lists": tuple(run.folder / "lists.parquet" for run in plan.final_runs),
        "measures": measured,
        "per_user": tuple(path.with_suffix(".parquet") for path in measured),
        "selections": selections,
        "data": tuple(
            Layout.prepared(name) / file
            for name in study.datasets
            for file in ("interactions.parquet", "statistics.json")
        ),
        "probes": tuple(probe.path for probe in plan.probes),
        "alignments": alignments,
        "published": tuple(published),
    }
    needs = Needs(minutes=minutes("tables", next(iter(plan.datasets.values()))))
    labels = {"study": plan.name}
    yield from measures
    yield Job("tables", labels, inputs, {"study": plan_hash(plan)}, needs)
    built = (Layout.study(plan.name) / SUMMARY,)  # which is made with all the others
    shown = {"tables": built, "runs": records, "measures": measured, "selections": selections}
    largest = max(job.needs.memory_mb for job in measures)
    looks = replace(needs, memory_mb=2 * largest - needs.memory_mb)  # at features twice: as they are, and as unit rows
    yield Job("page", labels, shown, {"study": plan_hash(plan), "template": template_hash()}, looks)
    tracked = {"runs": records, "measures": measured, "selections": selections, "alignments": alignments}
    tracked |= {"page": (Layout.study(plan.name) / "report/index.html",)}
    yield Job("track", labels, tracked, {"study": study.study}, needs)


def _measure(plan: Plan, dataset: str) -> Job:
    """Metrics of all final runs on a data set, in one process."""
    runs = [run for run in plan.final_runs if run.spec.dataset == dataset]
    content = plan.content_features(dataset)
    prepared, folder = Layout.prepared(dataset), Layout.features(dataset, content.feature_set) if content else Path()
    inputs = {
        "interactions": (prepared / "interactions.parquet",),
        "statistics": (prepared / "statistics.json",),
        "records": tuple(run.record for run in runs),
        "lists": tuple(run.folder / "lists.parquet" for run in runs),
        "features": tuple(folder / f"{modality}.json" for modality in content.modalities) if content else (),
    }
    settings = {
        "cutoffs": list(plan.study.cutoffs),
        "runs": [run.folder.as_posix() for run in runs],
        "features": content.feature_set if content else NO_FEATURES,
        "modalities": list(content.modalities) if content else [],
    }
    config = plan.datasets[dataset]
    widths = _widths(plan, content.feature_set) if content else []
    memory, disk = memory_mb("measure", config, widths), len(runs) * disk_mb("measure", config)
    needs = Needs(memory_mb=memory, disk_mb=disk, minutes=len(runs) * minutes("measure", config))
    return Job("measure", {"study": plan.name, "dataset": dataset}, inputs, settings, needs)


def _needs(
    stage: Stage, dataset: DatasetConfig, widths: Sequence[int] = (), encoder: str = "", epochs: int = EPOCHS,
    threads: int = 1, gpus: int = 0,
) -> Needs:  # fmt: skip
    memory, disk = memory_mb(stage, dataset, widths, encoder), disk_mb(stage, dataset, widths)
    return Needs(threads, memory, disk, minutes(stage, dataset, widths, encoder, epochs=epochs), gpus)


def _widths(plan: Plan, features: str) -> list[int]:
    """Columns of the matrices of a feature set."""
    return [width(encoder, modality) for modality, encoder in plan.feature_sets[features].modalities.items()]


def _dataset_file(name: str) -> Path:
    """The file of a data set; an id `<data set>--<split kind>` has that of the data set it is derived from."""
    return Path(f"config/datasets/{name.partition('--')[0]}.yaml")


def _manifests(config: DatasetConfig) -> tuple[Path, ...]:
    """What must be there of the raw files: their manifest, and that of downloaded images."""
    names = ["MANIFEST.json", "IMAGES.json"] if config.images else ["MANIFEST.json"]
    return tuple(Layout.raw(config.raw_name) / name for name in names)
