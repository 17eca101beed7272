"""One HTML file of a study, which opens from disk: everything it shows lies in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2

from mmrepro.config.model import ModelConfig
from mmrepro.errors import MmreproError
from mmrepro.records.files import read_object, write_text
from mmrepro.reporting.page.checklist import checklist
from mmrepro.reporting.page.gallery import gallery
from mmrepro.reporting.page.numbers import number_table, runs_of_rows
from mmrepro.reporting.page.pictures import drawn_pictures
from mmrepro.reporting.page.texts import image_source, markdown_to_html
from mmrepro.reporting.report import Report
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Plan
from mmrepro.study.products import SUMMARY, products

FOLDER = Path(__file__).parent
LIBRARIES = FOLDER / "libraries"
FIRST, FOLDED, LAST = ("claims", "switches"), ("ledger",), ("data_report", "settings", "cost")
"""Tables before the main one, those there that are folded away, and those at the end."""
ALREADY = ("main",)
SCRIPTS = ("dataTables.min.js", "clipboard.min.js")
CAPTIONS = {
    "accuracy": "Test accuracy of every model: bars are means over seeds, open shapes single seeds.",
    "wins": "Who is better than whom, by the corrected test over users.",
    "search": "What the search tried, and what it chose.",
    "sensitivity": "Accuracy by one parameter at a time.",
    "degrees": "How interactions spread over users and items.",
}


def build_page(plan: Plan, study_file: Path, output: Path, root: Path = Path()) -> None:
    """Write the page of a study whose tables have been built.

    Parameters
    ----------
    plan
        The resolved study.
    study_file
        Its file, for the commands that make a run again.
    output
        The HTML file; beside it, `main.html` gets the main table alone, for Snakemake's report.
    root
        Folder that holds `config/`, `data/` and `results/`.

    Raises
    ------
    MmreproError
        When the study's tables are not there, or what they are made of cannot be read.
    """
    folder = root / Layout.study(plan.name)
    if read_object(folder / SUMMARY) is None:
        raise MmreproError(f"{folder}: no tables there; run the study first")
    report = Report(plan, root)
    titles = {name: model.title for name, model in plan.models.items()}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True,
    )  # fmt: skip
    printed, _ = markdown_to_html((folder / "tables/main.md").read_text(encoding="utf-8"), titles)
    text = environment.get_template("page.html.j2").render(
        study=plan.study,
        name=plan.name,
        titles=titles,
        citations=_citations(plan.models),
        first=[*_tables(plan, folder, FIRST)],
        folded=[*_tables(plan, folder, FOLDED)],
        numbers=number_table(report, titles),
        printed=printed,
        main_copies=_copies(folder / "tables/main.md"),
        others=[
            *_tables(plan, folder, [name for name in _names(plan) if name not in (*FIRST, *FOLDED, *LAST, *ALREADY)])
        ],
        last=[*_tables(plan, folder, LAST)],
        pictures=[*_figures(folder), *drawn_pictures(report, titles)],
        gallery=gallery(report, titles),
        checklist=checklist(report),
        runs=runs_of_rows(report, study_file, titles),
        style=(FOLDER / "style.css").read_text(encoding="utf-8"),
        table_style=(LIBRARIES / "dataTables.dataTables.min.css").read_text(encoding="utf-8"),
        scripts=[(LIBRARIES / name).read_text(encoding="utf-8") for name in SCRIPTS],
    )
    write_text(output, text)
    write_text(output.with_name("main.html"), f'<div style="max-height: 85vh; overflow: auto">{printed}</div>\n')


def _citations(models: dict[str, ModelConfig]) -> list[tuple[str, str]]:
    return [(model.title, model.citation) for model in models.values()]


def _names(plan: Plan) -> list[str]:
    """Names of the study's tables, in the order of their modules; those of comparisons at their place."""
    return [
        file.stem
        for product in products().values()
        for file in product.files(plan)
        if file.suffix == ".md" and file.parent.name == "tables"
    ]


def _tables(plan: Plan, folder: Path, names: list[str] | tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Tables as readers see them, with what can be copied."""
    known, titles = set(_names(plan)), {name: model.title for name, model in plan.models.items()}
    for name in names:
        path = folder / "tables" / f"{name}.md"
        if name in known and path.is_file():
            html, title = markdown_to_html(path.read_text(encoding="utf-8"), titles)
            yield {"name": name, "title": title, "html": html, "copies": _copies(path)}


def _copies(path: Path) -> dict[str, str]:
    """What can be copied of a table: form -> text."""
    files = {label: path.with_suffix(f".{ending}") for label, ending in (("csv", "csv"), ("LaTeX", "tex"))}
    return {label: file.read_text(encoding="utf-8") for label, file in files.items() if file.is_file()}


def _figures(folder: Path) -> Iterator[dict[str, str]]:
    """The figures that the study's tables come with."""
    for name, caption in CAPTIONS.items():
        path = folder / "figures" / f"{name}.svg"
        if path.is_file():
            yield {"name": name, "caption": caption, "source": image_source(path.read_bytes(), "image/svg+xml")}
