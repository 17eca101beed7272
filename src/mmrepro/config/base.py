"""What all configuration classes share."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]


class Strict(BaseModel):
    """Base of every configuration class: immutable, unknown keys forbidden."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def section(self, *classes: type[Strict]) -> dict[str, Any]:
        """Return the fields of those base classes that differ from their defaults, as JSON values."""
        names = {name for cls in classes for name in cls.model_fields}
        return self.model_dump(mode="json", include=names, exclude_defaults=True)


def content_hash(value: Any) -> str:
    """Return the SHA-256 of a JSON value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def differing(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are not the defaults; false is no 0, though 1 is 1.0."""

    def same(value: Any, default: Any) -> bool:
        return bool(value == default) and isinstance(value, bool) == isinstance(default, bool)

    return {key: v for key, v in values.items() if key not in defaults or not same(v, defaults[key])}


def nearest(word: str, valid: list[str]) -> str:
    """Return a hint: the nearest of the valid words, or all of them."""
    lower = {other.lower(): other for other in valid}
    close = [lower[match] for match in difflib.get_close_matches(word.lower(), list(lower), n=1, cutoff=0.5)]
    return f"did you mean '{close[0]}'?" if close else f"valid are {', '.join(valid)}"
