"""The planted data say something about multimodal models: content helps, and only the items' own content."""

from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT, Checkout

from mmrepro.columns import Columns
from mmrepro.config.features import ItemGraphSection
from mmrepro.config.files import load_feature_set
from mmrepro.config.run import RunSpec
from mmrepro.datasets.interactions import load_items
from mmrepro.evaluation.measure import measure
from mmrepro.features.derived import derive_table
from mmrepro.features.item_graph import build_item_graph
from mmrepro.features.matrix import FeatureMatrix
from mmrepro.records.files import read_json
from mmrepro.training.run import train

pytestmark = pytest.mark.slow

DATASET, FEATURES, MODALITIES, SEEDS, NEIGHBOURS = "mini-baby", "miniature", ("image", "text"), (0, 1), 10
PARAMETERS = {"batch_size": 256, "max_epochs": 30, "patience": 10, "embedding_size": 32, "learning_rate": 0.01}


def mean_ndcg(prepared: Path, model: str, features: Path | None, output: Path) -> float:
    """Mean test NDCG@20 over seeds."""
    spec = RunSpec(
        purpose="final", dataset=DATASET, features=features and FEATURES, modalities=MODALITIES if features else (),
        model=model, parameters={**PARAMETERS, **({"neighbours": NEIGHBOURS} if features else {})},
    )  # fmt: skip
    for seed in SEEDS:
        train(spec, seed, prepared, features, output / f"seed{seed}")
    names = [f"seed{seed}" for seed in SEEDS]
    measure(prepared, names, output / "measures.json", (20,), output)
    measured = read_json(output / "measures.json")["runs"]
    return float(np.mean([measured[name]["test"]["ndcg_at_20"] for name in names]))


def shuffled_among_items(prepared: Path, features: Path, output: Path) -> Path:
    """The same rows, each now another item's."""
    config = load_feature_set(ROOT / f"config/features/{FEATURES}--shuffled.yaml")
    keys = load_items(prepared)[Columns.KEY].tolist()
    for modality in MODALITIES:
        derive_table(FeatureMatrix.load(features, modality), config, keys).save(output)
        build_item_graph(ItemGraphSection(neighbours=NEIGHBOURS), modality, output, output)
    return output


def test_content_beats_ids_alone_and_shuffled_content_does_not(finished: Checkout, tmp_path: Path) -> None:
    prepared = finished.folder / "data/prepared" / DATASET
    features = finished.folder / "data/features" / DATASET / FEATURES
    identities = mean_ndcg(prepared, "lightgcn", None, tmp_path / "identities")
    content = mean_ndcg(prepared, "cm3", features, tmp_path / "content")
    shuffled = mean_ndcg(
        prepared, "cm3", shuffled_among_items(prepared, features, tmp_path / "shuffled"), tmp_path / "without"
    )
    advantage = content - identities
    assert advantage > 0.1 * identities
    assert shuffled - identities < 0.4 * advantage
