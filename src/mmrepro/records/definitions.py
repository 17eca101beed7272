"""Definitions as syntax trees: what each says apart from names, and which other definitions it uses.

A module is one of the package (`ops.losses`), or a file of a user's project (`my_models/two_tower.py`) and what that
imports from beside it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from mmrepro.errors import MmreproError

PACKAGE, OUTSIDE = "mmrepro", ".py"
ROOT = Path(__file__).parents[1]
RECORDERS = ("errors", "records", "runtime.meter", "runtime.energy", "study.kinds", "training.recorder")
"""Modules and packages that record results or say what is wrong, and decide no number: edits there rerun nothing."""
PRINTERS = ("print",)
"""Functions whose calls only tell somebody something."""

Bodied = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class Reference(NamedTuple):
    """A definition by module and name; `Class.MEMBER` names one constant of a class that holds nothing else."""

    module: str
    name: str


class Binding(NamedTuple):
    """What an import binds a name to: a module of the package, something in one, or something of another package."""

    module: str
    name: str | None
    inside: bool


@dataclass
class Definition:
    """One definition, without what decides no result.

    Attributes
    ----------
    text
        Its statement printed without docstrings, annotations, words of `raise` and printing; names of other definitions
        are numbered, so that the text holds none of them.
    references
        What the numbers stand for.
    types
        What its annotations name.
    words
        Attributes and strings in it, by which fields of settings may be read.
    fields
        Of a class of settings: its fields, which are no part of `text`.
    """

    text: str = ""
    references: list[Reference] = field(default_factory=list)
    types: set[Reference] = field(default_factory=set)
    words: set[str] = field(default_factory=set)
    fields: dict[str, Definition] = field(default_factory=dict)


class Module:
    """The top-level definitions of one module and what its imported names stand for.

    Attributes
    ----------
    statements
        Name -> the statement that defines it; once it has been made canonical, the statement is another, unless it is
        `shared` by several names.
    bases
        Class -> names of its base classes.
    imports
        Name -> what an import binds it to.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.statements: dict[str, ast.stmt] = {}
        self.bases: dict[str, list[str]] = {}
        self.shared: set[str] = set()
        self.imports: dict[str, Binding] = {}
        for statement in parsed(_file(name)).body:
            defined = list(_defined(statement))
            self._check(statement, defined)
            self.statements.update(dict.fromkeys(defined, statement))
            self.shared.update(defined if len(defined) > 1 else ())
            if isinstance(statement, ast.ClassDef):
                self.bases[statement.name] = [base.id for base in statement.bases if isinstance(base, ast.Name)]
            self.imports.update(imported_names(ast.walk(statement), name))

    def _check(self, statement: ast.stmt, defined: list[str]) -> None:
        """Refuse what fingerprints do not follow: an edit there would rerun nothing without a word."""
        doubled = [name for name in defined if name in self.statements]
        imported = isinstance(statement, ast.Import | ast.ImportFrom)
        inner = [node for node in ast.walk(statement) if isinstance(node, ast.Import | ast.ImportFrom)]
        outer = statement.bases if isinstance(statement, ast.ClassDef) else []
        reason = None
        if doubled:
            reason = f"{doubled[0]} is defined twice"
        elif not (defined or imported or _is_note(statement)):
            reason = "a statement that is no definition; put it into a function"
        elif any(isinstance(node, ast.ImportFrom) and node.level for node in inner):
            reason = "a relative import"
        elif any(isinstance(node, ast.Import) and self._names_known(node) for node in inner):
            reason = "a module of the package, or beside this one, by its whole name; import it with `from`"
        elif any(isinstance(base, ast.Attribute) and self._is_inside(base) for base in outer):
            reason = "a base class that is no plain name; import the class itself"
        if reason is not None:
            raise MmreproError(f"{_file(self.name)}:{statement.lineno}: fingerprints do not follow {reason}")

    def _names_known(self, node: ast.Import) -> bool:
        names = [alias.name for alias in node.names]
        return any(name.split(".")[0] == PACKAGE or _beside(self.name, name) is not None for name in names)

    def _is_inside(self, base: ast.Attribute) -> bool:
        found = self.imports.get(base.value.id) if isinstance(base.value, ast.Name) else None
        return found is not None and found.inside

    def resolve(self, name: str) -> Binding | Reference | None:
        """Return what a global name of the module stands for: one of its definitions, or what an import bound."""
        return Reference(self.name, name) if name in self.statements else self.imports.get(name)


def _is_note(statement: ast.stmt) -> bool:
    """Whether a statement says something to readers or type checkers only."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.If) and ast.unparse(statement.test) == "__name__ == '__main__'":
        return True  # never run where the file is imported
    if not isinstance(statement, ast.If) or ast.unparse(statement.test) != "TYPE_CHECKING":
        return False
    return all(isinstance(entry, ast.Import | ast.ImportFrom) for entry in statement.body)


def parsed(file: Path) -> ast.Module:
    """Return the syntax tree of a file; MmreproError names the line of a mistake."""
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MmreproError(
            f"{file}: no such file; write it as `folder/file.py:Class`, from the project's root"
        ) from None
    except SyntaxError as error:
        raise MmreproError(f"{file}:{error.lineno}: {error.msg}; mend it") from None
    except ValueError:
        raise MmreproError(f"{file}: no Python source in UTF-8; save it as such") from None


def _file(module: str) -> Path:
    if module.endswith(OUTSIDE):
        return Path(module)
    path = ROOT / (module.replace(".", "/") + ".py")
    return path if path.is_file() else ROOT / module.replace(".", "/") / "__init__.py"


def _beside(module: str, imported: str) -> str | None:
    """The file that a module outside the package imports from its own folder, which Python searches first."""
    path = Path(module).parent / f"{imported.replace('.', '/')}{OUTSIDE}"
    return path.as_posix() if module.endswith(OUTSIDE) and path.is_file() else None


def _defined(statement: ast.stmt) -> Iterator[str]:
    """Names that a top-level statement defines; constants of a namespace class have names of their own."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield statement.name
        case ast.ClassDef():
            yield statement.name
            yield from (f"{statement.name}.{member}" for member in members(statement))
        case ast.Assign(targets=targets) if all(isinstance(target, ast.Name | ast.Tuple) for target in targets):
            yield from (n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name


def members(statement: ast.ClassDef) -> dict[str, ast.Assign]:
    """Return the constants of a class that holds nothing else, such as `Columns`."""
    found: dict[str, ast.Assign] = {}
    if statement.bases or statement.decorator_list:
        return {}
    for entry in statement.body:
        if isinstance(entry, ast.Assign) and isinstance(entry.targets[0], ast.Name):
            found[entry.targets[0].id] = entry
        elif not isinstance(entry, ast.Expr):
            return {}
    return found


def imported_names(nodes: Iterable[ast.AST], importer: str) -> dict[str, Binding]:
    """Return what the names stand for that import statements among the nodes of a module bind."""
    found: dict[str, Binding] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                found[bound] = Binding(alias.name if alias.asname else bound, None, False)
        elif isinstance(node, ast.ImportFrom) and node.module:
            neighbour = _beside(importer, node.module)
            if neighbour is not None:
                found |= {alias.asname or alias.name: Binding(neighbour, alias.name, True) for alias in node.names}
                continue
            inside = node.module.split(".")[0] == PACKAGE
            module = node.module.removeprefix(PACKAGE).removeprefix(".") if inside else node.module
            for alias in node.names:
                path = f"{module}.{alias.name}".strip(".")
                is_module = inside and _file(path).is_file()
                binding = Binding(path, None, inside) if is_module else Binding(module, alias.name, inside)
                found[alias.asname or alias.name] = binding
    return found


def modules(pattern: str) -> list[str]:
    """Return the modules that a pattern names: itself, or for `folder.*` every module of the folder."""
    if pattern.endswith(OUTSIDE):
        return [pattern]
    folder, star, _ = pattern.partition(".*")
    if not star:
        return [pattern]
    files = (ROOT / folder.replace(".", "/")).glob("*.py")
    return sorted(f"{folder}.{file.stem}" for file in files if file.stem != "__init__")


@cache
def module(name: str) -> Module:
    """Return a module by its name in the package, such as `ops.losses`, or by its file outside."""
    return Module(name)


def located(found: Binding | Reference | None) -> Reference | None:
    """Return the definition in the package that a name finally stands for, past imports that hand it on."""
    while isinstance(found, Binding):
        if not found.inside or found.name is None:
            return None
        binding, found = found, module(found.module).resolve(found.name)
        if found is None:
            raise MmreproError(f"{_file(binding.module)}: no definition of {binding.name}, which others import")
    return found


def is_recorder(name: str) -> bool:
    """Return whether a module only records or says what is wrong."""
    return any(name == recorder or name.startswith(f"{recorder}.") for recorder in RECORDERS)


@cache
def bases_of(reference: Reference) -> frozenset[str]:
    """Return what a class is derived from, directly or not: `<module>.<name>` with the package's modules relative."""
    known, found = module(reference.module), set[str]()
    for base in known.bases.get(reference.name, ()):
        binding = known.resolve(base)
        inner = located(binding)
        if inner is not None:
            found |= {f"{inner.module}.{inner.name}", *bases_of(inner)}
        elif isinstance(binding, Binding):
            found.add(f"{binding.module}.{binding.name}")
    return frozenset(found)
