"""From somebody's files to a study of them: what they hold is guessed, written down with comments, and shown."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from mmrepro.columns import TEST, TRAIN, Columns
from mmrepro.config.dataset import DatasetConfig, Split
from mmrepro.config.files import validate
from mmrepro.datasets.filters import k_core
from mmrepro.datasets.guesses import (
    Table,
    are_pictures,
    are_words,
    has_markup,
    looks_like,
    named,
    shared_keys,
    time_format,
)
from mmrepro.datasets.mirror import OWN_FILES
from mmrepro.datasets.raw import RawDataset
from mmrepro.datasets.readers.tabular import read
from mmrepro.datasets.splits import split_rows
from mmrepro.errors import MmreproError
from mmrepro.records.files import write_text

CORES = (5, 3, 2, 0)
KEPT = 0.5
"""Share of the interactions that a filter may not go below."""
RULES = ("time-per-user", "leave-one-out", "global-time", "random-per-user")
NEEDED = 3
"""Items that a user must have for one to be held out for validation and one for test."""
MODELS = ("popularity", "itemknn", "ease", "bpr", "lightgcn")
CONTENT_MODELS = ("vbpr", "freedom", "cm3")
OPTIONS = {"user": "user_column", "item": "item_column", "time": "timestamp_column", "rating": "rating_column"}


@dataclass
class Guess:
    """What is taken for what, and why.

    Attributes
    ----------
    options
        Of the reader `tabular`.
    said
        A line for each guess.
    """

    options: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def note(self, option: str, value: Any, why: str) -> None:
        """Take a value for an option."""
        self.options[option] = value
        self.said.append(f"{option}: {value}  ({why})")


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
    guess = _guess(Table.read(interactions), Table.read(items) if items else None, images, given)
    sources = [path for path in (interactions, items, images) if path is not None]
    place = root / OWN_FILES / name
    config = _dataset(name, [path.name for path in sources], [path for path in sources if path.is_dir()], guess)
    copied = _copy(sources, place)
    try:
        data = read(place, validate(DatasetConfig, config, f"config/datasets/{name}.yaml"))
        splits = _splits(data, config)
        features = _features(name, guess)
        write_text(root / f"config/datasets/{name}.yaml", _dataset_text(config, guess, splits))
        if features:
            write_text(root / f"config/features/{name}.yaml", _features_text(features))
        write_text(root / f"config/studies/{name}.yaml", _study_text(name, features, splits))
    except MmreproError:
        if copied:
            shutil.rmtree(place)
        raise
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


def _check_name(name: str, root: Path) -> None:
    if not re.fullmatch(r"[a-z0-9](?:[a-z0-9]|-(?!-))*", name):
        raise MmreproError(f"'{name}': a name has small letters, digits and single hyphens; choose another")
    taken = [kind for kind in ("datasets", "features", "studies") if (root / f"config/{kind}/{name}.yaml").exists()]
    if taken:
        raise MmreproError(f"config/{taken[0]}/{name}.yaml: is there already; remove it, or choose another name")


def _guess(interactions: Table, items: Table | None, images: Path | None, given: dict[str, str]) -> Guess:
    guess = Guess()
    guess.note("interactions_file", interactions.path.name, _written(interactions))
    taken = [value for option, value in given.items() if option in OPTIONS.values()]
    for option, value in given.items():
        guess.note(option, value, "as told")
    _pair(interactions, items, guess, taken)
    for holds in ("time", "rating"):
        option = OPTIONS[holds]
        if option not in given and (found := named(interactions, holds, taken)) is not None:
            guess.note(option, found, "by its name")
            taken.append(found)
    if "timestamp_column" in guess.options and "timestamp_format" not in given:
        _time(interactions, guess)
    if items is not None:
        _contents(items, guess, given)
    if images is not None:
        guess.note("images_folder", images.name, "pictures named after the keys")
    return guess


def _written(table: Table) -> str:
    separators = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", None: "parquet"}
    return f"{len(table.frame)} rows, {separators[table.separator]}"


def _pair(interactions: Table, items: Table | None, guess: Guess, taken: list[str]) -> None:
    """User and item: by what is told, by keys that both tables share, by names."""
    free = [name for name in interactions.columns if name not in taken]
    if items is not None and "item_column" not in guess.options:
        found = shared_keys(interactions, items, free)
        if found is None:
            raise MmreproError(
                f"{interactions.path} and {items.path}: no two columns share half of their keys; say which with "
                "--item-column and --key-column, or leave the table of items out"
            )
        column, key, loose = found
        guess.note("item_column", column, f"its values are those of '{key}' in {items.path.name}")
        guess.options.setdefault("key_column", key)
        if loose:
            guess.note("item_keys", "normalised", "the two files write keys differently, such as 0012 and 12")
        taken.append(column)
    for holds in ("user", "item"):
        option = OPTIONS[holds]
        if option in guess.options:
            continue
        column_named = named(interactions, holds, taken)
        if column_named is None:
            raise MmreproError(
                f"{interactions.path}: which column is the {holds}? Its names are {', '.join(interactions.columns)}; "
                f"say --{holds}-column NAME"
            )
        guess.note(option, column_named, "by its name")
        taken.append(column_named)


def _time(table: Table, guess: Guess) -> None:
    column = guess.options["timestamp_column"]
    form, fitting = time_format(table, column)
    if len(fitting) > 1 and len({_day_first(one) for one in fitting}) > 1:
        shown = " or ".join(f'"{one}"' for one in fitting[:3])
        raise MmreproError(
            f"{table.path}: column '{column}': '{table.values(column).iloc[0]}' can be read as {shown}; say "
            "--timestamp-format"
        )
    if form is not None:
        guess.note("timestamp_format", form, f"as '{table.values(column).iloc[0]}'")


def _day_first(form: str) -> bool:
    return form.index("%d") < form.index("%m") if "%m" in form else False


def _contents(items: Table, guess: Guess, given: dict[str, str]) -> None:
    """Title, texts and pictures of the items, and whether texts hold HTML."""
    guess.note("items_file", items.path.name, _written(items))
    key = guess.options.setdefault("key_column", guess.options["item_column"])
    if key not in items.columns:
        raise MmreproError(f"{items.path}: no column '{key}' of keys; say --key-column NAME")
    taken = [key]
    for option, holds, fits in (
        ("image_column", "image", are_pictures), ("title_column", "title", are_words),
    ):  # fmt: skip
        if option in given:
            taken.append(given[option])
            continue
        column = named(items, holds, taken)
        if column is not None and holds == "image" and not are_pictures(items.values(column)):
            column = None
        why = "by its name"
        if column is None:
            column, why = looks_like(items, taken, fits), "by its values"
        if column is not None:
            guess.note(option, column, why)
            taken.append(column)
    title, text = guess.options.get("title_column"), named(items, "text", taken)
    texts = [name for name in (title, text) if name is not None]
    if text is not None:
        guess.note("text_columns", texts, "title and description")
    if texts and has_markup(items, texts):
        guess.note("markup", "strip", "tags or entities of HTML stand in the texts")


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
    rows = data.interactions.drop_duplicates([Columns.USER, Columns.ITEM])
    core = next(k for k in CORES if k == 0 or len(k_core(rows, k)) >= KEPT * len(rows))
    kept = k_core(rows, core) if core else rows
    codes = {name: pd.factorize(kept[name])[0].astype(np.int32) for name in (Columns.USER, Columns.ITEM)}
    numbered = kept.assign(**codes)
    timed = Columns.TIMESTAMP in numbered
    said, chosen = [f"k_core: {core}  (keeps {len(kept)} of {len(rows)} pairs)"], ""
    for rule in RULES if timed else RULES[-1:]:
        split = validate(DatasetConfig, {**config, "split": {"kind": rule}}, "split")
        try:
            labels = split_rows(numbered, split).splits
        except MmreproError:
            continue
        tested = numbered.loc[(labels == TEST).to_numpy(), Columns.USER].nunique()
        trained = int((labels == TRAIN).sum())
        chosen = chosen or rule
        taken = "taken" if rule == chosen else f"as data set {config['dataset']}--{rule}"
        said.append(f"split {rule}: {tested} users tested, {trained} interactions to train on  ({taken})")
    longest = int(numbered[Columns.USER].value_counts().max())
    if longest < NEEDED:
        said.append(
            f"nobody can be tested: no user has more than {longest} items, and {NEEDED} are needed; add interactions"
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
