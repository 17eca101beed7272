"""`dvc.yaml` is written from the configuration."""

from pathlib import Path

import yaml

from mmrepro.housekeeping.stages import dvc_stages

ROOT = Path(__file__).parents[2]


def test_the_committed_file_is_the_one_that_is_written() -> None:
    assert (ROOT / "dvc.yaml").read_text() == dvc_stages(ROOT), "config has changed; run `make dvc`"


def test_a_new_data_set_and_study_have_stages(tmp_path: Path) -> None:
    (tmp_path / "config/datasets").mkdir(parents=True)
    (tmp_path / "config/studies").mkdir()
    values = {"dataset": "shop", "title": "Shop", "reader": "tabular", "folder": "shop", "licence": "my own"}
    for name, more in (("shop", {"files": [{"name": "a.csv"}], "images": {}}), ("made", {})):
        (tmp_path / f"config/datasets/{name}.yaml").write_text(yaml.safe_dump({**values, "dataset": name, **more}))
    (tmp_path / "config/studies/mine.yaml").write_text("study: mine\n")
    written = yaml.safe_load(dvc_stages(tmp_path))
    assert written["stages"]["fetch"]["foreach"] == ["made"]
    command = "snakemake --cores all data/raw/shop/MANIFEST.json data/raw/shop/IMAGES.json --config datasets=shop"
    assert written["stages"]["fetch-shop"]["cmd"] == command and written["stages"]["fetch-shop"]["frozen"]
    assert written["stages"]["tables-mine"]["cmd"] == "snakemake --cores all --configfile config/studies/mine.yaml"
    assert written["metrics"] == ["results/miniature/summary.json"]
