"""Weights by name: what an encoder reads from local disks, and how weights are named in a record."""

from __future__ import annotations

from pathlib import Path

from mmrepro.config.features import Encoder, MultimodalLanguageEncoder, OpenClipEncoder, SentenceEncoder

OFFLINE = "offline"


def local_weights(encoder: Encoder) -> list[str]:
    """Return the local files that hold an encoder's weights, for a rule to declare them.

    Parameters
    ----------
    encoder
        One modality's encoder.

    Returns
    -------
    list of str
        The file, or all files of the folder and below, sorted; empty for weights of a hub, a package or a seed.
    """
    names: list[str] = []
    if isinstance(encoder, OpenClipEncoder | SentenceEncoder | MultimodalLanguageEncoder):
        names.append(encoder.weights)
    if isinstance(encoder, MultimodalLanguageEncoder):
        names.append(encoder.text_weights)
    return [file for name in names for file in _files(Path(name))]


def _files(path: Path) -> list[str]:
    if path.is_file():
        return [path.as_posix()]
    return sorted(file.as_posix() for file in path.rglob("*") if file.is_file()) if path.is_dir() else []


def weights_label(weights: str) -> str:
    """Return how weights are named in a record: a path by its last part, for records name no local folder."""
    path = Path(weights)
    return path.name if path.exists() else weights
