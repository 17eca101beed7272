"""Which model to deploy: what is weighed, and that the choice follows from it."""

from pathlib import Path

import pandas as pd
from hand_made import build_hand_made, make_root, write_run

N_USERS = 40


def built(root: Path, seconds: dict[str, float], recalls: dict[str, float]) -> pd.DataFrame:
    plan = make_root(root, datasets=["toy-a"], seeds=[0])
    for run in plan.runs:
        model = run.spec.model
        # every other user differs a little, so that ranks can be compared
        users = [recalls[model] + (0.01 if user % 2 else 0) for user in range(N_USERS)]
        write_run(root, run, users, wall_seconds=seconds[model])
    folder = build_hand_made(root)
    assert "which to deploy" in (folder / "tables/deployment.md").read_text()
    return pd.read_csv(folder / "tables/deployment.csv", keep_default_na=False).set_index("model")


def test_the_best_is_chosen_where_all_others_are_surely_worse(tmp_path: Path) -> None:
    seconds, recalls = (
        {"popularity": 1.0, "lightgcn": 60.0, "cm3": 600.0},
        {"popularity": 0.1, "lightgcn": 0.2, "cm3": 0.3},
    )
    frame = built(tmp_path, seconds, recalls)
    assert frame["even_with_best"].to_dict() == {"cm3": True, "lightgcn": False, "popularity": False}
    assert frame["choice"].to_dict() == {"cm3": "choice; choice where items are new", "lightgcn": "", "popularity": ""}
    assert frame["training_seconds"].astype(float).to_dict() == seconds
    assert frame["cold_items"].to_dict() == {"cm3": True, "lightgcn": False, "popularity": False}


def test_of_what_cannot_be_told_from_the_best_the_fastest_is_chosen(tmp_path: Path) -> None:
    seconds, recalls = (
        {"popularity": 1.0, "lightgcn": 60.0, "cm3": 600.0},
        {"popularity": 0.1, "lightgcn": 0.3, "cm3": 0.3},
    )
    frame = built(tmp_path, seconds, recalls)
    assert frame["choice"].to_dict() == {"cm3": "choice where items are new", "lightgcn": "choice", "popularity": ""}


def test_of_equal_times_the_better_one_is_chosen(tmp_path: Path) -> None:
    seconds, recalls = (
        {"popularity": 1.0, "lightgcn": 60.2, "cm3": 60.0},
        {"popularity": 0.1, "lightgcn": 0.3, "cm3": 0.3},
    )
    frame = built(tmp_path, seconds, recalls)
    first = frame.index[0]
    assert frame["choice"][first].startswith("choice")
