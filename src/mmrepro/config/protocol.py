"""The switches that tell a fair comparison from what the authors' programs do."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mmrepro.config.base import Strict


class Protocol(Strict):
    """The switches that tell a fair comparison from what the authors' programs do (methods, section 6)."""

    select_on: Literal["valid", "test"] = Field("valid", description="hyper-parameters are chosen on")
    round_digits: int | None = Field(None, description="metrics are rounded before they are compared")
    patience: Literal["configured", "released"] = Field("configured", description="the model's own or its program's")
    stop_when: Literal["reaches", "exceeds"] = Field("reaches", description="bad epochs against the patience")
    mask_at_test: Literal["train+valid", "train"] = Field("train+valid", description="items never ranked at test time")
    score_with: Literal["current", "last_batch"] = Field("current", description="parameters that rank")
    ranking_draw: Literal["mean", "last_batch"] = Field("mean", description="random draws of the model while ranking")
    angle_clamp: Literal["safe", "float64_only"] = Field("safe", description="float64_only: 1e-8, nothing in float32")
    oddities: Literal["paper", "program"] = Field(
        "paper", description="program: the parameters by which a model's program departs from its paper"
    )
    weight_decay: Literal["applied", "as_program"] = Field("applied", description="as_program: ignored where it was")
    negatives_from: Literal["all", "train_items"] = "all"
    test_from: Literal["best_parameters", "noted"] = Field("best_parameters", description="noted: nothing is restored")
    seeding: Literal["derived", "literal"] = Field(
        "derived", description="from (data set, model, seed), or the seed itself"
    )


RELEASED_SWITCHES: dict[str, Any] = {
    "select_on": "test", "round_digits": 4, "patience": "released", "stop_when": "exceeds", "mask_at_test": "train",
    "score_with": "last_batch", "ranking_draw": "last_batch", "angle_clamp": "float64_only",
    "oddities": "program", "weight_decay": "as_program", "negatives_from": "train_items", "test_from": "noted",
    "seeding": "literal",
}  # fmt: skip


class ProtocolConfig(Protocol):
    """A protocol of a study: a base and the switches that differ from it."""

    base: Literal["fair", "released"] = "fair"

    def resolve(self) -> Protocol:
        """Return the full set of switches."""
        values = dict(RELEASED_SWITCHES) if self.base == "released" else {}
        values.update(self.model_dump(exclude_unset=True, exclude={"base"}))
        return Protocol.model_validate(values)
