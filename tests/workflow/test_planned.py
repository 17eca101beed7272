"""What is planned after an edit: of the code, of a configuration file, of the study."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from checkout import Checkout

from mmrepro.config.dataset import DatasetConfig, FilterSection, ImageSection, RawSection, ReaderSection, SplitSection

pytestmark = pytest.mark.slow

SOURCE = "src/mmrepro"
AFTER_TABLES = {"tables": 1, "page": 1, "track": 1}
AFTER_RUNS = {"measure": 1, **AFTER_TABLES}


@contextmanager
def written(checkout: Checkout, texts: dict[str, str]) -> Iterator[None]:
    """Files of a checkout with other texts; as they were afterwards."""
    paths = {checkout.folder / name: text for name, text in texts.items()}
    originals = {path: path.read_text() if path.is_file() else None for path in paths}
    try:
        for path, text in paths.items():
            path.write_text(text)
        yield
    finally:
        for path, original in originals.items():
            path.unlink() if original is None else path.write_text(original)


def planned_kinds(checkout: Checkout, *options: str) -> dict[str, int]:
    """Rule -> number of jobs that a dry run plans."""
    result = checkout.snakemake("--dry-run", *options)
    text = result.stdout + result.stderr
    assert result.returncode == 0, text
    rules = re.findall(r"^(?:local)?rule (\w+):", text, re.MULTILINE)
    return {rule: count for rule, count in Counter(rules).items() if rule != "all"}


def after(checkout: Checkout, *places: str) -> dict[str, int]:
    """Edit places, each (file, old, new), make the schemas of changed parameters, and tell what is planned then; no
    `old`: a new file.
    """
    texts: dict[str, str] = {}
    for file, old, new in zip(*[iter(places)] * 3, strict=True):
        text = texts.get(file) or ((checkout.folder / file).read_text() if old else "")
        assert not old or text.count(old) == 1, f"{file} holds '{old}' {text.count(old)} times; adapt this test"
        texts[file] = text.replace(old, new) if old else new
    schemas = {path.relative_to(checkout.folder).as_posix(): path.read_text() for path in checkout.folder.glob(SCHEMAS)}
    with written(checkout, {**schemas, **texts}):
        if any("Field(" in text for text in places):
            result = checkout.snakemake("--dry-run")
            assert result.returncode and "older than the model's parameters; run `make schema`" in result.stdout
            assert checkout.call("mmrepro", "schema").returncode == 0
        return planned_kinds(checkout)


SCHEMAS = "config/schema/models/*.json"
METRIC = '''def first_hit(measured: Measured, k: int) -> np.ndarray:
    """Return whether the first item is relevant: 0 or 1."""
    return measured.hits[:, :1].sum(axis=1).astype(float)


def precision('''
TABLE = '''"""How many runs there are."""

from collections.abc import Iterator

import pandas as pd

from mmrepro.reporting.report import Built, Report
from mmrepro.study.products import Product

PRODUCT = Product("tables/counts", ("csv",))


def build(report: Report) -> Iterator[Built]:
    """Yield the table."""
    yield "counts", pd.DataFrame({"runs": [len(report.collection.runs)]}), None
'''
SWITCH = '    tempered: Literal["no", "yes"] = "no"\n    negatives_from: '
NOTHING: dict[str, int] = {}
CODE_EDITS = {
    "an error's words": ((f"{SOURCE}/training/trainer.py", "; lower learning_rate", "; try a lower one"), NOTHING),
    "a progress line's words": ((f"{SOURCE}/training/recorder.py", "| loss {", "| the loss {"), NOTHING),
    "a key of the run's record": (
        (f"{SOURCE}/training/recorder.py", '"status": "finished",', '"status": "finished", "more": 1,'), NOTHING,
    ),
    "a constant nobody reads": (
        (f"{SOURCE}/ops/graphs.py", "GRAPH_EPSILON = 1e-7", "NOBODY = 1\nGRAPH_EPSILON = 1e-7"), NOTHING,
    ),
    "a column nobody reads": ((f"{SOURCE}/columns.py", '    USER = "user"', '    AGE = "age"\n    USER = "user"'), NOTHING),
    "a definition moved to another module": (
        (
            f"{SOURCE}/training/optimiser.py", "class Adam:", "class AdamOptimiser:",
            f"{SOURCE}/training/trainer.py", "from mmrepro.training.optimiser import Adam\n",
            "from mmrepro.training.solver import AdamOptimiser as Adam\n",
            f"{SOURCE}/training/solver.py", "", "from mmrepro.training.optimiser import AdamOptimiser\n",
        ),
        NOTHING,
    ),
    "a switch that nobody reads": ((f"{SOURCE}/config/protocol.py", "    negatives_from: ", SWITCH), NOTHING),
    "a switch that one model reads": (
        (
            f"{SOURCE}/config/protocol.py", "    negatives_from: ", SWITCH,
            f"{SOURCE}/models/cm3.py", 'protocol.angle_clamp == "safe"',
            'protocol.angle_clamp == "safe" and protocol.tempered == "no"',
        ),
        {"train": 1, **AFTER_RUNS},
    ),
    "a parameter that nobody reads": (
        (f"{SOURCE}/models/base.py", "    batch_size: int", "    nothing: int = Field(3, ge=1)\n    batch_size: int"), NOTHING,
    ),
    "a parameter of one model": (
        (
            f"{SOURCE}/models/lightgcn.py", "    reg_weight: float", "    more: float = Field(0.0)\n    reg_weight: float",
            f"{SOURCE}/models/lightgcn.py", "self.parameters_ = parameters", "self.parameters_, self.more = parameters, parameters.more",
        ),
        {"train": 1, **AFTER_RUNS},
    ),
    "a formula of one model": (
        (f"{SOURCE}/ops/losses.py", "BPR_EPSILON = 1e-10", "BPR_EPSILON = 1e-9"), {"train": 1, **AFTER_RUNS},
    ),
    "a formula of every model": (
        (f"{SOURCE}/training/sampling.py", "self.pool[choice + before]", "self.pool[before + choice]"),
        {"train": 2, **AFTER_RUNS},
    ),
    "a new metric": (
        (
            f"{SOURCE}/evaluation/metrics.py", "def precision(", METRIC,
            f"{SOURCE}/evaluation/metrics.py", "METRICS = (\n", 'METRICS = (\n    Metric(first_hit, "first hit", "H1"),\n',
        ),
        AFTER_RUNS,
    ),
    "a new table": ((f"{SOURCE}/reporting/tables/counts.py", "", TABLE), AFTER_TABLES),
    "how a table is printed": ((f"{SOURCE}/reporting/tables/cost.py", "JOULES_A_KWH = 3.6e6", "JOULES_A_KWH = 3.7e6"), AFTER_TABLES),
}  # fmt: skip


@pytest.mark.parametrize(("places", "expected"), CODE_EDITS.values(), ids=CODE_EDITS)
def test_an_edit_of_the_code_plans_what_it_changes(
    finished: Checkout, places: tuple[str, ...], expected: dict[str, int]
) -> None:
    assert after(finished, *places) == expected


RUNS = {"train": 1, **AFTER_RUNS}  # LightGCN; CM3 reads features, too
EVERYTHING_AFTER_DATA = {"extract": 2, "item_graph": 2, "train": 2, **AFTER_RUNS}
SECTION_KEYS = {
    RawSection: ({"folder": "another"}, {"fetch": 1, "prepare": 1, **EVERYTHING_AFTER_DATA}),
    ReaderSection: ({"options": "seed"}, {"fetch": 1, "prepare": 1, **EVERYTHING_AFTER_DATA}),
    ImageSection: ({"images": {}}, {"images": 1, "prepare": 1, **EVERYTHING_AFTER_DATA}),
    FilterSection: ({"drop_items_without": ["text"]}, {"prepare": 1, **EVERYTHING_AFTER_DATA}),
    SplitSection: ({"cold_items": "drop"}, {"prepare": 1, **EVERYTHING_AFTER_DATA}),
}


def test_every_key_of_a_data_set_is_in_a_section_or_only_names_it() -> None:
    sections = {name for section in SECTION_KEYS for name in section.model_fields}
    assert set(DatasetConfig.model_fields) - sections == {"dataset", "title", "licence", "raw", "literature_split"}


@pytest.mark.parametrize("section", SECTION_KEYS, ids=lambda section: section.__name__)
def test_a_key_more_in_a_section_of_a_data_set_plans_its_stages(finished: Checkout, section: type) -> None:
    path = "config/datasets/mini-baby.yaml"
    data = yaml.safe_load((finished.folder / path).read_text())
    keys, expected = SECTION_KEYS[section]
    if keys.get("options") == "seed":
        keys = {"options": {**data["options"], "seed": 7}}
    assert not set(keys) & set(data) - {"folder", "options"}
    with written(finished, {path: yaml.safe_dump({**data, **keys})}):
        assert planned_kinds(finished) == expected


STUDY_KEYS = {
    "note": ("Something.", AFTER_TABLES),
    "cutoffs": ([5, 10], AFTER_RUNS),
    "watch": ("ndcg_at_10", {"train": 2, **AFTER_RUNS}),
    "threads": (2, {"train": 2, **AFTER_RUNS}),
    "precision": ("bfloat16", {"train": 2, **AFTER_RUNS}),
}


@pytest.mark.parametrize("key", STUDY_KEYS)
def test_a_key_more_in_a_study_plans_what_reads_it(finished: Checkout, key: str) -> None:
    path = "config/studies/smoke.yaml"
    value, expected = STUDY_KEYS[key]
    study = yaml.safe_load((finished.folder / path).read_text())
    with written(finished, {path: yaml.safe_dump({**study, key: value})}):
        assert planned_kinds(finished) == expected


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ({"neighbours": 12}, {"item_graph": 2, "train": 1, **AFTER_RUNS}),
        ({"image": {"missing": "zero"}}, {"extract": 1, "item_graph": 1, "train": 1, **AFTER_RUNS}),
    ],
    ids=["of the item graph", "of an encoder"],
)
def test_a_key_more_in_a_feature_set_plans_what_reads_it(
    finished: Checkout, edit: dict, expected: dict[str, int]
) -> None:
    path = "config/features/miniature.yaml"
    features = yaml.safe_load((finished.folder / path).read_text())
    if "image" in edit:
        features["modalities"]["image"] |= edit["image"]
    else:
        features |= edit
    with written(finished, {path: yaml.safe_dump(features, sort_keys=False)}):
        assert planned_kinds(finished) == expected


def test_measures_that_were_deleted_come_back(finished: Checkout) -> None:
    (folder,) = (finished.folder / "results").glob("*/measures")
    away = folder.rename(folder.with_name("away"))
    try:
        assert planned_kinds(finished) == AFTER_RUNS
    finally:
        away.rename(folder)


def test_what_measures_do_not_depend_on_measures_nothing_anew(finished: Checkout) -> None:
    study = "config/studies/smoke.yaml"
    text = (finished.folder / study).read_text()
    with written(finished, {study: f"{text}note: hello\n"}):
        assert planned_kinds(finished) == AFTER_TABLES


def test_a_slice_makes_its_own_tables_and_leaves_those_of_the_whole_study(finished: Checkout) -> None:
    planned = planned_kinds(finished, "--config", "models=lightgcn")
    assert planned.keys() == {"measure", "tables", "page", "track"}  # its run is there
    listed = finished.snakemake("--dry-run", "--config", "models=lightgcn").stdout
    assert "results/smoke--models-lightgcn-" in listed and "results/smoke/" not in listed
    assert planned_kinds(finished) == {}


def test_nothing_is_planned_in_the_end(finished: Checkout) -> None:
    assert planned_kinds(finished) == {}


def test_the_same_text_elsewhere_is_the_same_code(finished: Checkout, tmp_path: Path) -> None:
    """Comments, blank lines and the order of definitions decide nothing."""
    file = f"{SOURCE}/training/sampling.py"
    text = (finished.folder / file).read_text()
    start = text.index("def epoch_batches(")
    head = text.index("class NegativeSampler")
    swapped = text[:head] + text[start:] + "\n\n# further down now\n" + text[head:start].rstrip() + "\n"
    with written(finished, {file: swapped}):
        assert planned_kinds(finished) == {}
