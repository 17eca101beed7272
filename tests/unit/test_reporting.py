import json
import re
from pathlib import Path

import pandas as pd
import pytest
from hand_made import (
    ABLATION,
    CODE,
    STATISTICS,
    STUDY_FILE,
    USERS,
    make_root,
    write_alignment,
    write_all,
    write_interactions,
    write_lists,
    write_probe,
    write_run,
    write_statistics,
    write_winner,
)
from hypothesis import given
from hypothesis import strategies as st

from mmrepro.errors import MmreproError
from mmrepro.plan import Plan
from mmrepro.reporting.degree_figure import at_least, draw_degrees
from mmrepro.reporting.products import SEARCH_FIGURE, table_files
from mmrepro.reporting.publish import show
from mmrepro.reporting.render import Block, Cell, Table, to_latex, to_markdown
from mmrepro.reporting.search_figure import best_so_far
from mmrepro.reporting.tables import build_tables


def build(root: Path, code: dict[str, str] = CODE) -> Path:
    build_tables(STUDY_FILE, root / "results", root, current_code=code)
    return root / "results/hand"


def main_row(folder: Path, **wanted: object) -> pd.Series:
    frame = pd.read_csv(folder / "tables/main.csv", keep_default_na=False)
    wanted = {"dataset": "toy-a", "split": "test", "metric": "recall", "k": 20, "protocol": "fair", **wanted}
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    write_all(tmp_path, make_root(tmp_path))
    return tmp_path


def test_means_and_spread_over_seeds_are_the_fractions_worked_by_hand(whole: Path) -> None:
    folder = build(whole)
    row = main_row(folder, model="lightgcn")
    assert float(row["mean"]) == pytest.approx(5 / 16)
    assert float(row["std"]) == pytest.approx(1 / 8 / 2**0.5, rel=1e-5)
    assert row["n_seeds"] == 2
    assert float(main_row(folder, model="lightgcn", split="valid")["mean"]) == pytest.approx(5 / 32)
    assert [main_row(folder, model=m)["features"] for m in ("lightgcn", "cm3")] == ["none", "miniature"]


def test_csv_has_the_fixed_columns_and_a_row_for_every_cell(whole: Path) -> None:
    frame = pd.read_csv(build(whole) / "tables/main.csv")
    assert ",".join(frame.columns) == (
        "dataset,features,model,protocol,split,metric,k,mean,std,n_seeds,published,verdict"
    )
    assert len(frame) == 2 * 3 * 2 * 7 * 2  # data sets, models, splits, metrics, cutoffs


def test_best_and_second_are_marked_and_the_rest_is_not(whole: Path) -> None:
    folder = build(whole)
    assert main_row(folder, model="cm3")["verdict"] == "best"
    assert main_row(folder, model="lightgcn", dataset="toy-b")["verdict"] == "second"
    assert main_row(folder, model="popularity")["verdict"] == ""
    text = (folder / "tables/main.md").read_text()
    assert "**0.5000 ± 0.0000**" in text
    assert "<u>0.3125 ± 0.0884</u>" in text


def test_coverage_and_novelty_have_no_best(whole: Path) -> None:
    assert main_row(build(whole), model="cm3", metric="coverage")["verdict"] == ""


def test_equal_means_are_both_best_and_nobody_is_second(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    for run in plan.runs:
        model = "cm3" if run.spec.model == "lightgcn" else run.spec.model
        write_run(tmp_path, run, USERS[model][run.seed])
    folder = build(tmp_path)
    assert main_row(folder, model="cm3", dataset="toy-b")["verdict"] == "best"
    assert main_row(folder, model="lightgcn", dataset="toy-b")["verdict"] == "best"
    assert main_row(folder, model="popularity", dataset="toy-b")["verdict"] == ""


def test_improvement_and_significance_by_hand(whole: Path) -> None:
    frame = pd.read_csv(build(whole) / "tables/significance.csv")
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
    folder = build(tmp_path)
    p = pd.read_csv(folder / "tables/significance.csv").loc[0]
    assert p["p"] == pytest.approx(2 / 2**12, rel=1e-5)
    assert p["p_holm"] == pytest.approx(4 * 2 / 2**12, rel=1e-5)  # below 0.01, above 0.001
    assert re.search(r"\| +\+105\.5 %\\\*\\\* \|", (folder / "tables/main.md").read_text())
    assert r"+105.5 \%** &" in (folder / "tables/main.tex").read_text()


def test_published_numbers_are_joined_only_where_the_split_is_theirs(whole: Path) -> None:
    folder = build(whole)
    row = main_row(folder, model="lightgcn")
    assert float(row["published"]) == 0.25
    assert row["verdict"] == "second; published +25.0 %"  # 5/16 against 1/4
    assert main_row(folder, model="lightgcn", k=10)["published"] == "not transcribed"
    assert main_row(folder, model="lightgcn", dataset="toy-b")["published"] == ""
    assert main_row(folder, model="lightgcn", split="valid")["published"] == ""
    text = (folder / "tables/main.md").read_text()
    assert "0.2500 (+25.0 %)" in text
    assert "not transcribed" in text.split("## toy-b")[0]
    assert "a page (protocol released)" in text


def test_a_row_added_to_papers_csv_fills_the_cell(whole: Path) -> None:
    with (whole / "data/published/papers.csv").open("a") as handle:
        handle.write("baby,cm3,ndcg,10,0.4,released,,a paper\n")
        handle.write("baby,lightgcn,recall,20,0.9,released,,the file named by the study wins\n")
    folder = build(whole)
    assert float(main_row(folder, model="cm3", metric="ndcg", k=10)["published"]) == 0.4
    assert float(main_row(folder, model="lightgcn")["published"]) == 0.25


def test_holes_are_marked_and_the_rest_is_still_a_table(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    for run in plan.runs:
        if run.spec.dataset == "toy-a" and run.spec.model != "popularity" and (run.spec.model, run.seed) != ("cm3", 1):
            write_run(tmp_path, run, USERS[run.spec.model][run.seed])
    folder = build(tmp_path)
    assert main_row(folder, model="popularity")["verdict"] == "not run"
    assert main_row(folder, model="popularity")["mean"] == ""
    partial = main_row(folder, model="cm3")
    assert (partial["verdict"], partial["std"], partial["n_seeds"]) == ("best; 1 of 2 seeds", "", 1)
    text = (folder / "tables/main.md").read_text()
    assert "| not run |" in re.sub(" +", " ", text)
    assert "cm3 [1 of 2 seeds]" in text
    assert "Not run: 7 of 10 runs: toy-a/popularity/fair seed 0" in text
    assert json.loads((folder / "summary.json").read_text())["holes"] == 7


def test_a_table_of_nothing_can_be_built(tmp_path: Path) -> None:
    make_root(tmp_path)
    folder = build(tmp_path)
    assert "No improvement is tested" in (folder / "tables/main.md").read_text()
    assert set(pd.read_csv(folder / "tables/main.csv")["verdict"]) == {"not run"}


def test_an_unfinished_record_is_a_hole(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    write_run(tmp_path, plan.runs[0], USERS["popularity"][0], status="running")
    assert json.loads((build(tmp_path) / "summary.json").read_text())["holes"] == 10


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_building_twice_gives_the_same_bytes_and_exactly_the_listed_files(tmp_path: Path) -> None:
    features = {"default": "miniature", "toy-b": "alignrec-miniature"}
    space = {"lightgcn": {"n_layers": [2]}}
    plan = make_root(tmp_path, features=features, comparisons={"ablation": ABLATION}, search={"space": space})
    write_winner(tmp_path, plan, {"n_layers": 2})
    write_all(tmp_path, plan)
    write_interactions(tmp_path, "toy-a", 3, {"train": [(0, 0)], "test": [(0, 1)]})
    for run in plan.runs:
        write_lists(tmp_path, run, {0: [1]})
    for probe in plan.probes[1:]:
        write_probe(tmp_path, probe, 0.5)
    write_alignment(tmp_path, plan.alignments[0])
    folder = build(tmp_path)
    first = files(folder)
    assert set(first) == set(table_files(plan))
    assert {f"tables/{name}.tex" for name in ("ablation", "feature_quality", "long_tail")} < {*map(str, first)}
    build(tmp_path)
    assert first == files(folder)
    assert json.loads(first[Path("summary.json")])["holes"] == 4  # two variants of two seeds that were not run


def test_a_study_without_comparisons_probes_and_encoders_has_no_such_tables(tmp_path: Path) -> None:
    plan = make_root(tmp_path, models=["popularity", "lightgcn"], focus="lightgcn")
    folder = build(tmp_path)
    assert set(files(folder)) == set(table_files(plan))
    tables = {"main", "datasets", "significance", "cost", "long_tail", "short_history"}
    assert {path.stem for path in table_files(plan) if path.parent.name == "tables"} == tables


def test_times_stand_in_the_cost_table_and_nowhere_else(whole: Path) -> None:
    folder = build(whole)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for path in whole.glob("results/runs/**/run.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"wall_seconds": 7200.0, "peak_memory_mb": 1.0, "git": {"commit": "x"}}))
    build(whole)
    changed = {path.name for path, content in before.items() if path.read_bytes() != content}
    assert changed == {"cost.csv", "cost.md"}
    cost = pd.read_csv(folder / "tables/cost.csv")
    assert cost["wall_hours"].tolist() == [4.0, 4.0, 2.0] * 2  # two seeds of two hours; popularity has one


def test_footer_says_encoders_missing_features_protocol_and_note(whole: Path) -> None:
    text = (build(whole) / "tables/main.md").read_text()
    assert "image by open_clip ViT-S-32 random:7 (random weights, not trained) on toy-a, toy-b" in text
    assert "toy-a: 2 image; toy-b: 2 image" in text
    assert "Run once, because nothing is drawn: popularity." in text
    assert "Protocol fair: select_on valid, round_digits no" in text
    assert text.rstrip().endswith("Made by hand.")


def test_a_simple_model_that_beats_a_trained_one_is_told(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    strong = {"popularity": {0: [1 / 2, 1 / 4, 1 / 2, 1 / 4]}}  # mean 3/8; lightgcn 1/4 and 3/8, cm3 1/2
    for run in plan.runs:
        better = run.spec.dataset == "toy-a" and run.spec.model == "popularity"
        write_run(tmp_path, run, (strong if better else USERS)[run.spec.model][run.seed])
    text = (build(tmp_path) / "tables/main.md").read_text()
    assert "toy-a, protocol fair: popularity, which needs no training, is ahead of lightgcn in R@20." in text
    assert "toy-b, protocol fair: popularity" not in text


def test_flags_name_the_odd_runs(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    for run in plan.runs:
        odd = run.spec.model == "lightgcn" and run.seed == 1 and run.spec.dataset == "toy-a"
        versions = {"torch": "2.14.0" if odd else "2.15.0"}
        device = {"device_name": "another processor"} if odd else {}
        write_run(tmp_path, run, USERS[run.spec.model][run.seed], versions=versions, **device)
    folder = build(tmp_path, {**CODE, "cm3": "c2"})
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
    folder = build(tmp_path)
    released = {"k": 10, "protocol": "released"}
    assert main_row(folder, model="lightgcn", **released)["verdict"] == "second; selected on test"
    assert main_row(folder, model="popularity", **released)["verdict"] == ""  # nothing of it was chosen
    assert main_row(folder, model="lightgcn", k=10)["verdict"] == "second"
    note = "under protocol released the hyper-parameters of lightgcn were chosen on the test split itself."
    for name in ("main", "parts", "long_tail", "short_history"):
        assert note in (folder / f"tables/{name}.md").read_text(), name
    flags = pd.read_csv(folder / "tables/parts.csv", keep_default_na=False).drop_duplicates("variant")["flags"]
    assert flags.tolist() == ["selected on test", "selected on test", ""]
    text = (folder / "tables/main.md").read_text()
    assert "## toy-a, protocol released" in text
    assert "Hyper-parameters searched (grid, all combinations, seed 0): lightgcn." in text
    trials = pd.read_csv(folder / "tables/search.csv")
    assert set(zip(trials["protocol"], trials["flags"], strict=True)) == {
        ("released", "selected on test; not run"),
        ("fair", "not run"),
    }


def test_latex_is_balanced_escaped_and_rectangular(whole: Path) -> None:
    for name in ("main", "datasets"):
        text = (build(whole) / f"tables/{name}.tex").read_text()
        unescaped = re.sub(r"\\[{}]", "", text)
        assert unescaped.count("{") == unescaped.count("}")
        assert [m for m in re.findall(r"\\begin\{(\w+\*?)", text)][::-1] == re.findall(r"\\end\{(\w+\*?)", text)
        assert not re.search(r"(?<!\\)[_#]", text.replace("\\label{tab:hand", ""))
        rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in rows}) == 1
        assert all(re.fullmatch(r"(?:[^%]|\\%)*", line.removeprefix("% needs")) for line in text.splitlines())
    assert r"\caption{Hand\_made 100 \%}" in (build(whole) / "tables/main.tex").read_text()


def test_special_characters_are_escaped_in_both_forms() -> None:
    table = Table("a_b", ("x",), (Block("", ((Cell(r"50% & {1} \ ~ ^ # $ | *", "best"),),)),))
    assert r"\textbf{50\% \& \{1\} \textbackslash{} \textasciitilde{} \textasciicircum{} \# \$" in to_latex(table, "t")
    assert r"**50% & {1} \ ~ ^ # $ \| \***" in to_markdown(table)


def test_dataset_table_reads_the_statistics(whole: Path) -> None:
    path = write_statistics(whole, "toy-a", STATISTICS)
    folder = build(whole)
    header, first, second = (folder / "tables/datasets.csv").read_text().splitlines()
    assert header == (
        "dataset,users,items,interactions,density,train,valid,test,cold_users_test,cold_items_test,items_without_image,"
        "items_without_text,sparsity,per_user,per_item,cold_users_valid,cold_items_valid"
    )
    assert first == "toy-a,10,5,25,0.5,20,2,3,1,2,1,0,0.5,2.5,5,0,4"
    assert second == "toy-b" + "," * 16
    text = re.sub(" +", " ", (folder / "tables/datasets.md").read_text())
    assert "| toy-a | 10 | 5 | 25 | 50.000 % | 20 | 2 | 3 | 1 | 2 | 1 | 0 | 50.000 % | 2.50 | 5.00 |" in text
    assert "| toy-b |" + " not run |" * 14 in text
    assert all(
        "- Items dropped because they have none of their own: toy-a: 2 image."
        in (folder / f"tables/{name}.md").read_text()
        for name in ("datasets", "main")
    )
    path.write_text("{}")
    with pytest.raises(MmreproError, match=r"statistics\.json: no key 'n_users'; delete the folder"):
        build(whole)


def test_degree_figure_has_a_line_for_each_data_set_and_the_same_bytes(tmp_path: Path) -> None:
    other = {**STATISTICS, "user_degrees": {"degree": [1, 2, 30], "count": [10, 5, 1]}}
    pictures = []
    for known in ({}, {"toy-a": STATISTICS}, {"toy-a": STATISTICS, "toy-b": other}, {"toy-a": STATISTICS}):
        draw_degrees(("toy-a", "toy-b"), known, tmp_path / "degrees.svg")
        pictures.append((tmp_path / "degrees.svg").read_bytes())
    assert pictures[1] == pictures[3]
    assert len(set(pictures)) == 3
    lines = [len(re.findall(rb"stroke: #(?:0072b2|d55e00); stroke-width: 1\.4", picture)) for picture in pictures]
    assert lines == [2, 4, 6, 4]  # one a data set in the legend, one in each of two panels where it has been run
    assert b"<dc:date>" not in pictures[1]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40).filter(any))
def test_share_with_at_least_a_degree_equals_counting(numbers: list[int]) -> None:
    values = sorted(set(numbers))
    degrees, shares = at_least({"degree": values, "count": [numbers.count(value) for value in values]})
    assert degrees.tolist() == [value for value in values if value > 0]
    assert shares.tolist() == pytest.approx([sum(n >= value for n in numbers) / len(numbers) for value in degrees])


def searched(root: Path) -> Plan:
    space = {"lightgcn": {"n_layers": [2, 3], "reg_weight": [0.1, 0.01]}}
    return make_root(root, datasets=["toy-a"], search={"space": space})


def test_search_table_lists_every_trial_and_the_winner(tmp_path: Path) -> None:
    plan = searched(tmp_path)
    for number, trial in enumerate(plan.trials[:3]):
        write_run(tmp_path, trial, [number / 10, number / 10], energy_joules=1.8e6)
    winner = {key: plan.trials[2].spec.parameters[key] for key in ("n_layers", "reg_weight")}
    write_winner(tmp_path, plan, winner, select_on="valid", metric="recall_at_20")
    write_all(tmp_path, plan)
    folder = build(tmp_path)
    frame = pd.read_csv(folder / "tables/search.csv")
    assert frame["value"].tolist()[:3] == pytest.approx([0, 0.05, 0.1])
    assert frame["value"].isna().tolist() == [False, False, False, True]
    assert frame["winner"].tolist() == [False, False, True, False]
    assert json.loads(frame["parameters"][2]) == winner
    assert frame["trial"].tolist() == [1, 2, 3, 4]
    assert frame["epochs"].tolist()[:3] == [7, 7, 7] and frame["seconds"].tolist()[:3] == [36, 36, 36]
    assert frame["flags"].fillna("").tolist() == ["", "", "", "not run"]
    cost = pd.read_csv(folder / "tables/cost.csv").set_index(["model", "purpose"])
    assert cost.loc[("lightgcn", "trial"), ["runs", "energy_kwh"]].tolist() == [3, 1.5]
    assert cost.loc[("lightgcn", "final"), "energy_kwh"] != cost.loc[("lightgcn", "final"), "energy_kwh"]  # not told


def test_cost_of_a_model_is_summed_over_data_sets(tmp_path: Path) -> None:
    plan = make_root(tmp_path, models=["lightgcn", "cm3"])
    for run in plan.runs:
        known = {"energy_joules": 3.6e5} if run.spec.model == "lightgcn" or run.seed else {}
        write_run(tmp_path, run, [0.5], **known)
    text = re.sub(" +", " ", (build(tmp_path) / "tables/cost.md").read_text())
    assert "| toy-b | lightgcn | final | 2 | 0.0200 | 0.0400 | 0.2000 | 512 | | a processor |" in text
    assert "| all | lightgcn | final | 4 | 0.0400 | 0.0800 | 0.4000 | 512 | | a processor |" in text
    assert "| all | cm3 | final | 4 | 0.0400 | 0.0800 | | 512 | | a processor |" in text


def test_search_figure_has_a_line_for_each_search_that_has_been_run(tmp_path: Path) -> None:
    space = {"lightgcn": {"n_layers": [2, 3]}, "cm3": {"gamma": [0.5, 0.9]}}
    plan = make_root(tmp_path, models=["lightgcn", "cm3"], search={"space": space})
    assert SEARCH_FIGURE in table_files(plan)
    counts, path = [], tmp_path / "results/hand" / SEARCH_FIGURE
    for trials in ((), plan.trials[:1], plan.trials[1:4], ()):
        for trial in trials:
            write_run(tmp_path, trial, [0.25])
        build(tmp_path)
        text = path.read_text()
        counts.append(len(re.findall(r"stroke: #(?:0072b2|d55e00); stroke-width: 1\.3", text)))
    assert counts == [0, 1, 2, 2]
    assert "<dc:date>" not in text
    assert SEARCH_FIGURE not in table_files(make_root(tmp_path / "other"))


def test_best_so_far_is_in_percent_of_the_best() -> None:
    assert best_so_far(pd.Series([0.1, 0.05, 0.2, 0.15])).tolist() == [50, 50, 100, 100]
    assert best_so_far(pd.Series([0.0, 0.0])).tolist() == [100, 100]


def test_a_run_with_another_winner_than_the_present_one_is_a_hole(tmp_path: Path) -> None:
    plan = searched(tmp_path)
    write_winner(tmp_path, plan, {"n_layers": 2, "reg_weight": 0.1})
    write_all(tmp_path, plan)
    assert json.loads((build(tmp_path) / "summary.json").read_text())["holes"] == 0
    write_winner(tmp_path, plan, {"n_layers": 3, "reg_weight": 0.1})
    assert main_row(build(tmp_path), model="lightgcn")["verdict"] == "not run"


def test_summary_has_six_digits_and_the_codes_of_the_runs(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    for run in plan.runs:
        write_run(tmp_path, run, [1 / 3, 0, 0, 1 / 3] if run.spec.model == "cm3" else [0.5])
    summary = json.loads((build(tmp_path) / "summary.json").read_text())
    assert summary["test"]["toy-b"]["fair"]["cm3"]["recall_at_20"] == 0.166667
    assert summary["valid"]["toy-b"]["fair"]["cm3"]["ndcg_at_10"] == 0.0833333
    assert summary["code"] == CODE
    assert summary["study"] == "hand"


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "no JSON object"), ("[]", "no JSON object"), ('{"status": "finished"}', "no value test.recall_at_10")],
)
def test_a_broken_record_is_one_clear_line(tmp_path: Path, content: str, message: str) -> None:
    plan = make_root(tmp_path)
    path = tmp_path / plan.runs[0].folder / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(MmreproError, match=message) as error:
        build(tmp_path)
    assert "run.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_per_user_metrics_are_one_clear_line(whole: Path) -> None:
    next(iter(sorted(whole.glob("results/runs/toy-a/*/cm3/*/seed1/per_user.parquet")))).unlink()
    with pytest.raises(MmreproError, match=r"seed1/per_user\.parquet.*run the study again"):
        build(whole)


def test_show_prints_the_main_table_and_says_stale_when_the_code_has_changed(whole: Path) -> None:
    folder = build(whole)
    assert show(folder, CODE) == (folder / "tables/main.md").read_text()
    assert show(folder, {**CODE, "cm3": "c2"}).startswith("STALE: the code of cm3 has changed")
    assert show(folder).startswith("STALE: the code of cm3, lightgcn, popularity has changed")
    with pytest.raises(MmreproError, match="no tables there; folders with tables beside it: hand"):
        show(folder.parent / "hands")


def test_a_slice_of_a_study_has_only_its_models(whole: Path) -> None:
    build_tables(STUDY_FILE, whole / "out", whole, {"models": "cm3,lightgcn", "datasets": "toy-b"}, CODE)
    frame = pd.read_csv(whole / "out/hand/tables/main.csv")
    assert (set(frame["model"]), set(frame["dataset"])) == ({"cm3", "lightgcn"}, {"toy-b"})
