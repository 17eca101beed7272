"""Tables of the data sets, feature sets and studies there are, from their configuration files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from generator.text import code, join, leading_comment, read_yaml, table

ENCODER_KEYS = ("source", "file", "architecture", "weights", "dim", "sources")
"""Settings of an encoder that its row names."""


def _files(root: Path, folder: str) -> list[Path]:
    return sorted((root / "config" / folder).glob("*.yaml"))


def _source(config: dict[str, Any]) -> str:
    """Say where the raw files of a data set come from."""
    files = config.get("files", [])
    if not files:
        return "generated"
    urls = [entry.get("url", "") for entry in files if not entry.get("optional")]
    if not all(urls):
        return "mirror"
    return "Google Drive, mirror" if urls[0].startswith("gdrive://") else "url, mirror"


def _counts(config: dict[str, Any]) -> str:
    """Return the expected users and items of a data set."""
    expected = config.get("expected", {})
    return f"{expected['users']:,} / {expected['items']:,}" if {"users", "items"} <= set(expected) else ""


def datasets(root: Path) -> str:
    """Return a table of all data sets."""
    rows = []
    for path in _files(root, "datasets"):
        config = read_yaml(path)
        split = config.get("split", {}).get("kind", "random-per-user")
        core = config.get("k_core", 0) or ""
        facts = (code(config["dataset"]), config["title"], _counts(config), split, core, f"`{config['reader']}`")
        rows.append((*facts, _source(config), config["licence"]))
    heading = ("id", "title", "users / items expected", "split", "k-core", "reader", "files from", "licence")
    return table(heading, rows)


def _settings(encoder: dict[str, Any]) -> str:
    """Return the telling settings of an encoder."""
    found = [(key, encoder[key]) for key in ENCODER_KEYS if key in encoder]
    names = [(key, ", ".join(value) if isinstance(value, dict) else value) for key, value in found]
    return "; ".join(f"{key} `{value}`" for key, value in names)


def feature_sets(root: Path) -> str:
    """Return a table of all feature sets, one row a modality, and what their files say about them."""
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    for path in _files(root, "features"):
        config = read_yaml(path)
        for modality, encoder in config["modalities"].items():
            rows.append((code(config["feature_set"]), modality, f"`{encoder['encoder']}`", _settings(encoder)))
        if comment := leading_comment(path):
            notes.append(f"- `{config['feature_set']}`: {comment}")
    return join([table(("feature set", "modality", "encoder", "settings"), rows), "\n".join(notes)])


def studies(root: Path) -> str:
    """Return a table of all studies, and where their results are committed."""
    rows = []
    for path in _files(root, "studies"):
        config = read_yaml(path)
        committed = (root / "results/reference" / config["study"]).is_dir()
        found = f"[results](results.md#result-{config['study']})" if committed else ""
        names = ", ".join(f"`{name}`" for name in config["datasets"])
        facts = (code(config["study"]), config["title"], names, len(config["models"]))
        rows.append((*facts, ", ".join(config.get("protocols", {})), len(config.get("seeds", [0])), found))
    return table(("study", "title", "data sets", "models", "protocols", "seeds", "committed"), rows)
