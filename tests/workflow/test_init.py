"""From somebody's files to a table and recommendations, in two commands and a third."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from checkout import Checkout, copy_project

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from awkward_shops import camel_shop, german_shop

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return copy_project(tmp_path_factory.mktemp("newcomer"))


def begun(checkout: Checkout, name: str, files: list[Path]) -> str:
    result = checkout.call("mmrepro", "init", name, *map(str, files))
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_german_shop_is_studied_and_served(checkout: Checkout, tmp_path: Path) -> None:
    assert "next: make STUDY=laden" in begun(checkout, "laden", german_shop(tmp_path / "files"))
    result = checkout.snakemake("--quiet", "all", "--config", "models=popularity,itemknn,vbpr", study="laden")
    assert result.returncode == 0, result.stdout + result.stderr
    [table] = checkout.folder.glob("results/laden--*/tables/main.csv")
    frame = pd.read_csv(table)
    assert set(frame["model"]) == {"popularity", "itemknn", "vbpr"} and frame["n_seeds"].gt(0).all()
    users = tmp_path / "users.csv"
    users.write_text("user\n0001\n0002\n")
    served = tmp_path / "recs.csv"
    command = (
        "mmrepro",
        "recommend",
        "laden",
        "--model",
        "itemknn",
        "--users",
        str(users),
        "--k",
        "3",
        "--output",
        str(served),
    )
    result = checkout.call(*command)
    assert result.returncode == 0, result.stderr
    found = pd.read_csv(served, dtype="str")
    assert found["user"].tolist() == ["0001"] * 3 + ["0002"] * 3
    assert found["item"].str.fullmatch(r"\d{6}").all() and found["title"].notna().all()
    bought = pd.read_csv(tmp_path / "files/Bestellungen.csv", sep=";", dtype="str", encoding="utf-8-sig")
    had = set(zip(bought["Kunden-ID"], bought["Artikel"], strict=True))
    assert not had & set(zip(found["user"], found["item"], strict=True))


def test_rows_added_to_the_shops_own_file_plan_the_study_again(checkout: Checkout, tmp_path: Path) -> None:
    files = camel_shop(tmp_path / "files")
    begun(checkout, "camel", files)
    run = ("--quiet", "all", "--config", "models=popularity")
    assert checkout.snakemake(*run, study="camel").returncode == 0
    assert checkout.planned("--config", "models=popularity", study="camel") == []
    events = pd.read_parquet(files[0])
    own = checkout.folder / "data/mirror/camel/events.parquet"
    pd.concat([events, events.tail(1).assign(productId=10_000)]).to_parquet(own, index=False)
    planned = checkout.planned("--config", "models=popularity", study="camel")
    assert any("data/prepared/camel" in path for path in planned)


def test_it_is_said_once_what_is_taken(checkout: Checkout, tmp_path: Path) -> None:
    files = camel_shop(tmp_path / "files")
    begun(checkout, "again", files)
    result = checkout.call("mmrepro", "init", "again", str(files[0]))
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "config/datasets/again.yaml: is there already" in result.stderr
    healthy = checkout.call("mmrepro", "doctor", "again")
    assert healthy.returncode == 0, healthy.stdout
