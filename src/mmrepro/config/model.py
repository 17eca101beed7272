"""What a model's file says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from mmrepro.config.base import Name, Strict


class ModelConfig(Strict):
    """A model's file: defaults and search space with their source. The parameters' types stand in the model's class."""

    model: Name
    title: str
    citation: str
    source: str = Field(description="where defaults and search space come from")
    uses_features: bool
    draws: bool = Field(True, description="false: nothing is drawn, so that one seed is as good as any other")
    defaults: dict[str, Any] = Field(default_factory=dict)
    search_space: dict[str, list[Any]] = Field(default_factory=dict)


def model_names() -> list[str]:
    """Return the names of all models: each is a file of `models/`."""
    files = (Path(__file__).parents[1] / "models").glob("*.py")
    return sorted(file.stem for file in files if file.stem not in ("__init__", "base"))
