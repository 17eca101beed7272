import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmrepro.datasets import interactions as files
from mmrepro.errors import MmreproError
from mmrepro.evaluation.lists import tie_order
from mmrepro.reporting.recommend import as_text, recommend

USERS = np.array([[1, 0], [0, 1]], dtype=np.float16)
ITEMS = np.array([[2, 0], [0, 1], [3, 4], [0, 0], [4, 3]], dtype=np.float16)


INTERACTIONS_BY_HAND = {"user": [0, 1, 1, 0], "item": [0, 1, 4, 1], "split": ["train", "train", "valid", "test"]}


def write_data(folder: Path, titles: list[str | None], interactions: dict[str, list]) -> None:
    items = pd.DataFrame({"key": [f"I{i}" for i in range(5)], "title": titles}).rename_axis("item")
    users = pd.DataFrame({"key": ["anna", "bert"]}).rename_axis("user")
    hashes = {"content_hash": "x", "item_list_hash": "y", "numbering": None}
    tables = {files.INTERACTIONS: pd.DataFrame(interactions), files.ITEMS: items, files.USERS: users}
    files.write_prepared(folder, tables, {"dataset": "toy", "n_users": 2, "n_items": 5, **hashes})


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    folder = tmp_path / "prepared" / "toy"
    write_data(folder, ["a", "b", "c", None, "e"], INTERACTIONS_BY_HAND)
    return folder.parent


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text(
        json.dumps({"status": "finished", "purpose": "final", "dataset": "toy", "data": {"interactions": "x"}})
    )
    # a test list still has the test items, here 1; under the protocol `released` validation items, too
    rows = [("valid", 0, 1, 4, 9.0), ("test", 0, 3, 4, 0.5), ("test", 0, 1, 1, 0.9), ("test", 0, 2, 2, 0.75)]
    columns = ["split", "user", "rank", "item", "score"]
    pd.DataFrame(rows, columns=columns).to_parquet(folder / "lists.parquet")
    np.savez(folder / "embeddings.npz", users=USERS, items=ITEMS)
    return folder


def test_a_user_gets_the_test_list_in_rank_order(run: Path, prepared: Path) -> None:
    result = recommend(run, prepared, "anna", k=10)
    assert list(result.columns) == ["rank", "key", "title", "score"]
    assert result.to_numpy().tolist() == [[1, "I2", "c", 0.75], [2, "I4", "e", 0.5]]
    assert recommend(run, prepared, "anna", k=1)["key"].tolist() == ["I2"]


def test_a_user_without_a_test_list_is_scored_by_embeddings_without_what_he_had(run: Path, prepared: Path) -> None:
    # bert = (0, 1): items score 0, 1, 4, 0, 3; he had items 1 and 4; equal scores by item index
    result = recommend(run, prepared, "bert", k=3)
    assert result["key"].tolist() == ["I2", "I0", "I3"]
    assert result["score"].tolist() == [4, 0, 0]


def test_liked_items_are_compared_by_mean_cosine_and_left_out(run: Path, prepared: Path) -> None:
    # likes I0 = (1, 0) and I1 = (0, 1): cosines of I2 (3/5 + 4/5) / 2, of I4 the same, of the zero vector 0
    result = recommend(run, prepared, liked=["I0", "I1"], k=10)
    tied = [f"I{item}" for item in tie_order(5) if item in (2, 4)]
    assert result["key"].tolist() == [*tied, "I3"]
    assert result["score"].tolist() == pytest.approx([7 / 10, 7 / 10, 0])
    assert recommend(run, prepared, liked=["I0"], k=1)["key"].tolist() == ["I4"]


def test_a_user_without_a_test_list_is_not_offered_what_any_split_holds(run: Path, prepared: Path) -> None:
    interactions = {"user": [0, 1, 1, 1], "item": [0, 1, 2, 4], "split": ["train", "train", "valid", "test"]}
    write_data(prepared / "toy", ["a", "b", "c", None, "e"], interactions)
    assert recommend(run, prepared, "bert", k=9)["key"].tolist() == ["I0", "I3"]


def test_a_run_on_other_data_is_refused(run: Path, prepared: Path) -> None:
    for data in ({"data": {"interactions": "z"}}, {}):
        (run / "run.json").write_text(json.dumps({"dataset": "toy", **data}))
        for question in ({"user_key": "anna"}, {"liked": ["I0"]}):
            with pytest.raises(MmreproError, match=r"run: made of other data than those in .*toy; run the study again"):
                recommend(run, prepared, **question)


def test_damaged_files_are_one_clear_line(run: Path, prepared: Path) -> None:
    for name, message in (("lists.parquet", "no readable parquet file"), ("embeddings.npz", "no readable arrays")):
        for content in (b"", b"PK\x03\x04 half of it", b"PAR1"):
            (run / name).write_bytes(content)
            with pytest.raises(MmreproError, match=rf"{name}: {message} .*; delete its folder and run") as error:
                recommend(run, prepared, **({"user_key": "anna"} if name.startswith("lists") else {"liked": ["I0"]}))
            assert "\n" not in str(error.value)
    np.savez(run / "embeddings.npz", users=USERS)
    with pytest.raises(MmreproError, match=r"embeddings\.npz: no readable arrays users, items"):
        recommend(run, prepared, liked=["I0"])
    (run / "run.json").write_text("[]")
    with pytest.raises(MmreproError, match=r"run\.json: no JSON object"):
        recommend(run, prepared, "anna")


def test_titles_do_nothing_to_a_terminal(run: Path, prepared: Path) -> None:
    titles = ["a", "b", "\x1b[31mred\nline", None, "e"]
    write_data(prepared / "toy", titles, INTERACTIONS_BY_HAND)
    lines = as_text(recommend(run, prepared, "anna")).splitlines()
    assert len(lines) == 3
    assert lines[1].split() == ["1", "I2", "\\x1b[31mred", "line", "0.75"]


def test_an_unknown_key_names_the_nearest(run: Path, prepared: Path) -> None:
    with pytest.raises(MmreproError, match="unknown user 'ana'; did you mean 'anna'"):
        recommend(run, prepared, "ana")
    with pytest.raises(MmreproError, match=r"unknown item 'I22'; did you mean 'I2'"):
        recommend(run, prepared, liked=["I0", "I22"])


def test_a_model_without_embeddings_says_so(run: Path, prepared: Path) -> None:
    (run / "embeddings.npz").unlink()
    assert len(recommend(run, prepared, "anna")) == 2
    with pytest.raises(MmreproError, match=r"embeddings\.npz: no such file, and liked items"):
        recommend(run, prepared, liked=["I0"])
    with pytest.raises(MmreproError, match="the user has no test list"):
        recommend(run, prepared, "bert")


def test_an_unfinished_run_and_a_contradictory_question_are_refused(run: Path, prepared: Path) -> None:
    with pytest.raises(MmreproError, match="either a user or a list of liked items"):
        recommend(run, prepared)
    with pytest.raises(MmreproError, match="either a user or a list of liked items"):
        recommend(run, prepared, "anna", ["I0"])
    (run / "run.json").unlink()
    with pytest.raises(MmreproError, match=r"no run\.json there"):
        recommend(run, prepared, "anna")
