"""Formulas as MathML, which browsers show by themselves: pages need neither a network nor scripts."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

LOGGER = logging.getLogger(__name__)
MATHML = "http://www.w3.org/1998/Math/MathML"
ACCENTS = ("ˆ", "˜", "¯", "^", "~")
ET.register_namespace("", MATHML)


def mathml(node: nodes.Element, block: bool) -> str:
    """Return a formula as MathML; one that cannot be converted is a warning, and shown as it was written."""
    text = node.astext().strip()
    try:
        return beside(tex2mathml(text.replace(r"\operatorname*", r"\,\operatorname"), as_block=block))
    except MathError as error:
        LOGGER.warning("formula %r: %s", text, error, location=node)
        return f"<code>{nodes.unescape(text)}</code>"


def beside(text: str) -> str:
    """Return a formula with the index of a letter under an accent, or of a word, beside it; docutils puts it below."""
    root = ET.fromstring(text.replace("&ApplyFunction;", "&#8289;"))
    for node in list(root.iter()):
        kind, parts = node.tag.rpartition("}")[2], list(node)
        if kind == "munderover" and parts[2].text in ACCENTS:
            accented = ET.Element(f"{{{MATHML}}}mover", {"accent": "true"})
            accented.extend([parts[0], parts[2]])
            node[:] = [accented, parts[1]]
        elif kind != "munder" or parts[0].tag != f"{{{MATHML}}}mtext":
            continue
        node.tag = f"{{{MATHML}}}msub"
    return ET.tostring(root, encoding="unicode")


def visit_math(self: HTML5Translator, node: nodes.math) -> None:
    """Write a formula in a sentence."""
    self.body.append(mathml(node, block=False))
    raise nodes.SkipNode


def visit_displaymath(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula that stands by itself, with the target of its label."""
    target = f' id="{node["ids"][0]}"' if node.get("ids") else ""
    self.body.append(f'<div class="math"{target}>{mathml(node, block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
