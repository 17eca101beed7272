"""A model's class from a file of the user's own project."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from mmrepro.errors import MmreproError


def load_class(outside: str) -> type:
    """Return a class from a file; the file is run once for each content that it has.

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


def _module(path: Path) -> ModuleType:
    try:
        content = path.read_bytes()
    except OSError:
        raise MmreproError(
            f"{path}: no such file; write it as `folder/file.py:Class`, from the project's root"
        ) from None
    name = f"outside_{path.stem}_{hashlib.sha256(bytes(path.resolve()) + content).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # annotations are looked up there
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise MmreproError(f"{path}: {type(error).__name__} while it was imported: {error}; mend it") from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return module
