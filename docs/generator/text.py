"""Markdown from plain values, and the files that every generator reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml


def cell(value: object) -> str:
    """Return a text that may stand in a cell of a table: one line, without a bare bar."""
    return " ".join(str(value).split()).replace("|", "\\|")


def table(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; the empty text where there are no rows."""
    lines = ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    if not lines:
        return ""
    top = "| " + " | ".join(heading) + " |"
    return "\n".join([top, "|" + " --- |" * len(heading), *lines]) + "\n"


def code(value: object) -> str:
    """Return a value as JSON in code font; the empty text for an absent one."""
    if value is None:
        return "none"
    return f"`{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}`"


def join(parts: Iterable[str]) -> str:
    """Return the parts that are not empty as paragraphs."""
    return "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"


def details(summary: str, body: str) -> str:
    """Return a block that a browser shows when its summary is clicked."""
    return f"<details><summary>{summary}</summary>\n\n{body.strip()}\n\n</details>"


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the content of a configuration file."""
    return yaml.safe_load(path.read_text())


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file."""
    return json.loads(path.read_text())


def leading_comment(path: Path) -> str:
    """Return the comment that a configuration file begins with, as one line."""
    lines: list[str] = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)
