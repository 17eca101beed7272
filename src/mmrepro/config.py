"""What a data set, a model, a protocol and a run is: typed, strict, hashable.

Feature sets stand in `config_features.py`, studies in `config_study.py`. Unknown keys are errors that name the nearest valid key. Nothing here imports torch, so that the Snakefile can
validate a study in a fraction of a second.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]


class Strict(BaseModel):
    """Base of every configuration class: immutable, unknown keys forbidden."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceFile(Strict):
    """One raw file of a data set: where it comes from and how it is recognised."""

    name: str = Field(description="path inside the data set's folder; a folder when `folder` is true")
    url: str | None = Field(
        None,
        pattern=r"^(https?|gdrive)://",
        description="where it is downloaded from (http, https, or gdrive://<folder id>/<path in that folder>); none: only "
        "to be had from a mirror folder",
    )
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    bytes: int | None = Field(None, ge=0)
    folder: bool = Field(False, description="a folder of files, copied whole; only from a mirror")
    optional: bool = Field(
        False,
        description="left out in silence where the mirror does not have it (without a mirror: where it has no url); "
        "what needs it will say so",
    )


class Expected(Strict):
    """Counts that the prepared data set must have; a mismatch stops the workflow."""

    users: int | None = None
    items: int | None = None
    train: int | None = None
    valid: int | None = None
    test: int | None = None


class Images(Strict):
    """How the images that item records name by url are downloaded."""

    connections: int = Field(8, ge=1, le=64, description="open at the same time")
    attempts: int = Field(4, ge=1, description="requests for one image before it counts as missing")
    smallest_side: int = Field(16, ge=1, description="pixels; a smaller image is a placeholder and counts as too small")


SplitKind = Literal["published", "random-per-user", "time-per-user", "global-time", "leave-one-out"]


class Split(Strict):
    """How interactions are divided into train, valid and test."""

    kind: SplitKind = "random-per-user"
    seed: int = 0
    holdout: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of a user's interactions (global-time: of all) held out, half valid, half test",
    )
    few: int = Field(10, ge=3, description="users with fewer interactions give one to valid and one to test")


class DatasetConfig(Strict):
    """A data set id: it fixes source, filters and split.

    An id `<data set>--<split kind>` is the data set of that file with another split; both share their raw files.
    """

    dataset: Name
    title: str
    reader: str
    folder: str = Field(description="name of its folder below MMREPRO_MIRROR")
    licence: str
    raw: Name | None = Field(None, description="data set whose raw files this one shares; none: it has its own")
    files: tuple[SourceFile, ...] = ()
    images: Images | None = Field(None, description="download the images that item records name by url")
    options: dict[str, Any] = Field(default_factory=dict, description="settings of the reader")
    k_core: int = Field(0, ge=0, description="every user and item keeps at least this many interactions; 0: no filter")
    drop_duplicates: bool = True
    drop_items_without: tuple[Literal["image", "text"], ...] = Field(
        (), description="items without a usable image or text leave the data set before the k-core"
    )
    split: Split = Split()
    cold_users: Literal["drop", "keep"] = Field(
        "drop", description="valid and test rows of users without training item"
    )
    cold_items: Literal["drop", "keep"] = Field(
        "keep", description="valid and test rows of items without training user"
    )
    expected: Expected = Expected()
    literature_split: str | None = Field(
        None, description="data set name in published tables, where the split is theirs"
    )

    @property
    def raw_name(self) -> str:
        """Name of the data set whose raw files are read."""
        return self.raw or self.dataset


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
    "oddities": "program", "weight_decay": "as_program", "negatives_from": "train_items", "test_from": "noted", "seeding": "literal",
}  # fmt: skip


class ProtocolConfig(Protocol):
    """A protocol of a study: a base and the switches that differ from it."""

    base: Literal["fair", "released"] = "fair"

    def resolve(self) -> Protocol:
        """Return the full set of switches."""
        values = dict(RELEASED_SWITCHES) if self.base == "released" else {}
        values.update(self.model_dump(exclude_unset=True, exclude={"base"}))
        return Protocol.model_validate(values)


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


def content_hash(value: Any) -> str:
    """Return the SHA-256 of a JSON value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def nearest(word: str, valid: list[str]) -> str:
    """Return a hint: the nearest of the valid words, or all of them."""
    close = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"valid are {', '.join(valid)}"
