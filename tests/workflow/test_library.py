"""The library beside the workflow: the same data, seeds, folders and digits, and models of one's own."""

import json
import shutil
import warnings
from pathlib import Path

import pandas as pd
import pytest
import yaml
from checkout import Checkout, copy_project
from test_new_model import MODEL

import mmrepro
from mmrepro.errors import MmreproError
from mmrepro.library.data import Data

pytestmark = pytest.mark.slow

OF_SMOKE = {"batch_size": 512, "max_epochs": 6, "patience": 6, "embedding_size": 16, "learning_rate": 0.005}
TRAINED = {"lightgcn": {**OF_SMOKE, "n_layers": 1}, "cm3": OF_SMOKE}


@pytest.fixture(scope="module")
def project(finished: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished smoke study in a folder of this module's own."""
    folder = tmp_path_factory.mktemp("library") / "project"
    shutil.copytree(finished.folder, folder)
    (folder / "own").mkdir()
    (folder / "own/models.py").write_text(MODEL.lstrip())
    return folder


@pytest.fixture(scope="module")
def data(project: Path) -> Data:
    return mmrepro.load("mini-baby", features="miniature", folder=project)


def study_means(project: Path) -> dict[str, dict[str, dict[str, float]]]:
    measures = json.loads((project / "results/smoke/measures/mini-baby.json").read_text())["runs"]
    return {path.split("/")[4]: means for path, means in measures.items()}


@pytest.mark.parametrize("model", TRAINED)
def test_a_run_of_the_study_is_taken_as_it_is(project: Path, data: Data, model: str) -> None:
    [record] = project.glob(f"results/runs/mini-baby/*/{model}/*/seed0/run.json")
    before = record.stat().st_mtime_ns
    run = mmrepro.train(model, data, seed=0, **TRAINED[model])
    assert run.path == record.parent and record.stat().st_mtime_ns == before
    means = study_means(project)[model]
    for split in ("valid", "test"):
        for metric, value in run.metrics[split].items():
            assert value == means[split][metric]
    assert run.users.query("split == 'test'")["recall_at_20"].mean() == pytest.approx(means["test"]["recall_at_20"])


def test_trained_anew_it_is_the_same_bit_for_bit(project: Path, data: Data, tmp_path: Path) -> None:
    run = mmrepro.train("cm3", data, seed=0, quiet=True, **TRAINED["cm3"])
    shutil.copytree(run.path, tmp_path / "before")
    shutil.rmtree(run.path)
    again = mmrepro.train("cm3", data, seed=0, quiet=True, **TRAINED["cm3"])
    assert again.path == run.path
    for name in ("lists.parquet", "embeddings.npz"):
        assert (again.path / name).read_bytes() == (tmp_path / "before" / name).read_bytes()


def test_nothing_is_said_on_stdout_and_torch_is_left_as_it_was(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    before = torch.get_num_threads(), torch.random.get_rng_state(), torch.get_deterministic_debug_mode()
    run = mmrepro.train("lightgcn", data, seed=7, max_epochs=2)
    assert torch.get_num_threads() == before[0] and torch.get_deterministic_debug_mode() == before[2]
    assert torch.equal(torch.random.get_rng_state(), before[1])
    said = capsys.readouterr()
    assert said.out == "" and "epoch 2/2" in said.err
    assert list(run.history["epoch"]) == [1, 2]


def test_a_class_of_ones_own_is_trained_again_when_it_is_edited(project: Path, data: Data) -> None:
    settings = {"max_epochs": 2, "embedding_size": 8, "quiet": True}
    first = mmrepro.train("own/models.py:MeanContent", data, **settings)
    assert first.record["outside"] == "own/models.py:MeanContent"
    made = (first.path / "run.json").stat().st_mtime_ns
    assert mmrepro.train("own/models.py:MeanContent", data, **settings).path == first.path
    assert (first.path / "run.json").stat().st_mtime_ns == made
    file = project / "own/models.py"
    file.write_text(file.read_text().replace('return {"bpr": bpr(', 'return {"bpr": 2 * bpr('))
    edited = mmrepro.train(str(file) + ":MeanContent", data, **settings)
    assert edited.path == first.path and (first.path / "run.json").stat().st_mtime_ns > made
    assert set(edited.embeddings) == {"users", "items"}


def test_runs_recommend_and_compare(data: Data) -> None:
    one, other = (mmrepro.train(model, data, **settings) for model, settings in TRAINED.items())
    user = str(data.users["key"].iloc[3])
    found = one.recommend([user], k=4)
    had = set(data.interactions.query("user == @user")["item"])
    assert len(found) == 4 and not had & set(found["item"])
    assert one.recommend(user, k=4).equals(found)
    assert len(one.recommend(liked=[found["item"].iloc[0]], k=3)) == 3
    comparison = one.compare(other)
    assert comparison.difference == pytest.approx(
        one.metrics.loc["recall_at_20", "test"] - other.metrics.loc["recall_at_20", "test"]
    )
    assert comparison.n_users == len(one.of_users("recall_at_20")) and 0 <= comparison.p <= 1


def test_lists_from_elsewhere_are_measured_alike(data: Data, tmp_path: Path) -> None:
    run = mmrepro.train("lightgcn", data, **TRAINED["lightgcn"])
    given = run.lists[["split", "user", "item", "score"]].sample(frac=1, random_state=0)
    given.to_csv(tmp_path / "lists.csv", index=False)
    for lists in (given, tmp_path / "lists.csv", str(tmp_path / "lists.csv")):
        found = mmrepro.evaluate(lists, data)
        pd.testing.assert_frame_equal(found.metrics, run.metrics)
        assert found.compare(run).difference == 0


def test_rows_of_lists_that_the_data_do_not_know_are_said(data: Data) -> None:
    run = mmrepro.train("lightgcn", data, **TRAINED["lightgcn"])
    given = run.lists[["split", "user", "item", "score"]]
    stranger = given.head(1).assign(user="nobody", split="test")
    with pytest.warns(UserWarning, match="the lists: 1 rows for test left out, of users or items"):
        found = mmrepro.evaluate(pd.concat([given, stranger]), data)
    pd.testing.assert_frame_equal(found.metrics, run.metrics)


def test_tables_are_frames_and_say_when_they_are_stale(project: Path) -> None:
    frame = mmrepro.results("smoke", folder=project)
    assert set(frame["model"]) == {"lightgcn", "cm3"}
    assert len(mmrepro.results(project / "results/smoke", table="cost", folder=project))
    with pytest.raises(MmreproError, match="no table 'mian'; did you mean 'main'"):
        mmrepro.results("smoke", "mian", folder=project)
    with pytest.raises(MmreproError, match="no tables of 'smok'; did you mean 'smoke'"):
        mmrepro.results("smok", folder=project)
    summary = project / "results/smoke/summary.json"
    text = summary.read_text()
    summary.write_text(json.dumps({**json.loads(text), "code": {"cm3": "0" * 16}}))
    with pytest.warns(UserWarning, match="STALE: the code of cm3 has changed"):
        mmrepro.results("smoke", folder=project)
    summary.write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mmrepro.results("smoke", folder=project)


def test_data_follow_their_files(project: Path) -> None:
    path = project / "config/datasets/mini-baby.yaml"
    assert (
        mmrepro.load(path, features=project / "config/features/miniature.yaml", folder=project).dataset == "mini-baby"
    )
    before, text = mmrepro.load("mini-baby", folder=project).statistics["content_hash"], path.read_text()
    written = yaml.safe_load(text)
    path.write_text(yaml.safe_dump({**written, "k_core": written["k_core"] + 1}))
    other = mmrepro.load("mini-baby", folder=project).statistics["content_hash"]
    path.write_text(text)
    assert other != before == mmrepro.load("mini-baby", folder=project).statistics["content_hash"]


def test_data_prepared_anew_are_not_taken_for_those_that_were_loaded(project: Path, data: Data) -> None:
    run = mmrepro.train("popularity", data, quiet=True)
    path = project / "config/datasets/mini-baby.yaml"
    text = path.read_text()
    written = yaml.safe_load(text)
    path.write_text(yaml.safe_dump({**written, "k_core": written["k_core"] + 1}))
    try:
        other = mmrepro.load("mini-baby", folder=project)
        for use in (
            lambda: mmrepro.train("popularity", data), lambda: mmrepro.evaluate(run.lists, data),
            lambda: Data.interactions.func(data), lambda: mmrepro.run_in(run.path, other),
            lambda: run.compare(mmrepro.train("popularity", other, quiet=True)),
        ):  # fmt: skip
            with pytest.raises(MmreproError, match=r"load it again|made of other data|compared data differ"):
                use()
    finally:
        path.write_text(text)
        mmrepro.load("mini-baby", features="miniature", folder=project)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda data: mmrepro.train("lightgnc", data), "unknown model 'lightgnc'; did you mean 'lightgcn'"),
        (lambda data: mmrepro.train("lightgcn", data, n_layer=2), "no parameter 'n_layer'; did you mean 'n_layers'"),
        (lambda data: mmrepro.train("vbpr", Data(data.dataset, None, data.folder)), "load the data with `features=`"),
        (lambda data: mmrepro.train("/elsewhere/a.py:A", data), "models of one's own lie in the project"),
        (lambda data: mmrepro.train("lists/theirs.csv", data), "measure lists with `evaluate`"),
        (lambda data: mmrepro.load("mini-bby", folder=data.folder), "did you mean 'mini-baby'"),
        (lambda data: mmrepro.load("/tmp/mini-baby.yaml", folder=data.folder), "where the workflow looks for it"),
        (lambda data: mmrepro.load("mini-baby", folder="/"), "no project of mmrepro"),
    ],
)
def test_mistakes_are_one_line(data: Data, call: object, message: str) -> None:
    with pytest.raises(MmreproError) as error:
        call(data)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_in_a_new_project_all_is_made_on_the_way(tmp_path: Path) -> None:
    project = copy_project(tmp_path).folder
    data = mmrepro.load("mini-baby", folder=project)
    assert len(data.interactions) == sum(data.statistics["interactions"].values())
    run = mmrepro.train("popularity", data)
    assert run.metrics.loc["recall_at_20", "test"] > 0
