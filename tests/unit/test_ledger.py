"""Published numbers: which value counts where sources differ, and whether ours is the same."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from hand_made import REPOSITORY, STUDY_FILE, USERS, build_hand_made, make_root, write_run

from mmrepro.reporting.literature import COLUMNS, PublishedNumber, load_published, published_spread
from mmrepro.study.products import published_files
from mmrepro.study.resolve import plan_of_file

CELL = ("baby", "lightgcn", "recall", 20)
TRAIN_MASKED = {"train-masked": {"mask_at_test": "train"}}


def write_numbers(folder: Path, name: str, *rows: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    return folder / name


def printed(value: float, source: str, seed: str = "", protocol: str = "released") -> str:
    return f"baby,lightgcn,recall,20,{value},{protocol},{seed},{source}"


def cell(*files: Path) -> PublishedNumber:
    return load_published(files)[CELL]


def test_the_value_that_most_independent_sources_print_counts(tmp_path: Path) -> None:
    files = [
        write_numbers(tmp_path, "a.csv", printed(0.07, "owner/one@1:x"), "baby,bpr,recall,20,0.1,released,,y"),
        write_numbers(tmp_path, "b.csv", printed(0.07, "owner/two@2:y")),  # the same authors again
        write_numbers(tmp_path, "c.csv", printed(0.08, "another/three@3:z")),
        write_numbers(tmp_path, "d.csv", printed(0.08, "a web page")),
        write_numbers(tmp_path, "e.csv", printed(0.09, "a fourth")),
    ]
    number = cell(*files)
    assert (number.value, number.n_agreeing, number.n_independent, number.range) == (0.08, 2, 4, (0.07, 0.09))
    assert number.chosen.source == "another/three@3:z"
    tied = cell(files[4], files[0])
    assert (tied.value, tied.n_agreeing, tied.n_independent) == (0.09, 1, 2)  # equally many: the earlier file


def test_the_papers_own_number_counts_whatever_others_print(tmp_path: Path) -> None:
    others = [write_numbers(tmp_path, f"{name}.csv", printed(0.07, f"{name}/x@1:y")) for name in "ab"]
    number = cell(write_numbers(tmp_path, "papers.csv", printed(0.0754, "the paper; table 2")), *others)
    assert (number.value, number.n_agreeing, number.n_independent) == (0.0754, 1, 3)


def test_seeds_are_averaged_within_a_protocol_and_their_spread_is_kept(tmp_path: Path) -> None:
    runs = [printed(value, "x", str(seed), "fixed") for seed, value in enumerate((0.1, 0.2, 0.3))]
    file = write_numbers(tmp_path, "a.csv", printed(0.5, "x"), *runs)
    found = cell(file).printed
    assert [(one.value, one.protocol) for one in found] == [(0.5, "released"), (pytest.approx(0.2), "fixed")]
    assert found[0].std is None and found[1].std == pytest.approx(0.1)
    assert published_spread(load_published([file]), *("baby", "recall", 20)) == pytest.approx(0.1)
    assert published_spread(load_published([file]), "sports", "recall", 20) is None


def test_the_numbers_of_the_repository_are_those_of_eighteen_tables() -> None:
    files = sorted((REPOSITORY / "data/published").glob("*.csv"))
    numbers = load_published(files)
    lightgcn = numbers[CELL]
    assert (lightgcn.value, lightgcn.n_agreeing, lightgcn.n_independent) == (0.0754, 8, 11)
    assert sum(high - low >= 0.00005 for low, high in (number.range for number in numbers.values())) == 288
    assert {cell[1] for cell in numbers if cell[0] == "tiktok"} > {"cm3"}
    assert not [cell for cell in numbers if cell[1] == "cm3" and cell[0] != "tiktok"]
    settings = pd.read_csv(REPOSITORY / "data/published/settings/best_hyperparameters.csv")
    assert len(settings) == 246 and settings["source"].notna().all()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    plan = make_root(tmp_path, protocols=TRAIN_MASKED, verdict={"features": ["miniature"]}, published=["numbers.csv"])
    for run in plan.runs:
        write_run(tmp_path, run, USERS[run.spec.model][run.seed])
    return tmp_path


def ledger(root: Path, model: str = "lightgcn") -> pd.Series:
    frame = pd.read_csv(build_hand_made(root) / "tables/ledger.csv", keep_default_na=False)
    rows = frame[(frame["model"] == model) & (frame["metric"] == "recall") & (frame["k"] == 20)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_a_number_within_what_seeds_do_is_reproduced(root: Path) -> None:
    row = ledger(root)
    assert (float(row["mean"]), float(row["published"]), row["verdict"]) == (5 / 16, 1 / 4, "reproduced")
    assert float(row["difference"]) == 1 / 16 and float(row["difference_percent"]) == 25
    spread = (
        math.sqrt(2) / 16
    )  # of 1/4 and 3/8; the difference of a mean of two and one run has it times the root of 3/2
    assert float(row["deviations"]) == pytest.approx(1 / 16 / (spread * math.sqrt(1.5)), rel=1e-5)
    assert row["sources"] == "0.2500 a page (released)"


@pytest.mark.parametrize(
    ("published", "verdict"), [(0.9, "direction only"), (0.05, "not reproduced"), (0.48, "direction only")]
)
def test_outside_the_band_the_side_of_the_baseline_is_told(root: Path, published: float, verdict: str) -> None:
    """CM3's recall is 1/2 with either seed, above LightGCN's 5/16."""
    with (root / "data/published/papers.csv").open("a") as handle:
        handle.write(f"baby,cm3,recall,20,{published},released,,a paper\n")
        handle.write("baby,bpr,recall,20,0.1,released,1,x\nbaby,bpr,recall,20,0.101,released,2,x\n")  # a spread
    assert ledger(root, "cm3")["verdict"] == verdict


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"protocols": {"fair": {}}}, "protocol: other items are ranked, those of validation are left out"),
        ({"protocols": TRAIN_MASKED}, "features: miniature"),
    ],
)
def test_another_task_is_not_compared(tmp_path: Path, changes: dict, why: str) -> None:
    plan = make_root(tmp_path, **changes)
    for run in plan.runs:
        write_run(tmp_path, run, USERS[run.spec.model][run.seed])
    with (tmp_path / "data/published/papers.csv").open("a") as handle:
        handle.write("baby,cm3,recall,20,0.5,released,,a paper\n")
    row = ledger(tmp_path, "cm3")
    assert (row["verdict"], row["why"]) == ("not comparable", why)


def test_masks_that_leave_the_same_out_are_the_same_task(tmp_path: Path) -> None:
    """Nobody is held out for both validation and test: what `fair` masks more is nothing."""
    plan = make_root(tmp_path, protocols={"fair": {}}, verdict={"features": ["miniature"]})
    for run in plan.runs:
        write_run(tmp_path, run, USERS[run.spec.model][run.seed], held_out_twice=False)
    with (tmp_path / "data/published/papers.csv").open("a") as handle:
        handle.write("baby,cm3,recall,20,0.5,released,,a paper\n")
    assert ledger(tmp_path, "cm3")["why"] == "" and ledger(tmp_path, "cm3")["verdict"] != "not comparable"


def test_what_the_program_gave_here_is_no_source_of_the_literature(tmp_path: Path) -> None:
    plan = make_root(tmp_path, protocols=TRAIN_MASKED, published=["numbers.csv", "reference-runs.csv"],
                     verdict={"features": ["miniature"]})  # fmt: skip
    for run in plan.runs:
        write_run(tmp_path, run, USERS[run.spec.model][run.seed])
    write_numbers(tmp_path / "data/published", "reference-runs.csv",
                  *(f"baby,cm3,recall,20,{value},released,{seed},the program" for seed, value in ((1, 0.75), (2, 0.85))))  # fmt: skip
    row = ledger(tmp_path, "cm3")
    assert row["origin"] == "the program, run by us"
    # ours 0.5 and 0.5, theirs 0.75 and 0.85: 0.3 over the spread of theirs, of two means of two
    spread = math.sqrt(2) * 0.05
    assert float(row["deviations"]) == pytest.approx(-0.3 / (spread * math.sqrt(1 / 2 + 1 / 2)), rel=1e-5)
    assert row["verdict"] == "not reproduced"  # LightGCN's number is printed: nobody has said which is larger
    table = (build_hand_made(tmp_path) / "tables/main.md").read_text()
    assert "the program, run by us (ours against it)" in table and "↳ published (ours against it)" in table


def test_what_has_not_run_has_no_verdict_and_no_difference(tmp_path: Path) -> None:
    make_root(tmp_path, protocols=TRAIN_MASKED)
    row = ledger(tmp_path)
    assert (row["verdict"], row["difference"], row["deviations"]) == ("not run", "", "")


def test_only_studies_of_the_literatures_data_have_a_ledger_and_read_published_files(tmp_path: Path) -> None:
    plan = make_root(tmp_path, datasets=["toy-b"], published=[])
    assert published_files(plan, tmp_path) == () and not any("ledger" in str(job.product) for job in plan.jobs)
    whole = make_root(tmp_path / "two", published=[])
    assert [path.name for path in published_files(whole, tmp_path / "two")] == ["papers.csv", "numbers.csv"]
    assert plan_of_file(STUDY_FILE, tmp_path / "two").literature == {"toy-a": "baby"}
