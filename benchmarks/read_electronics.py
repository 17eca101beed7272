"""Seconds and peak memory of reading and preparing data of the size of Amazon Electronics, 2014.

The files are generated, in the formats of the release: 7,824,482 ratings by 4,201,696 users of 476,002 items, whose
popularity follows a power law, and 498,196 metadata lines; with --image-features also 8.2 GB of image vectors. Every
measurement is a process of its own, so that no peak hides another.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

DIM, IMAGE_ITEMS, BLOCK = 4096, 63_001, 4096
DIGITS = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", np.uint8)
WORDS = np.array(
    "quiet bright small cable case stand charger lens tripod screen black pocket solid made for of".split()
)


@dataclass(frozen=True)
class Size:
    """Numbers of what is generated."""

    ratings: int
    users: int
    items: int
    metadata: int

    @classmethod
    def scaled(cls, scale: float) -> Size:
        """Return the size of Electronics, times `scale`."""
        return cls(*(int(scale * number) for number in (7_824_482, 4_201_696, 476_002, 498_196)))


def key_texts(prefix: bytes, width: int, indices: np.ndarray) -> np.ndarray:
    """Return distinct keys of `width` characters in no order, as fixed-width bytes."""
    places = width - len(prefix)
    scattered = indices * 48_271 % 2_147_483_647
    digits = scattered[:, None] // 36 ** np.arange(min(places, 11)) % 36
    text = np.full((len(indices), width), ord("0"), np.uint8)
    text[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
    text[:, len(prefix) : len(prefix) + digits.shape[1]] = DIGITS[digits]
    return text.view(f"S{width}").ravel()


def power_law(rng: np.random.Generator, population: int, exponent: float, size: int) -> np.ndarray:
    """Return everyone once, and more the smaller the number."""
    weights = np.arange(1, population + 1) ** -exponent
    more = rng.choice(population, size - population, p=weights / weights.sum())
    return rng.permutation(np.concatenate([np.arange(population), more]))


def generate_ratings(folder: Path, size: Size) -> None:
    """Write `ratings_Electronics.csv`: user, item, rating, time, without a header."""
    from pyarrow import Table, csv

    rng = np.random.default_rng(0)
    users = key_texts(b"A", 14, power_law(rng, size.users, 0.7, size.ratings))
    items = key_texts(b"B00", 10, power_law(rng, size.items, 0.8, size.ratings))
    columns = {
        "user": users.astype("U"),
        "item": items.astype("U"),
        "rating": rng.integers(1, 6, size.ratings).astype(float),
        "time": rng.integers(900_000_000, 1_406_000_000, size.ratings),
    }
    options = csv.WriteOptions(include_header=False, quoting_style="none")
    csv.write_csv(Table.from_pydict(columns), folder / "ratings_Electronics.csv", options)


def generate_metadata(folder: Path, size: Size) -> None:
    """Write `meta_Electronics.json.gz`: a Python literal a line, about 2 KB with its lists of related items."""
    rng = np.random.default_rng(1)
    asins = key_texts(b"B00", 10, rng.permutation(size.metadata)).astype("U")
    texts = [repr(" ".join(rng.choice(WORDS, length))) for length in rng.integers(20, 200, 1000)]
    related = [repr(asins[rng.integers(0, len(asins), length)].tolist()) for length in rng.integers(0, 120, 1000)]
    with gzip.open(folder / "meta_Electronics.json.gz", "wt", compresslevel=1) as handle:
        for number, asin in enumerate(asins.tolist()):
            handle.write(
                f"{{'asin': '{asin}', 'imUrl': 'http://images.example/{asin}.jpg', "
                f"'description': {texts[number % 997]}, 'title': 'Item {asin}', "
                f"'categories': [['Electronics', 'Accessories', 'Cables']], "
                f"'related': {{'also_bought': {related[number % 983]}}}, 'price': 9.99}}\n"
            )


def generate_images(folder: Path, size: Size) -> None:
    """Write `image_features_Electronics.b`: records of an ASIN and 4,096 float32."""
    rng = np.random.default_rng(2)
    asins = key_texts(b"B00", 10, rng.permutation(size.metadata))
    block = np.empty(BLOCK, dtype=[("key", "S10"), ("row", "<f4", (DIM,))])
    block["row"] = rng.standard_normal((BLOCK, DIM), dtype=np.float32)
    with (folder / "image_features_Electronics.b").open("wb") as handle:
        for start in range(0, size.metadata, BLOCK):
            part = asins[start : start + BLOCK]
            block["key"][: len(part)] = part
            block[: len(part)].tofile(handle)


def config() -> dict[str, object]:
    """Return the description of the generated data set."""
    return {
        "dataset": "electronics",
        "title": "Generated Electronics",
        "reader": "amazon_2014",
        "folder": "electronics",
        "licence": "generated",
        "k_core": 5,
        "options": {"interactions_file": "ratings_Electronics.csv", "metadata_file": "meta_Electronics.json.gz"},
    }


def read_ratings(folder: Path, size: Size) -> str:
    """Read the ratings alone."""
    from mmrepro.config.dataset import DatasetConfig
    from mmrepro.datasets.readers.amazon_2014 import read

    described = config() | {"options": {"interactions_file": "ratings_Electronics.csv"}}
    data = read(folder, DatasetConfig.model_validate(described))
    return f"{len(data.interactions):,} ratings"


def read_all(folder: Path, size: Size) -> str:
    """Read ratings and metadata."""
    from mmrepro.config.dataset import DatasetConfig
    from mmrepro.datasets.readers.amazon_2014 import read

    data = read(folder, DatasetConfig.model_validate(config()))
    return f"{len(data.interactions):,} ratings, {len(data.items):,} items"


def prepare_all(folder: Path, size: Size) -> str:
    """Read and prepare, 5-core."""
    from mmrepro.config.dataset import DatasetConfig
    from mmrepro.datasets.interactions import PreparedDataset
    from mmrepro.datasets.prepare import prepare

    prepare(DatasetConfig.model_validate(config()), folder, folder / "prepared")
    data = PreparedDataset.load(folder / "prepared")
    return f"{len(data.interactions):,} interactions of {data.n_users:,} users, {data.n_items:,} items"


def encode_images(folder: Path, size: Size) -> str:
    """Take the image vectors of as many items as the 5-core of Electronics has."""
    from mmrepro.config.features import AmazonImageEncoder
    from mmrepro.features.encoders.amazon_image import encode_amazon_image

    asins = key_texts(b"B00", 10, np.arange(min(IMAGE_ITEMS, size.metadata))).astype("U")
    encoder = AmazonImageEncoder(encoder="amazon_image", file="image_features_Electronics.b")
    encoded = encode_amazon_image(encoder, pd.DataFrame({"key": asins}), folder)
    n_items, dim = encoded.matrix.shape
    return f"{n_items:,} x {dim:,}, {len(encoded.reasons)} missing, matrix {encoded.matrix.nbytes / 2**30:.2f} GiB"


STEPS: dict[str, Callable[[Path, Size], str | None]] = {
    "generate ratings": generate_ratings,
    "read ratings": read_ratings,
    "generate metadata": generate_metadata,
    "read ratings and metadata": read_all,
    "read and prepare": prepare_all,
    "generate image vectors": generate_images,
    "encode image vectors": encode_images,
}


def measure(step: str, folder: Path, scale: float) -> None:
    """Run one step in this process and print what it took, as JSON."""
    started, cpu = time.perf_counter(), time.process_time()
    result = STEPS[step](folder, Size.scaled(scale))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "cpu": time.process_time() - cpu, "peak": peak, "result": result or ""}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image-features", action="store_true", help="also the image vectors; takes 8.2 GB of disk")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the size of Electronics")
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        measure(options.step, options.folder, options.scale)
        return
    print(f"{'step':28}{'seconds':>9}{'CPU':>9}{'peak GiB':>10}   result")
    with tempfile.TemporaryDirectory() as folder:
        for step in STEPS:
            if "image" in step and not options.image_features:
                continue
            arguments = ["--step", step, "--folder", folder, "--scale", str(options.scale)]
            answer = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
            taken = json.loads(answer.stdout)
            peak = f"{taken['peak'] / 2**30:10.2f}"
            print(f"{step:28}{taken['seconds']:9.1f}{taken['cpu']:9.1f}{peak}   {taken['result']}", flush=True)


if __name__ == "__main__":
    main()
