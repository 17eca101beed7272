"""What an edit of the code changes: of each kind of edit, exactly the fingerprints that reach it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mmrepro.config.model import model_names
from mmrepro.errors import MmreproError
from mmrepro.records import canonical, definitions
from mmrepro.records import fingerprint as fingerprints
from mmrepro.records.fingerprint import fingerprint, reachable
from mmrepro.study import kinds
from mmrepro.study.kinds import KINDS, code_of, training_code

SOURCE = Path(__file__).parents[2] / "src/mmrepro"
MODELS = set(model_names())
NEURAL = MODELS - {"popularity", "itemknn", "ease"}
LAYER_MEANS = {"alignrec", "lightgcn", "directau", "bm3", "freedom", "mgcn", "lattice", "slmrec", "lgmrec"}
LAYER_SUMS = LAYER_MEANS | {"cm3", "dualgnn", "dragon"}
UNIFORMITY = {"cm3", "directau"}
PARTS: dict[str, dict[str, str]] = {
    "fetch": {"reader": "miniature"}, "images": {"reader": "mmrec"}, "prepare": {"reader": "mmrec"},
    "extract": {"encoder": "open_clip"}, "item_graph": {}, "align_content": {"encoder": "alignrec"}, "probe": {},
    "select": {}, "measure": {}, "tables": {}, "page": {}, "track": {},
}  # fmt: skip
Edit = Callable[..., set[str]]


CACHED = (
    definitions.module, definitions.bases_of, canonical.definition, fingerprints._hash, fingerprints.fingerprint, kinds._code,
)  # fmt: skip


def all_fingerprints(package: Path) -> dict[str, str]:
    """Of every model's training and of every other stage, by the code below a folder."""
    here = definitions.ROOT
    try:
        definitions.ROOT = package
        for function in CACHED:
            function.cache_clear()
        found = {f"train {model}": code_of("train", model=model, metric="recall") for model in sorted(MODELS)}
        return found | {kind: code_of(kind, **parts) for kind, parts in PARTS.items()}
    finally:
        definitions.ROOT = here
        for function in CACHED:
            function.cache_clear()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(SOURCE, folder / "mmrepro", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def before(package: Path) -> dict[str, str]:
    return all_fingerprints(package / "mmrepro")


@contextmanager
def written(package: Path, texts: dict[str, str]) -> Iterator[None]:
    """Files of the copy with other texts; as they were afterwards."""
    paths = {package / "mmrepro" / name: text for name, text in texts.items()}
    originals = {path: path.read_text() if path.is_file() else None for path in paths}
    try:
        for path, text in paths.items():
            path.write_text(text)
        yield
    finally:
        for path, text in originals.items():
            path.unlink() if text is None else path.write_text(text)


@pytest.fixture
def changed_by(package: Path, before: dict[str, str]) -> Edit:
    """Edit places of a copy of the package, each (file, old, new); return what has another fingerprint then."""

    def edit(*places: str) -> set[str]:
        texts: dict[str, str] = {}
        for file, old, new in zip(*[iter(places)] * 3, strict=True):
            text = texts.get(file) or ((package / "mmrepro" / file).read_text() if old else "")
            assert not old or text.count(old) == 1, f"{file} holds '{old}' {text.count(old)} times; adapt this test"
            texts[file] = text.replace(old, new) if old else new
        with written(package, texts):
            after = all_fingerprints(package / "mmrepro")
        return {stage for stage in before if before[stage] != after[stage]}

    return edit


def trained(*models: str) -> set[str]:
    return {f"train {model}" for model in models}


def test_the_copy_has_the_fingerprints_of_this_package(before: dict[str, str]) -> None:
    here = {f"train {m}": training_code(m, "recall_at_20") for m in MODELS}
    assert here == {name: code for name, code in before.items() if name.startswith("train ")}
    assert len(set(before.values())) == len(before)
    assert all(len(value) == 16 and int(value, 16) >= 0 for value in before.values())


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_of_the_table_of_kinds_is_a_definition_that_reaches_others(kind: str) -> None:
    for entry in KINDS[kind].entries:
        assert len(reachable(entry)) > 1, entry


NEUTRAL = {
    "comment": ("ops/losses.py", "# rows of the pair matrix held at once", "# another comment: rows held at once"),
    "docstring": ("ops/losses.py", '"""Mean squared distance between matching unit rows (CM3, alignment term).', '"""Other.'),
    "module docstring": ("ops/losses.py", '"""Losses as pure functions;', '"""Functions;'),
    "layout": ("ops/losses.py", "return (a - b).square().sum(dim=-1).mean()",
               "return ((a - b).square()\n        .sum(dim=-1).mean())"),
    "class docstring": ("models/cm3.py", '"""Parameters of CM3."""', '"""What CM3 takes."""'),
    "an error's words": ("training/trainer.py", "; lower learning_rate", "; try a lower learning_rate"),
    "an error's class": ("errors.py", '    """A problem', '    extra = 1\n    """A problem'),
    "a description of a parameter": ("models/cm3.py", 'description="weight of', 'description="the weight of'),
    "a word of the progress line": ("training/recorder.py", "| epoch {", "| round {"),
    "a message of resuming": ("training/trainer.py", "resumed after epoch", "goes on after epoch"),
    "a key of the run's record": ("training/recorder.py", '"status": "finished",', '"status": "finished", "more": 1,'),
    "how JSON is written": ("records/files.py", "indent=2", "indent=4"),
    "annotations": ("ops/losses.py", "def alignment(a: Tensor, b: Tensor) -> Tensor:",
                    "def alignment(a: 'torch.Tensor', b: 'torch.Tensor'):"),
    "a constant nobody reads": ("ops/losses.py", "PAIR_TEMPERATURE = 4.0", "NOBODY = 1\nPAIR_TEMPERATURE = 4.0"),
    "a column nobody reads": ("columns.py", '    USER = "user"', '    COUNTRY = "country"\n    USER = "user"'),
    "a function nobody calls": ("ops/graphs.py", "def _horner(", "def unused() -> int:\n    return 1\n\n\ndef _horner("),
    "a switch that nobody reads": ("config/protocol.py", '    negatives_from: ',
                                   '    nothing: Literal["a", "b"] = "a"\n    negatives_from: '),
    "a parameter that nobody reads": ("models/base.py", "    batch_size: int",
                                      "    nothing: int = Field(3, ge=1)\n    batch_size: int"),
    "a line of the table of kinds": ("study/kinds.py", '"raw files", f"{RAW}/M', '"files", f"{RAW}/M'),
    "a helper renamed": ("ops/losses.py", "def _products(", "def _all_products("),
}  # fmt: skip


@pytest.mark.parametrize("edit", NEUTRAL.values(), ids=NEUTRAL)
def test_edits_that_change_no_number_change_nothing(
    changed_by: Edit, package: Path, edit: tuple[str, str, str]
) -> None:
    file, old, new = edit
    text = (package / "mmrepro" / file).read_text()
    if old == "def _products(":  # and where it is used
        assert changed_by(file, "", text.replace("_products(", "_all_products(")) == set()
        return
    assert changed_by(file, "", text.replace(old, new, 1)) == set() and old in text


def test_a_moved_definition_changes_nothing(changed_by: Edit, package: Path) -> None:
    """`embedding_norm` goes to a module of its own under another name, and two models are told."""
    losses = (package / "mmrepro/ops/losses.py").read_text()
    start = losses.index("def embedding_norm(")
    stop = losses.index("\n\n\n", start)
    moved = losses[start:stop].replace("def embedding_norm(", "def norm_of(")
    head = "from __future__ import annotations\n\nimport torch\nfrom torch import Tensor\n\n\n"
    assert changed_by(
        "ops/losses.py", "", losses[:start] + losses[stop:].lstrip() + "\n\nfrom mmrepro.ops.norms import norm_of as embedding_norm\n",
        "ops/norms.py", "", head + moved + "\n",
        "models/bpr.py", "import bpr, embedding_norm", "import bpr\nfrom mmrepro.ops.norms import norm_of",
        "models/bpr.py", "* embedding_norm(", "* norm_of(",
    ) == set()  # fmt: skip


def test_a_split_module_changes_nothing(changed_by: Edit, package: Path) -> None:
    """The sampler and the batches part; both keep what they import."""
    text = (package / "mmrepro/training/sampling.py").read_text()
    start = text.index("def epoch_batches(")
    imports = text[: text.index("class NegativeSampler")]
    rest = "from mmrepro.training.sampling import NegativeSampler\n\n\n" + text[start:]
    assert changed_by(
        "training/sampling.py", "", text[:start],
        "training/batches.py", "", imports + rest,
        "training/trainer.py", "import NegativeSampler, epoch_batches",
        "import NegativeSampler\nfrom mmrepro.training.batches import epoch_batches",
    ) == set()  # fmt: skip


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
        ("models/mgcn.py", "0.96", "0.95", {"mgcn"}),
        ("models/cm3.py", "    gamma: float = Field(0.5", "    gamma: float = Field(0.6", {"cm3"}),
    ],
)  # fmt: skip
def test_an_edited_formula_or_default_changes_exactly_the_models_that_use_it(
    changed_by: Edit, file: str, old: str, new: str, models: set[str]
) -> None:
    assert changed_by(file, old, new) == trained(*models)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("training/sampling.py", "self.pool[choice + before]", "self.pool[choice]"),
        ("study/layout.py", "LIST_DEPTH = 100", "LIST_DEPTH = 50"),
        ("training/trainer.py", "torch.stack(list(terms.values())).sum()", "2 * torch.stack(list(terms.values())).sum()"),
        ("config/protocol.py", '"current", description="parameters that rank"', '"last_batch", description="parameters that rank"'),
        ("training/released.py", "bad > self.patience", "bad > 2 * self.patience"),
    ],
)  # fmt: skip
def test_what_every_run_goes_through_changes_all_runs(changed_by: Edit, file: str, old: str, new: str) -> None:
    changed = changed_by(file, old, new)
    assert trained(*MODELS) <= changed
    assert not changed & {"fetch", "prepare", "extract", "item_graph"}


def test_a_switch_changes_only_the_models_that_read_it(changed_by: Edit) -> None:
    assert changed_by(
        "config/protocol.py", "    negatives_from: ", '    tempered: Literal["no", "yes"] = "no"\n    negatives_from: ',
        "models/cm3.py", 'self.safe_angle = protocol.angle_clamp == "safe"',
        'self.safe_angle = protocol.angle_clamp == "safe"\n        self.tempered = protocol.tempered == "yes"',
    ) == trained("cm3")  # fmt: skip


def test_a_parameter_changes_only_the_model_that_reads_it(changed_by: Edit) -> None:
    assert changed_by(
        "models/bpr.py", "    reg_weight: float", "    extra: float = Field(0.0, ge=0)\n    reg_weight: float",
        "models/bpr.py", "self.parameters_ = parameters", "self.parameters_, self.extra = parameters, parameters.extra",
    ) == trained("bpr")  # fmt: skip


DECIDING = {
    "a metric of the probes": ("evaluation/metrics.py", "gained = _last(", "gained = 2 * _last(", {"probe", "measure"}),
    "the rows of lists": ("evaluation/lists.py", "ranked.items.ravel()", "ranked.items[:, ::-1].ravel()",
                          trained(*MODELS)),
    "what a selection reads": ("training/run.py", "evaluator.value(lists, split, metric_named(name), cutoff)",
                               "round(evaluator.value(lists, split, metric_named(name), cutoff), 2)", trained(*MODELS)),
    "how embeddings are kept": ("training/run.py", "astype(np.float16)", "astype(np.float32)", trained(*MODELS)),
    "the length of neighbour lists": ("config/features.py", "        10, ge=1, description", "        15, ge=1, description",
                                      {"item_graph"}),
    "threads of the probe": ("evaluation/probe.py", "@torch_threads(1)", "@torch_threads(2)", {"probe"}),
    "the features that lists are compared by": ("evaluation/measure.py", "None if name == NO_FEATURES else", "None if True else",
                                                {"measure"}),
    "which error is raised": ("datasets/http.py", 'raise Refused(f"HTTP status {status}")',
                              'raise Interrupted(f"HTTP status {status}")', {"fetch", "images"}),
    "what an error carries": ("datasets/http.py", '{status}", _retry_after(response))', '{status}", 0.0)',
                              {"fetch", "images"}),
    "the type of a parameter": ("models/cm3.py", "    gamma: float", "    gamma: int", trained("cm3")),
}  # fmt: skip


@pytest.mark.parametrize("edit", DECIDING.values(), ids=DECIDING)
def test_an_edit_that_decides_a_number_is_seen(changed_by: Edit, edit: tuple[str, str, str, set[str]]) -> None:
    file, old, new, stages = edit
    assert stages <= changed_by(file, old, new)


REFUSED = {
    "a loop": ("for _ in range(2):\n    pass\n", "a statement that is no definition"),
    "a conditional": ("if True:\n    EXTRA = 1\n", "a statement that is no definition"),
    "a call": ("print(1)\n", "a statement that is no definition"),
    "an augmented constant": ("EXTRA = 1\nEXTRA += 1\n", "a statement that is no definition"),
    "a constant made twice": ("EXTRA = 1\nEXTRA = EXTRA + 1\n", "EXTRA is defined twice"),
    "an entry that is set": ("EXTRA = {}\nEXTRA['a'] = 1\n", "a statement that is no definition"),
    "a relative import": ("from .losses import bpr\n", "a relative import"),
    "a whole module": ("import mmrepro.ops.losses as losses\n", "a module of the package, or beside this one, by its whole name"),
    "a base in a module": ("from mmrepro.models import base\n\n\nclass Other(base.Model):\n    pass\n",
                           "a base class that is no plain name"),
}  # fmt: skip


@pytest.mark.parametrize(("added", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_followed_is_refused(changed_by: Edit, package: Path, added: str, reason: str) -> None:
    text = (package / "mmrepro/ops/losses.py").read_text()
    with pytest.raises(MmreproError, match=f"losses.py:.*fingerprints do not follow {reason}"):
        changed_by("ops/losses.py", "", text + added)


def test_an_entry_that_is_missing_is_refused() -> None:
    with pytest.raises(MmreproError, match="no class derived from Model"):
        fingerprint("ops.losses")
    with pytest.raises(MmreproError, match="no generate"):
        fingerprint("datasets.readers.mmrec:generate")
    assert fingerprint("datasets.readers.mmrec:generate?") == fingerprint()


def test_defaults_of_arguments_belong_to_what_is_around_them(changed_by: Edit, package: Path) -> None:
    text = (package / "mmrepro/ops/losses.py").read_text()
    plain = text.replace("def bpr(", "STEP = 1.0\n\n\ndef bpr(", 1)
    start = plain.index("def bpr(")
    end = plain.index(") ->", start)
    shadowed = f"{plain[:end]}, STEP: float = STEP{plain[end:]}"
    one, two = (fingerprint_with(package, shadowed.replace("STEP = 1.0", f"STEP = {value}")) for value in (1.0, 2.0))
    assert one != two


def fingerprint_with(package: Path, text: str) -> str:
    with written(package, {"ops/losses.py": text}):
        return all_fingerprints(package / "mmrepro")["train bpr"]


def test_every_module_of_a_stage_can_be_followed() -> None:
    for file in sorted(SOURCE.rglob("*.py")):
        name = ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        if name not in ("cli", "__main__"):
            definitions.Module(name)


def test_a_new_metric_retrains_nothing(changed_by: Edit) -> None:
    function = "def share_of_two(measured: Measured, k: int) -> np.ndarray:\n    return measured.hits[:, :2].mean(axis=1)\n\n\n"
    assert changed_by(
        "evaluation/metrics.py", "def precision(", f"{function}def precision(",
        "evaluation/metrics.py", "METRICS = (\n", 'METRICS = (\n    Metric(share_of_two, "share of two", "S2"),\n',
    ) == {"measure", "tables", "page"}  # fmt: skip


def test_a_metric_changes_the_runs_that_watch_it(changed_by: Edit) -> None:
    watched = changed_by(
        "evaluation/metrics.py", "return found / outcome.n_relevant", "return 2 * found / measured.n_relevant"
    )
    assert trained(*MODELS) <= watched and "measure" in watched
    other = changed_by("evaluation/metrics.py", "return found / k", "return 2 * found / k")
    assert not other & trained(*MODELS) and "measure" in other


def test_a_label_of_a_metric_retrains_nothing(changed_by: Edit) -> None:
    changed = changed_by("evaluation/metrics.py", 'Metric(recall, "recall", "R"', 'Metric(recall, "Recall", "R"')
    assert not changed & trained(*MODELS) and "tables" in changed


def test_neighbour_search_changes_the_item_graph_and_the_models_that_search_themselves(changed_by: Edit) -> None:
    assert changed_by("ops/neighbours.py", ".float().clamp_(-1, 1)", ".float().clamp_(0, 1)") == {
        "item_graph",
        "probe",
        *trained("alignrec", "lattice"),
    }


def test_a_reader_changes_the_stages_that_read(changed_by: Edit) -> None:
    unused = changed_by("datasets/readers/mmrec.py", "def read(", "def read_too() -> None:\n    pass\n\n\ndef read(")
    assert unused == set()
    assert changed_by("datasets/readers/mmrec.py", "FIRST_LINE = 2", "FIRST_LINE = 3") == {"images", "prepare"}


def test_an_encoder_changes_the_extraction_that_uses_it(changed_by: Edit) -> None:
    assert changed_by("features/encoders/open_clip.py", "TEXT_SHARD = 4096", "TEXT_SHARD = 2048") == {"extract"}
    assert changed_by("features/encoders/sentence_transformers.py", "SHARD = 16_384", "SHARD = 8_192") == set()


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        ("reporting/tables/cost.py", "JOULES_A_KWH = 3.6e6", "JOULES_A_KWH = 3.7e6", {"tables", "page"}),
        ("reporting/figures/degrees.py", "HEIGHT, LEGEND_ROW, LEGEND_COLUMNS = 6.4", "HEIGHT, LEGEND_ROW, LEGEND_COLUMNS = 6.5", {"tables"}),
        ("reporting/page/checklist.py", 'UNKNOWN = "unknown"', 'UNKNOWN = "not known"', {"page"}),
    ],
)  # fmt: skip
def test_a_table_or_figure_changes_what_shows_it_alone(
    changed_by: Edit, file: str, old: str, new: str, stages: set[str]
) -> None:
    assert changed_by(file, old, new) == stages


def test_the_command_line_is_no_part_of_any_stage(changed_by: Edit) -> None:
    assert changed_by("cli.py", "count = import_runs", "count = 1 + import_runs") == set()


def test_what_another_package_is_called_counts_and_how_it_is_imported_does_not(changed_by: Edit) -> None:
    assert changed_by("models/popularity.py", "import numpy as np", "import numpy", "models/popularity.py", "np.bincount", "numpy.bincount") == set()  # fmt: skip
    assert changed_by("models/popularity.py", "np.bincount", "np.cumsum") == trained("popularity")


def test_reachable_follows_methods_constants_and_base_classes() -> None:
    found = set(reachable("models.cm3:CM3"))
    assert {
        ("models.cm3", "CM3Parameters"),
        ("models.base", "Model"),
        ("ops.losses", "_PairLogMean"),
        ("ops.losses", "_products"),
        ("ops.losses", "CHUNK_ROWS"),
        ("ops.fusion", "_perpendicular"),
        ("ops.graphs", "_horner"),
        ("config.protocol", "Protocol"),
    } <= found
    assert ("ops.losses", "bpr") not in found and ("ops.losses", "embedding_norm") not in found


def test_a_model_is_the_class_of_its_module_and_parts_tell_jobs_apart() -> None:
    assert fingerprint("models.bpr") == fingerprint("models.bpr:BPR")
    assert code_of("train", model="bpr", metric="recall") != code_of("train", model="bpr", metric="ndcg")
    assert code_of("search", model="bpr", metric="recall") != code_of("train", model="bpr", metric="recall")
