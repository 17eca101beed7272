"""The stages of DVC, written from the configuration files: bring a data set's raw files here, build a study's
tables.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mmrepro.config.files import load_dataset
from mmrepro.study.layout import Layout

EMBEDDED = "miniature"
"""The study whose tables a bare `dvc repro` makes, from data sets that nothing has to be downloaded for."""
UNLISTED = ("smoke",)
"""Studies that only tests run."""
HEAD = """\
# Written by `make dvc` from config/; do not edit. Two kinds of stage only: bring a data set's raw files here, build a
# study's tables. Both call Snakemake, which owns all that is derived and decides what is out of date; hence
# `always_changed`.
#
#   dvc repro tables@miniature                                  the embedded study
#   dvc unfreeze tables-posters && dvc repro tables-posters     another study
#   dvc repro fetch@mini-baby && mmrepro track-raw mini-baby    raw files, and data/raw/mini-baby.dvc with their hash
#
# The `.dvc` files keep the hashes of data; no stage has outs. DVC would delete or restore them behind Snakemake's back,
# `dvc pull` fails for an out whose hash it does not know yet, and `--force` deletes it where Snakemake brought it here.
#
# What downloads much or computes for hours is frozen, so that a bare `dvc repro` leaves it alone. DVC can freeze a
# group only as a whole, and never thaws a member of one: so frozen stages are written out.
"""


def dvc_stages(root: Path) -> str:
    """Return the text of `dvc.yaml`.

    Parameters
    ----------
    root
        Folder that holds `config/` and `results/reference/`.

    Raises
    ------
    MmreproError
        For a malformed file of a data set or study.
    """
    datasets = [load_dataset(path) for path in sorted((root / "config/datasets").glob("*.yaml"))]
    studies = sorted(path.stem for path in (root / "config/studies").glob("*.yaml"))
    generated = [config.dataset for config in datasets if not config.files and config.raw is None]
    stages: dict[str, Any] = {"fetch": _group(generated, "Raw files of ${item}", _fetch("${item}", False))}
    for config in datasets:
        if config.files and config.raw is None:
            stages[f"fetch-{config.dataset}"] = _frozen(
                f"Raw files of {config.dataset}", _fetch(config.dataset, config.images is not None)
            )
    stages["tables"] = _group([EMBEDDED], "Tables of the study ${item}", _tables("${item}"))
    for study in studies:
        if study not in (EMBEDDED, *UNLISTED):
            stages[f"tables-{study}"] = _frozen(f"Tables of the study {study}", _tables(study))
    folders = [Layout.study(EMBEDDED), *sorted(path.parent.relative_to(root) for path in _summaries(root))]
    metrics = [(folder / "summary.json").as_posix() for folder in folders]
    return HEAD + yaml.safe_dump({"stages": stages, "metrics": metrics}, sort_keys=False, width=1000)


def _summaries(root: Path) -> list[Path]:
    return list((root / "results/reference").glob("*/summary.json"))


def _fetch(dataset: str, images: bool) -> str:
    names = ["MANIFEST.json", *(["IMAGES.json"] if images else [])]
    files = " ".join((Layout.raw(dataset) / name).as_posix() for name in names)
    return f"snakemake --cores all {files} --config datasets={dataset}"


def _tables(study: str) -> str:
    return f"snakemake --cores all --configfile config/studies/{study}.yaml"


def _group(names: list[str], description: str, command: str) -> dict[str, Any]:
    return {"foreach": names, "do": {"desc": description, "cmd": command, "always_changed": True}}


def _frozen(description: str, command: str) -> dict[str, Any]:
    return {"desc": description, "cmd": command, "always_changed": True, "frozen": True}
