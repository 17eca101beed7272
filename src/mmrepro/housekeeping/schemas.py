"""JSON schemas of the configuration files, generated from the classes that validate them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mmrepro.config.dataset import DatasetConfig
from mmrepro.config.features import FeatureSetConfig
from mmrepro.config.model import ModelConfig, model_names
from mmrepro.config.study import StudyConfig
from mmrepro.models.base import Model, model_class
from mmrepro.records.files import write_text
from mmrepro.study.model_source import schema_source


def write_outside(outside: str, path: Path) -> None:
    """Write the schema of a model outside the package, given as `folder/file.py:Class`."""
    write_text(path, json.dumps(_of_model(model_class("", outside), schema_source(outside))) + "\n")


def _of_model(cls: type[Model], source: str) -> dict[str, Any]:
    found = {
        **cls.Parameters.model_json_schema(),
        "released": cls.released.parameters,
        "uses_features": cls.uses_features,
        "closed_form": cls.closed_form,
        "source": source,
    }
    return found if "properties" in found else {**found, "properties": {}}


def schemas() -> dict[str, dict[str, Any]]:
    """Return each schema by its file name below config/schema."""
    kinds: dict[str, type[BaseModel]] = {
        "dataset": DatasetConfig,
        "feature_set": FeatureSetConfig,
        "model": ModelConfig,
        "study": StudyConfig,
    }
    found = {f"{name}.json": cls.model_json_schema() for name, cls in kinds.items()}
    for name in model_names():
        found[f"models/{name}.json"] = _of_model(model_class(name), schema_source(name))
    for schema in found.values():
        schema.setdefault("properties", {})
    return found


def write_schemas(folder: Path) -> None:
    """Write all schemas."""
    for name, schema in schemas().items():
        write_text(folder / name, json.dumps(schema, indent=2) + "\n")
