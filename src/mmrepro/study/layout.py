"""The path of every product, relative to the repository; written down once."""

from __future__ import annotations

from pathlib import Path

from mmrepro.config.features import matrices_of
from mmrepro.config.run import RunSpec

NO_FEATURES = "none"


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
        """Folder of a feature set's tables."""
        return Path("data/features") / dataset / matrices_of(feature_set)

    @staticmethod
    def encoder(dataset: str, feature_set: str, modality: str) -> Path:
        """Folder of an encoder that was pre-trained on a data set."""
        return Path("data/encoders") / dataset / feature_set / modality

    @staticmethod
    def probe(dataset: str, feature_set: str) -> Path:
        """File with the quality of a feature set."""
        return Path("results/probes") / dataset / f"{feature_set}.json"

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
