"""The path of every product, relative to the repository; written down once, with the wildcards of the rules."""

from __future__ import annotations

from pathlib import Path

from mmrepro.config.features import matrices_of
from mmrepro.config.run import RunSpec

NO_FEATURES = "none"
LIST_DEPTH = 100
"""Length of the lists that a final run keeps: no cutoff is larger."""

RAW = "data/raw/{dataset}"
PREPARED = "data/prepared/{dataset}"
FEATURES = "data/features/{dataset}/{features}"
ENCODER = "data/encoders/{dataset}/{features}/{modality}"
PROBE = "results/probes/{dataset}/{features}.json"
CELL = "{dataset}/{features}/{model}/{hash}"
TRIAL = f"results/trials/{CELL}/seed{{seed}}"
RUN = f"results/runs/{CELL}/seed{{seed}}"
SERVING = f"results/serving/{CELL}/seed{{seed}}"
SELECTION = f"results/searches/{{search}}/{CELL}.json"
STUDY = "results/{study}"
MEASURES = "results/{study}/measures/{dataset}"


class Layout:
    """The path of every product, relative to the repository."""

    @staticmethod
    def raw(dataset: str) -> Path:
        """Folder of raw files."""
        return Path(RAW.format(dataset=dataset))

    @staticmethod
    def prepared(dataset: str) -> Path:
        """Folder of a prepared data set."""
        return Path(PREPARED.format(dataset=dataset))

    @staticmethod
    def features(dataset: str, feature_set: str) -> Path:
        """Folder of a feature set's matrices."""
        return Path(FEATURES.format(dataset=dataset, features=matrices_of(feature_set)))

    @staticmethod
    def encoder(dataset: str, feature_set: str, modality: str) -> Path:
        """Folder of an encoder that was pre-trained on a data set."""
        return Path(ENCODER.format(dataset=dataset, features=feature_set, modality=modality))

    @staticmethod
    def probe(dataset: str, feature_set: str) -> Path:
        """File with the quality of a feature set."""
        return Path(PROBE.format(dataset=dataset, features=feature_set))

    @staticmethod
    def run(spec: RunSpec, seed: int) -> Path:
        """Folder of a run; apart lie trials, which never see test data, and refits, which have seen all of it."""
        pattern = {"trial": TRIAL, "final": RUN, "serving": SERVING}[spec.purpose]
        return Path(pattern.format(**cell_labels(spec), seed=seed))

    @staticmethod
    def selection(search: str, spec: RunSpec) -> Path:
        """File with the winner of a search; `spec` is the run that waits for it."""
        return Path(SELECTION.format(search=search, **cell_labels(spec)))

    @staticmethod
    def study(study: str) -> Path:
        """Folder of a study's results."""
        return Path(STUDY.format(study=study))

    @staticmethod
    def outside_schema(model: str) -> Path:
        """Schema of a model that is no part of the package."""
        return Path(f"results/schemas/{model}.json")

    @staticmethod
    def measures(study: str, dataset: str) -> Path:
        """Metrics of a study's runs on a data set: `.json` the means, `.parquet` those of each user."""
        return Path(f"{MEASURES.format(study=study, dataset=dataset)}.json")


def cell_labels(spec: RunSpec) -> dict[str, str]:
    """Return the wildcards that a specification stands for."""
    return {
        "dataset": spec.dataset, "features": spec.features or NO_FEATURES, "model": spec.model, "hash": spec.hash,
    }  # fmt: skip
