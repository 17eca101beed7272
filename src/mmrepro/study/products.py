"""What is declared by a file of its own, found without importing it: the tables and figures of a study, the metrics.

The Snakefile names every table and figure as an output before anything is computed, and checks a study's metric,
without the packages that computing takes. So what it must know stands in each file as a constant, which is read, not
run.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mmrepro.config.base import content_hash
from mmrepro.config.study import Variant
from mmrepro.errors import MmreproError
from mmrepro.study.plan import Plan

PACKAGE = Path(__file__).parents[1]
PAGE = PACKAGE / "reporting/page"
PUBLISHED = Path("data/published")
PAPERS = "papers.csv"
SUMMARY = Path("summary.json")
PRODUCT = "PRODUCT"


@dataclass(frozen=True)
class Product:
    """What a module of `reporting/tables` or `reporting/figures` makes for a study.

    Attributes
    ----------
    name
        Path below the study's folder, without ending; `{comparison}` stands for the name of each comparison.
    endings
        Of its files.
    when
        The part of a plan without which it is not made.
    """

    name: str
    endings: tuple[str, ...] = ("csv", "md", "tex")
    when: str | None = None

    def is_made(self, plan: Plan) -> bool:
        """Return whether a study has it."""
        return self.when is None or bool(
            sensitivities(plan) if self.when == "sensitivities" else getattr(plan, self.when)
        )

    def files(self, plan: Plan) -> list[Path]:
        """Return the files that are made for a study."""
        names = [self.name.format(comparison=name) for name in plan.comparisons] if "{" in self.name else [self.name]
        return [Path(f"{name}.{ending}") for name in names for ending in self.endings if self.is_made(plan)]


@cache
def products() -> dict[str, Product]:
    """Return every table and figure: module below `reporting` -> what it makes, in the order of the names."""
    found = {}
    for folder in ("tables", "figures"):
        for file in sorted((PACKAGE / "reporting" / folder).glob("*.py")):
            call = _constant(file, PRODUCT)
            if isinstance(call, ast.Call):
                given = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
                found[f"{folder}.{file.stem}"] = Product(*map(ast.literal_eval, call.args), **given)
    return found


@cache
def metric_names() -> list[str]:
    """Return the names of the metrics that can be watched: those of accuracy, as `evaluation/metrics.py` lists them."""
    file = PACKAGE / "evaluation/metrics.py"
    registry: Any = _constant(file, "METRICS")
    for entry in registry.elts:
        if not (isinstance(entry, ast.Call) and entry.args and isinstance(entry.args[0], ast.Name)):
            raise MmreproError(
                f"{file}:{entry.lineno}: no line such as `Metric(recall, ...)`, of which METRICS consists"
            )
    return [entry.args[0].id for entry in registry.elts if any(keyword.arg == "accuracy" for keyword in entry.keywords)]


def table_names() -> list[str]:
    """Return the names that a comparison cannot have."""
    return [product.name.removeprefix("tables/") for product in products().values()]


def table_files(plan: Plan) -> tuple[Path, ...]:
    """Return all files that are made below a study's folder from its finished runs."""
    return (*(file for product in products().values() for file in product.files(plan)), SUMMARY)


def published_files(plan: Plan, root: Path) -> tuple[Path, ...]:
    """Return the files of published numbers a study is compared with, relative to the repository, the papers' own
    first.

    There are none where no data set of the study is one that the literature uses.
    """
    if not plan.literature:
        return ()
    there = sorted(path.name for path in (root / PUBLISHED).glob("*.csv"))
    return tuple(PUBLISHED / name for name in dict.fromkeys((PAPERS, *(plan.study.published or there))))


@cache
def template_hash() -> str:
    """Return a hash of what the page of a study is made from beside code."""
    files = sorted(path for path in PAGE.rglob("*") if path.is_file() and path.suffix in (".j2", ".css", ".js"))
    return content_hash({path.relative_to(PAGE).as_posix(): path.read_text(encoding="utf-8") for path in files})


def sensitivities(plan: Plan) -> dict[str, str]:
    """Return the comparisons whose variants set one number each, or nothing: name -> the parameter that they vary."""
    found = {}
    for name in plan.comparisons:
        changed = [variant for variant in plan.study.comparisons[name].variants.values() if variant != Variant()]
        parameters = {key for variant in changed for key in variant.parameters}
        numbers = [type(value) in (int, float) for variant in changed for value in variant.parameters.values()]
        features = [variant.features for variant in changed if variant.features]
        if len(parameters) == 1 and len(changed) == len(numbers) > 1 and all(numbers) and not features:
            found[name] = parameters.pop()
    return found


def _constant(file: Path, name: str) -> ast.expr | None:
    """The expression that a module assigns to a name at its top level."""
    for statement in ast.parse(file.read_text(encoding="utf-8")).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                return value
            case ast.AnnAssign(target=ast.Name(id=found), value=value) if found == name:
                return value
    return None
