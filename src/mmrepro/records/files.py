"""Files that are there whole or not at all, and their hashes."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmrepro.errors import MmreproError


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a temporary path beside `final`; rename it on success, remove it on failure."""
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.stem}.{uuid.uuid4().hex[:8]}.part{final.suffix}")
    try:
        yield temporary
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    FileNotFoundError
        When there is none.
    MmreproError
        When it holds no JSON.
    """
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise MmreproError(f"{path}: no valid JSON; delete its folder and run the study again") from None


def read_object(path: Path) -> dict[str, Any] | None:
    """Read a JSON file that holds an object; None where there is none.

    Raises
    ------
    MmreproError
        When the file holds no JSON object.
    """
    if not path.is_file():
        return None
    value = read_json(path)
    if not isinstance(value, dict):
        raise MmreproError(f"{path}: no JSON object; delete its folder and run the study again")
    return value


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
