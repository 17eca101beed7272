"""From somebody's files to a study of them: what they hold is guessed, written down with comments, and shown."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from mmrepro.columns import Columns
from mmrepro.config.dataset import DatasetConfig, Split
from mmrepro.config.files import validate
from mmrepro.datasets.filters import k_core
from mmrepro.datasets.guessed_options import Guess, guess_options
from mmrepro.datasets.guesses import Table
from mmrepro.datasets.mirror import OWN_FILES
from mmrepro.datasets.raw import RawDataset
from mmrepro.datasets.readers.tabular import read
from mmrepro.datasets.splits import would_test
from mmrepro.datasets.times import in_seconds
from mmrepro.errors import MmreproError
from mmrepro.records.files import write_text

CORES = (5, 3, 2, 0)
KEPT = 0.5
"""Share of the interactions that a filter may not go below."""
FEW = 0.05
"""Share of rows that are different pairs, below which the wrong columns have been taken."""
NEEDED = 3
"""Items that a user must have for one to be held out for validation and one for test."""
MODELS = ("popularity", "itemknn", "ease", "bpr", "lightgcn")
CONTENT_MODELS = ("vbpr", "freedom", "cm3")


def init(
    name: str, interactions: Path, items: Path | None, images: Path | None, root: Path, given: dict[str, str]
) -> str:
    """Write the files by which a study of somebody's own data can be run.

    Parameters
    ----------
    name
        Of the data set, the feature set and the study.
    interactions
        Table of interactions.
    items
        Table of items, where there is one.
    images
        Folder of pictures named after the keys of items, where there is one.
    root
        The project; receives `data/mirror/<name>` with copies of the files, and three files of `config/`.
    given
        Options of the reader that are not to be guessed.

    Returns
    -------
    str
        What was guessed, and what to do next.

    Raises
    ------
    MmreproError
        For a name that is taken, files that are no tables, or columns that cannot be told, with the option that tells.
    """
    _check_name(name, root)
    guess = guess_options(Table.read(interactions), Table.read(items) if items else None, images, given)
    sources = [path for path in (interactions, items, images) if path is not None]
    place = root / OWN_FILES / name
    config = _dataset(name, [path.name for path in sources], [path for path in sources if path.is_dir()], guess)
    copied = _copy(sources, place)
    try:
        data = read(place, validate(DatasetConfig, config, f"config/datasets/{name}.yaml"))
        _look_at_pictures(data, images, guess)
        splits = _splits(data, config)
        features = _features(name, guess)
        write_text(root / f"config/datasets/{name}.yaml", _dataset_text(config, guess, splits))
        if features:
            write_text(root / f"config/features/{name}.yaml", _features_text(features))
        write_text(root / f"config/studies/{name}.yaml", _study_text(name, features, splits))
    except MmreproError as error:
        if copied:
            shutil.rmtree(place)
        raise MmreproError(_as_asked(str(error), sources, place)) from None
    written = [
        f"config/{kind}/{name}.yaml" for kind in ("datasets", "features", "studies") if kind != "features" or features
    ]
    lines = [
        *guess.said,
        *splits.said,
        f"files: {(OWN_FILES / name).as_posix()} (copies, and links where the disk allows)",
    ]
    lines += [f"written: {', '.join(written)}; look at them, every guess is an option there"]
    return "\n".join([*lines, f"next: make STUDY={name}"])


def _look_at_pictures(data: RawDataset, images: Path | None, guess: Guess) -> None:
    """Say how many items have a picture; a folder that is of no item is refused."""
    if images is None:
        return
    present = int(data.items[Columns.IMAGE].notna().sum())
    if not present:
        raise MmreproError(
            f"{images}: no picture in it is named after the key of an item, such as "
            f"'{data.items[Columns.KEY].iloc[0]}'; name another folder, or leave it out"
        )
    guess.said.append(f"pictures: {present} of {len(data.items)} items have one")


def _as_asked(message: str, sources: Sequence[Path], place: Path) -> str:
    """A message of the reader in the words of the command: the files that were named, and its options."""
    for source in sources:
        message = message.replace(str(place / source.name), str(source))
    message = message.replace("set `empty_users: drop`", "say --empty-users drop")
    return re.sub(
        r"(?:set )?`(\w+_(?:column|format))(?:: (\"[^\"]*\"))?`(?: in the options)?",
        lambda found: f"say --{found[1].replace('_', '-')}{' ' + found[2] if found[2] else ''}",
        message,
    )


def _check_name(name: str, root: Path) -> None:
    if not re.fullmatch(r"[a-z0-9](?:[a-z0-9]|-(?!-))*", name):
        raise MmreproError(f"'{name}': a name has small letters, digits and single hyphens; choose another")
    taken = [kind for kind in ("datasets", "features", "studies") if (root / f"config/{kind}/{name}.yaml").exists()]
    if taken:
        raise MmreproError(f"config/{taken[0]}/{name}.yaml: is there already; remove it, or choose another name")


def _copy(sources: Sequence[Path], place: Path) -> bool:
    """Lay the files into the project's own mirror; whether any was laid there."""
    if place.exists():
        raise MmreproError(f"{place}: is there already; remove it, or choose another name")
    temporary = place.with_name(f".{place.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        for source in sources:
            if source.is_dir():
                shutil.copytree(source, temporary / source.name, copy_function=_link)
            else:
                _link(str(source), str(temporary / source.name))
        temporary.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def _link(source: str, target: str) -> None:
    """A second name of the same file where the disk allows, so that rows added to it are seen."""
    try:
        os.link(Path(source).resolve(), target)
    except OSError:
        shutil.copy2(source, target)


def _dataset(name: str, files: list[str], folders: list[Path], guess: Guess) -> dict[str, Any]:
    listed = [{"name": file, **({"folder": True} if file in {path.name for path in folders} else {})} for file in files]
    return {
        "dataset": name, "title": name.replace("-", " ").capitalize(), "reader": "tabular", "folder": name,
        "own_files": True,
        "licence": "my own", "files": listed, "options": guess.options,
    }  # fmt: skip


@dataclass
class Splits:
    """What each rule would hold out.

    Attributes
    ----------
    core
        The filter that keeps enough.
    chosen
        The rule that is taken.
    said
        A line for each.
    """

    core: int
    chosen: str
    said: list[str]


def _splits(data: RawDataset, config: dict[str, Any]) -> Splits:
    """The largest filter that keeps most interactions, and how many users each rule would test."""
    timed, _ = in_seconds(data.interactions, data.time_unit, f"data set '{config['dataset']}'")
    rows = timed.drop_duplicates([Columns.USER, Columns.ITEM])
    core = next(k for k in CORES if k == 0 or len(k_core(rows, k)) >= KEPT * len(rows))
    kept = k_core(rows, core) if core else rows
    codes = {name: pd.factorize(kept[name])[0].astype(np.int32) for name in (Columns.USER, Columns.ITEM)}
    numbered = kept.assign(**codes)
    said, chosen = [f"k_core: {core}  (keeps {len(kept)} of {len(rows)} pairs)"], ""
    for rule, does in would_test(numbered, validate(DatasetConfig, config, config["dataset"])).items():
        chosen = chosen or rule
        taken = "taken" if rule == chosen else f"as data set {config['dataset']}--{rule}"
        said.append(
            f"split {rule}: {does['tested']} users tested, {does['trained']} interactions to train on  ({taken})"
        )
    longest = int(numbered[Columns.USER].value_counts().max())
    if longest < NEEDED:
        raise MmreproError(
            f"nobody can be tested: no user has more than {longest} items, and {NEEDED} are needed; add interactions, "
            "or say --user-column and --item-column"
        )
    if len(rows) < FEW * len(data.interactions):
        raise MmreproError(
            f"{len(data.interactions)} rows are {len(rows)} pairs of user and item only; say which columns hold them "
            "with --user-column and --item-column"
        )
    return Splits(core, chosen, said)


def _features(name: str, guess: Guess) -> dict[str, Any]:
    """A feature set of what items have."""
    modalities: dict[str, Any] = {}
    if {"images_folder", "image_column"} & set(guess.options):
        modalities["image"] = {
            "encoder": "open_clip", "source": "image", "architecture": "ViT-S-32-alt", "weights": "random:7",
        }  # fmt: skip
    if "title_column" in guess.options:
        modalities["text"] = {"encoder": "sentence_transformers", "source": "text", "weights": "offline"}
    return {"feature_set": name, "modalities": modalities, "neighbours": 10} if modalities else {}


def _dataset_text(config: dict[str, Any], guess: Guess, splits: Splits) -> str:
    body = {**config, "k_core": splits.core, "split": Split(kind=splits.chosen).model_dump(include={"kind"})}
    comments = "".join(f"#   {json.dumps(line, ensure_ascii=False)[1:-1]}\n" for line in (*guess.said, *splits.said))
    return (
        f"# Guessed from the files by `mmrepro init`; change what is wrong, and name the licence.\n{comments}"
        + yaml.safe_dump(body, sort_keys=False, allow_unicode=True)
    )


def _features_text(features: dict[str, Any]) -> str:
    notes = "# What items have, as vectors. Texts: all-MiniLM-L6-v2, whose weights come with a package.\n"
    if "image" in features["modalities"]:
        notes += (
            "# Images: weights drawn at random, which say little of a picture. With a network, or a local file of\n"
            "# weights, set `architecture: ViT-B-32` and `weights: laion2b_s34b_b79k` (or the file's path).\n"
        )
    return notes + yaml.safe_dump(features, sort_keys=False)


def _study_text(name: str, features: dict[str, Any], splits: Splits) -> str:
    models = [*MODELS, *(CONTENT_MODELS if features else ())]
    study = {
        "study": name, "title": name.replace("-", " ").capitalize(), "datasets": [name], "models": models,
        **({"features": {"default": name}} if features else {}), "seeds": [0],
        "parameters": {"all": {"max_epochs": 50, "patience": 8}},
    }  # fmt: skip
    others = [line for line in splits.said if "as data set" in line]
    notes = [
        f"# Split: {splits.chosen}. Others can stand beside it under `datasets`:",
        *(f"#   {line}" for line in others),
        "# One seed and no search: a first look. `seeds: [0, 1, 2]` shows what draws do, `search: {}` searches all.",
    ]
    return "\n".join(notes) + "\n" + yaml.safe_dump(study, sort_keys=False)
