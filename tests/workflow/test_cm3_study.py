import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import copy_project
from published_mirror import DATASETS, make_mirror

pytestmark = pytest.mark.slow


def test_the_cm3_study_plans_every_job_and_lacks_no_file_but_the_downloads(tmp_path: Path) -> None:
    checkout = copy_project(tmp_path)
    study = yaml.safe_load((tmp_path / "config/studies/cm3.yaml").read_text())
    stages = Counter(path.split("/")[1] for path in checkout.planned(study="cm3"))
    assert study["datasets"] == list(DATASETS)
    assert stages["raw"] == stages["prepared"] == len(DATASETS)
    assert stages["features"] == 2 * 2 * len(DATASETS)  # two modalities, each a table and an item graph
    assert stages["runs"] == len(DATASETS) * len(study["models"]) * len(study["seeds"])
    assert stages["cm3"] == 2  # the tables and the import into MLflow


def test_the_cm3_study_runs_on_a_mirror_in_the_published_formats(tmp_path: Path) -> None:
    checkout = copy_project(tmp_path / "checkout")
    make_mirror(tmp_path / "mirror", checkout.folder / "config")
    path = checkout.folder / "config/studies/cm3.yaml"
    study = yaml.safe_load(path.read_text())
    quick = {
        "models": ["cm3"],
        "seeds": [0],
        "parameters": {"all": {"max_epochs": 1}},
    }  # all that is new to the workflow
    path.write_text(yaml.safe_dump({**study, **quick}))
    result = checkout.snakemake("--quiet", "rules", study="cm3", MMREPRO_MIRROR=str(tmp_path / "mirror"))
    assert result.returncode == 0, result.stdout + result.stderr
    main = pd.read_csv(checkout.folder / "results/cm3/tables/main.csv")
    assert set(main["dataset"]) == set(DATASETS) and set(main["model"]) == set(quick["models"])
    assert main.loc[main["metric"].isin(["recall", "ndcg"]), "mean"].between(0, 1).all()
    assert json.loads((checkout.folder / "results/cm3/summary.json").read_text())["holes"] == 0
    counts = pd.read_csv(checkout.folder / "results/cm3/tables/datasets.csv").set_index("dataset")
    assert counts.loc["elec", ["users", "items", "train"]].tolist() == [1_924, 630, 12_544]
    assert checkout.planned(study="cm3") == []
