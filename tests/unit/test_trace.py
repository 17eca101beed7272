"""From a number back to its runs, here or in published results."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from hand_made import (
    ABLATION,
    REPOSITORY,
    STUDY_FILE,
    USERS,
    build_hand_made,
    make_root,
    write_all,
    write_run,
    write_winner,
)

from mmrepro.errors import MmreproError
from mmrepro.reporting.origins import origins_of, traced_rows
from mmrepro.reporting.trace import trace, trace_data
from mmrepro.reporting.trace_words import lines_of_row
from mmrepro.study.layout import Layout
from mmrepro.study.resolve import plan_of_file

SEARCH = {"seed": 0, "space": {"cm3": {"gamma": [0.5, 0.75]}}}
COMMITTED = sorted(path.parent for path in (REPOSITORY / "results/reference").glob("*/runs.jsonl"))
TRIALS = [{"parameters": {"gamma": value}, "value": found} for value, found in ((0.5, 0.25), (0.75, 0.375))]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    plan = make_root(tmp_path, search=SEARCH)
    write_winner(tmp_path, plan, {"gamma": 0.75}, select_on="valid", metric="recall_at_20", n_trials=2, trials=TRIALS)
    write_all(tmp_path, plan, files={"lists.parquet": "f" * 64}, best_epoch=5, protocol={"mask_at_test": "x"})
    folder = next(run.folder for run in plan.runs if run.spec.model == "cm3" and run.seed == 1).as_posix()
    receipt = tmp_path / Layout.study("hand") / "tracking.json"
    receipt.write_text(json.dumps({"attempt": 0, "runs": {folder: "m" * 32}}))
    return tmp_path


def said(root: Path, model: str = "cm3", metric: str = "recall_at_20", **more: object) -> str:
    return trace(plan_of_file(STUDY_FILE, root), STUDY_FILE, model, metric, root, **more)


def test_a_number_is_followed_to_all_that_decided_it(root: Path) -> None:
    text = said(root, dataset="toy-a")
    assert text.startswith("cm3 on toy-a, protocol fair, features miniature\n")
    assert "  recall_at_20 0.5000 ± 0.0000: mean of 2 of 2 runs, and no results/hand/tables/main.csv" in text
    assert "  chosen by the search: gamma 0.75\n" in text and "  defaults: " in text and "mask_at_test x" in text
    assert "   * 0.3750  gamma 0.75\n" in text and "     0.2500  gamma 0.5\n" in text
    first, second = text.split("  seed 0: ")[1].split("  seed 1: ")
    assert first.startswith("recall_at_20 0.5000, results/runs/toy-a/miniature/cm3/")
    for part in (
        "7 epochs, the best 5, 36 s, energy unknown, 512 MB, cpu (a processor)", "code c1 (not today's), commit 0123456789",
        f"interactions {'0' * 64}", f"lists {'f' * 64}", "torch 2.15.0",
    ):  # fmt: skip
        assert part in first, part
    assert "MLflow unknown" in first and f"MLflow {'m' * 32}" in second
    assert (
        "again: snakemake --cores all --configfile config/studies/hand.yaml -- results/runs/toy-a/miniature/cm3/"
        in first
    )


def test_programs_are_told_the_same(root: Path) -> None:
    plan = plan_of_file(STUDY_FILE, root)
    told = trace_data(plan, STUDY_FILE, "cm3", "recall@20", root, dataset="toy-a")
    assert [(row["dataset"], row["model"], row["metric"]) for row in told] == [("toy-a", "cm3", "recall_at_20")]
    runs = json.loads(json.dumps(told))[0]["runs"]
    assert [run["seed"] for run in runs] == [0, 1]
    for run in runs:
        assert run["value"] == run["metrics"]["test"]["recall_at_20"] and run["record"]["model"] == "cm3"
        assert run["again"].endswith(f"-- {run['folder']}/run.json")
        assert f"again: {run['again']}" in trace(plan, STUDY_FILE, "cm3", "recall@20", root)


def test_all_data_sets_are_told_unless_one_is_named(root: Path) -> None:
    assert said(root).count("mean of 2 of 2 runs") == 2
    assert said(root, "LightGCN", "N@10", dataset="toy-b").startswith("lightgcn on toy-b, protocol fair")
    assert (
        said(root, "lightgcn", "recall@20", dataset="toy-a").split("\n")[1].startswith("  recall_at_20 0.3125 ± 0.0884")
    )


def test_the_table_is_read_and_a_number_that_is_not_its_is_said(root: Path) -> None:
    build_hand_made(root)
    assert "runs, in results/hand/tables/main.csv" in said(root, dataset="toy-a")
    path = root / "results/hand/tables/main.csv"
    table = pd.read_csv(path, dtype="str", keep_default_na=False)
    table.loc[(table["model"] == "cm3") & (table["metric"] == "recall") & (table["k"] == "20"), "mean"] = "0.75"
    table.to_csv(path, index=False)
    assert "runs, but results/hand/tables/main.csv has 0.75" in said(root, dataset="toy-a")


def test_variants_of_a_comparison_are_followed_to_their_own_runs(tmp_path: Path) -> None:
    plan = make_root(tmp_path, comparisons={"parts": ABLATION})
    write_all(tmp_path, plan)
    for place, row in enumerate(plan.comparisons["parts"]):
        for run in row.runs if place else ():
            write_run(tmp_path, run, [place / 4] * 4)
    text = said(tmp_path, comparison="parts")
    assert "cm3, parts: half of 100 % on toy-a" in text and "recall_at_20 0.2500 ± 0.0000" in text
    assert "set by the study: gamma 0.25" in text
    with pytest.raises(MmreproError, match="no comparison 'part'; did you mean 'parts'"):
        said(tmp_path, comparison="part")


def test_a_variant_that_sets_what_was_searched_is_not_taken_for_the_main_row(tmp_path: Path) -> None:
    """Two records differ in a searched parameter alone: that of the main row has a value that some trial had."""
    variants = {"whole": {}, "other": {"parameters": {"gamma": 0.25}}}
    comparison = {"title": "P", "datasets": ["toy-a"], "models": ["cm3"], "variants": variants}
    plan = make_root(tmp_path, datasets=["toy-a"], models=["cm3"], search=SEARCH, comparisons={"parts": comparison})
    lines = []
    for number, (run, gamma, purpose) in enumerate(
        [
            (plan.comparisons["parts"][1].runs[0], 0.25, "final"),
            (plan.runs[0], 0.75, "final"),
            (plan.trials[0], 0.75, "trial"),
        ]
    ):
        parameters = {**plan.parameters_of(run.spec), "gamma": gamma}
        lines.append({
            "folder": f"results/runs/old{number}", "purpose": purpose, "seed": run.seed, "dataset": "toy-a", "model": "cm3",
            "features": run.spec.features, "parameters": parameters, "metrics": {"test": {"recall_at_20": gamma}, "valid": {}},
        })  # fmt: skip
    folder = tmp_path / "results/reference/hand"
    folder.mkdir(parents=True)
    (folder / "runs.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert "recall_at_20 0.7500: mean of 1 of 2 runs" in said(tmp_path)


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda path: path.name)
def test_committed_numbers_lead_to_runs_of_their_mean(folder: Path) -> None:
    file = Path(f"config/studies/{folder.name}.yaml")
    plan = plan_of_file(file, REPOSITORY)
    for row, runs in traced_rows(plan):
        origins = origins_of(plan, runs, REPOSITORY, folder)
        lines = [*lines_of_row(plan, file, row, runs, origins, ["recall_at_20"], Path(), folder)]
        assert f"{len(runs)} of {len(runs)} runs, in {folder.as_posix()}/tables/" in lines[1], row


@pytest.mark.parametrize(
    ("words", "more", "message"),
    [
        (("cm4", "recall_at_20"), {}, "the study has no model 'cm4'; did you mean 'cm3'"),
        (("cm3", "recal_at_20"), {}, "no metric 'recal_at_20'; did you mean 'recall'"),
        (("cm3", "recall"), {}, "'recall': say at which cutoff, as in recall_at_20"),
        (("cm3", "recall_at_7"), {}, "'recall_at_7': the study measures at 10, 20; choose one"),
        (("cm3", "recall_at_20"), {"dataset": "toy-c"}, "no data set 'toy-c'; did you mean 'toy-b'"),
        (("cm3", "recall_at_20"), {"protocol": "fairer"}, "no protocol 'fairer'; did you mean 'fair'"),
        (("cm3", "recall_at_20"), {"committed": Path("nowhere")}, "nowhere/runs.jsonl: no such file"),
    ],
)
def test_what_the_study_has_not_is_named(root: Path, words: tuple[str, str], more: dict, message: str) -> None:
    with pytest.raises(MmreproError, match=message):
        said(root, *words, **more)


def test_without_runs_here_the_published_ones_are_followed_wherever_their_folders_were(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    with pytest.raises(MmreproError, match="no run of 'cm3' has finished; run the study first"):
        said(tmp_path)
    make_root(tmp_path / "elsewhere")
    lines = []
    for run in plan.runs:
        record = write_run(tmp_path / "elsewhere", run, USERS[run.spec.model][run.seed])
        record |= {"features": run.spec.features, "protocol": run.spec.protocol.model_dump(mode="json")}
        metrics = {"test": {"recall_at_20": 0.5}, "valid": {"recall_at_20": 0.25}}
        lines.append(json.dumps({"folder": f"results/runs/old/seed{run.seed}", **record, "metrics": metrics}))
    folder = tmp_path / "results/reference/hand"
    folder.mkdir(parents=True)
    (folder / "runs.jsonl").write_text("\n".join(lines))
    text = said(tmp_path, dataset="toy-a")
    assert "mean of 2 of 2 runs, and no " in text and "results/reference/hand/tables/main.csv" in text
    assert "seed 1: recall_at_20 0.5000, results/runs/old/seed1" in text
    (folder / "runs.jsonl").write_text("{")
    with pytest.raises(MmreproError, match=r"runs\.jsonl: line 1 is no JSON object"):
        said(tmp_path)
