"""What decides the result of one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mmrepro.config.base import Strict, content_hash, differing
from mmrepro.config.protocol import Protocol

Watch = Annotated[
    str,
    Field(pattern=r"^[a-z][a-z0-9_]*_at_[1-9][0-9]*$"),
    BeforeValidator(lambda value: value.replace("@", "_at_") if isinstance(value, str) else value),
]
"""A metric and its cutoff: `recall_at_20`, or as tables write it `recall@20`."""
WATCH = "recall_at_20"
WATCH_DESCRIPTION = "metric on which early stopping and the choice of hyper-parameters look"


class RunSpec(Strict):
    """Everything that decides the result of one run; its hash names the run's folder.

    Only what differs from the defaults is hashed and handed on: the defaults stand in the code, whose fingerprint a run
    carries. So a new parameter or switch moves no folder.
    """

    purpose: Literal["trial", "final", "serving"] = Field(
        description="serving: trained on all interactions, and measured by nothing"
    )
    dataset: str
    features: str | None = None
    modalities: tuple[str, ...] = ()
    model: str
    outside: str | None = Field(None, description="where the model comes from, if not from this package")
    parameters: dict[str, Any] = Field(default_factory=dict, description="those that differ from the model's defaults")
    selected_by: str | None = Field(None, description="search whose winner completes the parameters")
    selects: tuple[str, ...] = Field((), description="parameters that the winner sets")
    protocol: Protocol = Protocol()
    threads: int = Field(1, ge=1)
    device: Literal["auto", "cpu", "cuda", "mps"] = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    watch: Watch = Field(WATCH, description=WATCH_DESCRIPTION)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of what differs from the defaults; the values that a search chooses are not part
        of it.
        """
        return content_hash(self.differences())[:12]

    def differences(self) -> dict[str, Any]:
        """Return what differs from the defaults, as JSON values; `RunSpec` made from it is this one."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def with_parameters(self, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> RunSpec:
        """Return the specification with other values of some parameters; they must have been validated."""
        return self.model_copy(update={"parameters": differing({**self.parameters, **values}, defaults)})


def metric_of(watch: str) -> tuple[str, int]:
    """Return name and cutoff of a metric such as `recall_at_20`."""
    name, _, cutoff = watch.rpartition("_at_")
    return name, int(cutoff)
