"""Which combinations of a search space are tried, and in which order."""

from __future__ import annotations

import itertools
from typing import Any

from pydantic import Field

from mmrepro.config.base import Strict, content_hash
from mmrepro.config.model import ModelConfig, ModelSchema
from mmrepro.config.run import RunSpec
from mmrepro.config.study import SearchConfig
from mmrepro.errors import MmreproError

Space = dict[str, list[Any]]
"""Searched parameter -> its values."""


class SequentialSearch(Strict):
    """A search in one job: each trial is proposed from the values of those before it."""

    trial: RunSpec = Field(description="one of its trials; the others differ in the searched parameters")
    space: Space
    defaults: dict[str, Any] = Field(description="of the searched parameters, by the model's class")
    budget: int = Field(ge=1)
    seed: int

    def trial_with(self, values: dict[str, Any]) -> RunSpec:
        """Return the specification of the trial with these values of the searched parameters."""
        return self.trial.with_parameters(values, self.defaults)


def combinations(space: Space) -> list[dict[str, Any]]:
    """Return all combinations of the values of a space; the last parameter varies fastest."""
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]


def shuffled(space: Space, seed: int, model: str) -> list[dict[str, Any]]:
    """Return all combinations in a random order whose beginnings are samples without replacement.

    A combination's place follows from a hash of seed, model and the combination itself: a larger budget keeps the
    trials of a smaller one, another value leaves the order of the others as it is, and the order of keys decides
    nothing.

    Parameters
    ----------
    space
        Searched parameter -> its values.
    seed
        The tuning seed.
    model
        Name of the model.
    """
    return sorted(combinations(space), key=lambda values: content_hash([seed, model, values]))


def space_of(search: SearchConfig | None, config: ModelConfig, schema: ModelSchema, origin: str) -> Space:
    """Return the values that a study's search tries for a model; nothing where it is not searched.

    Parameters
    ----------
    search
        The study's search, if it has one.
    config
        The model's file, whose search space holds unless the study has one for it.
    schema
        What is known of the model's parameters.
    origin
        File the study comes from, for messages.

    Raises
    ------
    MmreproError
        For a named model without a space, and for a parameter that is unknown, has no value, the same one twice, or one
        of the wrong type or range.
    """
    model = config.model
    if search is None or not search.covers(model):
        return {}
    own = model in search.space
    space = search.space[model] if own else config.search_space
    if not space and not own and model in search.named:
        raise MmreproError(
            f"{origin}: `search.models` names '{model}', which has no search space; add `search.space.{model}` "
            "or leave the model out"
        )
    file, key = (origin, f"search.space.{model}") if own else (f"config/models/{model}.yaml", "search_space")
    checked: Space = {}
    for name, values in space.items():
        if not values:
            raise MmreproError(f"{file}: `{key}.{name}` has no values; give some or leave the parameter out")
        checked[name] = [schema.check(file, {name: value})[name] for value in values]
        if len({content_hash(value) for value in checked[name]}) < len(values):
            raise MmreproError(f"{file}: `{key}.{name}` names a value twice; name each once")
    return checked


def trials_of(search: SearchConfig, space: Space, model: str, origin: str) -> list[dict[str, Any]]:
    """Return the combinations that are tried, in that order, where no trial waits for another.

    Raises
    ------
    MmreproError
        For a grid of more combinations than the budget.
    """
    found = combinations(space) if search.sampler == "grid" else shuffled(space, search.seed, model)
    if search.budget == "grid":
        return found
    if search.sampler == "grid" and search.budget < len(found):
        raise MmreproError(
            f"{origin}: `search.budget: {search.budget}` is less than the {len(found)} combinations of model "
            f"'{model}', and "
            f"the first of a grid are no fair choice; set `sampler: random`, or shorten `search.space.{model}`"
        )
    return found[: search.budget]
