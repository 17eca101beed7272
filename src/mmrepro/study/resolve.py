"""From a study to its plan: every run, trial, selection, probe and pre-training that its tables need."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmrepro.config.base import differing, nearest
from mmrepro.config.features import AlignRecEncoder, FeatureSetConfig, matrices_of
from mmrepro.config.files import load_dataset, load_feature_set, load_yaml, validate
from mmrepro.config.model import ModelConfig, ModelSchema, is_lists, model_names
from mmrepro.config.run import RunSpec, metric_of
from mmrepro.config.study import StudyConfig, Variant
from mmrepro.errors import MmreproError
from mmrepro.records.files import read_object
from mmrepro.study.jobs import jobs_of
from mmrepro.study.layout import LIST_DEPTH, Layout
from mmrepro.study.outside import config_of, schema_of
from mmrepro.study.plan import (
    CHOOSE_AGAIN,
    Plan,
    PlannedAlignment,
    PlannedProbe,
    PlannedRun,
    PlannedSelection,
    PlannedVariant,
)
from mmrepro.study.products import metric_names, published_files, table_names
from mmrepro.study.slices import slice_of
from mmrepro.study.space import SequentialSearch, Space, combinations, space_of, trials_of


def make_plan(study: StudyConfig, root: Path = Path(), origin: str = "study", whole: StudyConfig | None = None) -> Plan:
    """Resolve a study into data sets, feature sets, trials, runs and probes.

    Parameters
    ----------
    study
        The validated study.
    root
        Folder that holds `config/`.
    origin
        File the study comes from, for messages.
    whole
        The study as its file says, where `study` may be a slice of it.

    Raises
    ------
    MmreproError
        For an unknown data set, feature set, model or parameter, each with the nearest valid name.
    """
    _check_name(study, whole or study, root, origin)
    _check_keys(study, root, origin)
    models = {name: config_of(name, study.outside.get(name), root) for name in study.models}
    datasets = {name: load_dataset(root / f"config/datasets/{name}.yaml") for name in study.datasets}
    raw_names = sorted({dataset.raw_name for dataset in datasets.values()})
    raw_datasets = {name: load_dataset(root / f"config/datasets/{name}.yaml") for name in raw_names}
    builder = _Builder(study, models, root, origin)
    for protocol, model, dataset in itertools.product(study.protocols, study.models, study.datasets):
        builder.add(dataset, model, protocol)
    for name in study.comparisons:
        builder.compare(name)
    for run in builder.planned:
        _require_neighbours(run.spec, builder, origin)
    for claim in (whole or study).claims:
        if problem := (whole or study).problem_of(claim):
            raise MmreproError(f"{origin}: claim '{claim.statement}': {problem}")
    used = sorted({(run.spec.dataset, matrices_of(run.spec.features)) for run in builder.planned if run.spec.features})
    plan = Plan(
        study,
        datasets,
        raw_datasets,
        builder.feature_sets,
        models,
        builder.schemas,
        tuple(builder.runs),
        {name: tuple(rows) for name, rows in builder.comparisons.items() if rows},
        tuple(builder.trials.values()),
        tuple(builder.selections.values()),
        tuple(_probes(study, used)),
        tuple(_alignments(builder.feature_sets, used)),
        slice=slice_of(study, whole) if whole else "",
    )
    return replace(plan, jobs=jobs_of(plan, published_files(plan, root)))


def _probes(study: StudyConfig, used: list[tuple[str, str]]) -> list[PlannedProbe]:
    probed = study.datasets if study.feature_quality is None else study.feature_quality
    return [PlannedProbe(d, name, Layout.probe(d, name)) for d, name in used if d in probed]


def _alignments(feature_sets: dict[str, FeatureSetConfig], used: list[tuple[str, str]]) -> list[PlannedAlignment]:
    """A derived feature set needs the encoder of the one it is derived from."""
    bases = sorted({(dataset, feature_sets[name].base) for dataset, name in used})
    return [
        PlannedAlignment(dataset, name, modality, Layout.encoder(dataset, name, modality))
        for dataset, name in bases
        for modality, encoder in feature_sets[name].modalities.items()
        if isinstance(encoder, AlignRecEncoder)
    ]


def plan_of_file(path: Path, root: Path = Path(), **changes: Any) -> Plan:
    """Read a study file and resolve it; `changes` replace keys as Snakemake's --config does."""
    data = load_yaml(root / path)
    whole = whole_study(data, str(path))
    study = validate(StudyConfig, {**data, **changes}, str(path)) if isinstance(data, dict) and changes else whole
    return make_plan(study or validate(StudyConfig, data, str(path)), root, str(path), whole)


def whole_study(written: Any, origin: str) -> StudyConfig | None:
    """Return the study that a file holds; None where it takes --config to complete it."""
    try:
        return validate(StudyConfig, written, origin)
    except MmreproError:
        return None


def plans_of_files(paths: Sequence[Path], root: Path = Path()) -> tuple[list[Plan], list[str]]:
    """Return the studies that can be resolved, and why others cannot."""
    plans, problems = [], []
    for path in paths:
        try:
            plans.append(plan_of_file(path.absolute() if path.is_file() else path, root))
        except MmreproError as error:
            problems.append(str(error))
    return plans, problems


def _require_neighbours(spec: RunSpec, builder: _Builder, origin: str) -> None:
    """An item graph has lists of one length, and a model that reads longer ones would fail once all was made."""
    if spec.features is None or "neighbours" not in builder.schemas[spec.model].properties:
        return
    wanted = {**builder.schemas[spec.model].defaults, **spec.parameters}["neighbours"]
    found = builder.feature_sets[spec.features].neighbours
    if isinstance(wanted, int) and wanted > found:
        name = builder.feature_sets[spec.features].feature_set
        raise MmreproError(
            f"{origin}: '{spec.model}' reads {wanted} neighbours, and lists of '{name}' have {found}; "
            f"raise `neighbours` in config/features/{name}.yaml, or lower the model's"
        )


def _check_name(study: StudyConfig, whole: StudyConfig, root: Path, origin: str) -> None:
    """A study's name is the folder of its tables, which no other study may overwrite."""
    if study.study != whole.study:
        raise MmreproError(f"{origin}: `study` is the name that the file has, '{whole.study}'; change it there")
    path = root / f"config/studies/{study.study}.yaml"
    named = whole_study(load_yaml(path), str(path)) if path.is_file() else None
    if named is not None and named.study == whole.study and named != whole:
        raise MmreproError(
            f"{origin}: `study: {study.study}` is the name of another study, in config/studies/{study.study}.yaml, "
            "whose tables it would overwrite; choose another"
        )


def _check_keys(study: StudyConfig, root: Path, origin: str) -> None:
    """Sections named after models or data sets must name known ones; `--config` may leave some of them unused."""
    metric, cutoff = metric_of(study.watch)
    if metric not in metric_names():
        raise MmreproError(
            f"{origin}: `watch: {study.watch}` is no metric of accuracy; {nearest(metric, metric_names())}"
        )
    if cutoff > LIST_DEPTH or max(study.cutoffs) > LIST_DEPTH:
        raise MmreproError(f"{origin}: lists are {LIST_DEPTH} items long; no cutoff can be larger")
    taken = [name for name in study.comparisons if name in table_names()]
    if taken:
        raise MmreproError(f"{origin}: the comparison '{taken[0]}' has the name of another table; choose another")
    known = [*model_names(), *study.outside]
    if taken := [name for name in study.outside if name in model_names()]:
        raise MmreproError(f"{origin}: `outside` names '{taken[0]}', a model of the package; call it otherwise")
    if unknown := [name for name in study.models if name not in known]:
        raise MmreproError(f"{origin}: unknown model '{unknown[0]}'; {nearest(unknown[0], known)}")
    datasets = sorted(p.stem for p in (root / "config/datasets").glob("*.yaml"))
    compared = study.comparisons.values()
    shared = study.parameters.get("all", {})
    schemas = sorted((root / "config/schema/models").glob("*.json")) if shared else []
    parameters = sorted({name for path in schemas for name in ModelSchema.load(path.parent, path.stem).properties})
    for section, kind, keys, valid in (
        ("parameters", "model", study.parameters, ["all", *known]),
        ("parameters.all", "parameter", shared, parameters),
        ("search.space", "model", study.search.space if study.search else {}, known),
        ("search.models", "model", study.search.named if study.search else (), known),
        ("search.datasets", "data set", study.search.datasets if study.search else (), [*datasets, *study.datasets]),
        ("features", "data set or model", study.features, ["default", *datasets, *known]),
        ("feature_quality", "data set", study.feature_quality or (), [*datasets, *study.datasets]),
        ("focus", "model", [study.focus], known),
        ("comparisons", "model", [m for c in compared for m in c.models], known),
        ("comparisons", "data set", [d for c in compared for d in c.datasets], [*datasets, *study.datasets]),
    ):
        for key in keys:
            if key not in valid:
                raise MmreproError(f"{origin}: `{section}` names unknown {kind} '{key}'; {nearest(key, valid)}")


class _Builder:
    """Collects the runs, trials, selections and comparisons of a study."""

    def __init__(self, study: StudyConfig, models: dict[str, ModelConfig], root: Path, origin: str) -> None:
        self.study, self.models, self.root, self.origin = study, models, root, origin
        self.schemas = {name: schema_of(name, study.outside.get(name), root) for name in models}
        self.feature_sets: dict[str, FeatureSetConfig] = {}
        self.runs: list[PlannedRun] = []
        self.trials: dict[Path, PlannedRun] = {}
        self.selections: dict[Path, PlannedSelection] = {}
        self.spaces = {name: space_of(study.search, models[name], self.schemas[name], origin) for name in models}
        self.comparisons: dict[str, list[PlannedVariant]] = {}

    @property
    def planned(self) -> list[PlannedRun]:
        """All jobs so far."""
        compared = (run for rows in self.comparisons.values() for row in rows for run in row.runs)
        return [*self.runs, *self.trials.values(), *compared]

    def add(self, dataset: str, model: str, protocol_name: str) -> None:
        """Add one cell of the main table: its runs and, where the study searches this model, its trials and
        selection.
        """
        self.runs += self._finals(dataset, model, protocol_name, Variant(), self.study.seeds)

    def compare(self, name: str) -> None:
        """Add a comparison, restricted to the data sets, models and seeds of the study, which --config may have
        narrowed.
        """
        comparison = self.study.comparisons[name]
        datasets = [d for d in self.study.datasets if not comparison.datasets or d in comparison.datasets]
        seeds = tuple(s for s in self.study.seeds if not comparison.seeds or s in comparison.seeds)
        models = [m for m in self.study.models if m in comparison.models]
        protocol = next(iter(self.study.protocols))
        self.comparisons[name] = [
            PlannedVariant(d, m, label, tuple(self._finals(d, m, protocol, variant, seeds)))
            for d, m, (label, variant) in itertools.product(datasets, models, comparison.variants.items())
            if seeds
        ]

    def _finals(
        self, dataset: str, model: str, protocol_name: str, variant: Variant, seeds: tuple[int, ...]
    ) -> list[PlannedRun]:
        """One run a seed; what a search chooses for the main table holds for every variant that does not say
        otherwise.
        """
        main, selection = self._main(dataset, model, protocol_name)
        spec = main
        if variant != Variant():
            open_ = tuple(name for name in main.selects if name not in variant.parameters)
            selection = selection if open_ else None
            spec = self._spec("final", dataset, model, protocol_name, variant.parameters, variant.features)
            spec = _waiting(spec, main.selected_by, open_)
        used = (0,) if self.schemas[model].closed_form else seeds
        return [PlannedRun(spec, seed, protocol_name, Layout.run(spec, seed), selection) for seed in used]

    def _main(self, dataset: str, model: str, protocol_name: str) -> tuple[RunSpec, Path | None]:
        """The specification of a cell of the main table, and the selection that completes it."""
        final = self._spec("final", dataset, model, protocol_name, {})
        search, space = self.study.search, self.spaces[model]
        if not search or not space or not search.on(dataset):
            return final, None
        name = search.name or self.study.study
        final = _waiting(final, name, tuple(sorted(space)))
        path = Layout.selection(name, final)
        if path not in self.selections:
            self.selections[path] = self._selection(path, name, final, protocol_name)
        return final, path

    def _selection(self, path: Path, name: str, final: RunSpec, protocol_name: str) -> PlannedSelection:
        """A selection with its trials; those of a sequential search are read from its file, where it has ended."""
        search, model = self.study.search, final.model
        space, defaults = self.spaces[model], self.schemas[model].defaults
        assert search is not None
        trial, sequential = self._spec("trial", final.dataset, model, protocol_name, combinations(space)[0]), None
        if search.sampler == "tpe" and search.budget != "grid":
            known = {key: defaults[key] for key in space if key in defaults}
            sequential = SequentialSearch(
                trial=trial, space=space, defaults=known, budget=search.budget, seed=search.seed
            )
            tried = _tried(self.root / path, space)
        else:
            tried = trials_of(search, space, model, self.origin)
        specs = [trial.with_parameters(values, defaults) for values in tried]
        trials = tuple(PlannedRun(s, search.seed, protocol_name, Layout.run(s, search.seed)) for s in specs)
        for planned in trials:
            self.trials.setdefault(planned.folder, planned)
        return PlannedSelection(path, name, final, tuple(space), trials, tuple(tried), sequential)

    def _spec(
        self, purpose: str, dataset: str, model: str, protocol_name: str, values: dict[str, Any],
        features: str | None = None,
    ) -> RunSpec:  # fmt: skip
        study, schema, outside = self.study, self.schemas[model], self.study.outside.get(model)
        protocol = study.protocols[protocol_name].resolve()
        if purpose == "trial" and protocol.select_on == "valid":  # such a trial never ranks test items
            protocol = protocol.model_copy(update={"mask_at_test": "train+valid"})
        feature_set = self._feature_set(dataset, model, features)
        given = outside and outside.replace("{dataset}", dataset.partition("--")[0])
        if given and is_lists(given) and not (self.root / given).is_file():
            raise MmreproError(f"{self.origin}: `outside` of '{model}': {given}: no such file; write the lists there")
        shared = {key: value for key, value in study.parameters.get("all", {}).items() if key in schema.properties}
        released = schema.released if protocol.oddities == "program" else {}
        updates = {**released, **shared, **study.parameters.get(model, {}), **values}
        return RunSpec(
            purpose=purpose,
            dataset=dataset,
            features=feature_set.feature_set if feature_set else None,
            modalities=tuple(feature_set.modalities) if feature_set else (),
            model=model,
            outside=given,
            parameters=differing(schema.check(self.origin, updates), schema.defaults),
            protocol=protocol,
            threads=study.threads,
            device=study.device,
            precision=study.precision,
            watch=study.watch,
        )

    def _feature_set(self, dataset: str, model: str, features: str | None) -> FeatureSetConfig | None:
        """Load the feature set that a run uses, and the one that it is derived from."""
        if not self.schemas[model].uses_features:
            return None
        name = features or self.study.feature_set(dataset, model)
        if name is None:
            raise MmreproError(
                f"{self.origin}: no feature set for data set '{dataset}'; add `features: {{{dataset}: NAME}}`"
            )
        if name not in self.feature_sets:
            config = load_feature_set(self.root / f"config/features/{name}.yaml")
            base = load_feature_set(self.root / f"config/features/{config.base}.yaml")
            self.feature_sets |= {base.feature_set: base, name: config}
        return self.feature_sets[name]


def _tried(path: Path, space: Space) -> list[dict[str, Any]]:
    """Searched parameters of the trials that a sequential search has listed; none while it has not ended."""
    try:
        listed = (read_object(path, CHOOSE_AGAIN) or {}).get("trials", [])
        return [{name: row["parameters"][name] for name in space} for row in listed]
    except (KeyError, TypeError) as error:
        raise MmreproError(f"{path}: damaged list of trials ({error}); {CHOOSE_AGAIN}") from None


def _waiting(spec: RunSpec, search: str | None, parameters: tuple[str, ...]) -> RunSpec:
    """The specification whose named parameters a search sets; without any, as it is."""
    if not parameters:
        return spec
    fixed = {key: value for key, value in spec.parameters.items() if key not in parameters}
    return spec.model_copy(update={"parameters": fixed, "selected_by": search, "selects": parameters})
