"""The page of the models, from their classes, schemas and configuration files."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from generator.keys import type_text
from generator.text import code, join, read_json, read_yaml, table
from mmrepro.config.model import model_names
from mmrepro.models.base import Model, TrainedParameters, model_class

SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)
CITATION = re.compile(r"methods,\s+(?:section\s+)?(\d+(?:\.\d+)?(?:\s+and\s+\d+(?:\.\d+)?)*)")
HEADING = ("parameter", "type", "default", "searched", "what it is")


def cited_sections(text: str) -> list[str]:
    """Return the numbers of the sections of the methods that a text cites, such as `3.4`."""
    return [number for found in CITATION.findall(text) for number in re.split(r"\s+and\s+", found)]


def methods_links(text: str) -> str:
    """Return links to the cited sections of the methods."""
    links = [f"[{number}](methods.md#methods-{number.replace('.', '-')})" for number in cited_sections(text)]
    return ", ".join(links)


def shared_parameters() -> dict[str, dict[str, Any]]:
    """Return the parameters that every trained model has, by name, with the defaults that hold where it has no own."""
    found: dict[str, dict[str, Any]] = TrainedParameters.model_json_schema()["properties"]
    return found


def parameter_rows(schema: dict[str, Any], config: dict[str, Any], shared: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return one row a parameter of a model; a shared one only where its default differs or it is searched."""
    space = config.get("search_space", {})
    rows: list[tuple[str, ...]] = []
    for name, value in schema["properties"].items():
        default = value.get("default")
        if name in shared and name not in space and default == shared[name].get("default"):
            continue
        searched = ", ".join(code(choice) for choice in space.get(name, []))
        rows.append((code(name), type_text(value), code(default), searched, value.get("description", "")))
    return rows


def released_text(cls: type[Model], schema: dict[str, Any]) -> str:
    """Say what the protocol `released` changes about a model."""
    behaviour = cls.released
    changes = [] if cls.closed_form else [f"patience {behaviour.patience}"]
    if behaviour.scores_with_last_batch:
        changes.append("ranked with the parameters before the last step")
    if behaviour.ignores_weight_decay:
        changes.append("weight decay ignored")
    for name, value in behaviour.parameters.items():
        described = schema["properties"].get(name, {}).get("description", "")
        changes.append(f"`{name}: {str(value).lower()}`" + (f" ({described})" if described else ""))
    return "Under `released`: " + "; ".join(changes) + "." if changes else ""


def kind_text(cls: type[Model], schema: dict[str, Any]) -> str:
    """Say how a model is fitted and what it reads."""
    if schema["closed_form"]:
        fitted = "fitted in closed form, so that one seed is enough"
    else:
        fitted = "trained with sampled negatives" if cls.samples_negatives else "trained without sampled negatives"
    return f"{fitted}; {'reads item features' if schema['uses_features'] else 'without content'}"


def section(name: str, config: dict[str, Any], schema: dict[str, Any], shared: dict[str, Any]) -> str:
    """Return the section of one model."""
    cls = model_class(name)
    module = inspect.getdoc(sys.modules[cls.__module__]) or ""
    facts = [f"- id `{name}`, code `src/mmrepro/models/{name}.py`, file `config/models/{name}.yaml`"]
    facts.append(f"- {kind_text(cls, schema)}")
    facts.append(f"- defaults and search space: {config['source']}")
    if links := methods_links(module):
        facts.append(f"- formulas: methods, {links}")
    docs = SECTION.sub(r"**\1**\n", inspect.getdoc(cls) or "")
    rows = table(HEADING, parameter_rows(schema, config, shared))
    heading = f"(model-{name})=\n### {config['title']}"
    return join([heading, f"{config['citation']}.", "\n".join(facts), docs, rows, released_text(cls, schema)])


def fragment(root: Path) -> str:
    """Return the list of models, the parameters they share, and one section a model."""
    names = model_names()
    configs = {name: read_yaml(root / f"config/models/{name}.yaml") for name in names}
    schemas = {name: read_json(root / f"config/schema/models/{name}.json") for name in names}
    shared = shared_parameters()
    rows = [
        (f"[{configs[name]['title']}](#model-{name})", f"`{name}`", kind_text(model_class(name), schemas[name]))
        for name in names
    ]
    common = [
        (code(name), type_text(value), code(value.get("default")), value.get("description", ""))
        for name, value in shared.items()
    ]
    parts = ["## All models", table(("model", "id", "kind"), rows)]
    parts += ["(parameters-shared)=\n## Parameters that trained models share"]
    parts += ["A model's own section names them where its default differs or its search varies them."]
    parts += [table(("parameter", "type", "default", "what it is"), common), "## One by one"]
    return join(parts + [section(name, configs[name], schemas[name], shared) for name in names])
