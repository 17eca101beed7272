"""From a number back to its runs, here or in published results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hand_made import STUDY_FILE, USERS, make_root, write_all, write_run, write_winner

from mmrepro.errors import MmreproError
from mmrepro.reporting.trace import trace
from mmrepro.study.layout import Layout
from mmrepro.study.resolve import plan_of_file

SEARCH = {"seed": 0, "space": {"cm3": {"gamma": [0.5, 0.75]}}}
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
    assert text.startswith("cm3, recall_at_20 on toy-a, protocol fair, features miniature\n")
    assert "  0.5000 ± 0.0000: mean of 2 of 2 runs, in results/hand/tables/main.csv" in text
    assert "  chosen by the search: gamma 0.75\n" in text and "  defaults: " in text and "mask_at_test x" in text
    assert "   * 0.3750  gamma 0.75\n" in text and "     0.2500  gamma 0.5\n" in text
    first, second = text.split("  seed 0: ")[1].split("  seed 1: ")
    assert first.startswith("0.5000, results/runs/toy-a/miniature/cm3/")
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


def test_all_data_sets_are_told_unless_one_is_named(root: Path) -> None:
    assert said(root).count("mean of 2 of 2 runs") == 2
    assert "lightgcn, ndcg_at_10 on toy-b" in said(root, "lightgcn", "N@10", dataset="toy-b")
    assert said(root, "lightgcn", "recall@20", dataset="toy-a").split("\n")[1].startswith("  0.3125 ± 0.0884")


@pytest.mark.parametrize(
    ("words", "more", "message"),
    [
        (("cm4", "recall_at_20"), {}, "the study has no model 'cm4'; did you mean 'cm3'"),
        (("cm3", "recal_at_20"), {}, "no metric 'recal_at_20'; did you mean 'recall'"),
        (("cm3", "recall"), {}, "no metric 'recall'; .* Write it as in recall_at_20"),
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
    assert "mean of 2 of 2 runs, in " in text and "results/reference/hand/tables/main.csv" in text
    assert "seed 1: 0.5000, results/runs/old/seed1" in text
    (folder / "runs.jsonl").write_text("{")
    with pytest.raises(MmreproError, match=r"runs\.jsonl: a line that is no JSON"):
        said(tmp_path)
