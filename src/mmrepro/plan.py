"""What a study consists of: its data sets, features, trials and runs, and the path of each product.

The Snakefile, the tables and `mmrepro status` all read this plan, so that a path is written down once.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrepro.config import DatasetConfig, FeatureSetConfig, ModelConfig, RunSpec, StudyConfig, content_hash, nearest
from mmrepro.config_files import load, load_dataset, load_yaml, merge_parameters, validate
from mmrepro.errors import MmreproError

NO_FEATURES = "none"


@dataclass(frozen=True)
class PlannedRun:
    """One training job: what is run, with which seed, for which protocol of the study, and where it lies."""

    spec: RunSpec
    seed: int
    protocol_name: str
    folder: Path
    selection: Path | None = None
    """The file with the winner of a search, where the run waits for one."""

    @property
    def features_name(self) -> str:
        """The feature set's name, `none` for a model without features."""
        return self.spec.features or NO_FEATURES


@dataclass(frozen=True)
class PlannedSelection:
    """One choice of hyper-parameters: its trials and the file with the winner."""

    path: Path
    dataset: str
    model: str
    select_on: str
    trials: tuple[PlannedRun, ...]


@dataclass(frozen=True)
class Plan:
    """A study, resolved."""

    study: StudyConfig
    datasets: dict[str, DatasetConfig]
    sources: dict[str, DatasetConfig]
    """Data sets whose raw files are read, by name."""
    feature_sets: dict[str, FeatureSetConfig]
    models: dict[str, ModelConfig]
    runs: tuple[PlannedRun, ...]
    trials: tuple[PlannedRun, ...]
    selections: tuple[PlannedSelection, ...]


class Layout:
    """The path of every product, relative to the repository."""

    @staticmethod
    def raw(dataset: str) -> Path:
        """Folder of raw files."""
        return Path("data/raw") / dataset

    @staticmethod
    def prepared(dataset: str) -> Path:
        """Folder of a prepared data set."""
        return Path("data/prepared") / dataset

    @staticmethod
    def features(dataset: str, feature_set: str) -> Path:
        """Folder of a feature set."""
        return Path("data/features") / dataset / feature_set

    @staticmethod
    def run(spec: RunSpec, seed: int) -> Path:
        """Folder of a run; trials lie apart, because they never see test data."""
        kind = {"trial": "trials", "final": "runs"}[spec.purpose]
        return (
            Path("results")
            / kind
            / spec.dataset
            / (spec.features or NO_FEATURES)
            / spec.model
            / spec.hash
            / f"seed{seed}"
        )

    @staticmethod
    def selection(search: str, spec: RunSpec) -> Path:
        """File with the winner of a search; `spec` is the run that waits for it."""
        return (
            Path("results/searches")
            / search
            / spec.dataset
            / (spec.features or NO_FEATURES)
            / spec.model
            / f"{spec.hash}.json"
        )

    @staticmethod
    def study(study: str) -> Path:
        """Folder of a study's results."""
        return Path("results") / study


def load_study(path: Path) -> StudyConfig:
    """Read and validate a study file."""
    return load(StudyConfig, path)


def make_plan(study: StudyConfig, root: Path = Path(), origin: str = "study") -> Plan:
    """Resolve a study into data sets, feature sets, trials and runs.

    Parameters
    ----------
    study
        The validated study.
    root
        Folder that holds `config/`.
    origin
        File the study comes from, for messages.

    Raises
    ------
    MmreproError
        For an unknown data set, feature set, model or parameter, each with the nearest valid name.
    """
    _check_keys(study, root, origin)
    models = {name: load(ModelConfig, root / f"config/models/{name}.yaml") for name in study.models}
    datasets = {name: load_dataset(root / f"config/datasets/{name}.yaml") for name in study.datasets}
    raw_names = sorted({dataset.raw_name for dataset in datasets.values()})
    sources = {name: load_dataset(root / f"config/datasets/{name}.yaml") for name in raw_names}
    if any(model.uses_features for model in models.values()):
        for dataset in study.datasets:
            if study.feature_set(dataset) is None:
                raise MmreproError(
                    f"{origin}: no feature set for data set '{dataset}'; add `features: {{{dataset}: NAME}}`"
                )
    names = sorted({name for d in study.datasets if (name := study.feature_set(d)) is not None})
    feature_sets = {name: load(FeatureSetConfig, root / f"config/features/{name}.yaml") for name in names}
    builder = _Builder(study, models, feature_sets, root, origin)
    for protocol, model, dataset in itertools.product(study.protocols, study.models, study.datasets):
        builder.add(dataset, model, protocol)
    return Plan(
        study,
        datasets,
        sources,
        feature_sets,
        models,
        tuple(builder.runs),
        tuple(builder.trials.values()),
        tuple(builder.selections),
    )


def plan_of_file(path: Path, root: Path = Path(), **changes: Any) -> Plan:
    """Read a study file and resolve it; `changes` replace keys as Snakemake's --config does."""
    data = load_yaml(root / path)
    if isinstance(data, dict):
        data.update(changes)
    return make_plan(validate(StudyConfig, data, str(path)), root, str(path))


def _check_keys(study: StudyConfig, root: Path, origin: str) -> None:
    """Sections named after models or data sets must name known ones; `--config` may leave some of them unused."""
    known = sorted({p.stem for p in (Path(__file__).parent / "models").glob("*.py")} - {"__init__", "base"})
    datasets = sorted(p.stem for p in (root / "config/datasets").glob("*.yaml"))
    shared = study.parameters.get("all", {})
    schemas = [json.loads(p.read_text()) for p in (root / "config/schema/models").glob("*.json")] if shared else []
    parameters = sorted({name for schema in schemas for name in schema["properties"]})
    for section, kind, keys, valid in (
        ("parameters", "model", study.parameters, ["all", *known]),
        ("parameters.all", "parameter", shared, parameters),
        ("search.space", "model", study.search.space if study.search else {}, known),
        ("features", "data set", study.features, ["default", *datasets]),
    ):
        for key in keys:
            if key not in valid:
                raise MmreproError(f"{origin}: `{section}` names unknown {kind} '{key}'; {nearest(key, valid)}")


class _Builder:
    """Collects the runs, trials and selections of a study."""

    def __init__(
        self,
        study: StudyConfig,
        models: dict[str, ModelConfig],
        feature_sets: dict[str, FeatureSetConfig],
        root: Path,
        origin: str,
    ) -> None:
        self.study, self.models, self.feature_sets, self.origin = study, models, feature_sets, origin
        self.schemas = {name: load_yaml(root / f"config/schema/models/{name}.json") for name in models}
        self.runs: list[PlannedRun] = []
        self.trials: dict[Path, PlannedRun] = {}
        self.selections: list[PlannedSelection] = []

    def add(self, dataset: str, model: str, protocol_name: str) -> None:
        """Add one cell of the study: its finals and, where the study searches this model, its trials and selection."""
        final = self._spec("final", dataset, model, protocol_name, {})
        grid = self.study.search.space.get(model) if self.study.search else None
        selection = None
        if self.study.search and grid:
            name = self.study.search.name or self.study.study
            unselected = {k: v for k, v in final.parameters.items() if k not in grid}
            final = final.model_copy(update={"parameters": unselected, "selected_by": name})
            selection = Layout.selection(name, final)
            trials = tuple(self._trials(dataset, model, protocol_name, grid, self.study.search.seed))
            self.selections.append(PlannedSelection(selection, dataset, model, final.protocol.select_on, trials))
        for seed in self.study.seeds:
            self.runs.append(PlannedRun(final, seed, protocol_name, Layout.run(final, seed), selection))

    def _trials(
        self, dataset: str, model: str, protocol_name: str, grid: dict[str, list[Any]], seed: int
    ) -> list[PlannedRun]:
        planned = []
        for values in itertools.product(*grid.values()):
            spec = self._spec("trial", dataset, model, protocol_name, dict(zip(grid, values, strict=True)))
            trial = PlannedRun(spec, seed, protocol_name, Layout.run(spec, seed))
            self.trials.setdefault(trial.folder, trial)
            planned.append(trial)
        return planned

    def _spec(self, purpose: str, dataset: str, model: str, protocol_name: str, values: dict[str, Any]) -> RunSpec:
        study, config = self.study, self.models[model]
        protocol = study.protocols[protocol_name].resolve()
        if purpose == "trial" and protocol.select_on == "valid":  # such a trial never ranks test items
            protocol = protocol.model_copy(update={"mask_at_test": "train+valid"})
        feature_set = study.feature_set(dataset) if config.uses_features else None
        everyone = study.parameters.get("all", {})
        schema = self.schemas[model]
        shared = {key: value for key, value in everyone.items() if key in schema["properties"]}
        parameters = merge_parameters(config, schema, self.origin, shared, study.parameters.get(model, {}), values)
        return RunSpec(
            purpose=purpose,
            dataset=dataset,
            features=feature_set,
            modalities=tuple(self.feature_sets[feature_set].modalities) if feature_set else (),
            model=model,
            parameters=parameters,
            protocol=protocol,
            threads=study.threads,
            device=study.device,
            precision=study.precision,
            cutoffs=study.cutoffs,
        )


def complete(run: PlannedRun, root: Path = Path()) -> RunSpec:
    """Return the run's specification with the winner of its search filled in.

    Raises
    ------
    FileNotFoundError
        While the search has no winner yet.
    """
    if run.selection is None:
        return run.spec
    chosen = json.loads((root / run.selection).read_text())["parameters"]
    return run.spec.model_copy(update={"parameters": {**run.spec.parameters, **chosen}})


def plan_hash(plan: Plan) -> str:
    """Return a hash of everything the tables of a study depend on in its configuration."""
    return content_hash(
        {
            "study": plan.study.model_dump(mode="json"),
            "runs": [str(run.folder) for run in plan.runs],
            "literature": {name: d.literature_split for name, d in plan.datasets.items()},
        }
    )
