"""Texts of items as they are meant: without markup, entities, and halves of characters."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from typing import Literal

import pandas as pd

Markup = Literal["keep", "strip"]
TAG = re.compile(r"<(?:[A-Za-z][A-Za-z0-9]*(?=[\s/>]|$)|/[A-Za-z]|!--|!doctype)", re.IGNORECASE)
"""What begins like a tag; `a < b` and `I <3 you` do not."""
UNFINISHED = re.compile(r"<(?:/?[A-Za-z]|!)[^<>]*$")
"""A tag that the text ends in."""
SURROGATES = re.compile("[\ud800-\udfff]")
"""Halves of a character; no encoding can write one."""
REPLACEMENT = "\ufffd"


class _Words(HTMLParser):
    """Collects what a page shows."""

    HIDDEN = ("script", "style", "template", "noscript", "head")

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """Words on both sides of a tag are two words."""
        self.hidden += tag in self.HIDDEN
        self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        """As at its beginning."""
        self.hidden -= tag in self.HIDDEN and self.hidden > 0
        self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        """Keep what is shown."""
        if not self.hidden:
            self.parts.append(data)


def plain_text(text: str) -> str:
    """Return what a text shows: entities as characters, tags left out; empty where it is markup alone.

    Parameters
    ----------
    text
        A title or description, perhaps with HTML in it. One without a tag keeps its white space.
    """
    shown = unescape(text) if "&" in text else text
    if "<" not in shown or not TAG.search(shown):
        return shown
    words = _Words()
    words.feed(UNFINISHED.sub(" ", shown))
    words.close()
    return " ".join("".join(words.parts).split())


def whole_characters(text: str) -> str:
    """Return a text in which pairs of halves are the character they make, and single halves the replacement mark."""
    if not SURROGATES.search(text):
        return text
    return SURROGATES.sub(REPLACEMENT, text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def cleaned(texts: pd.Series, markup: Markup) -> tuple[pd.Series, int]:
    """Return a column of texts as they are meant, and how many are others than they were.

    Parameters
    ----------
    texts
        Text or null; what becomes empty is null.
    markup
        Whether tags and entities are taken out.
    """
    known = texts.dropna().astype("str")
    marked = known[known.str.contains("[<&]", regex=True)] if markup == "strip" else known[:0]
    changed = marked.map(plain_text)
    changed = changed[changed != marked]
    result = texts.astype("str").copy()
    if len(changed):
        result.loc[changed.index] = changed.where(changed.str.strip() != "", None)
    return result, len(changed)
