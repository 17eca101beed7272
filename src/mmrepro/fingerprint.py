"""Fingerprints of code: a hash of the definitions that a stage can reach, so that edits rerun what they change.

Snakemake does not see edits in imported modules. A fingerprint is taken over syntax trees printed without comments
and docstrings, from an entry definition along the names it uses, across the package's modules.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from mmrepro.errors import MmreproError

PACKAGE = "mmrepro"
ROOT = Path(__file__).parent

STAGES: dict[str, tuple[str, str]] = {
    "fetch": ("datasets.fetch", "fetch"),
    "images": ("datasets.images", "download_images"),
    "prepare": ("datasets.prepare", "prepare"),
    "extract": ("features.extract", "extract"),
    "item_graph": ("features.item_graph", "build_item_graph"),
    "align_content": ("training.align_content", "align_content"),
    "probe": ("evaluation.probe", "probe"),
    "train": ("training.run", "train"),
    "select": ("training.selection", "select"),
    "search": ("training.search", "search"),
    "tables": ("reporting.tables", "build_tables"),
    "track": ("tracking", "import_runs"),
}
RECORDERS = ("fingerprint", "provenance", "meter", "energy", "errors")
"""Modules that record results or say what is wrong, and decide no number: edits there rerun nothing."""

FOLDERS = {
    "fetch": "datasets/readers",
    "images": "datasets/readers",
    "prepare": "datasets/readers",
    "extract": "features/encoders",
}
"""Folders whose modules a stage imports by name; the module in use is an entry of its own."""


class _Module:
    """The top-level definitions of one module and what its imported names stand for."""

    def __init__(self, name: str) -> None:
        path = ROOT / (name.replace(".", "/") + ".py")
        if not path.is_file():
            path = ROOT / name.replace(".", "/") / "__init__.py"
        self.definitions: dict[str, ast.stmt] = {}
        self.imports: dict[str, tuple[str, str | None]] = {}
        for statement in ast.parse(path.read_text()).body:
            self._read(statement)

    def _read(self, statement: ast.stmt) -> None:
        match statement:
            case ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
                self.definitions[statement.name] = statement
            case ast.Assign(targets=targets):
                for name in (n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)):
                    self.definitions[name] = statement
            case ast.AnnAssign(target=ast.Name(id=name)):
                self.definitions[name] = statement
        self.imports.update(_imports(ast.walk(statement)))


def _imports(nodes: Iterable[ast.AST]) -> dict[str, tuple[str, str | None]]:
    """Names bound by the package's own imports among the nodes -> (module, definition or None)."""
    found: dict[str, tuple[str, str | None]] = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE:
            module = node.module.removeprefix(PACKAGE).removeprefix(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".strip(".")
                is_module = (ROOT / (inner.replace(".", "/") + ".py")).is_file()
                found[alias.asname or alias.name] = (inner, None) if is_module else (module, alias.name)
    return found


@cache
def _module(name: str) -> _Module:
    return _Module(name)


@cache
def _text(module: str, name: str) -> str:
    """A definition printed without comments and docstrings; alike in every Python version."""
    tree = ast.parse(ast.unparse(_module(module).definitions[name]))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            node.body = [
                s
                for s in node.body
                if not (
                    isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant) and isinstance(s.value.value, str)
                )
            ] or [ast.Pass()]
    return ast.unparse(tree)


def reachable(*entries: tuple[str, str]) -> list[tuple[str, str]]:
    """Return the (module, definition) pairs that the entries use, themselves included, sorted."""
    seen: set[tuple[str, str]] = set()
    waiting = list(entries)
    while waiting:
        entry = waiting.pop()
        module, name = entry
        if entry in seen or module in RECORDERS:
            continue
        known = _module(module)
        if name not in known.definitions:
            if name in known.imports and known.imports[name][1] is not None:  # imported there, defined elsewhere
                source, original = known.imports[name]
                waiting.append((source, str(original)))
            continue
        seen.add(entry)
        waiting += _used(module, name)
    return sorted(seen)


@cache
def _used(module: str, name: str) -> list[tuple[str, str]]:
    """What a definition refers to within the package."""
    known = _module(module)
    nodes = list(ast.walk(known.definitions[name]))
    imports = {**known.imports, **_imports(nodes)}
    found: list[tuple[str, str]] = []
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            source, original = imports.get(node.value.id, ("", ""))
            if original is None:  # attribute of an imported module
                found.append((source, node.attr))
        elif isinstance(node, ast.Name):
            if node.id in known.definitions:
                found.append((module, node.id))
            elif node.id in imports and imports[node.id][1] is not None:
                found.append((imports[node.id][0], str(imports[node.id][1])))
    return found


def _hash(entries: tuple[tuple[str, str], ...]) -> str:
    text = "\n".join(f"# {module}.{name}\n{_text(module, name)}" for module, name in reachable(*entries))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _all_of(module: str) -> list[tuple[str, str]]:
    return [(module, name) for name in sorted(_module(module).definitions)]


@cache
def fingerprint(stage: str, part: str | None = None) -> str:
    """Return the fingerprint of a stage.

    Parameters
    ----------
    stage
        A key of `STAGES`.
    part
        What the stage imports by name: the reader (fetch, prepare), encoder (extract) or model (train).

    Returns
    -------
    str
        Sixteen hexadecimal digits.
    """
    if stage not in STAGES:
        raise MmreproError(f"no stage '{stage}' to fingerprint; known are {', '.join(STAGES)}")
    entries = [STAGES[stage]]
    if part is not None:
        folder = {**FOLDERS, "train": "models"}[stage]
        entries += _all_of(f"{folder.replace('/', '.')}.{part}")
    return _hash(tuple(entries))


def training_fingerprint(model: str) -> str:
    """Return the fingerprint of training, ranking and one model; it is recorded in every run."""
    return fingerprint("train", model)
