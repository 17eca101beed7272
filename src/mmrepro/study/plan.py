"""What a study consists of: its data sets, features, trials, runs and probes.

The Snakefile, the tables and `mmrepro status` all read this plan, which `planning.py` makes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mmrepro.config.base import content_hash
from mmrepro.config.dataset import DatasetConfig
from mmrepro.config.features import FeatureSetConfig
from mmrepro.config.model import ModelConfig
from mmrepro.config.run import RunSpec
from mmrepro.config.study import StudyConfig
from mmrepro.study.layout import NO_FEATURES
from mmrepro.study.space import SequentialSearch


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
    searched: tuple[str, ...]
    """Names of the searched parameters."""
    trials: tuple[PlannedRun, ...]
    """In the order tried. Those of a sequential search are known once its file lists them."""
    sequential: SequentialSearch | None = None
    """The search, where one job makes all trials."""


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
    sources: dict[str, DatasetConfig]
    """Data sets whose raw files are read, by name."""
    feature_sets: dict[str, FeatureSetConfig]
    """Feature sets that runs use, and those they are derived from."""
    models: dict[str, ModelConfig]
    runs: tuple[PlannedRun, ...]
    """Runs of the main table."""
    comparisons: dict[str, tuple[PlannedVariant, ...]]
    trials: tuple[PlannedRun, ...]
    selections: tuple[PlannedSelection, ...]
    probes: tuple[PlannedProbe, ...]
    alignments: tuple[PlannedAlignment, ...]

    @property
    def final_runs(self) -> tuple[PlannedRun, ...]:
        """The runs of all tables, each folder once: protocols and comparisons may share a run."""
        found: dict[Path, PlannedRun] = {}
        for run in (*self.runs, *(run for rows in self.comparisons.values() for row in rows for run in row.runs)):
            found.setdefault(run.folder, run)
        return tuple(found.values())

    @property
    def jobs(self) -> tuple[PlannedRun, ...]:
        """All training jobs: trials, then final runs."""
        return (*self.trials, *self.final_runs)


def complete(run: PlannedRun, root: Path = Path()) -> RunSpec:
    """Return the run's specification with the winner of its search filled in; what the run itself sets stays.

    Raises
    ------
    FileNotFoundError
        While the search has no winner yet.
    """
    if run.selection is None:
        return run.spec
    chosen = json.loads((root / run.selection).read_text())["parameters"]
    return run.spec.model_copy(update={"parameters": {**chosen, **run.spec.parameters}})


def plan_hash(plan: Plan) -> str:
    """Return a hash of everything the tables of a study depend on in its configuration."""
    return content_hash(
        {
            "study": plan.study.model_dump(mode="json"),
            "runs": [str(run.folder) for run in plan.final_runs],
            "features": {name: config.model_dump(mode="json") for name, config in plan.feature_sets.items()},
            "literature": {name: d.literature_split for name, d in plan.datasets.items()},
        }
    )
