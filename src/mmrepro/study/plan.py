"""What a study consists of: its data sets, features, trials, runs and probes, and the jobs that make them.

The Snakefile and all commands read this plan, which `resolve.py` makes once in a process.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmrepro.config.base import content_hash
from mmrepro.config.dataset import DatasetConfig
from mmrepro.config.features import FeatureSetConfig
from mmrepro.config.model import ModelConfig, ModelSchema, is_lists
from mmrepro.config.run import RunSpec
from mmrepro.config.study import Claim, StudyConfig
from mmrepro.errors import MmreproError
from mmrepro.records.files import read_object
from mmrepro.study.kinds import KINDS, Kind, code_of, training_code
from mmrepro.study.layout import NO_FEATURES
from mmrepro.study.needs import Needs
from mmrepro.study.space import SequentialSearch

CHOOSE_AGAIN = "delete it and run the study again"
"""What to do about a damaged file with the winner of a search."""
ENCODER = "alignrec encoder"
"""What stands in a model's place where a pre-training is meant."""


@dataclass(frozen=True, eq=False)
class Job:
    """One job of a study: everything that rules, reports and commands need to know of it.

    Attributes
    ----------
    kind
        A key of `KINDS`, and the name of its rule.
    labels
        What its product's wildcards stand for.
    inputs
        Name -> files that must be there and whose change makes it out of date.
    settings
        The configuration that decides its result, as JSON values: whole sections.
    needs
        What it is granted.
    parts
        What its code imports by name, by the labels of its kind.
    undated
        Name -> files that must be there, whose date alone says nothing.
    selection
        The file with the winner of a search whose values complete `settings`.
    """

    kind: str
    labels: Mapping[str, str]
    inputs: Mapping[str, tuple[Path, ...]]
    settings: Mapping[str, Any]
    needs: Needs = field(default_factory=Needs)
    parts: Mapping[str, str] = field(default_factory=dict)
    undated: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    selection: Path | None = None

    @property
    def of_kind(self) -> Kind:
        """The line of the table of kinds."""
        return KINDS[self.kind]

    @property
    def product(self) -> Path:
        """The file whose presence says that it is done."""
        return Path(self.of_kind.product.format(**self.labels))

    def can_be_remade(self, root: Path) -> bool:
        """Return whether what was deleted of its files is made again: where all that it reads is there."""
        read = [path for paths in (*self.inputs.values(), *self.undated.values()) for path in paths]
        return self.of_kind.remade and all((root / path).exists() for path in read)

    @property
    def files(self) -> tuple[Path, ...]:
        """Its product, and what is made with it."""
        return (self.product, *(Path(pattern.format(**self.labels)) for pattern in self.of_kind.beside))

    @property
    def evidence(self) -> tuple[str, Path] | None:
        """File of a publication, and the file of the job that is a line of it."""
        found = self.of_kind.evidence
        return found and (found[0], Path(found[1].format(**self.labels)))

    @property
    def model(self) -> str:
        """Its model; for what trains none, what stands in a model's place."""
        return self.labels.get("model", ENCODER)

    @property
    def log(self) -> Path:
        """Its log."""
        return Path(self.of_kind.log_file.format(**self.labels))

    @property
    def code(self) -> str:
        """Fingerprint of the code that it runs."""
        return code_of(self.kind, **self.parts)

    @property
    def runtime(self) -> int:
        """Minutes granted: three times what is expected, and at least what its kind says."""
        return max(self.of_kind.runtime, round(3 * self.needs.minutes))

    def completed(self, root: Path = Path()) -> dict[str, Any]:
        """Return the settings with the winner of its search filled in.

        Raises
        ------
        FileNotFoundError
            While the search has no winner yet.
        """
        if self.selection is None:
            return dict(self.settings)
        chosen = chosen_by(self.selection, self.settings["selects"], root)
        return {**self.settings, "parameters": {**self.settings.get("parameters", {}), **chosen}}


@dataclass(frozen=True)
class PlannedRun:
    """One training: what is run, with which seed, for which protocol of the study, and where it lies."""

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

    @property
    def record(self) -> Path:
        """The product of its job."""
        return self.folder / "run.json"

    @property
    def code(self) -> str:
        """Fingerprint of the code that would train it now."""
        return training_code(self.spec.model, self.spec.watch, self.spec.outside)


@dataclass(frozen=True)
class PlannedSelection:
    """One choice of hyper-parameters: its trials and the file with the winner."""

    path: Path
    search: str
    spec: RunSpec
    """The run that waits for it."""
    searched: tuple[str, ...]
    """Names of the searched parameters."""
    trials: tuple[PlannedRun, ...]
    """In the order tried. Those of a sequential search are known once its file lists them."""
    values: tuple[Mapping[str, Any], ...]
    """The searched parameters of each trial."""
    sequential: SequentialSearch | None = None
    """The search, where one job makes all trials."""

    @property
    def dataset(self) -> str:
        """Its data set."""
        return self.spec.dataset

    @property
    def model(self) -> str:
        """Its model."""
        return self.spec.model

    @property
    def select_on(self) -> str:
        """The split that selects."""
        return self.spec.protocol.select_on


@dataclass(frozen=True)
class PlannedVariant:
    """One row of a comparison: a model on a data set under one variant, one run a seed."""

    dataset: str
    model: str
    variant: str
    runs: tuple[PlannedRun, ...]


@dataclass(frozen=True)
class PlannedProbe:
    """One measurement of a feature set without a recommender."""

    dataset: str
    feature_set: str
    path: Path


@dataclass(frozen=True)
class PlannedAlignment:
    """One encoder to be pre-trained on a data set's items."""

    dataset: str
    feature_set: str
    modality: str
    folder: Path


@dataclass(frozen=True)
class Plan:
    """A study, resolved."""

    study: StudyConfig
    datasets: dict[str, DatasetConfig]
    raw_datasets: dict[str, DatasetConfig]
    """Data sets whose raw files are read, by name."""
    feature_sets: dict[str, FeatureSetConfig]
    """Feature sets that runs use, and those they are derived from."""
    models: dict[str, ModelConfig]
    schemas: dict[str, ModelSchema]
    runs: tuple[PlannedRun, ...]
    """Runs of the main table."""
    comparisons: dict[str, tuple[PlannedVariant, ...]]
    trials: tuple[PlannedRun, ...]
    selections: tuple[PlannedSelection, ...]
    probes: tuple[PlannedProbe, ...]
    alignments: tuple[PlannedAlignment, ...]
    jobs: tuple[Job, ...] = ()
    """Everything that is made, in the order in which data flow."""
    slice: str = ""
    """What tells it from the whole study, where --config has changed something; empty for the whole."""

    @property
    def name(self) -> str:
        """Name of its folder in `results/`: that of the study, whose tables no slice of it may overwrite."""
        return f"{self.study.study}--{self.slice}" if self.slice else self.study.study

    @property
    def literature(self) -> dict[str, str]:
        """Data sets of the study that the literature uses, each with its name there."""
        found = {name: self.datasets[name].literature_split for name in self.study.datasets}
        return {name: split for name, split in found.items() if split}

    @property
    def given(self) -> tuple[str, ...]:
        """Rows whose lists another system has made."""
        return tuple(name for name, outside in self.study.outside.items() if is_lists(outside))

    @property
    def fitted(self) -> tuple[str, ...]:
        """Models that are fitted in closed form here, which lists of other systems are not."""
        return tuple(name for name, schema in self.schemas.items() if schema.closed_form and name not in self.given)

    @property
    def switches(self) -> dict[str, tuple[str, ...]]:
        """The protocols but the first, each with the switches that it turns; none unless one turns a single one."""
        base, *others = self.study.protocols.items()
        known = base[1].resolve().model_dump()
        found = {
            name: tuple(switch for switch, value in config.resolve().model_dump().items() if value != known[switch])
            for name, config in others
        }
        return found if any(len(turned) == 1 for turned in found.values()) else {}

    @property
    def claims(self) -> tuple[Claim, ...]:
        """What is claimed elsewhere and tested here; of a slice, what its rows can test."""
        return tuple(claim for claim in self.study.claims if self.study.problem_of(claim) is None)

    @property
    def final_runs(self) -> tuple[PlannedRun, ...]:
        """The runs of all tables, each folder once: protocols and comparisons may share a run."""
        found: dict[Path, PlannedRun] = {}
        for run in (*self.runs, *(run for rows in self.comparisons.values() for row in rows for run in row.runs)):
            found.setdefault(run.folder, run)
        return tuple(found.values())

    @property
    def trainings(self) -> tuple[PlannedRun, ...]:
        """All trainings: trials, then final runs."""
        return (*self.trials, *self.final_runs)

    @property
    def feature_sets_read(self) -> tuple[tuple[str, str], ...]:
        """Data set and feature set of all matrices that trainings read, sorted; derived ones under their own names."""
        return tuple(sorted({(run.spec.dataset, run.spec.features) for run in self.trainings if run.spec.features}))

    def content_features(self, dataset: str) -> FeatureSetConfig | None:
        """Return the feature set by which the contents of lists are compared: the data set's own, where a training
        reads it.
        """
        name = self.study.feature_set(dataset, "")
        return self.feature_sets[name] if name and (dataset, name) in self.feature_sets_read else None

    def jobs_of(self, *kinds: str) -> tuple[Job, ...]:
        """Return the jobs of some kinds."""
        return tuple(job for job in self.jobs if job.kind in kinds)

    def parameters_of(self, spec: RunSpec) -> dict[str, Any]:
        """Return the parameters of a run, defaults included; those that a search sets have their defaults here."""
        return {**self.schemas[spec.model].defaults, **spec.parameters}


def complete(run: PlannedRun, root: Path = Path()) -> RunSpec:
    """Return the run's specification with the winner of its search filled in; what the run itself sets stays.

    Raises
    ------
    FileNotFoundError
        While the search has no winner yet.
    """
    chosen = chosen_by(run.selection, run.spec.selects, root)
    return run.spec.model_copy(update={"parameters": {**run.spec.parameters, **chosen}}) if chosen else run.spec


def chosen_by(selection: Path | None, names: Iterable[str], root: Path) -> dict[str, Any]:
    """Return the values that the winner of a search has of some parameters; nothing without a search.

    Raises
    ------
    FileNotFoundError
        While the search has no winner yet.
    MmreproError
        When its file is damaged.
    """
    if selection is None:
        return {}
    found = read_object(root / selection, CHOOSE_AGAIN)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "no winner yet", str(root / selection))
    try:
        return {name: found["parameters"][name] for name in names}
    except (KeyError, TypeError) as error:
        raise MmreproError(f"{root / selection}: no value of a searched parameter ({error}); {CHOOSE_AGAIN}") from None


def plan_hash(plan: Plan) -> str:
    """Return a hash of everything the tables of a study depend on in its configuration."""
    return content_hash(
        {
            "study": plan.study.model_dump(mode="json", exclude_defaults=True),
            "runs": [str(run.folder) for run in plan.final_runs],
            "features": {n: c.model_dump(mode="json", exclude_defaults=True) for n, c in plan.feature_sets.items()},
            "literature": {name: d.literature_split for name, d in plan.datasets.items()},
        }
    )
