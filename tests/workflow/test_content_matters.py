"""The planted data say something about multimodal models: content helps, and only the items' own content."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import Checkout

pytestmark = pytest.mark.slow

DATASET, SEEDS = "mini-elec", [0, 1]


def mean_ndcg(checkout: Checkout, features: str, model: str) -> float:
    """Mean test NDCG@20 over seeds."""
    study = {
        "study": f"content-{model}-{features}",
        "title": "Does content matter?",
        "datasets": [DATASET],
        "models": [model],
        "features": {"default": features},
        "seeds": SEEDS,
        "parameters": {
            "all": {"batch_size": 256, "max_epochs": 60, "patience": 10, "embedding_size": 32, "learning_rate": 0.005}
        },
    }
    (checkout.folder / f"config/studies/{study['study']}.yaml").write_text(yaml.safe_dump(study))
    result = checkout.snakemake("--quiet", "rules", study=study["study"])
    assert result.returncode == 0, result.stdout + result.stderr
    folder = "none" if model == "lightgcn" else features
    runs = sorted(Path(checkout.folder / f"results/runs/{DATASET}/{folder}/{model}").rglob("run.json"))
    records = [json.loads(path.read_text()) for path in runs]
    scores = [r["test"]["ndcg_at_20"] for r in records if r["parameters"]["embedding_size"] == 32]
    assert len(scores) == len(SEEDS)
    return float(np.mean(scores))


def test_content_beats_ids_alone_and_shuffled_content_does_not(finished: Checkout) -> None:
    identities = mean_ndcg(finished, "miniature", "lightgcn")
    content = mean_ndcg(finished, "miniature", "cm3")
    shuffled = mean_ndcg(finished, "miniature-shuffled", "cm3")
    advantage = content - identities
    assert advantage > 0.1 * identities
    assert shuffled - identities < 0.4 * advantage
