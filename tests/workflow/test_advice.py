"""What a message tells to do works when it is done: each product is damaged, met, and mended by the words alone."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from checkout import Checkout

pytestmark = pytest.mark.slow
RUN = "results/runs/mini-baby/none/lightgcn"
PREPARED, FEATURES = "data/prepared/mini-baby", "data/features/mini-baby/miniature"
RECOMMEND = ("recommend", "{run}", "--user", "{user}")
MEASURE = ("measure", "smoke", "mini-baby", "--output", "results")
TABLES = ("tables", "smoke", "--output", "results")
PREPARE = ("prepare", "mini-baby", "data/raw/mini-baby", "--output", PREPARED)
GRAPH = ("item-graph", "config/features/miniature.yaml", "image", FEATURES, "--output", FEATURES)
EXTRACT = ("extract", "config/features/miniature.yaml", "image", PREPARED, "data/raw/mini-baby", "--output", FEATURES)
PROBE = ("probe", PREPARED, FEATURES, "image", "--output", "out/probe.json")
DAMAGED = {
    "a raw file": ("data/raw/mini-baby/reviews.jsonl.gz", PREPARE),
    "a picture": ("data/raw/mini-baby/images/*.png", EXTRACT),
    "the manifest": ("data/raw/mini-baby/MANIFEST.json", PREPARE),
    "interactions": (f"{PREPARED}/interactions.parquet", RECOMMEND),
    "items": (f"{PREPARED}/items.parquet", RECOMMEND),
    "statistics": (f"{PREPARED}/statistics.json", RECOMMEND),
    "a feature matrix": (f"{FEATURES}/image.npy", GRAPH),
    "the record of features": (f"{FEATURES}/image.json", PROBE),
    "the record of a run": (f"{RUN}/*/seed0/run.json", RECOMMEND),
    "lists": (f"{RUN}/*/seed0/lists.parquet", RECOMMEND),
    "measures": ("results/smoke/measures/mini-baby.json", TABLES),
    "measures of users": ("results/smoke/measures/mini-baby.parquet", TABLES),
    "a schema": ("config/schema/models/cm3.json", ("status", "smoke")),
}


@pytest.fixture(scope="module")
def checkout(finished: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    folder = tmp_path_factory.mktemp("advice") / "checkout"
    shutil.copytree(finished.folder, folder)
    return Checkout(folder)


FOLLOWED: set[tuple[Path, str]] = set()
"""Folders and advice that a case of this module has followed already; the same words need no second run."""


def follow(checkout: Checkout, message: str) -> None:
    """Do what a message says, and nothing else."""
    path = checkout.folder / message.removeprefix("mmrepro: ").split(": ")[0]
    told = False
    if re.search(r"delete (its|the) folder|delete the run", message):
        shutil.rmtree(path if path.is_dir() else path.parent)
        told = True
    elif "delete both" in message:
        for suffix in (".json", ".npy", ".parquet"):
            path.with_suffix(suffix).unlink(missing_ok=True)
        told = True
    elif "delete it" in message:
        path.unlink()
        told = True
    for command in re.findall(r"`((?:mmrepro|make) [^`]+)`", message):
        words = command.replace("make schema", "mmrepro schema").split()
        assert checkout.call(*words).returncode == 0, command
        told = True
    if re.search("run (the study|it|the workflow)? ?again", message):
        result = checkout.snakemake("--quiet", "rules", "--until", "tables")  # what follows is looked at in the end
        assert result.returncode == 0, result.stdout + result.stderr
        told = True
    assert told, f"no advice in: {message}"


@pytest.mark.parametrize("name", DAMAGED)
def test_the_advice_of_a_message_mends_what_it_names(checkout: Checkout, name: str) -> None:
    pattern, words = DAMAGED[name]
    table = checkout.folder / "results/smoke/tables/main.csv"
    before, (path, *_) = table.read_bytes(), sorted(checkout.folder.glob(pattern))
    run = next(checkout.folder.glob(f"{RUN}/*/seed0")).relative_to(checkout.folder).as_posix()
    command = ["mmrepro", *(word.format(run=run, user="MBABY-U00003") for word in words)]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    met = checkout.call(*command)
    message = met.stderr.strip().splitlines()[-1]
    assert met.returncode == 1 and "Traceback" not in met.stderr, met.stderr
    assert Path(message.removeprefix("mmrepro: ").split(": ")[0]).name in (
        path.name,
        path.with_suffix(".npy").name,
        path.with_suffix(".parquet").name,
    ), message
    advice = path.parent, message.split("; ")[-1]
    if advice in FOLLOWED:
        path.write_bytes(content)
    else:
        follow(checkout, message)
        FOLLOWED.add(advice)
    mended = checkout.call(*command)
    assert mended.returncode == 0, mended.stderr
    assert table.read_bytes() == before


def test_in_the_end_everything_is_as_it_was(checkout: Checkout, finished: Checkout) -> None:
    assert checkout.snakemake("--quiet", "rules").returncode == 0 and checkout.planned() == []
    for table in (finished.folder / "results/smoke/tables").glob("*.md"):
        if table.stem not in ("cost", "deployment"):  # whose times are those of this machine and hour
            assert (checkout.folder / "results/smoke/tables" / table.name).read_text() == table.read_text()
