"""Claims against what came out, on values whose differences are known."""

from pathlib import Path

import pandas as pd
import pytest
from hand_made import CODE, STUDY_FILE, USERS, build_hand_made, make_root, write_all, write_run

from mmrepro.errors import MmreproError
from mmrepro.reporting.report import Report
from mmrepro.reporting.tables.claims import CLAIMS_COLUMNS, claims_of
from mmrepro.study.resolve import plan_of_file

SAID = {"statement": "cm3 is ahead", "source": "a page"}
LAYERS = {"title": "Layers", "datasets": ["toy-a"], "models": ["lightgcn"], "variants": {"two": {}, "one": {"parameters": {"n_layers": 1}}}}  # fmt: skip


def claimed(root: Path, *claims: dict, many: int = 1, **changes: object) -> pd.DataFrame:
    """Claims on runs whose users are those of `USERS`, each as often as said, so that a test can tell."""
    plan = make_root(root, claims=[*claims], **changes)
    for run in plan.final_runs:
        write_run(root, run, USERS[run.spec.model][run.seed] * many)
    return claims_of(Report(plan_of_file(STUDY_FILE, root), root, CODE))


def test_a_claim_is_tested_on_every_data_set(tmp_path: Path) -> None:
    frame = claimed(tmp_path, {**SAID, "better": "cm3"}, many=10)
    assert tuple(frame.columns) == CLAIMS_COLUMNS and frame["dataset"].tolist() == ["toy-a", "toy-b"]
    row = frame.iloc[0]
    # users' means over seeds: cm3 1/2 5/8 1/2 3/8, lightgcn 1/2 3/8 1/4 1/8, which is the best other
    assert (row["than"], row["mean"], row["other_mean"], row["difference"]) == ("lightgcn", 0.5, 0.3125, 0.1875)
    assert row["effect"] == 1.0 and row["lower"] < 0.1875 < row["upper"] and row["n_users"] == 40
    assert row["p_holm"] == 2 * row["p"] < 0.001 and set(frame["verdict"]) == {"supported"}


@pytest.mark.parametrize(
    ("claim", "many", "verdict"),
    [
        ({"better": "popularity"}, 10, "contradicted"),
        ({"better": "popularity", "than": "lightgcn", "metric": "ndcg@10"}, 10, "contradicted"),
        ({"better": "cm3", "than": "popularity"}, 1, "undecided"),  # four users
    ],
)
def test_the_verdict_follows_the_test(tmp_path: Path, claim: dict, many: int, verdict: str) -> None:
    assert claimed(tmp_path, {**SAID, **claim}, many=many, datasets=["toy-a"])["verdict"].tolist() == [verdict]


def test_variants_of_a_comparison_are_compared(tmp_path: Path) -> None:
    claim = {**SAID, "comparison": "layers", "better": "two", "than": "one"}
    frame = claimed(tmp_path, claim, many=10, comparisons={"layers": LAYERS})
    assert frame[["dataset", "difference", "verdict"]].to_numpy().tolist() == [["toy-a", 0.0, "undecided"]]


def test_what_was_not_run_is_said(tmp_path: Path) -> None:
    plan = make_root(tmp_path, claims=[{**SAID, "better": "cm3"}], datasets=["toy-a"])
    for run in plan.final_runs:
        if run.spec.model != "cm3":
            write_run(tmp_path, run, USERS[run.spec.model][run.seed])
    folder = build_hand_made(tmp_path)
    assert pd.read_csv(folder / "tables/claims.csv")["verdict"].tolist() == ["not run"]
    assert "## cm3 is ahead (a page): 1 not run" in (folder / "tables/claims.md").read_text()


def test_a_study_without_claims_has_no_such_table(tmp_path: Path) -> None:
    write_all(tmp_path, make_root(tmp_path))
    assert not (build_hand_made(tmp_path) / "tables/claims.csv").exists()


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ({"better": "cm33"}, "no row 'cm33'; did you mean 'cm3'"),
        ({"better": "cm3", "than": "bestt other"}, "no row 'bestt other'; did you mean 'the best other'"),
        ({"better": "cm3", "than": "cm3"}, "'cm3' is compared with itself"),
        ({"better": "one", "comparison": "layer"}, "no comparison 'layer'; did you mean 'layers'"),
        ({"better": "cm3", "comparison": "layers"}, "no row 'cm3'; valid are two, one"),
        ({"better": "one", "comparison": "layers", "model": "cm3"}, "no model 'cm3' there; valid are lightgcn"),
        ({"better": "cm3", "metric": "recall@7"}, "recall_at_7 is not measured; add 7 to `cutoffs`"),
    ],
)
def test_a_claim_about_what_is_not_there_is_refused(tmp_path: Path, claim: dict, message: str) -> None:
    with pytest.raises(MmreproError, match=f"claim 'cm3 is ahead': {message}"):
        make_root(tmp_path, claims=[{**SAID, **claim}], comparisons={"layers": LAYERS})


def test_a_slice_tests_what_its_rows_can(tmp_path: Path) -> None:
    make_root(tmp_path, claims=[{**SAID, "better": "cm3"}, {**SAID, "better": "lightgcn", "than": "popularity"}])
    plan = plan_of_file(STUDY_FILE, tmp_path, models=["popularity", "lightgcn"])
    assert [claim.better for claim in plan.claims] == ["lightgcn"]
