"""What decides the result of one run."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mmrepro.config.base import Strict, content_hash
from mmrepro.config.protocol import Protocol


class RunSpec(Strict):
    """Everything that decides the result of one run; its hash names the run's folder."""

    purpose: Literal["trial", "final"]
    dataset: str
    features: str | None
    modalities: tuple[str, ...] = ()
    model: str
    parameters: dict[str, Any]
    selected_by: str | None = Field(None, description="search whose winner completes the parameters")
    protocol: Protocol
    threads: int = Field(ge=1)
    device: Literal["auto", "cpu", "cuda", "mps"] = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    cutoffs: tuple[int, ...]

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the resolved configuration; the chosen values of a search are not part of it."""
        return content_hash(self.model_dump(mode="json"))[:12]
