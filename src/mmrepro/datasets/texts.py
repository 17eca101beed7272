"""Texts of items as they are meant: without markup, entities, and halves of characters."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from typing import Literal

import pandas as pd

Markup = Literal["keep", "strip"]
ELEMENTS = frozenset(
    "a abbr acronym address applet area article aside audio b base basefont bdi bdo big blockquote body br button "
    "canvas caption center cite code col colgroup data datalist dd del details dfn dialog dir div dl dt em embed "
    "fieldset figcaption figure font footer form frame frameset h1 h2 h3 h4 h5 h6 head header hr html i iframe img "
    "input ins kbd label legend li link main map mark meta meter nav nobr noframes noscript object ol optgroup option "
    "output p param picture pre progress q rp rt ruby s samp script section select small source span strike strong "
    "style sub summary sup svg table tbody td template textarea tfoot th thead time title tr track tt u ul var video "
    "wbr".split()
)
"""What a tag may be of; `Size <L>` has none."""
TAG = re.compile(r"<(?:/?(?P<name>[A-Za-z][A-Za-z0-9]*)(?=[\s/>]|$)|!--|!doctype)", re.IGNORECASE)
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
        self.parts.append(" " if tag in ELEMENTS else self.get_starttag_text() or "")

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
    tags = [tag["name"] for tag in TAG.finditer(shown)] if "<" in shown else []
    if not any(name is None or name.lower() in ELEMENTS for name in tags):
        return shown
    words = _Words()
    try:
        words.feed(UNFINISHED.sub(" ", shown))
        words.close()
    except (AssertionError, ValueError):  # the parser knows some marked sections only
        return " ".join(re.sub(r"<[^<>]*>?", " ", shown).split())
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
