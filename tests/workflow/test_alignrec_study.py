"""AlignRec from images and titles to its tables: pre-training, encoding, probes, training, comparisons."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from checkout import Checkout, copy_project

pytestmark = pytest.mark.slow
PARAMETERS = {"batch_size": 512, "max_epochs": 2, "patience": 2, "embedding_size": 8, "learning_rate": 0.005}
STUDY = {
    "study": "content",
    "title": "AlignRec on planted content",
    "datasets": ["mini-baby"],
    "models": ["alignrec"],
    "features": {"default": "tiny"},
    "parameters": {"all": PARAMETERS},
    "focus": "alignrec",
    "comparisons": {
        "masked_modality": {
            "title": "Half of the items without a modality",
            "models": ["alignrec"],
            "variants": {"0 %": {}, "50 %": {"features": "tiny--masked-50"}},
        }
    },
}


TABLE = "results/content/tables/main.csv"


@pytest.fixture(scope="module")
def study(finished: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with the data of the smoke study, in which the study above has run once."""
    checkout = copy_project(tmp_path_factory.mktemp("content"))
    for part in ("data", ".snakemake"):
        shutil.copytree(finished.folder / part, checkout.folder / part, dirs_exist_ok=True)
    features = yaml.safe_load((checkout.folder / "config/features/alignrec-miniature.yaml").read_text())
    features["feature_set"] = "tiny"
    features["modalities"]["unified"] |= {"epochs": 2, "dim": 16, "layers": 1, "heads": 2}
    (checkout.folder / "config/features/tiny.yaml").write_text(yaml.safe_dump(features))
    (checkout.folder / "config/studies/content.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    result = checkout.snakemake(TABLE, "--quiet", "rules", study="content")
    assert result.returncode == 0, result.stdout + result.stderr
    return checkout


def test_every_stage_leaves_its_products_and_nothing_is_planned_again(study: Checkout) -> None:
    encoder = study.folder / "data/encoders/mini-baby/tiny/unified"
    record = json.loads((encoder / "run.json").read_text())
    assert (record["status"], record["epochs"]) == ("finished", 2)
    assert len((encoder / "history.jsonl").read_text().splitlines()) >= 2
    tables = study.folder / "results/content/tables"
    for name in ("main", "masked_modality", "feature_quality", "long_tail", "short_history", "alignment"):
        assert (tables / f"{name}.csv").stat().st_size > 0 and (tables / f"{name}.md").stat().st_size > 0
    assert set(pd.read_csv(tables / "feature_quality.csv")["features"].dropna()) >= {"tiny", "tiny--masked-50"}
    assert list(dict.fromkeys(pd.read_csv(tables / "masked_modality.csv")["variant"])) == ["0 %", "50 %"]
    assert study.planned(TABLE, study="content") == []


def test_a_masked_set_is_encoded_anew_by_the_same_encoder(study: Checkout) -> None:
    whole, masked = (study.folder / f"data/features/mini-baby/{name}" for name in ("tiny", "tiny--masked-50"))
    records = [json.loads((folder / "unified.json").read_text()) for folder in (whole, masked)]
    assert records[0]["weights_hash"] == records[1]["weights_hash"]
    assert [record["masked_share"] for record in records] == [0.0, 0.5]
    lost = {e["item"] for part in records[1]["absent"].values() for e in part if e["reason"] == "masked"}
    n_items = records[0]["n_items"]
    assert abs(len(lost) - n_items / 2) <= 2  # an item without image or text may have drawn what it never had
    a, b = (np.load(folder / "unified.npy") for folder in (whole, masked))
    differs = ~np.isclose(a, b, atol=1e-5).all(axis=1)
    assert set(np.flatnonzero(differs)) <= lost and differs.sum() > 0.9 * len(lost)


def test_edits_replan_what_depends_on_them(study: Checkout) -> None:
    path = study.folder / "config/features/tiny.yaml"
    text = path.read_text()
    path.write_text(text.replace("epochs: 2", "epochs: 3"))
    planned = " ".join(study.planned(TABLE, study="content"))
    path.write_text(text)
    assert "data/encoders/mini-baby/tiny/unified/encoder.pt" in planned
    assert "tiny--masked-50" in planned and "results/probes" in planned and "results/runs" in planned
    assert "data/features/mini-baby/miniature" not in planned and "data/prepared" not in planned
    probe = study.folder / "src/mmrepro/evaluation/item_neighbours.py"
    code = probe.read_text()
    probe.write_text(code.replace("\ndef cf_neighbours(", "\nADDED = 1\n\n\ndef cf_neighbours("))
    assert study.planned(TABLE, study="content") == []  # a definition that nothing uses
    probe.write_text(code)


def test_what_is_no_pretrained_modality_is_refused_in_one_line(study: Checkout, tmp_path: Path) -> None:
    arguments = ("config/features/miniature.yaml", "image", "data/prepared/mini-baby", "data/raw/mini-baby")
    options = ("--encoder", str(tmp_path / "encoder"), "--output", str(tmp_path / "features"))
    result = study.call("mmrepro", "align-content", *arguments, *options)
    assert result.returncode == 1 and "no modality 'image' with `encoder: alignrec`" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
