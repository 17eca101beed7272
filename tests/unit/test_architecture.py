"""Packages import downward only, files in no circle, and the root of the package stays empty."""

import ast
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src/mmrepro"
FROM_THE_TOP = (
    "__main__", "cli", "serving", "library", "housekeeping", "reporting", "training", "evaluation", "features", "models", "datasets", "study",
    "ops", "runtime", "config", "records", "columns", "errors",
)  # fmt: skip


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def imports() -> dict[str, set[str]]:
    """Module -> modules of the package that it imports, at its top or within functions."""
    modules = {module_of(path) for path in SOURCE.rglob("*.py")}
    found: dict[str, set[str]] = defaultdict(set)
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mmrepro"):
                base = str(node.module).removeprefix("mmrepro").removeprefix(".")
                for alias in node.names:
                    inner = f"{base}.{alias.name}".strip(".")
                    found[module_of(path)].add(inner if inner in modules else base)
    return found


def test_the_root_holds_four_files_and_packages() -> None:
    assert {path.stem for path in SOURCE.glob("*.py")} == {"__init__", "__main__", "cli", "columns", "errors"}
    packages = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert packages | {"__main__", "cli", "columns", "errors"} == set(FROM_THE_TOP)


def test_imports_run_downward() -> None:
    floor = {name: number for number, name in enumerate(FROM_THE_TOP)}
    for module, targets in imports().items():
        for target in targets:
            here, there = module.partition(".")[0], target.partition(".")[0]
            if "__init__" in (here, there) or not here or not there:
                continue  # the root offers the library by name, and imports it when it is asked for
            assert here == there or floor[here] < floor[there], f"{module} imports {target}, which is above it"


def test_no_files_import_each_other() -> None:
    graph, done = imports(), set[str]()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for target in graph.get(module, ()):
                visit(target, (*path, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_no_two_files_of_a_folder_differ_by_an_ending_alone() -> None:
    endings = ("", "s", "d", "ed", "ing", "er", "ning", "es")
    for folder in {path.parent for path in SOURCE.rglob("*.py")}:
        names = {path.stem for path in folder.glob("*.py")}
        for name in names:
            twins = {name + ending for ending in endings[1:]} | {name.rstrip("e") + "ing"}
            assert not twins & names, f"{folder.name}: {name} and {twins & names}"
