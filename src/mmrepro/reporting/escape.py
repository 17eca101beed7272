"""Texts from data and configuration made harmless for what shows them: a terminal, Markdown, LaTeX.

A title may hold anything. Nothing of it may steer a terminal, become a link or a tag, or end a cell of a table.
"""

from __future__ import annotations

import re

_BREAKS = re.compile("[\t-\r\x85\u2028\u2029]+")
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, overrides of the writing direction, and halves of surrogate pairs."""
_MARKDOWN = re.compile(r"[\\`*|~$]|\](?=[(\[:])|(?<![^\W_])_|_(?![^\W_])")
"""What marks up text; brackets without a target or its definition, and underscores within a word, do not."""
_ENTITY = re.compile(r"&(?=#?\w+;)")
_BLOCK = re.compile(r"^(?=[#+-]|\[[ xX]\])|^\d+(?=[.)](?: |$))")
"""After this, a backslash keeps a line from being a heading, a list, a task or a rule."""
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$", "<": "$<$", ">": "$>$",
    "↳": r"\quad{}",
}  # fmt: skip


def visible(text: str) -> str:
    r"""Return the text for a terminal, its lines and tabs kept; hidden characters become their escapes: `\x1b`."""
    return _HIDDEN.sub(lambda found: found[0] if found[0] in "\n\t" else _escape_of(found[0]), text)


def one_line(text: str) -> str:
    """Return the text for a terminal as one line: what breaks lines becomes a space."""
    return visible(_BREAKS.sub(" ", text))


def markdown(text: str) -> str:
    """Return the text as Markdown that shows it: in a cell, a heading, or within a line."""
    entities = _ENTITY.sub("&amp;", one_line(text)).replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\g<0>", entities)


def markdown_line(text: str) -> str:
    """Return the text as a line of Markdown of its own, or an entry of a list: it begins no other block."""
    return _BLOCK.sub(r"\g<0>\\", markdown(text).strip())


def latex(text: str) -> str:
    r"""Return the text as LaTeX that shows it, without a paragraph in it.

    What the end of the row before could take for its argument (`\\[2em]`, `\\*`) stands in braces.
    """
    escaped = "".join(_LATEX.get(character, character) for character in one_line(text))
    return re.sub(r"^ *[\[*]", lambda found: f"{{{found[0]}}}", escaped)


def _escape_of(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
