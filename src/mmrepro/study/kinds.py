"""The kinds of jobs, one line of a table each: what a kind makes, which code it runs, and who looks at what it
leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from mmrepro.config.model import is_lists
from mmrepro.config.run import metric_of
from mmrepro.records.fingerprint import fingerprint, forget_files
from mmrepro.study.layout import ENCODER, FEATURES, MEASURES, PREPARED, PROBE, RAW, RUN, SELECTION, STUDY, TRIAL

READER, ENCODING = "datasets.readers.{}", "features.encoders.{}:encode"
TRAINED_BY = {"model": "models.{}", "outside": "{}", "metric": "evaluation.metrics:{}"}
GIVEN_LISTS = "evaluation.given_lists:given_lists"
"""The code that stands in a model's place where lists are given."""
CELL_LOG = "{dataset}/{features}/{model}/{hash}"


@dataclass(frozen=True)
class Kind:
    """One kind of job.

    Attributes
    ----------
    title
        What several of them are called.
    product
        The file whose presence says that a job is done, with the wildcards of its rule.
    log
        Its log below `logs/`, without ending.
    entries
        The functions that it runs, `<module>:<definition>`; `*` stands for every module of a folder.
    parts
        What it imports by name: label -> `<module>:<definition>`, or a module that holds a model.
    runtime
        Minutes granted at least.
    records
        File of a publication that takes the records of such jobs; none: the product is no record.
    evidence
        File of a publication that takes what else tables are built from, a line a file, and the pattern of these files.
    tracked
        Whether MLflow is told of it.
    sequential
        Whether a job makes trainings of its own, one after the other.
    wanted
        Whether `snakemake` without a target makes its products.
    remade
        Whether it makes them once more after they were deleted, also where nothing that is left to do reads them;
        others are made for what reads them alone.
    beside
        Files that are made with the product, with its wildcards.
    """

    title: str
    product: str
    log: str
    entries: tuple[str, ...]
    parts: Mapping[str, str] = field(default_factory=dict)
    runtime: int = 30
    records: str | None = None
    evidence: tuple[str, str] | None = None
    tracked: bool = False
    sequential: bool = False
    wanted: bool = False
    remade: bool = False
    beside: tuple[str, ...] = ()

    @property
    def log_file(self) -> str:
        """Path of the log, with wildcards."""
        return f"logs/{self.log}.log"

    @property
    def benchmark_file(self) -> str:
        """Path of Snakemake's measurements, with wildcards."""
        return f"logs/benchmarks/{self.log}.tsv"


KINDS: dict[str, Kind] = {
    "fetch": Kind(
        "raw files", f"{RAW}/MANIFEST.json", "fetch/{dataset}", ("datasets.fetch:fetch",),
        {"reader": f"{READER}:generate?"}, 240,
    ),
    "images": Kind(
        "image downloads", f"{RAW}/IMAGES.json", "images/{dataset}", ("datasets.image_download:download_images",),
        {"reader": f"{READER}:read"}, 240,
    ),
    "prepare": Kind(
        "data sets", f"{PREPARED}/statistics.json", "prepare/{dataset}", ("datasets.prepare:prepare",),
        {"reader": f"{READER}:read"}, 60, remade=True, evidence=("datasets.jsonl", f"{PREPARED}/statistics.json"),
        beside=tuple(f"{PREPARED}/{name}.parquet" for name in ("interactions", "items", "users", "left_out")),
    ),
    "align_content": Kind(
        "pre-trainings", f"{ENCODER}/run.json", "align_content/{dataset}/{features}/{modality}",
        ("features.alignment.pretrain:align_content", "features.extract:extract"), {"encoder": ENCODING}, 720,
        records="alignments.jsonl", tracked=True, remade=True,
        evidence=("features.jsonl", f"{FEATURES}/{{modality}}.json"),
        beside=(f"{ENCODER}/encoder.pt", f"{FEATURES}/{{modality}}.npy", f"{FEATURES}/{{modality}}.json"),
    ),
    "extract": Kind(
        "features", f"{FEATURES}/{{modality}}.json", "extract/{dataset}/{features}/{modality}",
        ("features.extract:extract",), {"encoder": ENCODING}, 240, remade=True,
        evidence=("features.jsonl", f"{FEATURES}/{{modality}}.json"),
        beside=(f"{FEATURES}/{{modality}}.npy",),
    ),
    "item_graph": Kind(
        "item graphs", f"{FEATURES}/{{modality}}.neighbours.npz", "item_graph/{dataset}/{features}/{modality}",
        ("features.item_graph:build_item_graph",), runtime=60, remade=True,
    ),
    "probe": Kind(
        "probes", PROBE, "probes/{dataset}/{features}", ("evaluation.probe:probe",), runtime=240,
        records="probes.jsonl", remade=True,
    ),
    "train_trial": Kind(
        "trials", f"{TRIAL}/run.json", f"trials/{CELL_LOG}/seed{{seed}}", ("training.run:train",), TRAINED_BY, 720,
        records="runs.jsonl", tracked=True,
    ),
    "select": Kind(
        "selections", SELECTION, f"searches/{{search}}/{CELL_LOG}", ("training.selection:select",), runtime=10,
        evidence=("selections.jsonl", SELECTION),
    ),
    "search": Kind(
        "searches", SELECTION, f"searches/{{search}}/{CELL_LOG}", ("training.tpe:search",), TRAINED_BY, 720,
        sequential=True, evidence=("selections.jsonl", SELECTION),
    ),
    "train": Kind(
        "final runs", f"{RUN}/run.json", f"runs/{CELL_LOG}/seed{{seed}}", ("training.run:train",), TRAINED_BY, 720,
        records="runs.jsonl", tracked=True, remade=True, beside=(f"{RUN}/lists.parquet", f"{RUN}/model.pt"),
    ),
    "measure": Kind(
        "measures", f"{MEASURES}.json", "measure/{study}/{dataset}", ("evaluation.measure:measure_study",), runtime=60,
        wanted=True,
    ),
    "tables": Kind(
        "tables", f"{STUDY}/summary.json", "tables/{study}",
        ("reporting.build:build_tables", "reporting.tables.*:build", "reporting.figures.*:draw"), wanted=True,
    ),
    "page": Kind(
        "pages", f"{STUDY}/report/index.html", "page/{study}", ("reporting.page.build:build_page",), runtime=60,
        wanted=True, beside=(f"{STUDY}/report/main.html",),
    ),
    "track": Kind(
        "imports into MLflow", f"{STUDY}/tracking.json", "track/{study}",
        ("housekeeping.tracking:import_runs",), wanted=True,
    ),
}  # fmt: skip
"""Name of a rule -> its jobs, in the order in which data flow."""


@cache
def _code(kind: str, parts: tuple[tuple[str, str], ...]) -> str:
    templates = KINDS[kind].parts
    return fingerprint(*KINDS[kind].entries, *(templates[label].format(name) for label, name in parts))


def code_of(kind: str, **parts: str) -> str:
    """Return the fingerprint of the code that a job runs.

    Parameters
    ----------
    kind
        A key of `KINDS`.
    **parts
        What it imports by name, by the labels of the kind: `model="cm3", metric="recall"`.

    Returns
    -------
    str
        Sixteen hexadecimal digits.
    """
    return _code(kind, tuple(sorted(parts.items())))


def training_parts(model: str, watch: str, outside: str | None = None) -> dict[str, str]:
    """Return what a training imports by name, by the labels of its kind.

    Parameters
    ----------
    model
        Its name.
    watch
        The watched metric with its cutoff.
    outside
        Where the model comes from, if not from the package.
    """
    metric = metric_of(watch)[0]
    if outside is None:
        return {"model": model, "metric": metric}
    return {"outside": GIVEN_LISTS if is_lists(outside) else outside, "metric": metric}


def training_code(model: str, watch: str, outside: str | None = None) -> str:
    """Return the fingerprint of training a model; every run records it. Parameters are those of `training_parts`."""
    return code_of("train", **training_parts(model, watch, outside))


def forget_code() -> None:
    """Take fingerprints anew: in a process that lives on, a user's file may have changed."""
    _code.cache_clear()
    forget_files()
