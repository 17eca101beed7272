"""A model's class from a file of the user's own project."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from mmrepro.errors import MmreproError


def load_class(outside: str) -> type:
    """Return a class from a file; it is run once for each content of it and of the files beside it.

    What it imports from beside it is found first, as Python finds what lies beside a script.

    Parameters
    ----------
    outside
        `folder/file.py:Class`, relative to the working directory.

    Raises
    ------
    MmreproError
        When there is no such file or class, or the file cannot be run.
    """
    path, _, name = outside.partition(":")
    first = Path(path).parts[:1]
    if Path(path).is_absolute() or ".." in Path(path).parts or first in (("data",), ("results",)):
        raise MmreproError(
            f"{path}: a class is imported from the project's own files, not from data or elsewhere; move it"
        )
    module = _module(Path(path))
    found = vars(module).get(name)
    if not isinstance(found, type):
        raise MmreproError(f"{path}: no class '{name}' in it")
    return found


def in_its_words(outside: str, error: Exception) -> MmreproError:
    """Return what went wrong while a class was at work: its own line, where one of its folder is on the way."""
    folder = Path(outside.partition(":")[0]).parent.resolve()
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).resolve().is_relative_to(folder)]
    frame = own[-1] if own else frames[-1]
    where = f"{outside}: " + (f"line {frame.lineno} of {Path(frame.filename).name}" if own else f"in {frame.name}")
    return MmreproError(f"{where}: {type(error).__name__}: {error}; mend the class")


def _module(path: Path) -> ModuleType:
    """The file as a module; run anew where it or a file beside it has changed."""
    folder = path.parent.resolve()
    name = f"outside_{path.stem}_{_state(path, folder)}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # annotations are looked up there
    try:
        with _beside(folder):
            spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise MmreproError(f"{path}: {type(error).__name__} while it was imported: {error}; mend it") from error
    return module


def _state(path: Path, folder: Path) -> str:
    """A hash of all Python files of the folder, which the file may import."""
    if not path.is_file():
        raise MmreproError(f"{path}: no such file; write it as `folder/file.py:Class`, from the project's root")
    files = sorted(folder.rglob("*.py"))
    parts = [part for file in files for part in (bytes(file), file.read_bytes())]
    return hashlib.sha256(b"\0".join([bytes(path.resolve()), *parts])).hexdigest()[:16]


@contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """Find modules of a folder first, as they are now, and leave none of them behind under its short name."""

    def inside() -> dict[str, ModuleType]:
        files = {name: getattr(module, "__file__", None) for name, module in [*sys.modules.items()]}
        return {
            name: sys.modules[name]
            for name, file in files.items()
            if file and not name.startswith("outside_") and Path(file).resolve().is_relative_to(folder)
        }

    before = inside()
    for name in before:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # it is known by its second, not by its content
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes
        sys.path.remove(str(folder))
        for name in inside():
            del sys.modules[name]
        sys.modules.update(before)
