"""What a study is: data sets, models, seeds, protocols, a search, and the tables made from the runs."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from mmrepro.config.base import Name, Strict, nearest
from mmrepro.config.model import Outside, outside_name
from mmrepro.config.protocol import ProtocolConfig
from mmrepro.config.run import WATCH, WATCH_DESCRIPTION, Watch


def _named_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """A seed that is named twice is one run, and no spread."""
    doubled = [value for place, value in enumerate(values) if value in values[:place]]
    if doubled:
        raise ValueError(f"names {doubled[0]} twice; name each once")
    return values


Once = AfterValidator(_named_once)
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class SearchConfig(Strict):
    """How hyper-parameters are chosen: trials share `seed`, and every model has the same `budget` of them."""

    name: Name | None = Field(None, description="identifies the search; the study's name unless given")
    seed: Seed = Field(0, description="the tuning seed: of every trial, and of what a sampler draws")
    budget: Annotated[int, Field(ge=1)] | Literal["grid"] = Field(
        "grid", description="trials a model, at most all combinations of its space; `grid`: all of them"
    )
    sampler: Literal["grid", "random", "tpe"] = Field(
        "grid",
        description="grid: all combinations; random: `budget` of them, drawn without replacement; tpe: proposed one "
        "after another by Optuna's tree-structured Parzen estimator, the first ten at random",
    )
    models: tuple[Name, ...] | Literal["all"] | None = Field(
        None,
        description="models that are searched; none: those that `space` names, or all where it names none; all: every "
        "model with a space. The others have the settings of their files and of `parameters`",
    )
    datasets: tuple[Name, ...] = Field((), description="data sets on which they are searched; none: those of the study")
    space: dict[str, dict[str, list[Any]]] = Field(
        default_factory=dict,
        description="model -> parameter -> values, in place of the `search_space` of config/models/<model>.yaml; an "
        "empty one leaves the model out. What is searched wins over `parameters`",
    )

    @field_validator("budget", mode="before")
    @classmethod
    def _number_or_grid(cls, value: Any) -> Any:
        if value == "grid" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
            return value
        raise ValueError("give a number of trials of at least 1, or 'grid' for all combinations")

    @model_validator(mode="after")
    def _stated_budget(self) -> SearchConfig:
        if self.sampler == "tpe" and self.budget == "grid":
            raise ValueError("`sampler: tpe` needs a number of trials; set `budget: 20`, or take `sampler: grid`")
        return self

    @property
    def named(self) -> tuple[str, ...]:
        """The models that are named one by one."""
        return self.models if isinstance(self.models, tuple) else ()

    def on(self, dataset: str) -> bool:
        """Return whether models are searched on a data set."""
        return not self.datasets or dataset in self.datasets

    def covers(self, model: str) -> bool:
        """Return whether a model is searched, provided that it has a space."""
        if self.models is None:
            return model in self.space if self.space else True
        return self.models == "all" or model in self.named


TableName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Variant(Strict):
    """One row of a comparison: how its runs differ from those of the main table."""

    features: Name | None = Field(None, description="feature set; none: that of the main table")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="win over the study's and over a search's winner"
    )


class Comparison(Strict):
    """A table beside the main one: the same models under several variants. Equal runs are made once."""

    title: str
    datasets: Annotated[tuple[Name, ...], Once] = Field((), description="none: those of the study")
    models: Annotated[tuple[Name, ...], Once] = Field(min_length=1)
    seeds: Annotated[tuple[Seed, ...], Once] = Field((), description="none: those of the study")
    variants: dict[str, Variant] = Field(min_length=2, description="the others are compared with the first")


class VerdictConfig(Strict):
    """The rule by which a number of ours reproduces a published one, fixed before anything is run.

    The band of equal values is what seeds do: `deviations` standard deviations of the difference between a mean over
    our seeds and a single published run, by our spread or that of published runs with several seeds, whichever is
    larger.
    """

    deviations: float = Field(2.0, gt=0, description="half-width of the band, in standard deviations of the difference")
    baseline: Name = Field("lightgcn", description="model against which the direction of a difference is told")
    features: tuple[Name, ...] = Field(
        ("published", "published-tiktok"),
        description="feature sets that published numbers of models with content are of",
    )


BEST_OTHER = "the best other"


class Claim(Strict):
    """What a paper claims, in our words, and the two rows of a table by which it is tested on every data set."""

    statement: str = Field(min_length=1)
    source: str = Field(min_length=1, description="where it is claimed")
    better: str = Field(description="a model of the main table, or a variant of the comparison")
    than: str = Field(BEST_OTHER, description=f"another one; unless given, {BEST_OTHER}")
    comparison: TableName | None = Field(None, description="whose variants are compared; none: the main table's models")
    model: Name | None = Field(None, description="whose variants are compared; none: the comparison's first")
    metric: Watch = WATCH


FOCUS = "cm3"


def _name_outside(data: dict[str, Any]) -> None:
    """Move paths among the models to where names of what lies outside stand."""
    models = data.get("models")
    if not isinstance(models, list | tuple):
        return
    paths = {place: m for place, m in enumerate(models) if isinstance(m, str) and re.search(r"[./]", m)}
    named = {place: outside_name(path) for place, path in paths.items()}
    data["models"] = [named.get(place, model) for place, model in enumerate(models)]
    if paths:
        data["outside"] = {**(data.get("outside") or {}), **{named[place]: path for place, path in paths.items()}}


class StudyConfig(Strict):
    """A study: a view on runs, and the tables made from them."""

    study: Name
    title: str
    datasets: Annotated[tuple[Name, ...], Once] = Field(min_length=1)
    models: Annotated[tuple[Name, ...], Once] = Field(
        min_length=1,
        description="names; a path of what lies outside the package (see `outside`) stands for the name it gives",
    )
    outside: dict[Name, Outside] = Field(
        default_factory=dict,
        description="name -> a class of the user's own project, `my_models/two_tower.py:TwoTower`, or lists of another "
        "system, `lists/{dataset}.csv` with columns user, item and score",
    )
    features: dict[str, Name] = Field(
        default_factory=dict, description="model, data set or `default` -> feature set; the first that is named wins"
    )
    seeds: Annotated[tuple[Seed, ...], Once] = Field((0,), min_length=1)
    protocols: dict[Name, ProtocolConfig] = Field(default_factory=lambda: {"fair": ProtocolConfig()})
    parameters: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="model (or `all`) -> parameters that differ from the model's defaults"
    )
    search: SearchConfig | None = None
    comparisons: dict[TableName, Comparison] = Field(default_factory=dict, description="name of a table -> its rows")
    feature_quality: tuple[Name, ...] | None = Field(
        None, description="data sets whose features are probed without a recommender; unless given, all of the study"
    )
    threads: int = Field(1, ge=1)
    device: Literal["auto", "cpu", "cuda", "mps"] = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    watch: Watch = Field(WATCH, description=WATCH_DESCRIPTION)
    cutoffs: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Once] = Field(
        (5, 10, 20, 50), min_length=1, description="lengths at which lists are measured, at most 100"
    )
    focus: Name = Field(
        FOCUS,
        description="the model whose improvement over the best other is tested; unless given, cm3 where the study has "
        "it, else the first",
    )
    published: tuple[Annotated[str, Field(pattern=r"^[\w.-]+\.csv$")], ...] = Field(
        (), description="files of data/published that this study is compared with, beside papers.csv; none: all"
    )
    claims: tuple[Claim, ...] = Field((), description="what is claimed elsewhere and tested here")
    verdict: VerdictConfig = Field(default_factory=VerdictConfig, description="when a published number is reproduced")
    note: str = Field("", description="a sentence for every table's footer")

    @model_validator(mode="before")
    @classmethod
    def _split_commas(cls, data: Any) -> Any:
        """Accept `models=cm3,vbpr` and single values from Snakemake's --config."""
        if isinstance(data, dict):
            data = dict(data)
            for key in ("datasets", "models", "seeds", "cutoffs"):
                value = data.get(key)
                if isinstance(value, str):
                    data[key] = [part.strip() for part in value.split(",") if part.strip()]
                elif isinstance(value, int):
                    data[key] = [value]
            _name_outside(data)
            models = data.get("models")
            if "focus" not in data and isinstance(models, list | tuple) and models and FOCUS not in models:
                data["focus"] = models[0]
            protocols = data.get("protocols")
            if isinstance(protocols, dict):
                data["protocols"] = {
                    name: {"base": name} if not spec and name in ("fair", "released") else (spec or {})
                    for name, spec in protocols.items()
                }
        return data

    def problem_of(self, claim: Claim) -> str | None:
        """Return why a claim cannot be tested by the study's rows; None where it can."""
        rows = [*self.models]
        if claim.comparison is not None:
            comparison = self.comparisons.get(claim.comparison)
            if comparison is None:
                return f"no comparison '{claim.comparison}'; {nearest(claim.comparison, [*self.comparisons])}"
            if claim.model is not None and claim.model not in comparison.models:
                return f"no model '{claim.model}' there; {nearest(claim.model, [*comparison.models])}"
            rows = [*comparison.variants]
        for name, valid in ((claim.better, rows), (claim.than, [*rows, BEST_OTHER])):
            if name not in valid:
                return f"no row '{name}'; {nearest(name, valid)}"
        if claim.better == claim.than:
            return f"'{claim.better}' is compared with itself; name another row in `than`"
        cutoff = int(claim.metric.rpartition("_at_")[2])
        return None if cutoff in self.cutoffs else f"{claim.metric} is not measured; add {cutoff} to `cutoffs`"

    def feature_set(self, dataset: str, model: str) -> str | None:
        """Return the feature set of a model on a data set: the model's, the data set's (or its base's), or the
        default.
        """
        names = (model, dataset, dataset.partition("--")[0], "default")
        return next((self.features[name] for name in names if name in self.features), None)
