import json
import shutil
import subprocess
from pathlib import Path

import pytest
from hand_made import (
    CODE,
    REPOSITORY,
    STATISTICS,
    STUDY_FILE,
    build_hand_made,
    make_root,
    write_alignment,
    write_all,
    write_evidence,
    write_probe,
    write_run,
    write_statistics,
)

from mmrepro.errors import MmreproError
from mmrepro.housekeeping.publish import publish_reference, show
from mmrepro.records.provenance import is_committed
from mmrepro.reporting.literature import COLUMNS, load_published
from mmrepro.study.kinds import training_code
from mmrepro.study.resolve import plan_of_file


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    plan = make_root(tmp_path)
    write_all(tmp_path, plan)
    write_evidence(tmp_path, plan)
    for probe in plan.probes:
        write_probe(tmp_path, probe, 0.5)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("baby,cm3,recal,20,0.1,released,,x", "unknown metric 'recal'; did you mean 'recall'"),
        ("baby,cm3,recall,20,7.5,released,,x", "divide a percentage by 100"),
        ("baby,cm3,recall,20,much,released,,x", "value a decimal fraction"),
        ("baby,cm3,recall,20,0.1,released,,", "no source"),
        ("baby,cm3,recall,20,0.1,released", "expected 8 fields"),
        ("baby,cm3,recall,20,0.1,released,,x,y", "expected 8 fields"),
        ("baby,cm3,recall,20,0.1,released,,x\nbaby,cm3,recall,20,0.2,released,,x", "a second row"),
    ],
)
def test_a_bad_published_row_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "numbers.csv"
    path.write_text(",".join(COLUMNS) + f"\n{line}\n")
    with pytest.raises(MmreproError, match=message) as error:
        load_published([path])
    assert "numbers.csv, line" in str(error.value)


def test_an_unknown_column_or_file_of_published_numbers_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "numbers.csv"
    path.write_text(",".join(COLUMNS) + ",note\n")
    with pytest.raises(MmreproError, match="write dataset,model"):
        load_published([path])
    with pytest.raises(MmreproError, match=r"no such file; .*did you mean 'numbers\.csv'"):
        load_published([tmp_path / "number.csv"])


def test_seeds_of_a_published_cell_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "numbers.csv"
    rows = [f"tiktok,cm3,recall,20,{value},released,{seed},x" for seed, value in ((1, 0.25), (2, 0.5))]
    path.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    number = load_published([path])["tiktok", "cm3", "recall", 20]
    assert (number.value, number.chosen.source) == (3 / 8, "x (mean of 2 seeds)")


def test_the_published_files_of_the_repository_can_be_read() -> None:
    folder = REPOSITORY / "data/published"
    numbers = load_published(sorted(folder.glob("*.csv")))
    assert numbers["baby", "lightgcn", "recall", 20].value == 0.0754
    assert numbers["tiktok", "cm3", "recall", 20].value == pytest.approx((0.0957 + 0.0937 + 0.0953) / 3)


def test_publishing_writes_tables_and_records_without_paths_of_this_machine(whole: Path) -> None:
    path = next(iter(sorted(whole.glob("results/runs/**/run.json"))))
    record = json.loads(path.read_text())
    record["data"] |= {"encoders": {"image": "open_clip ViT-B-32 /home/someone/models/weights.bin"}}
    path.write_text(json.dumps(record))
    folder = publish_reference(plan_of_file(STUDY_FILE, whole), whole / "results/reference", whole)
    assert folder == whole / "results/reference/hand"
    lines = [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]
    assert [line["folder"] for line in lines] == sorted(line["folder"] for line in lines)
    assert len(lines) == 10
    probes = [json.loads(line) for line in (folder / "probes.jsonl").read_text().splitlines()]
    assert [line["folder"] for line in probes] == [
        f"results/probes/{name}/miniature.json" for name in ("toy-a", "toy-b")
    ]
    assert not (folder / "alignments.jsonl").exists()  # nothing is pre-trained
    assert {line["git"]["commit"] for line in lines} == {"0123456789abcdef"}
    assert "open_clip ViT-B-32 weights.bin" in (folder / "runs.jsonl").read_text()
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.suffix != ".svg" and path.is_file())
    assert str(whole).encode() not in everything
    first = (folder / "runs.jsonl").read_bytes()
    publish_reference(plan_of_file(STUDY_FILE, whole), whole / "results/reference", whole)
    assert (folder / "runs.jsonl").read_bytes() == first
    assert [path.name for path in folder.parent.iterdir()] == ["hand"]


def test_publishing_refuses_holes_dirty_code_and_different_code(tmp_path: Path) -> None:
    plan = make_root(tmp_path, datasets=["toy-a"], models=["lightgcn"])
    first, second = plan.runs
    target = tmp_path / "results/reference"
    with pytest.raises(MmreproError, match="not finished"):
        publish_reference(plan_of_file(STUDY_FILE, tmp_path), target, tmp_path)
    with pytest.raises(MmreproError, match="no run of this study"):
        publish_reference(plan_of_file(STUDY_FILE, tmp_path), target, tmp_path, allow_partial=True)
    write_run(tmp_path, first, [0.5], git={"commit": "a" * 40, "dirty": True})
    with pytest.raises(MmreproError, match=f"uncommitted code: {first.folder.as_posix()}; commit"):
        publish_reference(plan_of_file(STUDY_FILE, tmp_path), target, tmp_path, allow_partial=True)
    shutil.rmtree(tmp_path / first.folder)
    write_run(tmp_path, first, [0.5], git={"commit": "a" * 40, "dirty": False})
    write_run(tmp_path, second, [0.5], git={"commit": "b" * 40, "dirty": False}, code="f" * 16)
    with pytest.raises(MmreproError, match=r"runs of 'lightgcn' made from different code: .*seed"):
        publish_reference(plan_of_file(STUDY_FILE, tmp_path), target, tmp_path)
    assert not target.exists() or not any(target.iterdir())
    record = tmp_path / second.folder / "run.json"
    record.write_text(
        record.read_text().replace("f" * 16, json.loads((tmp_path / first.folder / "run.json").read_text())["code"])
    )
    write_evidence(tmp_path, plan)
    assert (publish_reference(plan_of_file(STUDY_FILE, tmp_path), target, tmp_path) / "runs.jsonl").is_file()


def test_a_study_that_was_edited_meanwhile_is_published_if_the_code_is_todays_and_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_root(tmp_path, datasets=["toy-a"], models=["lightgcn"])
    for run in plan.runs:
        write_run(
            tmp_path,
            run,
            [0.5],
            git={"commit": "a" * 40, "dirty": True},
            code=training_code("lightgcn", "recall_at_20"),
        )
    target = tmp_path / "results/reference"
    monkeypatch.setattr("mmrepro.housekeeping.publish.is_committed", lambda folder: False)
    with pytest.raises(MmreproError, match="made from uncommitted code"):
        publish_reference(plan_of_file(STUDY_FILE, tmp_path), target, tmp_path)
    monkeypatch.setattr("mmrepro.housekeeping.publish.is_committed", lambda folder: True)
    write_evidence(tmp_path, plan)
    assert (publish_reference(plan_of_file(STUDY_FILE, tmp_path), target, tmp_path) / "runs.jsonl").is_file()
    shutil.rmtree(tmp_path / plan.runs[0].folder)
    write_run(
        tmp_path,
        plan.runs[0],
        [0.5],
        git={"commit": None, "dirty": None},
        code=training_code("lightgcn", "recall_at_20"),
    )
    with pytest.raises(MmreproError, match="made from uncommitted code"):
        publish_reference(plan_of_file(STUDY_FILE, tmp_path), target, tmp_path)


def test_a_folder_is_committed_until_something_in_it_changes(tmp_path: Path) -> None:
    inside = tmp_path / "code"
    inside.mkdir()
    assert not is_committed(inside)
    (inside / "a.py").write_text("1")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    (tmp_path / "study.yaml").write_text("beside it")
    assert is_committed(inside)
    (inside / "b.py").write_text("2")
    assert not is_committed(inside)


def test_publishing_takes_pretraining_along_and_refuses_what_is_missing_or_unclear(tmp_path: Path) -> None:
    plan = make_root(tmp_path, datasets=["toy-a"], models=["cm3"], features={"default": "alignrec-miniature"})
    write_all(tmp_path, plan)
    (planned,), (probe,), target = plan.alignments, plan.probes, tmp_path / "results/reference"
    write_probe(tmp_path, probe, 0.5)
    with pytest.raises(MmreproError, match=f"not finished: {planned.folder.as_posix()}; run"):
        publish_reference(plan_of_file(STUDY_FILE, tmp_path), target, tmp_path)
    write_alignment(tmp_path, planned, git={"commit": "a" * 40, "dirty": True})
    with pytest.raises(MmreproError, match=f"uncommitted code: {planned.folder.as_posix()}; commit"):
        publish_reference(plan_of_file(STUDY_FILE, tmp_path), target, tmp_path)
    write_alignment(tmp_path, planned, configuration={"weights": "/home/someone/towers.bin"})
    (tmp_path / probe.path).unlink()
    with pytest.raises(MmreproError, match=f"not finished: {probe.path.as_posix()}; run"):
        publish_reference(plan_of_file(STUDY_FILE, tmp_path), target, tmp_path)
    write_probe(tmp_path, probe, 0.5)
    write_evidence(tmp_path, plan)
    folder = publish_reference(plan_of_file(STUDY_FILE, tmp_path), target, tmp_path)
    (line,) = (folder / "alignments.jsonl").read_text().splitlines()
    assert json.loads(line)["folder"] == planned.folder.as_posix()
    assert json.loads(line)["configuration"] == {"weights": "towers.bin"}


def test_variants_of_a_comparison_are_published_with_the_rest(tmp_path: Path) -> None:
    comparison = {"title": "Layers", "models": ["lightgcn"]}
    comparison["variants"] = {"as it is": {}, "one": {"parameters": {"n_layers": 1}}}
    plan = make_root(tmp_path, datasets=["toy-a"], models=["lightgcn"], comparisons={"layers": comparison})
    write_all(tmp_path, plan)
    target = tmp_path / "results/reference"
    folders = sorted(run.folder.as_posix() for run in plan.final_runs)
    with pytest.raises(MmreproError, match="not finished"):
        publish_reference(plan_of_file(STUDY_FILE, tmp_path), target, tmp_path)
    for run in plan.final_runs:
        if not (tmp_path / run.folder).exists():
            write_run(tmp_path, run, [0.5, 0.25])
    write_evidence(tmp_path, plan)
    folder = publish_reference(plan_of_file(STUDY_FILE, tmp_path), target, tmp_path)
    assert [json.loads(line)["folder"] for line in (folder / "runs.jsonl").read_text().splitlines()] == folders
    assert len(folders) == 4 and (folder / "tables/layers.tex").is_file()


def test_a_table_of_other_data_than_are_prepared_here_is_stale(tmp_path: Path) -> None:
    plan = make_root(tmp_path, datasets=["toy-a"])
    write_statistics(tmp_path, "toy-a", STATISTICS)
    write_all(tmp_path, plan)
    folder = build_hand_made(tmp_path)
    assert "STALE" not in show(folder, CODE, tmp_path)
    write_statistics(tmp_path, "toy-a", {**STATISTICS, "content_hash": "9" * 64})
    assert show(folder, CODE, tmp_path).startswith(
        "STALE: the data of toy-a are others since these runs; run the study"
    )
    with pytest.raises(MmreproError, match=r"run\.json: made of other data than those in data/prepared/toy-a"):
        build_hand_made(tmp_path)


def test_a_table_that_was_edited_is_not_shown(whole: Path) -> None:
    folder = build_hand_made(whole)
    assert "STALE" not in show(folder, CODE, whole)
    for name, content in (
        ("main.md", (folder / "tables/main.md").read_text().replace("0.5000", "0.9999")),
        ("main.md", "#"),
    ):
        (folder / "tables" / name).write_text(content)
        with pytest.raises(
            MmreproError, match=r"main\.md: changed since it was made; delete it and run the study again"
        ):
            show(folder, CODE, whole)
