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
from mmrepro.models.base import model_class
from mmrepro.records.files import write_text
from mmrepro.study.model_source import schema_source


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
        cls = model_class(name)
        found[f"models/{name}.json"] = {
            **cls.Parameters.model_json_schema(),
            "released": cls.released.parameters,
            "uses_features": cls.uses_features,
            "closed_form": cls.closed_form,
            "source": schema_source(name),
        }
    for schema in found.values():
        schema.setdefault("properties", {})
    return found


def write_schemas(folder: Path) -> None:
    """Write all schemas."""
    for name, schema in schemas().items():
        write_text(folder / name, json.dumps(schema, indent=2) + "\n")
