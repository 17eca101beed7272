"""The keys of configuration files, from the JSON schemas that the package writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from generator.text import code, join, read_json, table
from mmrepro.config.base import Strict
from mmrepro.config.dataset import DatasetConfig
from mmrepro.config.features import FeatureSetConfig

KINDS = {
    "study": "Study: `config/studies/<study>.yaml`",
    "dataset": "Data set: `config/datasets/<data set>.yaml`",
    "feature_set": "Feature set: `config/features/<feature set>.yaml`",
    "model": "Model: `config/models/<model>.yaml`",
}
"""Name of a schema in config/schema -> heading."""
SECTIONS: dict[str, type[Strict]] = {"dataset": DatasetConfig, "feature_set": FeatureSetConfig}
"""Kinds whose keys belong to sections: the classes that theirs is derived from."""
BOUNDS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
HEADING = ("key", "type", "default", "what it is")


def type_text(schema: dict[str, Any], anchor: str = "") -> str:
    """Describe the type of a value.

    Parameters
    ----------
    schema
        Schema of one value.
    anchor
        Prefix of the targets of the classes that it may name; none: they are named without a link.

    Returns
    -------
    str
        Markdown, on one line.
    """
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{anchor}-{name.lower()})" if anchor else name
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(type_text(entry, anchor) for entry in schema[several])
    if "const" in schema:
        return code(schema["const"])
    if "enum" in schema:
        return ", ".join(code(value) for value in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "null":
        return "none"
    if kind == "array":
        return f"list of {type_text(schema['items'], anchor)}" if schema.get("items") else "list"
    if kind == "object":
        return _mapping(schema, anchor)
    bounds = ", ".join(text.format(schema[key]) for key, text in BOUNDS.items() if key in schema)
    return f"{kind}, {bounds}" if bounds else kind


def _mapping(schema: dict[str, Any], anchor: str) -> str:
    """Describe a mapping from names to values."""
    values = [v for v in (schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()) if v]
    described = [type_text(value, anchor) for value in values if isinstance(value, dict)]
    return f"mapping of names to {described[0]}" if described else "mapping"


def default_text(name: str, schema: dict[str, Any], required: list[str]) -> str:
    """Return the default of a key; `required` where it has none."""
    if name in required:
        return "required"
    if "default" not in schema:
        return "empty"
    value = schema["default"]
    if isinstance(value, dict):
        return "as its keys"
    return "empty" if value in ([], "") else code(value)


def key_rows(schema: dict[str, Any], anchor: str = "") -> list[tuple[str, str, str, str]]:
    """Return one row a key: name, type, default, description."""
    required = schema.get("required", [])
    return [
        (code(name), type_text(value, anchor), default_text(name, value, required), value.get("description", ""))
        for name, value in schema.get("properties", {}).items()
    ]


def _section(schema: dict[str, Any], heading: str, target: str, level: str, anchor: str) -> list[str]:
    text = schema.get("description", "")
    return [f"({target})=\n{level} {heading}", text, table(HEADING, key_rows(schema, anchor))]


def _by_section(schema: dict[str, Any], cls: type[Strict], heading: str, target: str) -> list[str]:
    """A class's own keys, then those of each section in the order in which stages are given them."""
    sections = [base for base in reversed(cls.__mro__[1:]) if issubclass(base, Strict) and base is not Strict]
    inherited = {name for base in sections for name in base.model_fields}
    rows = dict(zip(schema["properties"], key_rows(schema, target), strict=True))
    own = table(HEADING, [row for name, row in rows.items() if name not in inherited])
    parts = [f"({target})=\n## {heading}", schema.get("description", ""), own]
    for base in sections:
        parts += [f"**{(base.__doc__ or '').strip()}**", table(HEADING, [rows[name] for name in base.model_fields])]
    return parts


def fragment(root: Path) -> str:
    """Return the keys of all kinds of configuration files."""
    parts: list[str] = []
    for kind, heading in KINDS.items():
        schema = read_json(root / "config/schema" / f"{kind}.json")
        anchor = f"keys-{kind.replace('_', '-')}"
        if kind in SECTIONS:
            parts += _by_section(schema, SECTIONS[kind], heading, anchor)
        else:
            parts += _section(schema, heading, anchor, "##", anchor)
        for name, definition in sorted(schema.get("$defs", {}).items()):
            parts += _section(definition, name, f"{anchor}-{name.lower()}", "###", anchor)
    return join(parts)
