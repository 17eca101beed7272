import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mmrepro.config import DatasetConfig
from mmrepro.datasets.fetch import fetch
from mmrepro.provenance import file_sha256

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def call(folder: Path, *command: str) -> str:
    environment = {**os.environ, "DVC_NO_ANALYTICS": "true", "GIT_CONFIG_GLOBAL": os.devnull}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def dvc(folder: Path, *arguments: str) -> str:
    return call(folder, sys.executable, "-m", "dvc", *arguments)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with the project's own DVC files and data-set configurations."""
    folder = tmp_path / "repository"
    folder.mkdir()
    call(folder, "git", "init", "--quiet")
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache", "config.local"))
    for name in ("dvc.yaml", "dvc.lock", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    return folder


def test_raw_data_comes_back_from_a_remote_as_it_was(repository, tmp_path):
    mirror = tmp_path / "mirror"
    (mirror / "shop/posters").mkdir(parents=True)
    (mirror / "shop/shop.inter").write_text("userID\titemID\n0\t0\n")
    (mirror / "shop/posters/0.png").write_bytes(bytes(range(256)))
    files = [{"name": "shop.inter"}, {"name": "posters", "folder": True}]
    options = {"interactions_file": "shop.inter"}
    config = DatasetConfig.model_validate(
        {"dataset": "shop", "title": "", "reader": "mmrec", "folder": "shop", "licence": "", "files": files}
        | {"options": options}
    )
    raw = repository / "data/raw/shop"
    fetch(config, raw, mirror)
    manifest = file_sha256(raw / "MANIFEST.json")

    dvc(repository, "remote", "add", "--default", "store", str(tmp_path / "store"))
    dvc(repository, "add", "data/raw/shop")
    dvc(repository, "push")
    assert "data/raw/shop.dvc" in call(repository, "git", "status", "--porcelain", "--untracked-files=all")
    shutil.rmtree(raw)
    shutil.rmtree(repository / ".dvc/cache")
    dvc(repository, "pull", "data/raw/shop.dvc")

    assert file_sha256(raw / "MANIFEST.json") == manifest
    entries = json.loads((raw / "MANIFEST.json").read_text())["files"]
    assert [entry["name"] for entry in entries] == ["posters/0.png", "shop.inter"]
    assert {entry["name"]: file_sha256(raw / entry["name"]) for entry in entries} == {
        entry["name"]: entry["sha256"] for entry in entries
    }


def test_the_embedded_study_is_a_stage_and_all_else_is_frozen(repository):
    listed = dvc(repository, "stage", "list", "--name-only").split()
    assert "tables@miniature" in listed and "fetch@mini-baby" in listed
    said = dvc(repository, "repro", "--dry")
    run = [line.removeprefix("> ") for line in said.splitlines() if line.startswith("> ")]
    assert "snakemake --cores all --configfile config/studies/miniature.yaml" in run
    embedded = [path.stem for path in (ROOT / "config/datasets").glob("mini-*.yaml")]
    fetches = [f"snakemake --cores all data/raw/{name}/MANIFEST.json --config datasets={name}" for name in embedded]
    assert sorted(run) == sorted(["snakemake --cores all --configfile config/studies/miniature.yaml", *fetches])


def test_a_frozen_stage_can_be_thawed_and_run(repository):
    dvc(repository, "unfreeze", "tables-tiktok")
    said = dvc(repository, "repro", "--dry", "tables-tiktok")
    assert "> snakemake --cores all --configfile config/studies/tiktok.yaml" in said


def members(kind: str) -> set[str]:
    return set(STAGES[kind]["foreach"]) | {
        name.removeprefix(f"{kind}-") for name in STAGES if name.startswith(f"{kind}-")
    }


def test_every_data_set_and_study_has_a_stage():
    assert members("fetch") == {path.stem for path in (ROOT / "config/datasets").glob("*.yaml")}
    internal = {"smoke"}  # of the tests
    assert members("tables") == {path.stem for path in (ROOT / "config/studies").glob("*.yaml")} - internal


def test_a_tables_stage_leaves_committed_files_and_those_of_snakemake_alone(repository):
    """DVC deletes the outs of a stage before it runs; no stage may have one."""
    (repository / "results/miniature").mkdir(parents=True)
    (repository / "results/miniature/summary.json").write_text('{"recall_at_20": 0.5}')
    programs = repository / "programs"
    programs.mkdir()
    (programs / "snakemake").write_text("#!/bin/sh\ncat results/miniature/summary.json\n")
    (programs / "snakemake").chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    said = call(repository, "env", f"PATH={path}", sys.executable, "-m", "dvc", "repro", "tables@miniature")
    assert '{"recall_at_20": 0.5}' in said
    assert (repository / "dvc.lock").read_text() == (ROOT / "dvc.lock").read_text()
    shown = json.loads(dvc(repository, "metrics", "show", "--json", "results/miniature/summary.json"))
    assert shown[""]["data"]["results/miniature/summary.json"]["data"] == {"recall_at_20": 0.5}
