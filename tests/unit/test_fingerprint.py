import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mmrepro.config.model import model_names
from mmrepro.errors import MmreproError
from mmrepro.records.fingerprint import STAGES, fingerprint, reachable, training_fingerprint

SOURCE = Path(__file__).parents[2] / "src/mmrepro"
MODELS = set(model_names())
LAYER_MEANS = {"alignrec", "lightgcn", "directau", "bm3", "freedom", "mgcn", "lattice", "slmrec", "lgmrec"}
LAYER_SUMS = LAYER_MEANS | {"cm3", "dualgnn", "dragon"}
UNIFORMITY = {"cm3", "directau"}
PARTS = {
    "fetch": "mmrec",
    "prepare": "mmrec",
    "extract": "open_clip",
    "item_graph": None,
    "align_content": None,
    "probe": None,
    "select": None,
    "tables": None,
}
SCRIPT = f"""
import json
from mmrepro.records.fingerprint import fingerprint
found = {{f"train {{m}}": fingerprint("train", m) for m in {sorted(MODELS)!r}}}
found.update({{stage: fingerprint(stage, part) for stage, part in {PARTS!r}.items()}})
print(json.dumps(found))
"""

Edit = Callable[[str, str, str], set[str]]


def all_fingerprints(package_folder: Path) -> dict[str, str]:
    environment = {**os.environ, "PYTHONPATH": str(package_folder), "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(result.stdout))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(SOURCE, folder / "mmrepro", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def before(package: Path) -> dict[str, str]:
    return all_fingerprints(package)


@pytest.fixture
def changed_by(package: Path, before: dict[str, str]) -> Edit:
    """Edit one place of a copy of the package; return the stages whose fingerprint changes."""

    def edit(file: str, old: str, new: str) -> set[str]:
        path = package / "mmrepro" / file
        original = path.read_text()
        assert original.count(old) == 1, f"{file} holds '{old}' {original.count(old)} times; adapt this test"
        try:
            path.write_text(original.replace(old, new))
            after = all_fingerprints(package)
        finally:
            path.write_text(original)
        return {stage for stage in before if before[stage] != after[stage]}

    return edit


def trained(*models: str) -> set[str]:
    return {f"train {model}" for model in models}


def test_the_copy_has_the_fingerprints_of_this_package(before: dict[str, str]) -> None:
    assert {f"train {m}": training_fingerprint(m) for m in MODELS} == {k: v for k, v in before.items() if "train" in k}
    assert len(set(before.values())) == len(before)
    assert all(len(value) == 16 and int(value, 16) >= 0 for value in before.values())


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("ops/losses.py", "# rows of the pair matrix held at once", "# another comment: rows held at once"),
        ("ops/losses.py", '"""Mean squared distance between matching unit rows (CM3, alignment term).', '"""Other.'),
        ("ops/losses.py", '"""Losses as pure functions;', '"""Functions;'),
        (
            "ops/losses.py",
            "return (a - b).square().sum(dim=-1).mean()",
            "return ((a - b).square()\n        .sum(dim=-1).mean())",
        ),
        ("models/cm3.py", '"""Parameters of CM3."""', '"""What CM3 takes."""'),
        ("errors.py", '    """A problem', '    extra = 1\n    """A problem'),
        ("provenance.py", "indent=2", "indent=4"),
    ],
    ids=["comment", "docstring", "module docstring", "layout", "class docstring", "errors", "recorder"],
)
def test_edits_that_change_no_number_change_nothing(changed_by: Edit, file: str, old: str, new: str) -> None:
    assert changed_by(file, old, new) == set()


@pytest.mark.parametrize(
    ("file", "old", "new", "models"),
    [
        ("ops/losses.py", "PAIR_TEMPERATURE / total", "PAIR_TEMPERATURE * 2 / total", UNIFORMITY),
        ("ops/losses.py", "_PairLogMean.apply(x, content,", "_PairLogMean.apply(x, 2 * content,", {"cm3"}),
        ("ops/losses.py", "PAIR_TEMPERATURE = 4.0", "PAIR_TEMPERATURE = 5.0", UNIFORMITY),
        ("ops/losses.py", "BPR_EPSILON + torch.sigmoid", "torch.sigmoid", {"bpr", "lightgcn", "vbpr"}),
        ("ops/losses.py", "BPR_EPSILON = 1e-10", "BPR_EPSILON = 1e-9", {"bpr", "lightgcn", "vbpr"}),
        ("ops/graphs.py", "_LayerSum.apply(graph, start", "_LayerSum.apply(graph, 2 * start", LAYER_SUMS),
        ("ops/graphs.py", "return layer_sum(graph, start, layers) /", "return 2 * layer_sum(graph, start, layers) /", LAYER_MEANS),
        ("ops/fusion.py", "PARALLEL_MARGIN = 1e-6", "PARALLEL_MARGIN = 1e-5", {"cm3"}),
        ("models/vbpr.py", "2 * size)", "3 * size)", {"vbpr"}),
        ("models/popularity.py", "np.bincount(self._items", "np.bincount(self._items % 5", {"popularity"}),
    ],
)  # fmt: skip
def test_an_edited_formula_changes_exactly_the_models_that_use_it(
    changed_by: Edit, file: str, old: str, new: str, models: set[str]
) -> None:
    assert changed_by(file, old, new) == trained(*models)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("evaluation/metrics.py", "ideal[reachable - 1]", "ideal[reachable]"),
        ("training/sampling.py", "self.pool[choice + before]", "self.pool[choice]"),
        ("training/run.py", "LIST_DEPTH = 100", "LIST_DEPTH = 50"),
    ],
)
def test_what_every_run_goes_through_changes_all_runs(changed_by: Edit, file: str, old: str, new: str) -> None:
    changed = changed_by(file, old, new)
    assert trained(*MODELS) <= changed
    assert not changed & {"fetch", "prepare", "extract", "item_graph"}


def test_neighbour_search_changes_the_item_graph_and_the_models_that_search_themselves(changed_by: Edit) -> None:
    assert changed_by("ops/neighbours.py", ".float().clamp_(-1, 1)", ".float().clamp_(0, 1)") == {
        "item_graph",
        "probe",
        *trained("alignrec", "lattice"),
    }


def test_reader_changes_the_stages_that_read(changed_by: Edit) -> None:
    changed = changed_by("datasets/readers/mmrec.py", "def read(", "def read_too() -> None:\n    pass\n\n\ndef read(")
    assert changed == {"fetch", "prepare"}


def test_command_line_and_plan_change_no_training(changed_by: Edit) -> None:
    assert not changed_by("cli.py", "count = import_runs", "count = 1 + import_runs") & trained(*MODELS)
    assert not changed_by("layout.py", 'NO_FEATURES = "none"', 'NO_FEATURES = "nothing"') & trained(*MODELS)


def test_reachable_follows_methods_constants_and_base_classes() -> None:
    found = set(reachable(("models.cm3", "CM3")))
    assert {
        ("models.cm3", "CM3Parameters"),
        ("models.base", "Model"),
        ("ops.losses", "_PairLogMean"),
        ("ops.losses", "_products"),
        ("ops.losses", "CHUNK_ROWS"),
        ("ops.fusion", "_perpendicular"),
        ("ops.graphs", "_horner"),
        ("config", "Protocol"),
    } <= found
    assert ("ops.losses", "bpr") not in found and ("ops.losses", "embedding_norm") not in found


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_fingerprint_reaches_more_than_the_stages_entry(stage: str) -> None:
    assert STAGES[stage] in reachable(STAGES[stage])
    assert len(reachable(STAGES[stage])) > 1


@pytest.mark.parametrize(("file", "stage"), [("open_clip", "extract"), ("published", None)])
def test_encoder_in_use_is_part_of_extraction(changed_by: Edit, file: str, stage: str | None) -> None:
    path = f"features/encoders/{file}.py"
    changed = changed_by(
        path, "from __future__ import annotations\n", "from __future__ import annotations\n\nNEW = 1\n"
    )
    assert changed == ({stage} if stage else set())


def test_unknown_stage_lists_the_known_ones() -> None:
    with pytest.raises(MmreproError, match="no stage 'trian' to fingerprint; known are fetch, images, prepare"):
        fingerprint("trian")
