import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from hand_made import (
    CODE,
    STUDY_FILE,
    USERS,
    build_hand_made,
    main_row,
    make_root,
    write_all,
    write_run,
    write_winner,
)

from mmrepro.reporting.build import build_tables
from mmrepro.study.resolve import plan_of_file


def test_means_and_spread_over_seeds_are_the_fractions_worked_by_hand(whole: Path) -> None:
    folder = build_hand_made(whole)
    row = main_row(folder, model="lightgcn")
    assert float(row["mean"]) == pytest.approx(5 / 16)
    assert float(row["std"]) == pytest.approx(1 / 8 / 2**0.5, rel=1e-5)
    assert row["n_seeds"] == 2
    assert float(main_row(folder, model="lightgcn", split="valid")["mean"]) == pytest.approx(5 / 32)
    assert [main_row(folder, model=m)["features"] for m in ("lightgcn", "cm3")] == ["none", "miniature"]


def test_csv_has_the_fixed_columns_and_a_row_for_every_cell(whole: Path) -> None:
    frame = pd.read_csv(build_hand_made(whole) / "tables/main.csv")
    assert ",".join(frame.columns) == (
        "dataset,features,model,protocol,split,metric,k,mean,std,n_seeds,published,verdict"
    )
    assert len(frame) == 2 * 3 * 2 * 11 * 2  # data sets, models, splits, metrics, cutoffs


def test_best_and_second_are_marked_and_the_rest_is_not(whole: Path) -> None:
    folder = build_hand_made(whole)
    assert main_row(folder, model="cm3")["verdict"] == "best"
    assert main_row(folder, model="lightgcn", dataset="toy-b")["verdict"] == "second"
    assert main_row(folder, model="popularity")["verdict"] == ""
    text = (folder / "tables/main.md").read_text()
    assert "**0.5000 ± 0.0000**" in text
    assert "<u>0.3125 ± 0.0884</u>" in text


def test_coverage_and_novelty_have_no_best(whole: Path) -> None:
    assert main_row(build_hand_made(whole), model="cm3", metric="coverage")["verdict"] == ""


def test_equal_means_are_both_best_and_nobody_is_second(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    for run in plan.runs:
        model = "cm3" if run.spec.model == "lightgcn" else run.spec.model
        write_run(tmp_path, run, USERS[model][run.seed])
    folder = build_hand_made(tmp_path)
    assert main_row(folder, model="cm3", dataset="toy-b")["verdict"] == "best"
    assert main_row(folder, model="lightgcn", dataset="toy-b")["verdict"] == "best"
    assert main_row(folder, model="popularity", dataset="toy-b")["verdict"] == ""


def test_improvement_and_significance_by_hand(whole: Path) -> None:
    frame = pd.read_csv(build_hand_made(whole) / "tables/significance.csv")
    row = frame[(frame["dataset"] == "toy-a") & (frame["metric"] == "ndcg") & (frame["k"] == 10)].iloc[0]
    assert (row["focus"], row["other"], row["n_users"]) == ("cm3", "lightgcn", 4)
    assert row["improvement_percent"] == pytest.approx(100 * (1 / 2 - 5 / 16) / (5 / 16))
    # user means differ by 0, 1/4, 1/4, 1/4: all signs alike, p = 2 / 2^3; eight comparisons, 8 * 1/4 > 1
    assert row["p"] == pytest.approx(1 / 4)
    assert row["p_holm"] == 1
    assert len(frame) == 8


def test_stars_follow_the_corrected_p_value(tmp_path: Path) -> None:
    plan = make_root(tmp_path, datasets=["toy-a"])
    for run in plan.runs:
        level = {"popularity": 0.1, "lightgcn": 0.2, "cm3": 0.4}[run.spec.model]
        write_run(tmp_path, run, [level + user / 500 * (run.spec.model == "cm3") for user in range(12)])
    folder = build_hand_made(tmp_path)
    p = pd.read_csv(folder / "tables/significance.csv").loc[0]
    assert p["p"] == pytest.approx(2 / 2**12, rel=1e-5)
    assert p["p_holm"] == pytest.approx(4 * 2 / 2**12, rel=1e-5)  # below 0.01, above 0.001
    assert re.search(r"\| +\+105\.5 %\\\*\\\* \|", (folder / "tables/main.md").read_text())
    assert r"+105.5 \%** &" in (folder / "tables/main.tex").read_text()


def test_published_numbers_are_joined_only_where_the_split_is_theirs(whole: Path) -> None:
    folder = build_hand_made(whole)
    row = main_row(folder, model="lightgcn")
    assert float(row["published"]) == 0.25
    assert row["verdict"] == "second; published +25.0 %"  # 5/16 against 1/4
    assert main_row(folder, model="lightgcn", k=10)["published"] == "not transcribed"
    assert main_row(folder, model="lightgcn", dataset="toy-b")["published"] == ""
    assert main_row(folder, model="lightgcn", split="valid")["published"] == ""
    text = (folder / "tables/main.md").read_text()
    assert "0.2500 (+25.0 %)" in text
    assert "not transcribed" in text.split("## toy-b")[0]
    assert "of 1 (numbers); each value with its source" in text


def test_a_row_added_to_papers_csv_fills_the_cell(whole: Path) -> None:
    with (whole / "data/published/papers.csv").open("a") as handle:
        handle.write("baby,cm3,ndcg,10,0.4,released,,a paper\n")
        handle.write("baby,lightgcn,recall,20,0.9,released,,the paper itself wins\n")
    folder = build_hand_made(whole)
    assert float(main_row(folder, model="cm3", metric="ndcg", k=10)["published"]) == 0.4
    assert float(main_row(folder, model="lightgcn")["published"]) == 0.9


def test_a_block_of_which_nothing_is_known_has_no_rows_of_it(whole: Path) -> None:
    (whole / "data/published/numbers.csv").write_text((whole / "data/published/papers.csv").read_text())
    folder = build_hand_made(whole)
    assert "| ↳ published" not in (folder / "tables/main.md").read_text()
    assert main_row(folder, model="lightgcn")["published"] == "not transcribed"


def test_holes_are_marked_and_the_rest_is_still_a_table(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    for run in plan.runs:
        if run.spec.dataset == "toy-a" and run.spec.model != "popularity" and (run.spec.model, run.seed) != ("cm3", 1):
            write_run(tmp_path, run, USERS[run.spec.model][run.seed])
    folder = build_hand_made(tmp_path)
    assert main_row(folder, model="popularity")["verdict"] == "not run"
    assert main_row(folder, model="popularity")["mean"] == ""
    partial = main_row(folder, model="cm3")
    assert (partial["verdict"], partial["std"], partial["n_seeds"]) == ("best; 1 of 2 seeds", "", 1)
    text = (folder / "tables/main.md").read_text()
    assert "| not run |" in re.sub(" +", " ", text)
    assert "cm3 [1 of 2 seeds]" in text
    assert "Not run: 7 of 10 runs: toy-a/popularity/fair seed 0" in text
    assert json.loads((folder / "summary.json").read_text())["holes"] == 7


def test_an_unfinished_record_is_a_hole(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    write_run(tmp_path, plan.runs[0], USERS["popularity"][0], status="running")
    assert json.loads((build_hand_made(tmp_path) / "summary.json").read_text())["holes"] == 10


def test_footer_says_encoders_missing_features_protocol_and_note(whole: Path) -> None:
    text = (build_hand_made(whole) / "tables/main.md").read_text()
    assert "image by open_clip ViT-S-32 random:7 (random weights, not trained) on toy-a, toy-b" in text
    assert "toy-a: 2 image; toy-b: 2 image" in text
    assert "R recall, N NDCG on the test split, mean ± sample standard deviation over seeds 0, 1; bold" in text
    assert "Run once, because nothing is drawn: popularity." in text
    assert "Protocol fair: select_on valid, round_digits no" in text
    assert text.rstrip().endswith("Made by hand.")


def test_a_simple_model_that_beats_a_trained_one_is_told(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    strong = {"popularity": {0: [1 / 2, 1 / 4, 1 / 2, 1 / 4]}}  # mean 3/8; lightgcn 1/4 and 3/8, cm3 1/2
    for run in plan.runs:
        better = run.spec.dataset == "toy-a" and run.spec.model == "popularity"
        write_run(tmp_path, run, (strong if better else USERS)[run.spec.model][run.seed])
    text = (build_hand_made(tmp_path) / "tables/main.md").read_text()
    assert "toy-a, protocol fair: popularity, which needs no training, is ahead of lightgcn in R@20." in text
    assert "toy-b, protocol fair: popularity" not in text


def test_flags_name_the_odd_runs(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    for run in plan.runs:
        odd = run.spec.model == "lightgcn" and run.seed == 1 and run.spec.dataset == "toy-a"
        versions = {"torch": "2.14.0" if odd else "2.15.0"}
        device = {"device_name": "another processor"} if odd else {}
        write_run(tmp_path, run, USERS[run.spec.model][run.seed], versions=versions, **device)
    folder = build_hand_made(tmp_path, {**CODE, "cm3": "c2"})
    assert main_row(folder, model="lightgcn", k=10)["verdict"] == "second; mixed devices; mixed versions"
    assert main_row(folder, model="cm3", k=10)["verdict"] == "best; stale"
    assert main_row(folder, model="lightgcn", k=10, dataset="toy-b")["verdict"] == "second"
    text = (folder / "tables/main.md").read_text()
    assert "lightgcn [mixed devices, mixed versions]" in text
    assert "Runs of mixed versions: torch 2.14.0 and torch 2.15.0." in text
    assert "cpu (a processor) and cpu (another processor)" in text
    assert "'stale'" in text


def test_rows_selected_on_test_say_so(tmp_path: Path) -> None:
    search = {"space": {"lightgcn": {"n_layers": [2, 3]}}}
    variants = {"whole": {}, "narrow": {"parameters": {"embedding_size": 8}}, "flat": {"parameters": {"n_layers": 1}}}
    comparisons = {"parts": {"title": "P", "datasets": ["toy-a"], "models": ["lightgcn"], "variants": variants}}
    protocols = {"released": {}, "fair": {}}
    plan = make_root(tmp_path, protocols=protocols, search=search, comparisons=comparisons)
    write_winner(tmp_path, plan, {"n_layers": 3}, select_on="test", metric="recall_at_20")
    write_all(tmp_path, plan)
    for run in plan.final_runs[len(plan.runs) :]:
        write_run(tmp_path, run, [0.5])
    folder = build_hand_made(tmp_path)
    released = {"k": 10, "protocol": "released"}
    assert main_row(folder, model="lightgcn", **released)["verdict"] == "second; selected on test"
    assert main_row(folder, model="popularity", **released)["verdict"] == ""  # nothing of it was chosen
    assert main_row(folder, model="lightgcn", k=10)["verdict"] == "second"
    note = "under protocol released the hyper-parameters of lightgcn were chosen on the test split itself."
    for name in ("main", "parts", "long_tail", "short_history"):
        assert note in (folder / f"tables/{name}.md").read_text(), name
    flags = pd.read_csv(folder / "tables/parts.csv", keep_default_na=False).drop_duplicates("variant")["flags"]
    assert flags.tolist() == ["selected on test"] * 3  # of the last one, the epoch
    text = (folder / "tables/main.md").read_text()
    assert "## toy-a, protocol released" in text
    assert "Hyper-parameters searched (grid, all combinations, seed 0): lightgcn." in text
    trials = pd.read_csv(folder / "tables/search.csv")
    assert set(zip(trials["protocol"], trials["flags"], strict=True)) == {
        ("released", "selected on test; not run"),
        ("fair", "not run"),
    }


def test_a_slice_of_a_study_has_only_its_models(whole: Path) -> None:
    plan = plan_of_file(STUDY_FILE, whole, models="cm3,lightgcn", datasets="toy-b")
    assert plan.name == "hand--datasets-toy-b-models-cm3-lightgcn-e8b4"
    shutil.copytree(whole / "results/hand/measures", whole / "results" / plan.name / "measures")
    build_tables(plan, whole / "out/hand", whole, CODE)
    frame = pd.read_csv(whole / "out/hand/tables/main.csv")
    assert (set(frame["model"]), set(frame["dataset"])) == ({"cm3", "lightgcn"}, {"toy-b"})
