"""Models and lists from outside the package: how they are named, read, ranked, and known again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted import write_planted

from mmrepro.config.files import validate
from mmrepro.config.model import outside_name
from mmrepro.config.protocol import Protocol
from mmrepro.config.run import RunSpec
from mmrepro.config.study import StudyConfig
from mmrepro.datasets.interactions import INTERACTIONS, ITEMS, USERS, PreparedDataset, write_prepared
from mmrepro.errors import MmreproError
from mmrepro.evaluation.evaluator import Evaluator
from mmrepro.evaluation.given_lists import GivenLists, given_lists, nearest_key, read_rows
from mmrepro.models.base import model_class
from mmrepro.records import canonical, definitions, fingerprint
from mmrepro.study import kinds
from mmrepro.training.run import train

MODEL = '''
from layers import FACTOR

from mmrepro.models.base import Model


class Own(Model):
    """A model of one's own."""

    def factor(self) -> int:
        return FACTOR


if __name__ == "__main__":
    print("tried by hand")
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "own/model.py", MODEL)
    write(tmp_path / "own/layers.py", "FACTOR = 2\n")
    forget()
    yield tmp_path
    forget()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def forget() -> None:
    """What a process has read of files; every command reads them anew."""
    for cached in (definitions.module, definitions.bases_of, canonical.definition, fingerprint.fingerprint):
        cached.cache_clear()
    fingerprint._hash.cache_clear()
    kinds._code.cache_clear()


def study(*models: str, **changes: object) -> StudyConfig:
    return validate(
        StudyConfig, {"study": "own", "title": "Own", "datasets": ["toy"], "models": [*models], **changes}, "own.yaml"
    )


@pytest.mark.parametrize(
    ("outside", "name"),
    [
        ("my_models/two_tower.py:TwoTower", "two-tower"),
        ("a.py:CM3Variant", "cm3-variant"),
        ("lists/{dataset}/Our engine.csv", "our-engine"),
        ("lists/{dataset}_engine.parquet", "engine"),
    ],
)
def test_names_are_those_of_class_or_file(outside: str, name: str) -> None:
    assert outside_name(outside) == name
    assert study("cm3", outside).models == ("cm3", name)
    assert study("cm3", outside).outside == {name: outside}
    assert study("cm3", name, outside={name: outside}) == study("cm3", outside)
    assert study(f"cm3,{outside}".split(",")[0], outside).models[1] == name


@pytest.mark.parametrize("path", ["own/model.py", "/own/model.py:Own", "../model.py:Own", "lists.txt", "a.py:1b"])
def test_what_is_no_path_of_the_project_is_refused(path: str) -> None:
    with pytest.raises(MmreproError, match=r"from the project's root|pattern"):
        study("cm3", path)


def test_one_name_for_two_is_refused() -> None:
    with pytest.raises(MmreproError, match="names own twice"):
        study("a.py:Own", "b.py:Own")


def test_a_class_is_loaded_with_what_lies_beside_it_and_again_when_it_has_changed(project: Path) -> None:
    first = model_class("own", "own/model.py:Own")
    assert first is model_class("own", "own/model.py:Own")
    write(project / "own/model.py", MODEL.replace("return FACTOR", "return FACTOR + 1"))
    assert model_class("own", "own/model.py:Own") is not first


def test_what_lies_beside_a_class_is_read_anew_and_never_another_folders(project: Path) -> None:
    first = model_class("own", "own/model.py:Own")
    write(project / "own/layers.py", "FACTOR = 5\n")
    assert model_class("own", "own/model.py:Own").factor(None) == 5 and first.factor(None) == 2
    write(project / "other/model.py", MODEL)
    write(project / "other/layers.py", "FACTOR = 7\n")
    assert model_class("own", "other/model.py:Own").factor(None) == 7
    assert model_class("own", "own/model.py:Own").factor(None) == 5


@pytest.mark.parametrize(
    ("outside", "text", "message"),
    [
        ("own/model.py:Other", MODEL, "no class 'Other' in it"),
        ("own/none.py:Own", MODEL, "no such file"),
        ("own/model.py:Own", "class Own:\n    pass\n", "not derived from Model"),
        ("data/raw/toy/model.py:Own", MODEL, "not from data or elsewhere"),
        ("../own/model.py:Own", MODEL, "not from data or elsewhere"),
        ("own/model.py:Own", "def Own(:\n", "SyntaxError while it was imported"),
        ("own/model.py:Own", "import nowhere_at_all\n", "ModuleNotFoundError while it was imported"),
    ],
)
def test_a_class_that_cannot_be_had_is_one_line(project: Path, outside: str, text: str, message: str) -> None:
    write(project / "own/model.py", text)
    with pytest.raises(MmreproError, match=message) as error:
        model_class("own", outside)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "before", "after", "reruns"),
    [
        ("own/model.py", "return FACTOR", "return FACTOR + 1", True),
        ("own/layers.py", "2", "3", True),
        ("own/layers.py", "FACTOR", '"""Notes."""\n\nFACTOR', False),
        ("own/model.py", "A model of one's own.", "Words.", False),
        ("own/model.py", "tried by hand", "tried again", False),
    ],
)
def test_fingerprints_follow_files_of_the_project(
    project: Path, file: str, before: str, after: str, reruns: bool
) -> None:
    code = kinds.training_code("own", "recall_at_20", "own/model.py:Own")
    write(project / file, (project / file).read_text().replace(before, after, 1))
    forget()
    assert (kinds.training_code("own", "recall_at_20", "own/model.py:Own") != code) is reruns


def test_a_neighbour_by_its_whole_name_is_refused(project: Path) -> None:
    write(project / "own/model.py", MODEL.replace("from layers import FACTOR", "import layers"))
    with pytest.raises(MmreproError, match=r"own/model.py:2: fingerprints do not follow a module"):
        kinds.training_code("own", "recall_at_20", "own/model.py:Own")


# users a, b; items p, q, r, s, t. a is trained on p, validated by q, tested by r; b trained on q, r and tested by s, t
PAIRS = [(0, 0, "train"), (0, 1, "valid"), (0, 2, "test"), (1, 1, "train"), (1, 2, "train"), (1, 3, "test"), (1, 4, "test")]  # fmt: skip


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    folder = tmp_path / "prepared"
    tables = {
        INTERACTIONS: pd.DataFrame(PAIRS, columns=["user", "item", "split"]),
        ITEMS: pd.DataFrame({"key": list("pqrst")}),
        USERS: pd.DataFrame({"key": ["a", "b"]}),
    }
    counts = {
        "dataset": "toy",
        "n_users": 2,
        "n_items": 5,
        "content_hash": "c",
        "item_list_hash": "i",
        "numbering": None,
    }
    write_prepared(folder, tables, counts)
    return folder


def ranked(prepared: Path, text: str, name: str = "lists.csv", depth: int = 3) -> GivenLists:
    path = prepared / name
    path.write_text(text)
    evaluator = Evaluator(PreparedDataset.load(prepared), Protocol())
    return given_lists(read_rows(path), prepared, evaluator, depth, name)


def test_lists_are_ordered_by_score_and_masked_as_those_of_models(prepared: Path) -> None:
    # a has had p (train) and q (validation); b's rows come in no order
    found = ranked(prepared, "user,item,score\na,p,9\na,s,1\nb,t,2\na,r,2.5\na,q,8\nb,s,3\n")
    np.testing.assert_array_equal(found.lists["test"].items, [[2, 3], [3, 4]])
    np.testing.assert_array_equal(found.lists["test"].scores, [[2.5, 1], [3, 2]])
    assert found.counts == {"test": {"users": 2, "listed": 2, "known": 2, "unknown": 0}}
    assert list(found.lists) == ["test"]


def test_validation_is_listed_where_a_column_says_so(prepared: Path) -> None:
    found = ranked(prepared, "user;item;score;split\na;q;1;valid\na;q;2;test\na;r;1;test\n")
    np.testing.assert_array_equal(found.lists["valid"].items, [[1]])
    np.testing.assert_array_equal(found.lists["test"].items, [[2], [-1]])
    assert found.counts["test"] == {"users": 2, "listed": 1, "known": 1, "unknown": 0}


def test_lists_are_cut_and_equal_scores_drawn_as_everywhere(prepared: Path) -> None:
    rows = "".join(f"b,{item},1\n" for item in "pst")
    one = ranked(prepared, "user,item,score\n" + rows, depth=2)
    other = ranked(prepared, "user,item,score\n" + "".join(reversed(rows.splitlines(keepends=True))), depth=2)
    np.testing.assert_array_equal(one.lists["test"].items, other.lists["test"].items)
    assert one.lists["test"].items.shape == (2, 2)


def test_objects_a_line_are_read_like_text(prepared: Path) -> None:
    found = ranked(prepared, '{"user": "a", "item": "r", "score": 1}\n', "lists.jsonl")
    np.testing.assert_array_equal(found.lists["test"].items, [[2], [-1]])


def test_few_keys_that_the_data_set_does_not_have_are_left_out_and_counted(prepared: Path) -> None:
    known = "user,item,score\na,r,1\na,s,3\nb,r,2\n"
    found = ranked(prepared, known + "gone,r,9\na,lost,9\n")
    np.testing.assert_array_equal(found.lists["test"].items, ranked(prepared, known).lists["test"].items)
    assert found.counts["test"]["unknown"] == 2


@pytest.mark.parametrize(
    ("unknown", "hint"),
    [("1", "did you mean '0001'?"), ("000l", "did you mean '0001'?"), ("zz", "keys there look like '0001'")],
)
def test_a_hint_names_the_same_number_or_a_key_that_is_written_nearly_so(unknown: str, hint: str) -> None:
    assert nearest_key(unknown, pd.Series(["0001", "2345"])) == hint


def test_scores_may_be_written_with_decimal_commas(prepared: Path) -> None:
    text = "user;item;score\na;r;0,25\na;s;0,5\n"
    plain = text.replace(",", ".").replace(";", ",")
    np.testing.assert_array_equal(
        ranked(prepared, text).lists["test"].items, ranked(prepared, plain).lists["test"].items
    )
    with pytest.raises(MmreproError, match="'0,250' may be a thousand or a fraction"):
        ranked(prepared, "user;item;score\na;r;0,250\n")


WRONG = """
from mmrepro.models.base import Batch, Model, TrainedParameters
import torch


class Wrong(Model):
    Parameters = TrainedParameters

    def __init__(self, interactions):
        super().__init__()
        self.users = torch.nn.Parameter(torch.zeros(interactions.n_users, 4))
        self.items = torch.nn.Parameter(torch.zeros(interactions.n_items, 4))

    def loss(self, batch):
        products = (self.users[batch.users] * self.items[batch.positives]).sum(1)
        return {"bpr": products.mean()}

    def embed(self):
        return self.users, self.items
"""


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("products.mean()", "products", r"loss term 'bpr' has the shape \(\d+,\); return its mean or sum"),
        ("return self.users, self.items", "return self.items, self.users", "have the shape|out of bounds|out of range"),
        ("return self.users, self.items", "return self.users, self.items[1:]", "a row for each user and one for each item"),
        ('{"bpr": products.mean()}', "products.mean()", "`loss` returns a Tensor; return named terms"),
        (
            "    def embed", "    def score(self, users):\n        return self.users[users]\n\n    def embed",
            "both `embed`, whose inner products are the scores, and `score`, which would be ignored; keep one",
        ),
        (".sum(1)", ".sum(2)", r"wrong\.py:Wrong: line 15 of wrong\.py: IndexError: Dimension out of range"),
    ],
)  # fmt: skip
def test_a_class_that_returns_other_shapes_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: str, wrong: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_planted(tmp_path / "data/prepared/planted")
    write(tmp_path / "own/wrong.py", WRONG.replace(right, wrong))
    forget()
    settings = {"purpose": "final", "dataset": "planted", "model": "wrong", "outside": "own/wrong.py:Wrong"}
    spec = RunSpec.model_validate({**settings, "parameters": {"max_epochs": 1}})
    with pytest.raises(MmreproError, match=message) as error:
        train(spec, 0, Path("data/prepared/planted"), None, Path("run"))
    assert "\n" not in str(error.value) and not Path("run/run.json").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user,item\na,r\n", "no column 'score'"),
        ("user,item,score\na,z,1\n", "1 items that the data set does not have, such as 'z'"),
        ("user,item,score\nc,r,1\n", "1 users that the data set does not have, such as 'c'"),
        ("user,item,score\na,r,1\na,r,2\n", "item 'r' twice for user 'a'"),
        ("user,item,score\na,r,high\n", "line 2"),
        ("user,item,score\na,r,nan\n", "line 2"),
        ("user,item,score\na,r,inf\n", "line 2"),
        ("user,item,score,split\na,r,1,train\n", "split 'train'; valid are valid, test"),
        ("user,item,score,split\na,q,1,valid\n", "no rows for test"),
        ("user,item,score\n", "no rows"),
    ],
)
def test_lists_that_cannot_be_meant_are_refused(prepared: Path, text: str, message: str) -> None:
    with pytest.raises(MmreproError, match=message):
        ranked(prepared, text)
