"""Roles that put a figure of the committed tables into a sentence, so that none is typed.

`result`, such as ``tiktok; cm3; recall@20``: the mean of a model, a protocol as fourth part where there are several.
`lead`, such as ``tiktok; cm3; lightgcn; recall@20``: by how much the first model's mean is above the second's.
`published`, such as ``tiktok-program; cm3; recall@20; released``: by how much a mean exceeds what others printed.
`change`, such as ``posters/content; vbpr; noise; recall@20``: the difference of a variant to the first of its table.
`test`, such as ``test_full_disk_is_one_line``: where that test stands.
"""

from __future__ import annotations

import csv
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst.states import Inliner
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]


def find(table: str, **wanted: str) -> dict[str, str]:
    """Return the one row of `<study>/<table>` whose cells are as wanted.

    Raises
    ------
    LookupError
        When no row fits, or several.
    """
    study, _, name = table.partition("/")
    path = ROOT / "results/reference" / study / "tables" / f"{name or 'main'}.csv"
    with path.open(newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if all(row[key] == value for key, value in wanted.items())]
    if len(rows) != 1:
        raise LookupError(f"{table}: {len(rows)} rows for {wanted}, expected one")
    return rows[0]


def mean_row(study: str, model: str, metric: str, protocol: str) -> dict[str, str]:
    """Return the row of a model's mean on the test split."""
    name, _, k = metric.partition("@")
    return find(study, model=model, protocol=protocol, split="test", metric=name, k=k)


def percent(value: float) -> str:
    """Return a signed percentage with one decimal."""
    return f"{value:+.1f} %".replace("-", "−")


def figure(role: str, text: str) -> str:
    """Return the text of a figure; `role` is one of the four of this module."""
    parts = [part.strip() for part in text.split(";")]
    if role == "change":
        table, model, variant, metric = parts
        name, _, k = metric.partition("@")
        return percent(float(find(table, model=model, variant=variant, metric=name, k=k)["difference_percent"]))
    models = parts[1 : 3 if role == "lead" else 2]
    metric, *rest = parts[1 + len(models) :]
    rows = [mean_row(parts[0], model, metric, *(rest or ["fair"])) for model in models]
    means = [float(row["mean"]) for row in rows]
    if role == "result":
        return f"{means[0]:.4f}"
    base = means[1] if role == "lead" else float(rows[0]["published"])
    return percent(100 * (means[0] / base - 1))


def place_of(test: str) -> str:
    """Return the file of a test.

    Raises
    ------
    LookupError
        When no test is called so, or several are.
    """
    files = [path for path in ROOT.glob("tests/*/test_*.py") if f"\ndef {test}(" in path.read_text(encoding="utf-8")]
    if len(files) != 1:
        raise LookupError(f"{len(files)} tests of that name, expected one")
    return files[0].relative_to(ROOT / "tests").as_posix()


def role_function(
    name: str, rawtext: str, text: str, lineno: int, inliner: Inliner, *_: object
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """Replace a role by its figure; one that cannot be found is a warning, which stops the build."""
    try:
        if name == "test":
            return [nodes.literal(text, place_of(text))], []
        return [nodes.Text(figure(name, text))], []
    except (LookupError, ValueError, OSError, TypeError) as error:
        message = inliner.reporter.error(f"{name}: {text}: {error}", line=lineno)
        return [inliner.problematic(rawtext, rawtext, message)], [message]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the roles."""
    for name in ("result", "lead", "published", "change", "test"):
        app.add_role(name, role_function)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
