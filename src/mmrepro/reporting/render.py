"""Tables as text: one structure of blocks, printed as Markdown or as LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mmrepro.reporting.escape import latex, markdown, markdown_line

Mark = Literal["", "best", "second"]


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, and whether it is the best or second best of its column."""

    text: str
    mark: Mark = ""


@dataclass(frozen=True)
class Block:
    """Rows under one heading; every row has as many cells as the table has columns."""

    title: str
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Table:
    """A table: title, column names, blocks of rows, and the lines of its footer."""

    title: str
    columns: tuple[str, ...]
    blocks: tuple[Block, ...]
    footer: tuple[str, ...] = ()


def cells(*texts: str) -> tuple[Cell, ...]:
    """Return a row of cells without marks."""
    return tuple(Cell(text) for text in texts)


def to_markdown(table: Table) -> str:
    """Return the table as Markdown: a pipe table for each block, the footer as a list."""
    lines = [f"# {markdown(table.title)}", ""]
    for block in table.blocks:
        lines += [f"## {markdown(block.title)}", ""] if block.title else []
        rows = [[_markdown_cell(cell) for cell in row] for row in block.rows]
        lines += [*_pipe_table([markdown(name) for name in table.columns], rows), ""]
    lines += [f"- {markdown_line(line)}" for line in table.footer]
    return "\n".join(lines).rstrip() + "\n"


def to_latex(table: Table, label: str) -> str:
    """Return the table as a LaTeX `table*` that needs the package booktabs.

    Parameters
    ----------
    table
        The table; its texts are escaped here.
    label
        Label for cross references.
    """
    width = len(table.columns)
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{latex(table.title)}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}",
        r"\toprule",
        " & ".join(latex(name) for name in table.columns) + r" \\",
    ]
    for block in table.blocks:
        lines.append(r"\midrule")
        if block.title:
            lines.append(rf"\multicolumn{{{width}}}{{l}}{{\textit{{{latex(block.title)}}}}} \\")
        lines += [" & ".join(_latex_cell(cell) for cell in row) + r" \\" for row in block.rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\raggedright\footnotesize {latex(line)}" for line in table.footer]
    return "\n".join([*lines, r"\end{table*}"]) + "\n"


def _pipe_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A pipe table whose columns are padded, so that it reads well unrendered."""
    widths = [max(2, *(len(row[i]) for row in [columns, *rows])) for i in range(len(columns))]  # a rule has a hyphen
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    padded = [
        [row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))]
        for row in [columns, rule, *rows]
    ]
    return ["| " + " | ".join(row) + " |" for row in padded]


def _markdown_cell(cell: Cell) -> str:
    text = markdown(cell.text)
    return {"": text, "best": f"**{text}**", "second": f"<u>{text}</u>"}[cell.mark]


def _latex_cell(cell: Cell) -> str:
    text = latex(cell.text)
    return {"": text, "best": rf"\textbf{{{text}}}", "second": rf"\underline{{{text}}}"}[cell.mark]
