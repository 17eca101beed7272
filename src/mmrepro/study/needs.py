"""What a job needs, estimated before it runs: memory, disk and time; upper bounds that are meant to hold, not to fit.

The constants come from committed runs (`results/reference/*/runs.jsonl`: Baby, TikTok, ML-100K) and from the workflow's
benchmark files of MicroLens-50K; each says what it was measured on. Light enough for the Snakefile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mmrepro.config.dataset import DatasetConfig
from mmrepro.config.features import Encoder, PublishedEncoder, SentenceEncoder

Stage = Literal[
    "fetch", "images", "prepare", "align_content", "extract", "item_graph", "probe", "train", "measure", "tables"
]

LEAST_MB = 2000
MB = 1e6
INTERACTIONS_PER_USER = 10  # where the configuration does not say; 5-cores of Amazon and MicroLens have 7 to 9
TRAIN_SHARE = 0.8
BATCH_SIZE = 2048
EPOCHS = 50  # the committed runs stop after 18 to 97

PYTHON_MB = 250  # an interpreter with pandas: preparing MicroLens-50K peaks at 242 MB
TORCH_MB = 900  # with torch and the evaluation: 850 MB on ML-100K, whose data take nothing
ENCODER_MB = 1600  # with a sentence encoder or an open_clip tower: 1,400 MB on MicroLens-50K
ALIGNMENT_MB = 3.2  # a column of the unified vector: parameters with their moments, a batch of states
IMAGE_BYTES = 3 * 224 * 224  # decoded, while an encoder is pre-trained
LANGUAGE_MODEL_MB = 16_000  # a model of 7 thousand million parameters in bfloat16
RANKING_MB = 540  # a block of scores and its top-k (evaluation.ranking.SCORE_BYTES, twice)
GRAPH_MB = 1100  # torch, a tile of products and its blocks: see benchmarks/README.md
BYTES_PER_USER = 4000  # lists of validation and test: 200 rows, twice while they are written
BYTES_PER_PAIR = 200  # of training: index arrays and the sparse graph while it is built
COPIES_OF_PARAMETERS = 8  # gradient, two moments, the best ones, the checkpoint's
COPIES_OF_ACTIVATIONS = 10  # two steps of CM3 at Electronics' size: 1.6 GB at 196 MB a layer of 192 columns
COPIES_OF_FEATURES = 2.5  # as loaded, concatenated for VBPR, and the check of their values
TRAINED_FEATURES = ("lattice", "bm3", "freedom", "mgcn", "alignrec")
COPIES_OF_TRAINED_FEATURES = dict.fromkeys(TRAINED_FEATURES, COPIES_OF_PARAMETERS)  # where the features are parameters
PAIRWISE_MB = 150  # losses over all pairs of a batch
MORE_MB = {"itemknn": 300, "ease": 300, "mmgcn": 500, "alignrec": 750}
"""Blocks of co-occurrences; preferences as wide as the features; four losses over pairs, and what the allocator
keeps.
"""
BYTES_PER_ITEM_PAIR = {"ease": 12}  # float64 while it is inverted in place, and float32 weights

STEP_SECONDS = {
    "popularity": 0.0, "itemknn": 0.0, "ease": 0.0, "bpr": 0.012, "directau": 0.06, "lightgcn": 0.06, "vbpr": 0.02,
    "mmgcn": 1.5, "grcn": 0.75, "dualgnn": 0.18, "lattice": 0.2, "slmrec": 0.55, "bm3": 0.08, "freedom": 0.12,
    "mgcn": 0.6, "dragon": 0.25, "lgmrec": 0.6, "alignrec": 0.14, "cm3": 0.3,
}  # fmt: skip
"""One step on one thread at Baby's size, features and evaluation aside."""
BABY_NODES = 19_445 + 7_050
BABY_SIZE = BABY_NODES + 118_551  # users, items and training pairs: what a step goes over
DENSE = ("mmgcn", "lattice", "bm3", "freedom", "mgcn", "lgmrec")
"""Models whose step is mostly dense layers over users and items."""
FEATURE_SECONDS = {
    "vbpr": 3e-9, "mmgcn": 9e-9, "grcn": 3e-9, "dualgnn": 9e-9, "lattice": 1e-8, "slmrec": 3e-9, "bm3": 1e-8,
    "freedom": 2e-8, "mgcn": 1e-8, "dragon": 9e-9, "lgmrec": 3e-9, "alignrec": 1e-8, "cm3": 9e-9,
}  # fmt: skip
"""An item and column of the features, forward and backward, and the optimiser where they are parameters."""
CUBIC_SECONDS = {"ease": 4e-11}  # an item cubed: 9.3 s at Baby's 7,050
SCORE_SECONDS = 6e-9  # a user and item, ranked: MicroLens-50K
ENCODING_SECONDS = {"sentence_transformers": 0.01, "open_clip": 0.15, "mllm": 60.0}  # an item on one thread
ALIGNMENT_SECONDS = 0.01  # an item and epoch of pre-training
GRAPH_FLOPS = 30e9  # a second, one thread
PROBE_FLOPS = 11e9  # multiplications a second in float64, one thread, 128 columns
PRODUCT_SECONDS = 1e-8  # to rank one cosine
DOWNLOAD_MB_PER_SECOND = 5
MEASURE_SECONDS = 1e-4  # a user: all metrics of both splits
IMAGE_SECONDS = 1.0  # from request to file


@dataclass(frozen=True)
class Needs:
    """What a job is granted and expected to use.

    Attributes
    ----------
    threads
        Processors.
    memory_mb, disk_mb
        Memory, and what the job writes, in MB (10^6 bytes).
    minutes
        About how long it takes on one core.
    gpus
        Graphics cards.
    """

    threads: int = 1
    memory_mb: int = LEAST_MB
    disk_mb: int = 0
    minutes: float = 0.0
    gpus: int = 0


@dataclass(frozen=True)
class Size:
    """Counts of a data set, as the configuration expects them."""

    users: int
    items: int
    interactions: int
    train: int


def size_of(dataset: DatasetConfig) -> Size | None:
    """Return the counts that the configuration expects; None where it does not name users and items."""
    expected = dataset.expected
    if expected.users is None or expected.items is None:
        return None
    splits = (expected.train, expected.valid, expected.test)
    known = sum(count for count in splits if count is not None)
    interactions = known if None not in splits else max(known, INTERACTIONS_PER_USER * expected.users)
    train = expected.train if expected.train is not None else round(TRAIN_SHARE * interactions)
    return Size(expected.users, expected.items, interactions, train)


def width(encoder: Encoder, modality: str) -> int:
    """Return the columns of a feature matrix, at most: what the encoder says, or the widest that is in use."""
    stated = getattr(encoder, "dim", None)
    if stated is not None:
        return int(stated)
    match encoder:
        case SentenceEncoder(weights="offline"):
            return 384
        case PublishedEncoder() if modality != "text":
            return 4096
    return 1024


def memory_mb(
    stage: Stage,
    dataset: DatasetConfig,
    widths: Sequence[int] = (),
    encoder: str = "published",
    embedding_size: int = 64,
    model: str = "lightgcn",
) -> int:
    """Return the memory that a job is to be granted.

    Parameters
    ----------
    stage
        Kind of the job.
    dataset
        Its data set; where users and items are not in `expected`, only what does not depend on them counts.
    widths
        Columns of the feature matrices that the job reads or makes.
    encoder
        Of `extract`: the kind of its encoder.
    embedding_size, model
        Of `train`: the model's, and its name.

    Returns
    -------
    int
        MB (10^6 bytes), at least 2,000.
    """
    size = size_of(dataset) or Size(0, 0, 0, 0)
    matrices = 4 * size.items * sum(widths) / MB
    match stage:
        case "images" | "prepare":  # keys, texts and tables of them
            need = PYTHON_MB + (1000 * size.interactions + 10_000 * size.items) / MB
        case "extract":  # the matrix, the present rows, their copy and what is written
            start = {"published": PYTHON_MB, "amazon_image": PYTHON_MB, "mllm": LANGUAGE_MODEL_MB}.get(
                encoder, ENCODER_MB
            )
            need = start + 4 * matrices
        case "align_content":
            need = ENCODER_MB + ALIGNMENT_MB * sum(widths) + 4 * matrices
        case "probe":  # the matrix, its unit rows, a tile of products, and the ranking
            need = GRAPH_MB + 3 * matrices + _ranking_mb(size)
        case "measure":  # the lists of one run, and the metrics of its users
            need = PYTHON_MB + 2 * BYTES_PER_USER * size.users / MB + 2 * matrices
        case "item_graph":  # the matrix with the check of its values, and the candidates
            need = GRAPH_MB + 1.25 * matrices + 400 * size.items / MB
        case "train":
            copies = COPIES_OF_FEATURES + COPIES_OF_TRAINED_FEATURES.get(model, 0)
            need = TORCH_MB + MORE_MB.get(model, 0) + copies * matrices
            need += _ranking_mb(size) + _model_mb(size, widths, embedding_size)
            need += BYTES_PER_ITEM_PAIR.get(model, 0) * size.items**2 / MB
        case _:
            need = LEAST_MB
    return max(LEAST_MB, math.ceil(need))


def _ranking_mb(size: Size) -> float:
    """Scores of a block of users and the lists of all."""
    return min(RANKING_MB, 8 * size.users * size.items / MB) + BYTES_PER_USER * size.users / MB


def _model_mb(size: Size, widths: Sequence[int], embedding_size: int) -> float:
    """Parameters with what training keeps of them, layers, and the graph."""
    columns = (len(widths) + 1) * embedding_size
    nodes = 4 * (size.users + size.items) * columns / MB
    layers = COPIES_OF_ACTIVATIONS * nodes + PAIRWISE_MB if widths else 0.0
    return COPIES_OF_PARAMETERS * nodes + layers + BYTES_PER_PAIR * size.train / MB


def disk_mb(stage: Stage, dataset: DatasetConfig, widths: Sequence[int] = (), embedding_size: int = 64) -> int:
    """Return the size of what a job writes, in MB; parameters as those of `memory_mb`."""
    size = size_of(dataset) or Size(0, 0, 0, 0)
    match stage:
        case "fetch":  # a file of unknown size: compressed reviews and records
            unknown = 300 * size.interactions + 3000 * size.items
            arrays = 4 * 4096 * size.items
            guesses = (arrays if source.name.endswith((".npy", ".b")) else unknown for source in dataset.files)
            sizes = (source.bytes for source in dataset.files)
            need = sum(guess if known is None else known for known, guess in zip(sizes, guesses, strict=True))
        case "images":
            need = 50_000 * size.items
        case "prepare":
            need = 20 * size.interactions + 2000 * size.items + 30 * size.users
        case "extract":
            need = 4 * size.items * sum(widths)
        case "align_content":  # the splits of the literature come without images
            image = IMAGE_BYTES if dataset.split.kind != "published" else 0
            need = (4 * sum(widths) + image) * size.items
        case "item_graph":
            need = 100 * size.items * len(widths)
        case "train":  # lists of each user; parameters; vectors in float16
            columns = (len(widths) + 1) * embedding_size
            need = 2000 * size.users + 6 * (size.users + size.items) * columns
        case "measure":
            need = 200 * size.users
        case _:
            need = 0
    return max(1, math.ceil(need / MB))


def minutes(
    stage: Stage, dataset: DatasetConfig, widths: Sequence[int] = (), encoder: str = "published",
    model: str = "lightgcn", epochs: int = EPOCHS,
) -> float:  # fmt: skip
    """Return about how long a job takes on one core.

    Parameters
    ----------
    stage, dataset, widths, encoder
        As those of `memory_mb`.
    model
        Of `train`; an unknown one counts as the slowest.
    epochs
        Of `train` and `align_content`; a run that stops early or late takes less or more.

    Returns
    -------
    float
        Minutes, an estimate.
    """
    size = size_of(dataset) or Size(0, 0, 0, 0)
    match stage:
        case "fetch":
            seconds = disk_mb("fetch", dataset) / DOWNLOAD_MB_PER_SECOND
        case "images":
            seconds = 5 + IMAGE_SECONDS * size.items / (dataset.images.connections if dataset.images else 1)
        case "prepare":
            seconds = 2 + 3e-5 * size.interactions + 1e-4 * size.items
        case "extract":
            seconds = 5 + ENCODING_SECONDS.get(encoder, 1e-3) * size.items
        case "align_content":
            seconds = 5 + ALIGNMENT_SECONDS * size.items * epochs
        case "probe":  # two histories in float64, and the item graph; modalities are measured alone and together
            n = len(widths) + (len(widths) > 1)
            columns, pairs = sum(widths) * (1 + (len(widths) > 1)), size.users * size.items
            seconds = 5 + 2 * pairs * columns / PROBE_FLOPS + (2 * n + 1) * SCORE_SECONDS * pairs
            seconds += size.items**2 * (columns / GRAPH_FLOPS + PRODUCT_SECONDS * n)
        case "item_graph":
            seconds = 5 + size.items**2 * (sum(widths) / GRAPH_FLOPS + PRODUCT_SECONDS * len(widths))
        case "train":
            seconds = 5 + _epoch_seconds(size, widths, model) * (epochs if STEP_SECONDS.get(model, 1) else 1)
            seconds += CUBIC_SECONDS.get(model, 0.0) * size.items**3
        case "measure":  # a run
            seconds = 0.3 + MEASURE_SECONDS * size.users
        case _:
            seconds = 20
    return seconds / 60


def _epoch_seconds(size: Size, widths: Sequence[int], model: str) -> float:
    """Steps, each over the whole graph, and the ranking of validation."""
    step = STEP_SECONDS.get(model, max(STEP_SECONDS.values()))
    nodes = size.users + size.items
    step *= nodes / BABY_NODES if model in DENSE else (nodes + size.train) / BABY_SIZE
    if step:
        step += FEATURE_SECONDS.get(model, max(FEATURE_SECONDS.values())) * size.items * sum(widths)
    return math.ceil(size.train / BATCH_SIZE) * step + SCORE_SECONDS * size.users * size.items
