"""What a finished run recommends: every model, every user, what they have had masked, keys and titles as they are."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from planted import N_ITEMS, N_USERS, NEVER_TRAINED, SMALL, planted_content, planted_dataset
from test_refit import LEFT_OUT_OF_3, finished

from mmrepro.config.protocol import ProtocolConfig
from mmrepro.datasets.interactions import ITEMS
from mmrepro.errors import MmreproError
from mmrepro.features.item_graph import graph_file
from mmrepro.features.matrix import FeatureMatrix
from mmrepro.models.base import model_class
from mmrepro.models.ease import EASE, EASEParameters
from mmrepro.models.itemknn import ItemKNN, ItemKNNParameters
from mmrepro.ops.interactions import Interactions
from mmrepro.records.files import read_object, write_record
from mmrepro.reporting.recommend import as_text, read_keys, recommend_liked, recommend_users, write_table
from mmrepro.training.refit import refit, refitted
from mmrepro.training.serving import Server

pytestmark = pytest.mark.usefixtures("one_thread")
HAD = planted_dataset().interactions.groupby("user")["item"].agg(set)
HAD[3] |= {LEFT_OUT_OF_3}
COLD = {f"I{item}" for item in range(N_ITEMS - NEVER_TRAINED, N_ITEMS)}


def with_features(root: Path) -> dict[str, object]:
    """Features of the planted items, as a feature set of the project."""
    folder = root / "data/features/planted/toy"
    record = {"feature_set": "toy", "item_list_hash": "1" * 64, "encoder": {"encoder": "hand"}, "weights": None,
              "n_missing": 0, "missing": []}  # fmt: skip
    content = planted_content()
    for modality, matrix in content.features.items():
        FeatureMatrix(matrix.numpy(), modality, record).save(folder)
        np.savez(graph_file(folder, modality), neighbours=content.neighbours[modality].numpy())
    return {"features": "toy", "modalities": ["image", "text"]}


@pytest.mark.parametrize("model", ["popularity", "itemknn", "ease", "bpr", "lightgcn", "vbpr"])
def test_every_model_serves_every_user_what_he_has_not_had(tmp_path: Path, model: str) -> None:
    changes = with_features(tmp_path) if model_class(model).uses_features else {}
    parameters = {} if model_class(model).closed_form else SMALL
    run = finished(tmp_path, model, parameters=parameters, **changes)
    found = recommend_users(Server.load(run, tmp_path), k=N_ITEMS, root=tmp_path)
    offered = {f"I{item}" for item in range(N_ITEMS)} - (set() if model == "vbpr" else COLD)
    lists = found.frame.groupby("user")["item"].agg(set)
    assert len(lists) == N_USERS
    for user, items in lists.items():
        assert items == offered - {f"I{item}" for item in HAD[int(user[1:])]}
    assert any("not offered" in note for note in found.notes) is (model != "vbpr")
    assert (found.frame.groupby("user")["score"].diff().dropna() <= 0).all()


def test_lists_are_those_of_the_run_where_nothing_more_is_known(tmp_path: Path) -> None:
    run = finished(tmp_path, "ease")
    listed = pd.read_parquet(run / "lists.parquet").query("split == 'test'")
    found = recommend_users(Server.load(run, tmp_path), ["U5"], 10, tmp_path).frame
    test = HAD[5] & set(planted_dataset().interactions.query("user == 5 and split == 'test'")["item"])
    cold = range(N_ITEMS - NEVER_TRAINED, N_ITEMS)
    expected = [i for i in listed.query("user == 5")["item"] if i not in test and i not in cold][:10]
    assert found["item"].tolist() == [f"I{item}" for item in expected]
    assert found["rank"].tolist() == [*range(1, 11)]


def test_users_keep_the_order_in_which_they_are_asked_for_and_are_answered_once(tmp_path: Path) -> None:
    server = Server.load(finished(tmp_path, "popularity"), tmp_path)
    found = recommend_users(server, ["U7", "U2", "U7"], 2, tmp_path).frame
    assert found["user"].tolist() == ["U7", "U7", "U2", "U2"]


def test_a_refit_is_found_and_has_seen_everything(tmp_path: Path) -> None:
    run = finished(tmp_path, "itemknn")
    assert refitted(run, tmp_path) is None
    folder = refit(run, root=tmp_path)
    assert refitted(run, tmp_path) == folder
    found = recommend_users(Server.load(folder, tmp_path), k=5, root=tmp_path)
    lists = pd.read_parquet(folder / "lists.parquet").query("rank <= 5")
    assert found.frame["item"].tolist() == [f"I{item}" for item in lists["item"]]
    assert not found.notes
    write_record(folder / "run.json", {**read_object(folder / "run.json"), "code": "0" * 16})
    assert refitted(run, tmp_path) is None


def test_who_is_no_user_is_answered_by_what_he_likes(tmp_path: Path) -> None:
    for model, parameters in (("bpr", SMALL), ("ease", {}), ("itemknn", {}), ("popularity", {})):
        server = Server.load(finished(tmp_path, model, parameters=parameters), tmp_path)
        found = recommend_liked(server, ["I1", "I6", "I1"], 5, tmp_path).frame
        assert len(found) == 5 and not {"I1", "I6"} & set(found["item"]) and not COLD & set(found["item"])


def test_liked_items_of_which_a_model_knows_nothing_are_said(tmp_path: Path) -> None:
    cold = sorted(COLD)[0]
    server = Server.load(finished(tmp_path, "itemknn"), tmp_path)
    with pytest.raises(MmreproError, match="itemknn knows nothing of the liked items"):
        recommend_liked(server, [cold], 5, tmp_path)
    found = recommend_liked(server, ["I1", cold], 5, tmp_path)
    assert "1 liked items say nothing: nobody has had them in training" in found.notes
    pd.testing.assert_frame_equal(found.frame, recommend_liked(server, ["I1"], 5, tmp_path).frame)
    content = Server.load(finished(tmp_path, "vbpr", parameters=SMALL, **with_features(tmp_path)), tmp_path)
    assert len(recommend_liked(content, [cold], 5, tmp_path).frame) == 5


def test_histories_are_scored_as_by_hand() -> None:
    # users 0: items 0, 1; 1: items 0, 1; 2: items 1, 2
    pairs = Interactions(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 1, 2]), 3, 3)
    knn = ItemKNN(pairs, ItemKNNParameters(shrinkage=0))
    knn.fit()
    # cosines: (0, 1) 2 / sqrt(2 * 3), (1, 2) 1 / sqrt(3)
    expected = [2 / 6**0.5, 0, 1 / 3**0.5]
    assert knn.score_history(torch.tensor([1])).tolist() == pytest.approx(expected)
    ease = EASE(pairs, EASEParameters(regularisation=1))
    ease.fit()
    users = ease.score(torch.tensor([0, 2]))
    torch.testing.assert_close(ease.score_history(torch.tensor([0, 1])), users[0])
    torch.testing.assert_close(ease.score_history(torch.tensor([1, 2])), users[1])


def test_other_code_or_data_or_weights_are_refused(tmp_path: Path) -> None:
    run = finished(tmp_path, "bpr", parameters=SMALL)
    record = read_object(run / "run.json")
    for changes, message in (
        ({"code": "0" * 16}, "the code of bpr has changed since"),
        ({"data": {"interactions": "z"}}, "made of other data than those in data/"),
        ({"purpose": "trial"}, "no record of a final run or a refit"),
    ):
        write_record(run / "run.json", {**record, **changes})
        with pytest.raises(MmreproError, match=message):
            Server.load(run, tmp_path)
    weights = torch.load(run / "model.pt", weights_only=True)
    torch.save({name: value + 1 for name, value in weights.items()}, run / "model.pt")
    write_record(run / "run.json", {**record, "files": {}})
    with pytest.raises(MmreproError, match="its weights do not give its lists again"):
        Server.load(run, tmp_path)
    (run / "model.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(MmreproError, match="not the weights of bpr"):
        Server.load(run, tmp_path)
    with pytest.raises(MmreproError, match=r"no run\.json there"):
        Server.load(tmp_path, tmp_path)


def test_a_run_whose_lists_are_not_of_its_weights_says_which_switches_did_it(tmp_path: Path) -> None:
    protocol = ProtocolConfig(base="released").resolve()
    run = finished(tmp_path, "bpr", parameters=SMALL, protocol=protocol)
    weights = torch.load(run / "model.pt", weights_only=True)
    torch.save({name: value + 1 for name, value in weights.items()}, run / "model.pt")
    record = read_object(run / "run.json")
    write_record(run / "run.json", {**record, "files": {}})
    with pytest.raises(MmreproError, match=r"protocol: select_on test, .*serve a run of the protocol fair") as error:
        Server.load(run, tmp_path)
    assert "\n" not in str(error.value)


def test_unknown_keys_name_the_nearest_or_are_left_out_where_asked(tmp_path: Path) -> None:
    server = Server.load(finished(tmp_path, "popularity"), tmp_path)
    with pytest.raises(MmreproError, match=r"unknown user 'U999' and 1 more; did you mean 'U\d+'"):
        recommend_users(server, ["U1", "U999", "u"], 3, tmp_path)
    with pytest.raises(MmreproError, match="unknown item 'I999'; did you mean"):
        recommend_liked(server, ["I999"], 3, tmp_path)
    found = recommend_users(server, ["U1", "U999"], 3, tmp_path, skip_unknown=True)
    assert set(found.frame["user"]) == {"U1"} and "1 users left out" in found.notes[0]


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".jsonl"])
def test_what_is_written_is_read_as_it_was(tmp_path: Path, ending: str) -> None:
    frame = pd.DataFrame(
        {"user": ["01", "ü"], "rank": [1, 1], "item": ["007", "8"], "title": ["a, b", None], "score": [0.5, 1.0]}
    )
    path = tmp_path / f"lists{ending}"
    write_table(frame, path)
    text = {"dtype": {"user": str, "item": str}}
    read = {
        ".csv": lambda: pd.read_csv(path, **text), ".parquet": lambda: pd.read_parquet(path),
        ".jsonl": lambda: pd.DataFrame(map(json.loads, path.read_text().splitlines())),
    }[ending]()  # fmt: skip
    assert read.fillna("").to_numpy().tolist() == frame.fillna("").to_numpy().tolist()
    with pytest.raises(MmreproError, match=r"write a file that ends with \.csv, \.parquet, \.jsonl"):
        write_table(frame, tmp_path / "lists.xlsx")


@pytest.mark.parametrize(
    "text", ["U1\n007\n", "user\nU1\n007\n", "name;user\na;U1\nb;007\n", "\ufeffuser,age\r\nU1,3\r\n007,4\r\n"]
)
def test_users_of_a_file_keep_their_zeros(tmp_path: Path, text: str) -> None:
    path = tmp_path / "users.csv"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_keys(path) == ["U1", "007"]


def test_users_of_a_parquet_file_are_read_and_odd_files_refused(tmp_path: Path) -> None:
    pd.DataFrame({"user": ["U1", "007"], "rank": [1, 1]}).to_parquet(tmp_path / "recs.parquet")
    assert read_keys(tmp_path / "recs.parquet") == ["U1", "007"]
    (tmp_path / "empty.csv").touch()
    for path, message in ((tmp_path / "empty.csv", "no user in it"), (tmp_path, "a folder; name a file of users")):
        with pytest.raises(MmreproError, match=message):
            read_keys(path)


@pytest.mark.parametrize(
    ("path", "message"), [("/proc/none/recs.csv", "no folder can be made there"), (".", "write a")]
)
def test_what_cannot_be_written_is_one_line(tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(MmreproError, match=message):
        write_table(pd.DataFrame({"user": ["a"]}), Path(path))
    (tmp_path / "recs.csv").mkdir()
    with pytest.raises(MmreproError, match=r"recs\.csv: is a folder; name a file"):
        write_table(pd.DataFrame({"user": ["a"]}), tmp_path / "recs.csv")


def test_a_file_of_users_without_their_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_text("name,age\na,3\n")
    with pytest.raises(MmreproError, match="no column 'user' among name, age"):
        read_keys(path)


def test_titles_do_nothing_to_a_terminal(tmp_path: Path) -> None:
    server = Server.load(finished(tmp_path, "popularity"), tmp_path)
    items = pd.read_parquet(tmp_path / "data/prepared/planted" / ITEMS)
    frame = recommend_users(server, ["U1"], 2, tmp_path).frame.assign(title=["\x1b[31mred\nline", None])
    assert len(items) == N_ITEMS
    lines = as_text(frame).splitlines()
    assert len(lines) == 3 and "\\x1b[31mred line" in lines[1]
