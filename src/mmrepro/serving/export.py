"""A run in the forms that serving systems read: vectors in safetensors, keys in parquet, a card for people."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.columns import TEST, TRAIN, Columns
from mmrepro.config.files import load_dataset
from mmrepro.datasets.interactions import PreparedDataset, load_items, load_users
from mmrepro.errors import MmreproError
from mmrepro.evaluation.measure import load_lists, means_of, values_of
from mmrepro.evaluation.metrics import METRICS
from mmrepro.records.files import file_sha256, make_folder, read_arrays, recorded_file, write_text
from mmrepro.study.layout import Layout
from mmrepro.training.serving import run_of

VECTORS, ITEMS, USERS, CARD, RECORD = (
    "embeddings.safetensors",
    "items.parquet",
    "users.parquet",
    "README.md",
    "run.json",
)
CUTOFFS = (10, 20)


def export(folder: Path, output: Path, root: Path = Path()) -> str:
    """Write a run's vectors, the index of its items and users, and a model card.

    Parameters
    ----------
    folder
        Of a final run or its refit.
    output
        A folder that is not there yet; it appears whole or not at all.
    root
        Folder that holds `config/` and `data/`.

    Returns
    -------
    str
        What was written.

    Raises
    ------
    MmreproError
        For a folder that is there, an unfinished run, or a model without vectors.
    """
    if output.exists():
        raise MmreproError(f"{output}: is there already; name a new folder")
    spec, record = run_of(folder)
    vectors = recorded_file(folder, record, "embeddings.npz")
    if not vectors.is_file():
        raise MmreproError(
            f"{folder}: {spec.model} has no vectors to export; `mmrepro recommend --output` writes its lists"
        )
    prepared = root / Layout.prepared(spec.dataset)
    dataset = PreparedDataset.load(prepared)
    if record.get("data", {}).get("interactions") != dataset.content_hash:
        raise MmreproError(f"{folder}: made of other data than those in {prepared}; run the study again")
    temporary = output.with_name(f".{output.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    make_folder(temporary)
    try:
        _write_files(folder, record, vectors, dataset, prepared, temporary)
        write_text(temporary / CARD, _card(folder, record, dataset, temporary, root))
        temporary.rename(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    names = ", ".join(sorted(path.name for path in output.iterdir()))
    return f"{output}: {names}"


def _write_files(
    folder: Path, record: Mapping[str, Any], vectors: Path, dataset: PreparedDataset, prepared: Path, output: Path
) -> None:
    from safetensors.numpy import save_file

    users, items = read_arrays(vectors, "users", "items")
    told = {"model": str(record["model"]), "scores": "inner products of users and items; higher is better"}
    save_file({"users": np.ascontiguousarray(users), "items": np.ascontiguousarray(items)}, output / VECTORS, told)
    trained = dataset.interactions
    if record.get("purpose") != "serving":
        trained = trained[trained[Columns.SPLIT] == TRAIN]
    bought = np.bincount(trained[Columns.ITEM], minlength=dataset.n_items)
    index = load_items(prepared)[[Columns.KEY, Columns.TITLE]].assign(interactions=bought)
    index.reset_index(drop=True).to_parquet(output / ITEMS)
    load_users(prepared)[[Columns.KEY]].reset_index(drop=True).to_parquet(output / USERS)
    shutil.copy(folder / "run.json", output / RECORD)
    shutil.copy(folder / "config.yaml", output / "config.yaml")


def _card(folder: Path, record: Mapping[str, Any], dataset: PreparedDataset, output: Path, root: Path) -> str:
    """The model card: data, settings, measures, hashes, licence."""
    config = load_dataset(root / f"config/datasets/{dataset.dataset}.yaml")
    git, data = record.get("git") or {}, record.get("data") or {}
    seen = "all interactions" if record.get("purpose") == "serving" else "the training interactions"
    settings = {key: record.get(key) for key in ("parameters", "protocol", "features", "seed", "threads", "precision")}
    lines = [
        f"# {record['model']} on {config.title}", "",
        f"Trained by mmrepro on {seen} of `{dataset.dataset}` ({dataset.n_users} users, {dataset.n_items} items), as "
        f"{folder.name} of `{folder.parent.name}`. The score of a user and an item is the inner product of their rows; "
        "leave out what the user has had.", "",
        "| file | |", "| --- | --- |",
        f"| `{VECTORS}` | `users` and `items`, float16, a row each in the order of the two tables |",
        f"| `{ITEMS}` | key, title, and the interactions that the model was trained on; 0: known by content alone |",
        f"| `{USERS}` | key |",
        f"| `{RECORD}`, `config.yaml` | how it was made, all settings |", "",
        "## Measures", "", *_measures(folder, record, dataset), "",
        "## Settings", "", "```json", json.dumps(settings, indent=1), "```", "",
        "## Origin", "",
        f"- Code {record.get('code')}, commit {git.get('commit') or 'unknown'}"
        f"{', with uncommitted changes' if git.get('dirty') else ''}.",
        f"- Data {data.get('interactions')}.",
        *(f"- Features {name} {value} ({data.get('encoders', {}).get(name, 'unknown')})."
          for name, value in (data.get("features") or {}).items()),
        *(f"- `{path.name}` SHA-256 {file_sha256(path)}." for path in sorted(output.iterdir())),
        f"- Terms of the data: {config.licence}. The vectors are derived from them.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _measures(folder: Path, record: Mapping[str, Any], dataset: PreparedDataset) -> list[str]:
    if record.get("purpose") == "serving":
        return ["None: nothing was left to measure it by. Its final run says how good these settings are."]
    chosen = [metric for metric in METRICS if metric.headline or not metric.per_user]
    measured = {split: means_of(values_of(lists, CUTOFFS, chosen)) for split, lists in load_lists(dataset, folder)}
    frame = pd.DataFrame(measured)[[TEST]] if TEST in measured else pd.DataFrame()
    return ["| metric | test |", "| --- | --- |", *(f"| {n} | {v:.4f} |" for n, v in frame[TEST].dropna().items())]
