from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from mmrepro.config.dataset import DatasetConfig
from mmrepro.config.files import load_dataset
from mmrepro.datasets.raw import json_lines
from mmrepro.datasets.readers import load_reader, movielens
from mmrepro.datasets.readers.mmrec import read
from mmrepro.errors import MmreproError

ROOT = Path(__file__).parents[2]


def dataset(reader: str = "mmrec", **options: Any) -> DatasetConfig:
    return DatasetConfig(dataset="toy", title="Toy", reader=reader, folder="toy", licence="none", options=options)


MMREC = dataset(interactions_file="toy.inter")


def write_inter(folder: Path, *lines: str) -> Path:
    path = folder / "toy.inter"
    path.write_text("".join(line.replace(" ", "\t") + "\n" for line in lines))
    return folder


def test_unknown_reader_lists_the_valid_ones() -> None:
    readers = "amazon_2014, amazon_2018, amazon_2023, microlens, miniature, mmrec, movielens, tabular"
    with pytest.raises(MmreproError, match=rf"unknown reader 'mmrek'.*'mmrec'.*readers: {readers}\)"):
        load_reader(dataset("mmrek"))


READERS = ["amazon_2014", "amazon_2018", "amazon_2023", "microlens", "mmrec", "movielens", "miniature", "tabular"]


@pytest.mark.parametrize("reader", READERS)
def test_unknown_option_is_an_error(reader: str, tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match=r"config/datasets/toy\.yaml: options: .*unknown key 'colour'"):
        load_reader(dataset(reader)).read(tmp_path, dataset(reader, colour="red"))


@pytest.mark.parametrize("path", sorted((ROOT / "config/datasets").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_options_of_every_data_set_are_those_of_its_reader(path: Path, tmp_path: Path) -> None:
    config = load_dataset(path)
    with pytest.raises(MmreproError, match="no such file; list it under `files`, and fetch it"):
        load_reader(config).read(tmp_path, config)


def test_mmrec_option_that_is_misspelt_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match="did you mean 'interactions_file'"):
        read(tmp_path, dataset(interaction_file="toy.inter"))


def test_mmrec_keeps_published_numbering_with_its_gaps(tmp_path: Path) -> None:
    data = read(write_inter(tmp_path, "userID itemID x_label", "2 0 0", "0 4 1", "0 1 2"), MMREC)
    assert data.interactions["user"].tolist() == ["2", "0", "0"]
    assert data.interactions["split"].tolist() == ["train", "valid", "test"]
    assert data.user_numbering is not None and data.user_numbering.tolist() == ["0", "1", "2"]
    assert data.items["key"].tolist() == ["0", "1", "2", "3", "4"]
    assert data.items[["title", "text", "image"]].isna().all(axis=None)


def test_mmrec_reads_rating_and_time_where_known(tmp_path: Path) -> None:
    data = read(write_inter(tmp_path, "userID itemID rating timestamp x_label", "0 0 4.5 17 0"), MMREC)
    assert data.interactions[["rating", "timestamp"]].to_numpy().tolist() == [[4.5, 17]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["userID x_label", "0 0"], r"column 'itemID' is missing \(found: userID, x_label\)"),
        (["userID itemID x_label"], "the file has no rows"),
        ([], "the file is empty"),
        (["userID itemID x_label", "0 0 0", "0 -3 0"], "line 3, column 'itemID': id -3 is not between"),
        (["userID itemID x_label", "0 60000000 0"], "line 2, column 'itemID': id 60000000 is not between"),
        (["userID itemID x_label", "0 0 3"], r"line 2, column 'x_label': 3 is none of 0 \(train\)"),
        (["userID itemID x_label", "0 0 0", "bob 1 0"], "line 3, column 'userID': 'bob' is not an integer"),
        (["userID itemID x_label", "0.5 1 0"], "line 2, column 'userID': '0.5' is not an integer"),
        (["userID itemID x_label", "0 1 0", "0 2"], "line 3, column 'x_label' is empty; fill it or drop the line"),
        (["userID itemID x_label", "0 1 0", "0 2 0 9 9"], "line 3"),
        (["userID itemID rating x_label", "0 1 good 0"], "line 2, column 'rating': 'good' is not a number"),
    ],
)
def test_mmrec_names_what_is_wrong(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(MmreproError, match=rf"toy\.inter: .*{message}") as error:
        read(write_inter(tmp_path, *lines), MMREC)
    assert "\n" not in str(error.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match=r"toy\.inter: no such file; list it under `files`, and fetch it"):
        read(tmp_path, MMREC)


@pytest.fixture
def movies(tmp_path: Path) -> Path:
    (tmp_path / "u.data").write_text("7\t1\t3\t881250949\n7\t9\t5\t881250950\n")
    (tmp_path / "items.csv").write_text(
        'movie_id,title,overview\n1,Nénette (1996),"Two, of them."\n1,Again,No\n2,Quiet (1990),\n', encoding="utf-8"
    )
    (tmp_path / "posters").mkdir()
    (tmp_path / "posters" / "1.jpg").write_bytes(b"jpg")
    return tmp_path


def test_movielens_joins_title_and_overview_and_finds_posters(movies: Path) -> None:
    data = movielens.read(movies, dataset("movielens"))
    assert data.interactions.to_numpy().tolist() == [["7", "1", 3.0, 881250949], ["7", "9", 5.0, 881250950]]
    assert data.items["text"].tolist() == ["Nénette (1996) Two, of them.", "Quiet (1990)"]
    assert data.items["image"].fillna("none").tolist() == ["posters/1.jpg", "none"]
    assert data.repairs == {"repeated_item_records": 1}
    assert data.user_numbering is None


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("items.csv", b"movie_id,title,overview\n1,caf\xe9,x\n", "not UTF-8"),
        ("items.csv", b"movie_id,title\n1,x\n", "column 'overview' is missing"),
        ("items.csv", b"movie_id,title,overview\nsix,x,y\n", "line 2, column 'movie_id': 'six' is not an integer"),
        ("u.data", b"1\t2\t3\n", "3 columns, expected user, item, rating, timestamp"),
        ("u.data", b"1\t2\t3\tnoon\n", "line 1, column 'timestamp': 'noon' is not an integer"),
        ("u.data", b"", "the file is empty"),
    ],
)
def test_movielens_names_what_is_wrong(movies: Path, file: str, content: bytes, message: str) -> None:
    (movies / file).write_bytes(content)
    with pytest.raises(MmreproError, match=rf"{file}: .*{message}"):
        movielens.read(movies, dataset("movielens"))


def test_json_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"item": "a"}\n{"item": "b", "title": null}\n'))
    assert [record["item"] for record in json_lines(path, ("item",))] == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(gzip.compress(b'{"item": "a"}\n' * 2000)[:-20], "truncated or damaged archive", id="cut short"),
        pytest.param(
            gzip.compress(b'{"item": "a"}\n')[:-4] + b"\0\0\0\0", "truncated or damaged archive", id="other length"
        ),
        pytest.param(b"not gzip at all", "truncated or damaged archive", id="no archive"),
        pytest.param(gzip.compress(b'{"item": "a"}\n{"item":\n'), "line 2 is no valid JSON", id="half a line"),
        pytest.param(gzip.compress(b'{"item": "a"}\n{"name": 1}\n'), "line 2 has no 'item'", id="no item"),
        pytest.param(gzip.compress(b"[1]\n"), "line 1 has no 'item'", id="no object"),
        pytest.param(gzip.compress(b'{"item": "\xff"}\n'), "line 1 is no valid JSON", id="no unicode"),
    ],
)  # ids of their own: an archive has the time of its making in it, and workers must agree on the tests' names
def test_json_lines_name_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "records.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(MmreproError, match=rf"records\.jsonl\.gz: {message}"):
        list(json_lines(path, ("item",)))
