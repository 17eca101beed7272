"""Fingerprints of code: a hash of what a stage can reach, by content and not by place, so that edits rerun what they
change.

Snakemake does not see edits in imported modules. A fingerprint is taken over definitions (functions, classes,
constants), from a stage's entry along the names that resolve to definitions of the package. Of a definition counts its
syntax tree without docstrings, annotations and the words of errors; where it names another definition, that one's
content counts in place of the name. So a definition may be moved, renamed, or its module split, and nothing reruns;
what no stage reaches counts nowhere. What only reports (`print`) or records (`RECORDERS`) is no part of a stage.

Settings (classes derived from `Strict`) count by the field: default and built-in type are part of a stage that reads a
field of that name (one that is read by a computed name alone is not seen). Annotations count for what they name: a
class that is reached by them alone is part of the stage like any other. Of a `raise` counts which error it is and what
it carries, not its words; an error that is for the user's eyes counts nowhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import cache

from mmrepro.errors import MmreproError
from mmrepro.records.canonical import definition
from mmrepro.records.definitions import OUTSIDE, PACKAGE, Reference, bases_of, module, modules

MODEL_BASE = "models.base.Model"


@cache
def fingerprint(*entries: str) -> str:
    """Return the fingerprint of what definitions reach.

    Parameters
    ----------
    *entries
        `<module>:<definition>` with the module relative to the package. A module alone stands for the model that it
        holds, `*` for every module of a folder that has the definition. With a `?` at the end, a definition that the
        module lacks counts for nothing.

    Returns
    -------
    str
        Sixteen hexadecimal digits.

    Raises
    ------
    MmreproError
        For an entry that is no definition, or a module with statements that cannot be followed.
    """
    return _Closure([reference for entry in entries for reference in _references(entry)]).hash


def reachable(*entries: str) -> list[tuple[str, str]]:
    """Return the (module, definition) pairs that the entries use, themselves included, sorted."""
    return sorted(_Closure([reference for entry in entries for reference in _references(entry)]).visited)


def _references(entry: str) -> list[Reference]:
    pattern, separator, wanted = entry.removesuffix("?").partition(":")
    known = [Reference(name, defined) for name in modules(pattern) for defined in module(name).statements]
    found = [one for one in known if (one.name == wanted if separator else MODEL_BASE in bases_of(one))]
    if not found and not entry.endswith("?"):
        file = pattern if pattern.endswith(OUTSIDE) else f"{PACKAGE}/{pattern.replace('.', '/')}.py"
        raise MmreproError(f"{file}: no {wanted or 'class derived from Model'} in it")
    return found


def forget_files() -> None:
    """Read files anew: in a process that lives on, a user's file may have changed."""
    for cached in (fingerprint, _hash, definition, module, bases_of):
        cached.cache_clear()


class _Closure:
    """All that a stage reaches: by use, by annotation, and the defaults of the settings that it reads."""

    def __init__(self, entries: list[Reference]) -> None:
        self.visited: set[Reference] = set()
        self.fields: set[tuple[str, str]] = set()
        typed: set[Reference] = set()
        self._visit(entries)
        while True:
            size = len(self.visited), len(self.fields)
            typed |= self._types()
            self._read_fields()
            if size == (len(self.visited), len(self.fields)):
                break
        parts = [_hash(tuple(entries)), *sorted({_hash((reference,)) for reference in typed})]
        parts += [f"{name} {content}" for name, content in sorted(self.fields)]
        self.hash = _digest("\n".join(parts))

    def _visit(self, references: Iterable[Reference]) -> None:
        self.visited.update(r for r in _walk(tuple(references)))

    def _types(self) -> set[Reference]:
        """Visit what is named by annotations alone, and return it."""
        named = {reference for known in self.visited for reference in definition(known).types} - self.visited
        self._visit(named)
        return named

    def _read_fields(self) -> None:
        """Visit the fields of settings whose names occur in what is visited."""
        known = [definition(reference) for reference in self.visited]
        words = {word for one in known for word in one.words}
        for one in known:
            for name, content in one.fields.items():
                if name in words:
                    self.fields.add((name, _digest(content.text + _hash(tuple(content.references)))))
                    self._visit({*content.references, *content.types})


def _walk(entries: Iterable[Reference]) -> Iterator[Reference]:
    """The definitions that entries use, themselves included, each once, in the order in which they are met."""
    seen: set[Reference] = set()
    waiting = list(reversed(list(entries)))
    while waiting:
        reference = waiting.pop()
        if reference not in seen:
            seen.add(reference)
            yield reference
            waiting += reversed(definition(reference).references)


@cache
def _hash(entries: tuple[Reference, ...]) -> str:
    """Hash of the definitions that entries use: each one's text, and the places of what it names in the order met."""
    order = {reference: place for place, reference in enumerate(_walk(entries))}
    lines = [f"{[order[entry] for entry in entries]}"]
    for reference in order:
        known = definition(reference)
        lines.append(f"{known.text}\n{[order[used] for used in known.references]}")
    return _digest("\n".join(lines))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
