"""The notebook of the documentation, cell by cell, in a new project."""

import json
import shutil
from pathlib import Path

import pytest
from checkout import ROOT, copy_project

pytestmark = pytest.mark.slow

RUNNER = """
import ast, json, sys
from pathlib import Path

names = {}
for cell in json.loads(Path(sys.argv[1]).read_text())["cells"]:
    source = "".join(cell["source"])
    if cell["cell_type"] != "code":
        continue
    if source.startswith("%%writefile "):
        head, body = source.split("\\n", 1)
        path = Path(head.split()[1])
        path.parent.mkdir(exist_ok=True)
        path.write_text(body)
        continue
    tree = ast.parse(source)
    shown = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if shown is not None:
        names["_"] = eval(compile(ast.Expression(shown.value), "cell", "eval"), names)
        print(json.dumps(repr(names["_"])))
"""


def test_every_cell_runs_and_shows_what_the_page_shows(tmp_path: Path) -> None:
    checkout = copy_project(tmp_path)
    shutil.copytree(ROOT / "results/reference/tiktok-switches", tmp_path / "results/reference/tiktok-switches")
    (tmp_path / "run.py").write_text(RUNNER)
    notebook = ROOT / "docs/library.ipynb"
    result = checkout.call("python", "-W", "ignore", "run.py", str(notebook))
    assert result.returncode == 0, result.stderr
    shown = [json.loads(line) for line in result.stdout.splitlines()]
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    printed = [
        "".join(output["data"]["text/plain"]) for cell in cells for output in cell["outputs"] if "data" in output
    ]
    assert len(shown) == len(printed)
    # another processor rounds otherwise: shapes and names are the same, numbers may differ in their last digits
    for ours, theirs in zip(shown, printed, strict=True):
        assert ours.splitlines()[0] == theirs.splitlines()[0] or ours.startswith("Comparison(")
        assert len(ours.splitlines()) == len(theirs.splitlines())
