"""A class and lists of the user's own project as rows of a study, the package as it is."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from checkout import Checkout, copy_project
from test_new_model import MODEL

pytestmark = pytest.mark.slow

STUDY = {
    "study": "own", "title": "Own", "datasets": ["mini-baby"], "focus": "mean-content", "feature_quality": [],
    "models": ["lightgcn", "own/models.py:MeanContent", "lists/{dataset}_engine.csv"], "features": {"default": "miniature"},
    "parameters": {"all": {"batch_size": 512, "max_epochs": 3, "embedding_size": 16, "learning_rate": 0.01}},
}  # fmt: skip


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A project with a class of its own, and the test lists of LightGCN as if another system had made them."""
    checkout = copy_project(tmp_path_factory.mktemp("own"))
    (checkout.folder / "own").mkdir()
    (checkout.folder / "own/models.py").write_text(MODEL.lstrip())
    write_study(checkout, models=["lightgcn"], focus="lightgcn")
    run(checkout)
    [folder] = checkout.folder.glob("results/runs/mini-baby/none/lightgcn/*/seed0")
    lists = pd.read_parquet(folder / "lists.parquet")
    for kind in ("user", "item"):
        keys = pd.read_parquet(checkout.folder / f"data/prepared/mini-baby/{kind}s.parquet")["key"]
        lists[kind] = lists[kind].map(keys)
    (checkout.folder / "lists").mkdir()
    of_test = lists[lists["split"] == "test"][["user", "item", "score"]].sample(frac=1, random_state=0)
    of_test.to_csv(checkout.folder / "lists/mini-baby_engine.csv", index=False)
    write_study(checkout)
    run(checkout)
    return checkout


def write_study(checkout: Checkout, **changes: object) -> None:
    (checkout.folder / "config/studies/own.yaml").write_text(yaml.safe_dump({**STUDY, **changes}))


def run(checkout: Checkout) -> None:
    result = checkout.snakemake("--quiet", "all", study="own")
    assert result.returncode == 0, result.stdout + result.stderr


def test_lists_of_a_model_measure_as_the_model_does(checkout: Checkout) -> None:
    frame = pd.read_csv(checkout.folder / "results/own/tables/main.csv")
    of = {name: rows.set_index(["split", "metric", "k"])["mean"] for name, rows in frame.groupby("model")}
    assert set(of) == {"lightgcn", "mean-content", "engine"}
    pd.testing.assert_series_equal(of["engine"]["test"], of["lightgcn"]["test"])
    assert of["engine"]["valid"].isna().all() and of["lightgcn"]["valid"].notna().all()
    assert of["mean-content"]["test"].notna().all()


def test_the_table_says_where_its_rows_come_from(checkout: Checkout) -> None:
    table = (checkout.folder / "results/own/tables/main.md").read_text()
    assert "mean-content: a class of this project, own/models.py:MeanContent." in table
    assert "engine: lists of another system, lists/mini-baby_engine.csv, for 314 of 314 test users" in table
    assert checkout.call("mmrepro", "verify", "own").returncode == 0


def test_an_edited_class_or_list_plans_its_own_runs(checkout: Checkout) -> None:
    assert checkout.planned(study="own") == []
    model, lists = checkout.folder / "own/models.py", checkout.folder / "lists/mini-baby_engine.csv"
    before = model.read_text(), lists.read_text()
    model.write_text(before[0].replace("* self.parameters_.sharpness", "* (2 * self.parameters_.sharpness)"))
    assert any("mean-content" in path for path in checkout.planned(study="own"))
    assert not any("lightgcn" in path or "engine" in path for path in checkout.planned(study="own"))
    model.write_text(before[0])
    lists.write_text("".join(before[1].splitlines(keepends=True)[:-1]))
    planned = [path for path in checkout.planned(study="own") if "results/runs" in path]
    assert len(planned) == 1 and "/engine/" in planned[0]
    lists.write_text(before[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ["own/models.py:Meancontent"], "focus": "cm3"}, "own/models.py: no class 'Meancontent' in it"),
        ({"models": ["own/model.py:MeanContent"]}, "own/model.py: no such file"),
        ({"parameters": {"mean-content": {"sharpnes": 2}}}, "no parameter 'sharpnes'; did you mean 'sharpness'?"),
        ({"parameters": {"engine": {"depth": 2}}}, "model 'engine' has no parameter 'depth'"),
        ({"outside": {"cm3": "own/models.py:MeanContent"}, "models": ["cm3"]}, "a model of the package"),
    ],
)
def test_mistakes_are_named_before_anything_runs(checkout: Checkout, changes: dict, message: str) -> None:
    write_study(checkout, **changes)
    result = checkout.snakemake("--dry-run", study="own")
    write_study(checkout)
    said = result.stdout + result.stderr
    assert result.returncode != 0 and message in said and "Traceback" not in said


def test_the_record_has_the_hash_of_the_lists(checkout: Checkout) -> None:
    [path] = Path(checkout.folder).glob("results/runs/mini-baby/none/engine/*/seed0/run.json")
    data = json.loads(path.read_text())["data"]
    assert len(data["lists"]) == 64 and data["listed"] == {
        "test": {"users": 314, "listed": 314, "known": 0, "unknown": 0}
    }
