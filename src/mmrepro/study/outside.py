"""Models from outside the package: what a plan must know of a class that it does not import, or of lists."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mmrepro.config.files import load
from mmrepro.config.model import ModelConfig, ModelSchema, is_lists
from mmrepro.errors import MmreproError
from mmrepro.study.kinds import forget_code
from mmrepro.study.layout import Layout
from mmrepro.study.model_source import schema_source


def config_of(name: str, outside: str | None, root: Path) -> ModelConfig:
    """Return the file of a model; one from outside may do without."""
    path = root / f"config/models/{name}.yaml"
    if outside is None or path.is_file():
        return load(ModelConfig, path)
    return ModelConfig(model=name, title=name, citation="", source=outside)


def schema_of(name: str, outside: str | None, root: Path) -> ModelSchema:
    """Return the schema of a model: as it was written for the package's, else made where the class has changed.

    Raises
    ------
    MmreproError
        For a schema older than its class, or a class that cannot be imported.
    """
    if outside is None:
        folder = root / "config/schema/models"
        schema = ModelSchema.load(folder, name)
        if schema.source != schema_source(name):
            raise MmreproError(f"{folder / name}.json: older than the model's parameters; run `make schema`")
        return schema
    if is_lists(outside):
        return ModelSchema(model=name, closed_form=True)
    path = root / Layout.outside_schema(name)
    if not path.is_file() or ModelSchema.load(path.parent, name).source != schema_source(outside):
        _write(outside, path, root)
    return ModelSchema.load(path.parent, name)


def forget_outside() -> None:
    """Look anew at what lies outside: in a process that lives on, it may have changed."""
    forget_code()
    schema_source.cache_clear()


def _write(outside: str, path: Path, root: Path) -> None:
    """In a process of its own: a plan imports no model."""
    command = [sys.executable, "-m", "mmrepro", "schema", "--outside", outside, "--output", str(path.absolute())]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no word"]
        raise MmreproError(said[-1].removeprefix("mmrepro: "))
