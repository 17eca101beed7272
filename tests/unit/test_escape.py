"""Texts from data and configuration are shown as they are, and do nothing else."""

import html
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hand_made import build_hand_made, make_root
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mmrepro.housekeeping.status import status
from mmrepro.reporting.escape import latex, markdown, markdown_line, one_line, visible
from mmrepro.reporting.render import Block, Cell, Table, to_latex, to_markdown

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
BAD = "<script>a</script> [x](javascript:y) `c` *d* _e_ | ~~f~~ &lt; \\| $g$\n\n# h\r\n- i \x1b[31m\x9b2J \u202e {j} 50% ^"
TEXTS = st.text() | st.text(alphabet="\\`*_{}[]()<>#+-.!|&;:~$%^=\"'ab1 \n\r\t\x1b\u202e\ud800")
SHOWN = {
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "heading",
    "bullet_list",
    "list_item",
    "paragraph",
    "inline",
    "text",
    "text_special",
    "strong",
    "html_inline",
}


def parts(text: str) -> list[str]:
    """Types of all tokens of a Markdown text, without what opens or closes."""
    found = [inner for token in PARSER.parse(text) for inner in [token, *(token.children or [])]]
    return [re.sub("_(open|close)$", "", token.type) for token in found]


def table(text: str) -> Table:
    row = (Cell(text), Cell(text, "best"), Cell(text, "second"))
    return Table(text, ("a", text, "b"), (Block(text, (row, row)),), (text, f"note {text}"))


@given(TEXTS)
@example(BAD)
def test_a_terminal_gets_no_control_characters(text: str) -> None:
    hidden = {c for c in visible(text) if unicodedata.category(c) in ("Cc", "Cs") or c in "\u202a\u202e\u2066\u2069"}
    assert hidden <= {"\n", "\t"}
    assert "\n" not in one_line(text)


def test_what_is_harmless_stays() -> None:
    text = "Amélie (2001), R@20: 0.5 ± 0.1 – 愛"
    assert one_line(text) == visible(text) == markdown(text) == text
    assert visible("a\n\tb\x1b[2J\u202e\x85") == "a\n\tb\\x1b[2J\\u202e\\x85"
    assert one_line("a\r\n\nb\u2028c") == "a b c"
    assert markdown("recall_at_20 [1 of 2 seeds], A & B, config/a_b.yaml") == (
        "recall_at_20 [1 of 2 seeds], A & B, config/a_b.yaml"
    )


@given(TEXTS)
@example(BAD)
@example("1. a")
@example("[a]: b")
@example("[ ] a")
def test_a_markdown_table_has_its_columns_and_no_live_markup(text: str) -> None:
    written = to_markdown(table(text))
    assert set(parts(written)) <= SHOWN
    assert set(re.findall(r"<[^>]*>", written)) == {"<u>", "</u>"}
    rows = [line for line in written.splitlines() if line.startswith("| ")]
    assert len(rows) == 4
    assert parts(written).count("td") == 2 * 3 * 2
    assert parts(written).count("list_item") in (2, 4)


@given(TEXTS.filter(lambda text: text.strip()))
@example(BAD)
def test_markdown_shows_the_text(text: str) -> None:
    tokens = PARSER.parseInline(markdown(text).strip())[0].children or []
    shown = "".join(token.content for token in tokens)
    assert shown.strip() == one_line(text).strip()
    assert "<" not in markdown_line(text)


@given(TEXTS)
@example(BAD)
def test_latex_is_balanced_and_has_no_special_character(text: str) -> None:
    written = latex(text)
    bare = re.sub(r"\\text(backslash|asciitilde|asciicircum)\{\}|\\quad\{\}|\$(\\pm|-|<|>)\$|\\[{}_%&#$]", "", written)
    assert not set(bare) & set("\\_%&#$~^\n")
    assert re.sub(r"^\{ *[\[*]\}", "", bare).count("{") == 0
    assert "\n\n" not in to_latex(table(text), "t")
    whole = re.sub(r"\\[{}]", "", to_latex(table(text), "t"))
    assert whole.count("{") == whole.count("}")


def test_titles_of_a_study_do_nothing_in_its_tables(tmp_path: Path) -> None:
    comparison = {"title": BAD, "models": ["cm3"], "variants": {"a\nb | c": {}, BAD: {"parameters": {"gamma": 0.25}}}}
    plan = make_root(tmp_path, title=BAD, note=BAD, comparisons={"ablation": comparison})
    folder = build_hand_made(tmp_path) / "tables"
    for path in folder.glob("*.md"):
        assert set(parts(path.read_text())) <= SHOWN
        assert not re.findall(r"<(?!/?u>)[^>]*>", path.read_text())
    caption = re.search(r"^\\caption.*$", (folder / "ablation.tex").read_text(), re.MULTILINE)
    assert caption is not None
    assert caption[0].endswith("}")
    assert len(status(plan, tmp_path).splitlines()[0]) > len(BAD)


def test_a_refusal_is_one_line_without_control_characters(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mmrepro", "recommend", f"{tmp_path}/a\nb\x1b[2Jc", "--user", "x"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert found.stderr.count("\n") == 1
    assert "a b\\x1b[2Jc: no run.json there" in found.stderr


@pytest.mark.parametrize("text", ["&amp;", "&#60;", "&lt;script&gt;"])
def test_an_entity_is_shown_as_it_was_written(text: str) -> None:
    assert html.unescape(markdown(text)) == text
