import csv
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
READMES = ("README.md", "config/README.md", "results/README.md", "benchmarks/README.md", "data/published/README.md")
PAGES = sorted([*(ROOT / name for name in READMES), *DOCS.glob("*.md")])
TEXTS = {path: path.read_text() for path in PAGES}
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TARGET = re.compile(r"^\(([\w-]+)\)=$", re.MULTILINE)
HEADING = re.compile(r"^#{1,4} (.+)$", re.MULTILINE)
FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INCLUDE = re.compile(r"^```\{include\} generated/(\S+)\n```$", re.MULTILINE)
PATH = re.compile(r"(?:config|src|workflow|tests|benchmarks|profiles|envs|data/published|results/reference)/[\w./-]+")
INVENTED = (
    "shop",
    "itself",
    "biasedbpr",
    "weblog",
    "wordcounts",
    "words.yaml",
    "epochs.py",
    "trec",
    "workflow/Snakefile",
)
SCORES = re.compile(r"^\|.*\b(?:[RN]@\d+|recall@\d+|ndcg@\d+)", re.MULTILINE | re.IGNORECASE)


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("path", PAGES, ids=ids)


@pytest.fixture(scope="module")
def generator() -> Iterator[ModuleType]:
    sys.path.insert(0, str(DOCS))
    yield importlib.import_module("generator")
    sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def fragments(generator: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("generated")
    generator.write_all(ROOT, folder)
    return {path.name: path.read_text() for path in folder.iterdir()}


def whole(path: Path, fragments: dict[str, str]) -> str:
    """A page with what it includes."""
    return INCLUDE.sub(lambda found: fragments[found[1]], path.read_text())


def slug(heading: str) -> str:
    """The anchor that a Git host and the built pages give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(text: str) -> set[str]:
    without_code = FENCE.sub("", text)
    return {*TARGET.findall(without_code), *map(slug, HEADING.findall(without_code))}


def commands(text: str) -> set[str]:
    """Names of commands in code: `mmrepro <command>`, or a line of a block that calls it."""
    code = "\n".join([*re.findall(r"`([^`\n]+)`", text), *(body for _, body in FENCE.findall(text))])
    return set(re.findall(r"\bmmrepro ([a-z][a-z-]*)", code))


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= 8192


@every_page
def test_links_lead_to_files_and_anchors(path, fragments):
    text = FENCE.sub("", whole(path, fragments))
    missing = []
    for link in LINK.findall(text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        known = anchors(whole(target, fragments)) if target.suffix == ".md" and target.exists() else set()
        if not target.exists() or (anchor and anchor not in known):
            missing.append(link)
    assert missing == []


@every_page
def test_paths_that_pages_name_exist(path):
    code = re.findall(r"`([^`\n]+)`", TEXTS[path]) + [body for _, body in FENCE.findall(TEXTS[path])]
    named = {found.rstrip(".") for text in code for found in PATH.findall(re.sub(r"\S*[<>*{]\S*", "", text))}
    real = {name for name in named if not any(word in name for word in INVENTED)}
    assert {name for name in real if not (ROOT / name).exists()} == set()


@every_page
def test_commands_and_targets_that_pages_name_exist(path, generator):
    known = set(importlib.import_module("generator.commands").command_names())
    assert commands(TEXTS[path]) - known - set(INVENTED) == set()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = "\n".join([*re.findall(r"`([^`\n]+)`", TEXTS[path]), *(body for _, body in FENCE.findall(TEXTS[path]))])
    assert set(re.findall(r"\bmake ([a-z][a-z-]*)", code)) - targets == set()


@pytest.mark.parametrize("path", [path for path in PAGES if path.parent == DOCS], ids=ids)
def test_no_table_of_results_is_typed(path):
    assert SCORES.findall(TEXTS[path]) == []


def test_cited_sections_of_the_methods_exist(generator):
    cited = importlib.import_module("generator.models").cited_sections
    files = [p for folder in ("src", "config", "benchmarks", "workflow") for p in (ROOT / folder).rglob("*")]
    texts = [p.read_text() for p in files if p.suffix in (".py", ".yaml", ".md", ".smk")]
    numbers = {number for text in texts for number in cited(text)}
    assert {"3.4", "6"} <= numbers
    assert {f"methods-{n.replace('.', '-')}" for n in numbers} - set(
        TARGET.findall(TEXTS[DOCS / "methods.md"])
    ) == set()


def test_every_page_is_in_the_table_of_contents():
    listed = [line for _, body in FENCE.findall(TEXTS[DOCS / "index.md"]) for line in body.splitlines()]
    pages = {p.stem for p in DOCS.glob("*.md")}
    assert pages - {"index"} <= set(listed)
    assert not pages & {"search", "genindex"}, "Sphinx writes these pages itself, over ours"


def test_the_key_of_every_study_stands_in_the_introduction():
    schema = yaml.safe_load((ROOT / "config/schema/study.json").read_text())
    inner = [schema["$defs"][name]["properties"] for name in ("SearchConfig", "Comparison")]
    keys = {*schema["properties"], *(key for properties in inner for key in properties)}
    assert {key for key in keys if f"`{key}`" not in TEXTS[ROOT / "config/README.md"]} == set()


def test_every_dependency_earns_its_line():
    project = (ROOT / "pyproject.toml").read_text()
    names = re.findall(r'"([\w.-]+)==', project)
    assert {name for name in names if name not in TEXTS[DOCS / "dependencies.md"]} == set()


def test_everything_has_a_generated_section(generator, fragments):
    for kind, folder in (("datasets", "datasets"), ("features", "features"), ("studies", "studies")):
        names = [path.stem for path in (ROOT / "config" / folder).glob("*.yaml")]
        assert [name for name in names if f"`{name}`" not in fragments[f"{kind}.md"]] == []
    models = {path.stem for path in (ROOT / "config/models").glob("*.yaml")}
    assert {f"model-{name}" for name in models} <= anchors(fragments["models.md"])
    names = importlib.import_module("generator.commands").command_names()
    assert {f"command-{name}" for name in names} <= anchors(fragments["commands.md"])
    studies = {path.parent.name for path in (ROOT / "results/reference").glob("*/summary.json")}
    assert {f"result-{name}" for name in studies} <= anchors(fragments["results.md"])


def test_generated_models_show_defaults_searches_and_what_released_changes(fragments):
    text = fragments["models.md"]
    section = text[text.index("(model-mmgcn)=") : text.index("(model-popularity)=")]
    assert "| `learning_rate` | number, > 0 | `0.001` | `0.0001`, `0.0005`, `0.001`, `0.005`, `0.01` |" in section
    assert (
        "Under `released`: patience 20; ranked with the parameters before the last step; `train_embeddings: false`"
        in section
    )
    assert "[3.11](methods.md#methods-3-11)" in section


def test_generated_commands_show_arguments_and_defaults(fragments):
    text = fragments["commands.md"]
    assert "mmrepro extract CONFIG MODALITY PREPARED RAW --output PATH [--pretrained PATH]" in text
    assert "mmrepro doctor [STUDY]... [--verify]" in text
    assert "| `--k` | integer | `10` | number of items |" in text


def test_generated_results_are_the_committed_tables(fragments):
    for path in (ROOT / "results/reference").glob("*/tables/*.md"):
        rows = [line for line in path.read_text().splitlines() if line.startswith("|")]
        assert rows and all(row in fragments["results.md"] for row in rows)


def test_figures_in_sentences_are_those_of_the_tables(generator):
    roles = importlib.import_module("generator.roles")
    with (ROOT / "results/reference/tiktok/tables/main.csv").open(newline="") as handle:
        rows = [r for r in csv.DictReader(handle) if (r["split"], r["metric"], r["k"]) == ("test", "recall", "20")]
    mean = {row["model"]: float(row["mean"]) for row in rows}
    assert roles.figure("result", "tiktok; cm3; recall@20") == f"{mean['cm3']:.4f}"
    lead = 100 * (mean["cm3"] / mean["bpr"] - 1)
    assert roles.figure("lead", "tiktok; cm3; bpr; recall@20") == f"+{lead:.1f} %"
    with pytest.raises(LookupError, match="0 rows"):
        roles.figure("result", "tiktok; nosuch; recall@20")
    assert roles.place_of("test_full_disk_is_one_line") == "unit/test_cli.py"
    with pytest.raises(LookupError, match="0 tests of that name"):
        roles.place_of("test_that_nobody_wrote")


def test_the_example_of_a_metric_is_one():
    blocks = [body for kind, body in FENCE.findall(TEXTS[DOCS / "extending.md"]) if kind == "python"]
    names = {**vars(importlib.import_module("mmrepro.evaluation.metrics"))}
    for block in blocks:
        if "f_score" in block:
            exec(block, names)
    assert names["METRICS"][-1].name == "f_score" and names["METRICS"][-1].accuracy


def test_imports_of_the_examples_exist():
    blocks = [body for kind, body in FENCE.findall(TEXTS[DOCS / "extending.md"]) if kind == "python"]
    imports = [
        found for body in blocks for found in re.findall(r"^from (mmrepro[\w.]*) import (.+)$", body, re.MULTILINE)
    ]
    assert len(imports) > 10
    for module, names in imports:
        found = importlib.import_module(module)
        known = [name for name in names.split(", ") if not name.startswith("WordCounts")]
        assert [name for name in known if not hasattr(found, name)] == []
