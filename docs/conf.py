"""Settings of the documentation; `make docs` builds it into build/docs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

from generator import write_all  # noqa: E402

write_all(DOCS.parent, DOCS / "generated")

project = "mmrepro"
author = "mmrepro authors"
copyright = author
extensions = ["myst_parser", "generator.roles", "generator.mathml"]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 4
exclude_patterns = ["generated"]
templates_path: list[str] = []
html_math_renderer = "mathml"
html_theme = "alabaster"
html_title = "mmrepro"
html_theme_options = {
    "description": "Multimodal recommendation, reproduced",
    "fixed_sidebar": True,
    "body_max_width": "auto",
    "page_width": "1180px",
    "show_powered_by": False,
}
html_static_path = ["static"]
html_css_files = ["tables.css"]
html_show_sourcelink = False

OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\(\.\./([^)\s]+)\)")
"""A link to a file of the repository that is no page: a Git host follows it, the built pages name the file."""


def name_outside_files(app: Sphinx, docname: str, source: list[str]) -> None:
    """Turn links out of `docs/` into the names of the files they lead to."""

    def named(found: re.Match[str]) -> str:
        text, target = found.groups()
        return f"`{target}`" if text.strip("`") == target.rstrip("/") else f"{text} (`{target}`)"

    source[0] = OUTSIDE.sub(named, source[0])


def setup(app: Sphinx) -> None:
    """Connect to Sphinx."""
    app.connect("source-read", name_outside_files)
