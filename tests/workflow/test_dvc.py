import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from checkout import Checkout, copy_project

from mmrepro.config.dataset import DatasetConfig
from mmrepro.config.files import load_dataset
from mmrepro.datasets.fetch import fetch
from mmrepro.records.files import file_sha256

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
DATASETS = [load_dataset(path) for path in sorted((ROOT / "config/datasets").glob("*.yaml"))]
SMOKE = "config/studies/smoke.yaml"
DATA = ("raw/mini-baby", "prepared/mini-baby", "features/mini-baby/miniature")


def call(folder: Path, *command: str) -> str:
    environment = {**os.environ, "DVC_NO_ANALYTICS": "true", "GIT_CONFIG_GLOBAL": os.devnull}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def dvc(folder: Path, *arguments: str) -> str:
    return call(folder, sys.executable, "-m", "dvc", *arguments)


def commit(folder: Path, *files: str) -> None:
    call(folder, "git", "add", *files)
    author = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org")
    call(folder, "git", *author, "commit", "--quiet", "--message", "A commit of a test")


def version(folder: Path) -> None:
    """Make the folder a git repository with the project's own DVC files."""
    call(folder, "git", "init", "--quiet")
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache", "config.local"))
    for name in ("dvc.yaml", "dvc.lock", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    commit(folder, ".")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with the project's own DVC files and no more."""
    folder = tmp_path / "repository"
    folder.mkdir()
    version(folder)
    return folder


def add_remote(folder: Path, remote: Path) -> None:
    dvc(folder, "remote", "add", "--default", "storage", str(remote))


def release_command(checkout: Checkout, expression: str) -> str:
    """What a function of mmrepro.housekeeping.release says, run in the checkout with the checkout's code."""
    imports = "from pathlib import Path\nfrom mmrepro.housekeeping.release import *\n"
    program = f"{imports}from mmrepro.study.resolve import plan_of_file\nprint({expression})"
    result = checkout.call(sys.executable, "-c", program)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def wipe(folder: Path, *data: str) -> None:
    for name in data:
        shutil.rmtree(folder / "data" / name)
    shutil.rmtree(folder / ".dvc/cache")


def hashes(folder: Path, *data: str) -> dict[str, str]:
    files = (path for name in data for path in (folder / "data" / name).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def assert_as_in_manifest(raw: Path) -> None:
    entries = json.loads((raw / "MANIFEST.json").read_text())["files"]
    assert entries
    assert {entry["name"]: file_sha256(raw / entry["name"]) for entry in entries} == {
        entry["name"]: entry["sha256"] for entry in entries
    }


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

    add_remote(repository, tmp_path / "storage")
    dvc(repository, "add", "data/raw/shop")
    dvc(repository, "push")
    assert "data/raw/shop.dvc" in call(repository, "git", "status", "--porcelain", "--untracked-files=all")
    shutil.rmtree(raw)
    shutil.rmtree(repository / ".dvc/cache")
    dvc(repository, "pull", "data/raw/shop.dvc")

    assert file_sha256(raw / "MANIFEST.json") == manifest
    assert {path.name for path in raw.rglob("*.*")} == {"MANIFEST.json", ".mirror.json", "0.png", "shop.inter"}
    assert_as_in_manifest(raw)


@pytest.mark.slow
def test_raw_files_that_dvc_fetched_come_back_and_what_nobody_versioned_stays(tmp_path):
    checkout = copy_project(tmp_path / "checkout")
    folder = checkout.folder
    version(folder)
    add_remote(folder, tmp_path / "storage")
    result = checkout.call(sys.executable, "-m", "dvc", "repro", "fetch@mini-baby")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "git add data/raw/mini-baby.dvc" in release_command(checkout, "track_raw(['mini-baby'], Path())")
    dvc(folder, "push")
    files = hashes(folder, "raw/mini-baby")
    wipe(folder, "raw/mini-baby")
    (folder / "data/raw/unversioned").mkdir()
    (folder / "data/raw/unversioned/file").write_text("Snakemake brought it")

    dvc(folder, "pull")

    assert hashes(folder, "raw/mini-baby") == files
    assert_as_in_manifest(folder / "data/raw/mini-baby")
    assert checkout.planned("data/raw/mini-baby/MANIFEST.json") == []
    assert (folder / "data/raw/unversioned/file").read_text() == "Snakemake brought it"


@pytest.fixture(scope="module")
def released(finished: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose smoke study is released, committed and pushed to the folder `storage` beside it."""
    checkout = Checkout(tmp_path_factory.mktemp("released") / "checkout")
    shutil.copytree(finished.folder, checkout.folder)
    version(checkout.folder)
    add_remote(checkout.folder, checkout.folder.with_name("storage"))
    leftover = checkout.folder / "data/features/mini-baby/miniature/.image-0123456789abcdef/00000.npz"
    leftover.parent.mkdir()
    leftover.touch()  # a killed extraction leaves it behind
    said = release_command(checkout, f"release(plan_of_file(Path('{SMOKE}')), Path('{SMOKE}'), Path())")
    shutil.rmtree(leftover.parent)
    added = next(line.split()[2:] for line in said.splitlines() if line.startswith("  git add"))
    assert sorted(added) == sorted(
        [*(f"data/{name}.dvc" for name in DATA), "data/releases/smoke.json", "data/releases/smoke.tar.gz.dvc"]
    )
    commit(checkout.folder, *added)
    dvc(checkout.folder, "push")
    return checkout


@pytest.mark.slow
def test_a_release_comes_back_and_nothing_is_planned(released: Checkout) -> None:
    folder = released.folder
    files = hashes(folder, *DATA)
    wipe(folder, *DATA)
    shutil.rmtree(folder / "results")
    (folder / "data/releases/smoke.tar.gz").unlink()
    dvc(folder, "pull")
    assert hashes(folder, *DATA) == files
    assert_as_in_manifest(folder / "data/raw/mini-baby")
    assert "products are those of the release" in release_command(
        released, f"restore(plan_of_file(Path('{SMOKE}')), Path('{SMOKE}'), Path())"
    )
    assert released.planned() == []


def tables_of(checkout: Checkout) -> dict[str, str]:
    folder = checkout.folder / "results/smoke"
    files = (path for part in ("tables", "figures") for path in (folder / part).iterdir())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


@pytest.mark.slow
def test_a_clone_elsewhere_gets_the_release_and_sees_what_has_changed_since(released: Checkout, tmp_path: Path) -> None:
    clone = Checkout(tmp_path / "elsewhere")
    call(tmp_path, "git", "clone", "--quiet", str(released.folder), str(clone.folder))
    add_remote(clone.folder, released.folder.with_name("storage"))
    dvc(clone.folder, "pull")
    assert hashes(clone.folder, *DATA) == hashes(released.folder, *DATA)
    release_command(clone, f"restore(plan_of_file(Path('{SMOKE}')), Path('{SMOKE}'), Path())")
    assert clone.planned() == []
    before = tables_of(clone)
    assert before == tables_of(released) and len(before) > 20
    for options in (("verify", "smoke"), ("tables", "smoke", "--output", "results"), ("verify", "results/smoke")):
        result = clone.call("mmrepro", *options)
        assert result.returncode == 0, result.stdout + result.stderr
    assert tables_of(clone) == before
    next(iter(sorted(clone.folder.glob("results/runs/**/lists.parquet")))).write_bytes(b"PAR1")
    result = clone.call("mmrepro", "verify", "smoke")
    assert result.returncode == 1 and "lists.parquet: not the file that its run left" in result.stdout

    settings = clone.folder / "config/features/miniature.yaml"
    settings.write_text(settings.read_text().replace("neighbours: 10", "neighbours: 11"))
    graphs = [f"data/features/mini-baby/miniature/{modality}.neighbours.npz" for modality in ("image", "text")]
    assert sorted(clone.planned(*graphs)) == graphs


def test_the_embedded_study_is_a_stage_and_all_else_is_frozen(repository):
    listed = dvc(repository, "stage", "list", "--name-only").split()
    assert "tables@miniature" in listed and "fetch@mini-baby" in listed
    said = dvc(repository, "repro", "--dry")
    run = [line.removeprefix("> ") for line in said.splitlines() if line.startswith("> ")]
    assert "snakemake --cores all --configfile config/studies/miniature.yaml" in run
    embedded = {config.raw_name for config in DATASETS if config.dataset.startswith("mini-")}
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
    assert members("fetch") == {config.raw_name for config in DATASETS}
    internal = {"smoke"}  # of the tests
    assert members("tables") == {path.stem for path in (ROOT / "config/studies").glob("*.yaml")} - internal


@pytest.mark.parametrize("config", [d for d in DATASETS if d.raw_name == d.dataset], ids=lambda config: config.dataset)
def test_a_fetch_stage_makes_all_manifests_and_runs_by_itself_only_where_nothing_is_downloaded(config):
    name, embedded = config.dataset, config.reader == "miniature"
    stage = STAGES["fetch"]["do"] if embedded else STAGES[f"fetch-{name}"]
    manifests = ["MANIFEST.json", "IMAGES.json"] if config.images else ["MANIFEST.json"]
    files = " ".join(f"data/raw/{name}/{manifest}" for manifest in manifests)
    assert stage["cmd"].replace("${item}", name) == f"snakemake --cores all {files} --config datasets={name}"
    assert stage.get("frozen", False) is not embedded


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
