"""What a model's schema is made from, hashed without importing it: whether `config/schema/models` is up to date."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

from mmrepro.records.definitions import ROOT, parsed

PARAMETERS = "Parameters"


@cache
def schema_source(model: str) -> str:
    """Return a hash of the definitions that a model's schema follows from.

    They are the classes of parameters and the constants of the model's file and of `models/base.py`, and what the
    classes of models state about themselves (`uses_features`, `closed_form`, `released`).

    Parameters
    ----------
    model
        Name of a file of `models/`, or `folder/file.py:Class` outside the package.

    Returns
    -------
    str
        Sixteen hexadecimal digits.
    """
    if ":" in model:
        return _of_folder(model)
    files = (ROOT / f"models/{model}.py", ROOT / "models/base.py")
    parts = [ast.dump(part) for file in files for statement in parsed(file).body for part in _stated(statement)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _of_folder(outside: str) -> str:
    """Of a class outside, parameters may stand within it, or in a file beside it: all files of its folder count."""
    path = Path(outside.partition(":")[0])
    parsed(path)
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in sorted(path.parent.rglob("*.py"))]
    return hashlib.sha256("\n".join([outside, schema_source("base"), *texts]).encode()).hexdigest()[:16]


def _stated(statement: ast.stmt) -> list[ast.stmt]:
    """What a definition states beside what it does."""
    if isinstance(statement, ast.ClassDef) and not statement.name.endswith(PARAMETERS):
        return [part for part in statement.body if isinstance(part, ast.Assign | ast.AnnAssign)]
    return [statement] if isinstance(statement, ast.ClassDef | ast.Assign | ast.AnnAssign) else []
