"""Hashes, atomic files and the record of where a result comes from."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RECORDED_PACKAGES = (
    "mmrepro", "torch", "numpy", "scipy", "pandas", "open_clip_torch", "sentence-transformers",
    "transformers", "pillow",
)  # fmt: skip


def git_state(root: Path) -> dict[str, Any]:
    """Return `commit` and `dirty` of the checkout at `root`; both None outside a git repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout

    try:
        return {"commit": git("rev-parse", "HEAD").strip(), "dirty": bool(git("status", "--porcelain").strip())}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def is_committed(folder: Path) -> bool:
    """Return whether a folder lies in a git checkout and is as it was committed."""
    command = ["git", "-C", str(folder), "status", "--porcelain", "--", "."]
    try:
        return not subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return False


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide results."""
    found = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
