import json
import re
from pathlib import Path

import pandas as pd
import pytest
from hand_made import (
    ABLATION,
    CODE,
    STATISTICS,
    build_hand_made,
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
from mmrepro.housekeeping.publish import show
from mmrepro.records.files import file_sha256
from mmrepro.reporting.figures.degrees import at_least, draw_degrees
from mmrepro.reporting.render import Block, Cell, Table, to_latex, to_markdown
from mmrepro.study.products import table_files


def test_a_table_of_nothing_can_be_built(tmp_path: Path) -> None:
    make_root(tmp_path)
    folder = build_hand_made(tmp_path)
    assert "No improvement is tested" in (folder / "tables/main.md").read_text()
    assert set(pd.read_csv(folder / "tables/main.csv")["verdict"]) == {"not run"}


def files(folder: Path) -> dict[Path, bytes]:
    written = (path for path in folder.rglob("*") if path.is_file() and path.parent.name != "measures")
    return {path.relative_to(folder): path.read_bytes() for path in written}


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
    folder = build_hand_made(tmp_path)
    first = files(folder)
    assert set(first) == set(table_files(plan))
    assert {f"tables/{name}.tex" for name in ("ablation", "feature_quality", "long_tail")} < {*map(str, first)}
    build_hand_made(tmp_path)
    assert first == files(folder)
    assert json.loads(first[Path("summary.json")])["holes"] == 4  # two variants of two seeds that were not run


def test_a_study_without_comparisons_probes_and_encoders_has_no_such_tables(tmp_path: Path) -> None:
    plan = make_root(tmp_path, models=["popularity", "lightgcn"], focus="lightgcn")
    folder = build_hand_made(tmp_path)
    assert set(files(folder)) == set(table_files(plan))
    tables = {
        "main",
        "beyond_accuracy",
        "deployment",
        "data_report",
        "datasets",
        "ledger",
        "pairs",
        "settings",
        "significance",
        "cost",
        "long_tail",
        "short_history",
    }
    assert {path.stem for path in table_files(plan) if path.parent.name == "tables"} == tables


def test_latex_is_balanced_escaped_and_rectangular(whole: Path) -> None:
    for name in ("main", "datasets"):
        text = (build_hand_made(whole) / f"tables/{name}.tex").read_text()
        unescaped = re.sub(r"\\[{}]", "", text)
        assert unescaped.count("{") == unescaped.count("}")
        assert [m for m in re.findall(r"\\begin\{(\w+\*?)", text)][::-1] == re.findall(r"\\end\{(\w+\*?)", text)
        assert not re.search(r"(?<!\\)[_#]", text.replace("\\label{tab:hand", ""))
        rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in rows}) == 1
        assert all(re.fullmatch(r"(?:[^%]|\\%)*", line.removeprefix("% needs")) for line in text.splitlines())
    assert r"\caption{Hand\_made 100 \%}" in (build_hand_made(whole) / "tables/main.tex").read_text()


def test_special_characters_are_escaped_in_both_forms() -> None:
    table = Table("a_b", ("x",), (Block("", ((Cell(r"50% & {1} \ ~ ^ # $ | *", "best"),),)),))
    assert r"\textbf{50\% \& \{1\} \textbackslash{} \textasciitilde{} \textasciicircum{} \# \$" in to_latex(table, "t")
    assert r"**50% & {1} \\ \~ ^ # \$ \| \***" in to_markdown(table)


def test_dataset_table_reads_the_statistics(whole: Path) -> None:
    path = write_statistics(whole, "toy-a", STATISTICS)
    folder = build_hand_made(whole)
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
    with pytest.raises(MmreproError, match=r"statistics\.json: no key 'n_users'; delete its folder"):
        build_hand_made(whole)


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


def test_summary_has_six_digits_and_the_codes_of_the_runs(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    for run in plan.runs:
        write_run(tmp_path, run, [1 / 3, 0, 0, 1 / 3] if run.spec.model == "cm3" else [0.5])
    summary = json.loads((build_hand_made(tmp_path) / "summary.json").read_text())
    assert summary["test"]["toy-b"]["fair"]["cm3"]["recall_at_20"] == 0.166667
    assert summary["valid"]["toy-b"]["fair"]["cm3"]["ndcg_at_10"] == 0.0833333
    assert summary["code"] == CODE
    assert summary["study"] == "hand"


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "no valid JSON"), ("[]", "no JSON object")],
)
def test_a_broken_record_is_one_clear_line(tmp_path: Path, content: str, message: str) -> None:
    plan = make_root(tmp_path)
    path = tmp_path / plan.runs[0].folder / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(MmreproError, match=message) as error:
        build_hand_made(tmp_path)
    assert "run.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_measures_of_users_are_one_clear_line(whole: Path) -> None:
    (whole / "results/hand/measures/toy-a.parquet").unlink()
    with pytest.raises(MmreproError, match=r"measures/toy-a\.parquet.*run the study again"):
        build_hand_made(whole)


def test_a_metric_that_was_not_measured_is_one_clear_line(whole: Path) -> None:
    path = whole / "results/hand/measures/toy-b.json"
    known = json.loads(path.read_text())
    del known["runs"][next(iter(known["runs"]))]["test"]["recall_at_10"]
    path.write_text(json.dumps(known))
    with pytest.raises(MmreproError, match=r"toy-b\.json: no value test\.recall_at_10; delete the file and run"):
        build_hand_made(whole)


def test_a_finished_run_that_was_not_measured_is_one_clear_line(whole: Path) -> None:
    path = whole / "results/hand/measures/toy-b.json"
    known = json.loads(path.read_text())
    del known["runs"][next(name for name in known["runs"] if "/cm3/" in name)]
    path.write_text(json.dumps(known))
    message = r"toy-b\.json: results/runs/toy-b/.* is finished and not measured; .*`mmrepro measure hand toy-b --output"
    with pytest.raises(MmreproError, match=message):
        build_hand_made(whole)


def test_measures_of_other_users_or_other_data_are_one_clear_line(whole: Path) -> None:
    path = whole / "results/hand/measures/toy-b.json"
    known = path.read_text()
    path.write_text(json.dumps({**json.loads(known), "data": "1" * 64}))
    with pytest.raises(MmreproError, match=r"toy-b\.json: measured on other data than results/runs/toy-b/"):
        build_hand_made(whole)
    path.write_text(known)
    users = path.with_suffix(".parquet")
    rows = pd.read_parquet(users)
    rows[rows["run"].str.contains("/cm3/")].to_parquet(users, index=False)
    with pytest.raises(MmreproError, match=r"toy-b\.parquet: missing, or not made with toy-b\.json"):
        build_hand_made(whole)
    path.write_text(json.dumps({**json.loads(known), "users_sha256": file_sha256(users)}))
    with pytest.raises(MmreproError, match=r"toy-b\.parquet: no users of"):
        build_hand_made(whole)


def test_show_prints_the_main_table_and_says_stale_when_the_code_has_changed(whole: Path) -> None:
    folder = build_hand_made(whole)
    assert show(folder, CODE) == (folder / "tables/main.md").read_text()
    assert show(folder, {**CODE, "cm3": "c2"}).startswith("STALE: the code of cm3 has changed")
    assert show(folder).startswith("STALE: the code of cm3, lightgcn, popularity has changed")
    with pytest.raises(MmreproError, match="no tables there; folders with tables beside it: hand"):
        show(folder.parent / "hands")
