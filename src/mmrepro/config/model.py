"""What is known of a model: its file, and the schema of its class."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from pydantic import AfterValidator, BaseModel, Field

from mmrepro.config.base import Name, Strict, nearest
from mmrepro.errors import MmreproError
from mmrepro.records.files import read_object


def _is_outside(value: str) -> str:
    inside = not value.startswith(("/", "~")) and ".." not in value.split("/")
    if not inside or not re.fullmatch(r"[^:\\\n]+\.(py:[A-Za-z_][A-Za-z0-9_]*|csv|parquet|jsonl)", value):
        raise ValueError(
            "write `folder/file.py:Class`, or `folder/lists.csv` (.parquet, .jsonl), from the project's root"
        )
    return value


Outside = Annotated[str, AfterValidator(_is_outside)]
"""What lies outside the package, by its path in the user's project: a model's class, `my_models/two_tower.py:TwoTower`,
or lists that another system has made, `lists/{dataset}.csv`.
"""


def is_lists(outside: str) -> bool:
    """Return whether what lies outside are lists, and no class."""
    return ":" not in outside


def outside_name(outside: str) -> str:
    """Return the name by which a study calls what lies outside: that of the class, or of the file, in kebab case.

    `my_models/two_tower.py:TwoTower` is `two-tower`; `lists/{dataset}/Our engine.csv` is `our-engine`.
    """
    path, _, name = outside.partition(":")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name or Path(path).stem)
    return re.sub(r"[^a-z0-9]+", "-", words.replace("{dataset}", "").lower()).strip("-")


class ModelConfig(Strict):
    """A model's file: where it comes from, and what a search tries. Parameters and defaults stand in the model's
    class.
    """

    model: Name
    title: str
    citation: str
    source: str = Field(description="where defaults and search space come from")
    search_space: dict[str, list[Any]] = Field(default_factory=dict)


class ModelSchema(BaseModel):
    """What the Snakefile knows of a model's class without importing it: `config/schema/models/<model>.json`.

    Attributes
    ----------
    properties
        Parameter -> its JSON schema.
    definitions
        What those refer to.
    released
        Parameters by which the authors' program departs from the paper.
    uses_features
        Whether the model is given item features.
    closed_form
        Whether it is fitted without drawing anything, so that one seed is as good as any other.
    source
        Hash of the code that it was made from.
    """

    model: str = ""
    properties: dict[str, Any] = Field(default_factory=dict)
    definitions: dict[str, Any] = Field(default_factory=dict, alias="$defs")
    released: dict[str, Any] = Field(default_factory=dict)
    uses_features: bool = False
    closed_form: bool = False
    source: str = ""

    @classmethod
    def load(cls, folder: Path, model: str) -> ModelSchema:
        """Read the schema of a model.

        Raises
        ------
        MmreproError
            When there is none, or it is damaged; schemas are made by `make schema`.
        """
        path = folder / f"{model}.json"
        found = read_object(path, "run `make schema`")
        if found is None:
            raise MmreproError(f"{path}: no such file; run `make schema`")
        return cls.model_validate({**found, "model": model})

    @property
    def defaults(self) -> dict[str, Any]:
        """Parameter -> its value where nobody says otherwise."""
        return {name: entry["default"] for name, entry in self.properties.items() if "default" in entry}

    def check(self, origin: str, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values, once each is that of a parameter of the model; whole numbers get their parameter's type.

        Parameters
        ----------
        origin
            File the values come from, for messages.
        values
            Parameter -> value.

        Raises
        ------
        MmreproError
            For a parameter the model does not have, or a value of the wrong type or range.
        """
        for key, value in values.items():
            if key not in self.properties:
                hint = nearest(key, sorted(self.properties))
                raise MmreproError(f"{origin}: model '{self.model}' has no parameter '{key}'; {hint}")
            if isinstance(value, float) and not math.isfinite(value):
                raise MmreproError(
                    f"{origin}: parameter '{key}' of model '{self.model}': {value} is no number; set one"
                )
            allowed = Draft202012Validator({**self.properties[key], "$defs": self.definitions})
            error = best_match(allowed.iter_errors(value))
            if error is not None:
                raise MmreproError(f"{origin}: parameter '{key}' of model '{self.model}': {error.message}")
        return {key: _typed(value, self.properties[key]) for key, value in values.items()}


def _typed(value: Any, schema: dict[str, Any]) -> Any:
    """A number as the type that a parameter has, so that 1 and 1.0 name one run."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    types = {entry.get("type") for entry in (schema, *schema.get("anyOf", ()))}
    if "integer" in types:
        return int(value) if float(value).is_integer() else value
    return float(value) if "number" in types else value


def model_names() -> list[str]:
    """Return the names of all models: each is a file of `models/`."""
    files = (Path(__file__).parents[1] / "models").glob("*.py")
    return sorted(file.stem for file in files if file.stem not in ("__init__", "base", "outside"))
