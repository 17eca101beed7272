"""What all configuration classes share."""

from __future__ import annotations

import difflib
import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]


class Strict(BaseModel):
    """Base of every configuration class: immutable, unknown keys forbidden."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def content_hash(value: Any) -> str:
    """Return the SHA-256 of a JSON value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def nearest(word: str, valid: list[str]) -> str:
    """Return a hint: the nearest of the valid words, or all of them."""
    close = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"valid are {', '.join(valid)}"
