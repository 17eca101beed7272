"""Markdown and pictures as parts of an HTML page."""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Mapping

from markdown_it import MarkdownIt

DEEPER = 2
"""Levels by which the headings of a table lie below those of its own file."""


def image_source(content: bytes, kind: str) -> str:
    """Return an image as the source of an `img`: the page needs no other file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def markdown_to_html(text: str, titles: Mapping[str, str] | None = None) -> tuple[str, str]:
    """Return a table's Markdown file as HTML, its heading apart.

    Tables can be scrolled by themselves, by keyboard too, so that the page never is; their first column heads its rows.
    A cell that is the name of a model, a key of `titles`, shows its title.
    """
    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(text)
    title = tokens[1].content if tokens and tokens[0].type == "heading_open" else ""
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{int(token.tag[1]) + DEEPER}"
    html = parser.renderer.render(tokens[3:] if title else tokens, parser.options, {})
    count = itertools.count(1)
    start = '<div class="scroll" tabindex="0" role="region" aria-label="{}, part {}"><table>'
    html = re.sub("<table>", lambda _: start.format(_quoted(title), next(count)), html)
    html = html.replace("</table>", "</table></div>").replace("<th></th>", "<td></td>")
    html = re.sub(r"<tr>\n<td([^>]*)>(.*?)</td>", r'<tr>\n<th scope="row"\1>\2</th>', html)
    return _with_titles(html, titles or {}), plain(parser, title)


def _with_titles(html: str, titles: Mapping[str, str]) -> str:
    def titled(found: re.Match[str]) -> str:
        return found[1] + _quoted(titles.get(found[2], found[2]))

    return re.sub(r"(<t[hd][^>]*>)(\w+)(?=( \w+@\d+)?</t[hd]>)", titled, html)


def plain(parser: MarkdownIt, text: str) -> str:
    """Return a line of Markdown as text."""
    found = parser.parseInline(text)[0].children or []
    return "".join(token.content for token in found)


def _quoted(text: str) -> str:
    return text.replace("\\", "").replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
