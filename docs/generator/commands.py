"""The command reference, from the commands themselves."""

from __future__ import annotations

import inspect
import typing
from pathlib import Path
from typing import Any

import typer.main

from generator.text import code, join, table
from mmrepro.cli import app

TYPES = {str: "TEXT", int: "INTEGER", float: "NUMBER", Path: "PATH", bool: ""}


def command_names() -> list[str]:
    """Return the names of all commands, in the order of the program's help."""
    return list(_commands())


def _commands() -> dict[str, Any]:
    """Return the commands by name."""
    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def _placeholder(parameter: Any, annotation: Any) -> str:
    """Return the word that stands for a value."""
    inner = [entry for entry in typing.get_args(annotation) if entry is not type(None)]
    base = inner[0] if inner else annotation
    return TYPES.get(base, "TEXT")


def _is_option(parameter: Any) -> bool:
    """Whether a parameter is given by name."""
    return parameter.opts[0].startswith("-")


def _name(parameter: Any) -> str:
    """Return a parameter as it is written on the command line."""
    if _is_option(parameter):
        return " / ".join([*parameter.opts, *parameter.secondary_opts])
    return parameter.metavar or parameter.name.upper().replace("_", "-") + ("..." if parameter.nargs == -1 else "")


def _usage(parameter: Any, placeholder: str) -> str:
    """Return a parameter's part of the line that shows how the command is called."""
    name = _name(parameter)
    if _is_option(parameter):
        name = f"{parameter.opts[0]} {placeholder}".strip() + (" ..." if parameter.multiple else "")
    return name if parameter.required or name.startswith("[") else f"[{name}]"


def _default(parameter: Any) -> str:
    """Return the default of a parameter."""
    if parameter.required:
        return "required"
    value = parameter.default
    return "none" if value is None else code(str(value).lower() if isinstance(value, bool) else str(value))


def section(name: str, command: Any) -> str:
    """Return the section of one command."""
    hints = typing.get_type_hints(inspect.unwrap(command.callback))
    parameters = [parameter for parameter in command.params if not parameter.hidden and parameter.name != "help"]
    words = {parameter.name: _placeholder(parameter, hints.get(parameter.name, str)) for parameter in parameters}
    usage = " ".join(["mmrepro", name, *(_usage(p, words[p.name]) for p in parameters)])
    rows = [(f"`{_name(p)}`", words[p.name].lower() or "switch", _default(p), p.help or "") for p in parameters]
    heading = f"(command-{name})=\n## `mmrepro {name}`"
    body = table(("argument or option", "type", "default", "what it is"), rows)
    return join([heading, inspect.cleandoc(command.help or ""), f"```text\n{usage}\n```", body])


def fragment() -> str:
    """Return one section a command, after a list of them all."""
    commands = _commands()
    first = {name: inspect.cleandoc(command.help or "").splitlines()[0] for name, command in commands.items()}
    rows = [(f"[`mmrepro {name}`](#command-{name})", text) for name, text in first.items()]
    return join([table(("command", "what it does"), rows), *(section(*entry) for entry in commands.items())])
