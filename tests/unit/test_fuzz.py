"""Whatever bytes a file holds, it is read or refused in one line; nothing else comes out of a reader."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from features_hand_made import feature_set, make_items
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmrepro.config.dataset import DatasetConfig
from mmrepro.config.files import load, load_dataset, load_feature_set
from mmrepro.config.model import ModelConfig
from mmrepro.config.study import StudyConfig
from mmrepro.datasets.image_files import UnusableImage, open_image
from mmrepro.datasets.readers import load_reader
from mmrepro.errors import MmreproError
from mmrepro.features.extract import extract
from mmrepro.records.files import read_object
from mmrepro.reporting import escape

REPOSITORY = Path(__file__).parents[2]
BOUNDED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def mutations(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """What may happen to a file: bytes changed, lost, repeated, or put in; the end cut off."""
    kind = draw(st.sampled_from(["change", "insert", "delete", "repeat", "cut", "swap", "fill"]))
    place, length = draw(st.floats(0, 1)), draw(st.integers(1, 40))
    written = draw(st.one_of(st.binary(min_size=1, max_size=12), st.sampled_from(
        [b'"', b"'", b"\n", b"\r", b"\t", b",", b";", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"NaN", b"-1", b"1e999", b"{",
         b"9" * 40, b"\\ud83d", b"null", b"[[[[", b"../", b"\x1b[31m", b": ", b"- ", b"&a *a", b"!!python/object:os.system "]
    )))  # fmt: skip

    def mutate(content: bytes) -> bytes:
        start = int(place * len(content))
        stop = start + length
        return {
            "change": content[:start] + written + content[start + len(written) :],
            "insert": content[:start] + written + content[start:],
            "delete": content[:start] + content[stop:],
            "repeat": content[:stop] + content[start:],
            "cut": content[:start],
            "swap": content[stop:] + content[:stop],
            "fill": content[:start] + written * 20 + content[stop:],
        }[kind]

    return mutate


def lines(records: list[Any], write: Callable[[Any], str] = json.dumps) -> bytes:
    return gzip.compress("".join(write(record) + "\n" for record in records).encode())


def parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer)
    return buffer.getvalue()


PAIRS = [(user, item, 1_600_000_000 + 50 * user + item) for user in range(6) for item in range(8) if (user + item) % 3]
ORDERS = "user,item,stars,day\n" + "".join(f"u{u},i{i},{i % 5},{t}\n" for u, i, t in PAIRS)
PRODUCTS = "item,name,picture\n" + "".join(f'i{i},"Thing, {i}",p/{i}.jpg\n' for i in range(8))
ITEMS = {"items_file": "products.csv", "title_column": "name", "image_column": "picture"}
COLUMNS = {"rating_column": "stars", "timestamp_column": "day"}
REVIEWS_2018 = [{"reviewerID": f"U{u}", "asin": f"A{i}", "overall": 4.0, "unixReviewTime": t} for u, i, t in PAIRS]
REVIEWS_2023 = [{"user_id": f"U{u}", "parent_asin": f"A{i}", "rating": 4.0, "timestamp": t * 1000} for u, i, t in PAIRS]
META = [{"asin": f"A{i}", "title": f"<b>T</b> {i}", "categories": [["a", "b"]], "description": "d"} for i in range(8)]
INTER = "userID\titemID\tx_label\n" + "".join(f"{u}\t{i}\t{(u + i) % 3}\n" for u, i, _ in PAIRS)

READERS: dict[str, tuple[str, dict[str, Any], dict[str, bytes]]] = {
    "csv": ("tabular", {"interactions_file": "o.csv", **COLUMNS, **ITEMS},
            {"o.csv": ORDERS.encode(), "products.csv": PRODUCTS.encode()}),
    "tsv.gz": ("tabular", {"interactions_file": "o.tsv.gz", **COLUMNS},
               {"o.tsv.gz": gzip.compress(ORDERS.replace(",", "\t").encode())}),
    "parquet": ("tabular", {"interactions_file": "o.parquet", **COLUMNS},
                {"o.parquet": parquet(pd.read_csv(io.StringIO(ORDERS)))}),
    "amazon_2014": ("amazon_2014", {"interactions_file": "r.csv", "metadata_file": "m.gz"},
                    {"r.csv": "".join(f"U{u},A{i},4.0,{t}\n" for u, i, t in PAIRS).encode(), "m.gz": lines(META, repr)}),
    "amazon_2018": ("amazon_2018", {"interactions_file": "r.gz", "metadata_file": "m.gz"},
                    {"r.gz": lines(REVIEWS_2018), "m.gz": lines(META)}),
    "amazon_2023": ("amazon_2023", {"interactions_file": "r.gz", "metadata_file": "m.gz"},
                    {"r.gz": lines(REVIEWS_2023), "m.gz": lines([{**m, "parent_asin": m["asin"]} for m in META])}),
    "mmrec": ("mmrec", {"interactions_file": "s.inter"}, {"s.inter": INTER.encode()}),
    "microlens lists": ("microlens", {"interactions_file": "x_pairs.tsv", "titles_file": "t.csv"},
                        {"x_pairs.tsv": b"1\t3 4 5\n2\t4 6\n", "t.csv": b'item,title\n3,"A, b"\n4,None\n'}),
    "microlens pairs": ("microlens", {"interactions_file": "x_pairs.csv", "titles_file": "t.csv"},
                        {"x_pairs.csv": b"user,item,timestamp\n1,3,5\n2,4,6\n", "t.csv": b"item,title\n3,A\n4,B\n"}),
    "movielens": ("movielens", {}, {"u.data": b"1\t2\t3\t881250949\n2\t2\t5\t881250950\n",
                                    "items.csv": b'movie_id,title,overview\n2,"Film, a","Told ""so"""\n'}),
}  # fmt: skip


def one_line(error: Exception) -> None:
    """What the command line prints of an error is one line that says something."""
    assert str(error).strip() and len(escape.one_line(str(error)).splitlines()) == 1


@pytest.mark.parametrize("name", READERS)
@BOUNDED
@given(data=st.data())
def test_readers(name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    reader, options, files = READERS[name]
    folder = tmp_path_factory.mktemp("raw")
    broken = data.draw(st.sampled_from(sorted(files)))
    for file, content in files.items():
        mutate = data.draw(mutations()) if file == broken else bytes
        unpacked = file.endswith("gz") and data.draw(st.booleans())
        (folder / file).write_bytes(gzip.compress(mutate(gzip.decompress(content))) if unpacked else mutate(content))
    base = {"dataset": "toy", "title": "Toy", "reader": reader, "folder": "toy", "licence": "none", "options": options}
    config = DatasetConfig.model_validate(base)
    try:
        found = load_reader(config).read(folder, config)
    except MmreproError as error:
        one_line(error)
    else:
        assert found.items["key"].is_unique and len(found.interactions)


@pytest.mark.parametrize(
    ("file", "read"),
    [
        ("config/studies/posters.yaml", lambda path: load(StudyConfig, path)),
        ("config/datasets/gift-cards.yaml", load_dataset),
        ("config/features/alignrec-tiktok.yaml", load_feature_set),
        ("config/models/cm3.yaml", lambda path: load(ModelConfig, path)),
        ("config/schema/models/cm3.json", read_object),
    ],
)
@BOUNDED
@given(mutate=mutations())
def test_configuration(
    file: str, read: Callable[[Path], object], mutate: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("config") / Path(file).name
    path.write_bytes(mutate((REPOSITORY / file).read_bytes()))
    try:
        read(path)
    except MmreproError as error:
        one_line(error)


def picture(form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
@BOUNDED
@given(mutate=mutations())
def test_pictures(form: str, mutate: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("pictures") / "a.img"
    path.write_bytes(mutate(picture(form)))
    try:
        assert open_image(path).mode == "RGB"
    except UnusableImage as unusable:
        assert unusable.reason


@BOUNDED
@given(mutate=mutations(), keys=st.sampled_from([None, "keys.txt"]))
def test_vectors(mutate: Any, keys: str | None, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("vectors")
    prepared = make_items(folder / "prepared", ["a", "b", "c"], [None] * 3, published=3)
    buffer = io.BytesIO()
    np.save(buffer, np.arange(6, dtype=np.float32).reshape(3, 2))
    (folder / "v.npy").write_bytes(mutate(buffer.getvalue()) if keys is None else buffer.getvalue())
    (folder / "keys.txt").write_bytes(mutate(b"0\n1\n2\n"))
    encoder = feature_set("image", encoder="published", file="v.npy", keys=keys)
    try:
        extract(encoder, "image", prepared, folder, folder / "out")
    except MmreproError as error:
        one_line(error)
        assert not (folder / "out/image.json").exists()
