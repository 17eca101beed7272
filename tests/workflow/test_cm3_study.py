import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from checkout import Checkout, copy_project
from published_mirror import DATASETS, make_mirror

from mmrepro.config.files import load_dataset, load_feature_set
from mmrepro.datasets.fetch import fetch
from mmrepro.datasets.interactions import PreparedDataset
from mmrepro.datasets.prepare import prepare
from mmrepro.features.extract import extract
from mmrepro.study.resolve import plan_of_file

pytestmark = pytest.mark.slow


def test_the_cm3_study_plans_every_job_and_lacks_no_file_but_the_downloads(tmp_path: Path) -> None:
    checkout = copy_project(tmp_path)
    study = yaml.safe_load((tmp_path / "config/studies/cm3.yaml").read_text())
    assert study["datasets"] == list(DATASETS)
    slice_ = {"datasets": "baby,microlens", "models": "ease,vbpr,alignrec,cm3", "seeds": 0}
    plan = plan_of_file(Path("config/studies/cm3.yaml"), checkout.folder, **slice_)
    planned = checkout.planned("--config", *(f"{key}={value}" for key, value in slice_.items()), study="cm3")
    stages = Counter(path.split("/")[1] for path in planned)
    assert stages["raw"] == stages["prepared"] == stages["encoders"] == 2
    # image and text as published, on Baby shuffled and noise too, each a table and a graph; the unified table's graph
    assert stages["features"] == 2 * (2 * 2 + 1) + 2 * 2 * 2
    assert not any("--only-" in path for path in planned if path.startswith("data/"))
    assert stages["runs"] == len(plan.final_runs) and stages["trials"] == len(plan.trials)
    assert stages["searches"] == len(plan.selections) == 2 * 4
    assert stages[plan.name] == 2 + 3  # the measures of each data set, the tables, the page, the import into MLflow


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, Path]:
    """A checkout, and a mirror of what its study needs at one hundredth of the size."""
    folder = tmp_path_factory.mktemp("mirrored")
    checkout = copy_project(folder / "checkout")
    make_mirror(folder / "mirror", checkout.folder / "config")
    return checkout, folder / "mirror"


@pytest.mark.parametrize("dataset", DATASETS)
def test_files_in_the_published_formats_become_data_and_features(
    mirrored: tuple[Checkout, Path], dataset: str, tmp_path: Path
) -> None:
    checkout, mirror = mirrored
    config = load_dataset(checkout.folder / f"config/datasets/{dataset}.yaml")
    fetch(config, tmp_path / "raw", mirror)
    prepare(config, tmp_path / "raw", tmp_path / "prepared")
    data = PreparedDataset.load(tmp_path / "prepared")
    counts = {"users": data.n_users, "items": data.n_items, **data.interactions["split"].value_counts()}
    assert config.expected is not None and counts == config.expected.model_dump()
    features = load_feature_set(checkout.folder / "config/features/published.yaml")
    for modality in features.modalities:
        extract(features, modality, tmp_path / "prepared", tmp_path / "raw", tmp_path / "features")
        published = np.load(tmp_path / f"raw/{modality}_feat.npy")
        np.testing.assert_array_equal(np.load(tmp_path / f"features/{modality}.npy"), published)


def test_the_cm3_study_runs_on_a_mirror_in_the_published_formats(mirrored: tuple[Checkout, Path]) -> None:
    checkout, mirror = mirrored
    path = checkout.folder / "config/studies/cm3.yaml"
    study = yaml.safe_load(path.read_text())
    parts = {
        "datasets": ["baby"],
        "models": ["cm3"],
        "seeds": [0],
        "feature_quality": [],
        "search": None,
        "comparisons": {},
        "claims": [],
    }
    path.write_text(yaml.safe_dump({**study, **parts, "parameters": {"all": {"max_epochs": 1}}}))
    result = checkout.snakemake("--quiet", "rules", "--until", "tables", study="cm3", MMREPRO_MIRROR=str(mirror))
    assert result.returncode == 0, result.stdout + result.stderr
    main = pd.read_csv(checkout.folder / "results/cm3/tables/main.csv")
    assert set(main["dataset"]) == {"baby"} and set(main["model"]) == {"cm3"}
    assert main.loc[main["metric"].isin(["recall", "ndcg"]), "mean"].between(0, 1).all()
    assert json.loads((checkout.folder / "results/cm3/summary.json").read_text())["holes"] == 0
    counts = pd.read_csv(checkout.folder / "results/cm3/tables/datasets.csv").set_index("dataset")
    assert counts.loc["baby", ["users", "items", "train"]].tolist() == [194, 70, 1_185]
    assert checkout.planned("--until", "tables", study="cm3") == []
