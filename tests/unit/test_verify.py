"""Published and local results verified, clean and with one value tampered with."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hand_made import REPOSITORY, STUDY_FILE, make_root, write_all, write_evidence, write_probe
from typer.testing import CliRunner

from mmrepro.cli import app
from mmrepro.errors import MmreproError
from mmrepro.housekeeping.comparison import Verification
from mmrepro.housekeeping.publish import publish_reference
from mmrepro.housekeeping.verify import CHECKSUMS, checksums, verify_local, verify_published
from mmrepro.records.files import file_sha256
from mmrepro.reporting.build import build_tables
from mmrepro.study.layout import Layout
from mmrepro.study.resolve import plan_of_file


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("original")
    plan = make_root(root, datasets=["toy-a"])
    write_all(root, plan)
    write_evidence(root, plan)
    for probe in plan.probes:
        write_probe(root, probe, 0.5)
    publish_reference(plan_of_file(STUDY_FILE, root), root / "results/reference", root)
    return root


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Results of models without content, from lists to tables."""
    plan = make_root(tmp_path, models=["popularity", "lightgcn"], focus="lightgcn")
    write_all(tmp_path, plan)
    write_evidence(tmp_path, plan)
    for run in plan.runs:
        record = json.loads((tmp_path / run.record).read_text())
        files = {"lists.parquet": file_sha256(tmp_path / run.folder / "lists.parquet")}
        (tmp_path / run.record).write_text(json.dumps({**record, "files": files}))
    build_tables(plan_of_file(STUDY_FILE, tmp_path), tmp_path / "results/hand", tmp_path)
    return tmp_path


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "root")
    return tmp_path / "root"


def published(root: Path) -> Path:
    return root / "results/reference/hand"


def verified(root: Path) -> Verification:
    return verify_published(plan_of_file(STUDY_FILE, root), published(root), root)


def edit_text(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return edit


def edit_cell(name: str, column: str, value: object, **where: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        table = pd.read_csv(folder / name, dtype="str", keep_default_na=False)
        rows = pd.Series(True, index=table.index)
        for key, wanted in where.items():
            rows &= table[key] == wanted
        assert rows.any()
        table.loc[rows.idxmax(), column] = value
        table.to_csv(folder / name, index=False, lineterminator="\n")

    return edit


def edit_table(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        change(pd.read_parquet(folder / name)).to_parquet(folder / name, index=False)

    return edit


def first_rank_later(hits: pd.DataFrame) -> pd.DataFrame:
    return hits.assign(rank=[20, *hits["rank"].iloc[1:]]).astype({"rank": "int16"})


def test_what_is_published_follows_without_the_data_and_the_runs(root: Path) -> None:
    for part in ("data/prepared", "results/runs", "results/hand", "results/probes"):
        shutil.rmtree(root / part)
    found = verified(root)
    assert found.differences == []
    assert found.text.endswith("every number follows")
    values = 5 * 2 * 2 * 11  # runs a data set, splits, cutoffs, metrics
    assert f"toy-a: runs.jsonl: {values} values of 5 runs are measured again from the places of its hits" in found.text
    assert "such as APLT and ILD, are taken as they are" in found.text
    assert (published(root) / CHECKSUMS).read_text() == checksums(published(root))


@pytest.mark.parametrize(
    ("tamper", "difference"),
    [
        (edit_cell("tables/main.csv", "mean", "0.625", model="cm3", metric="recall", k="20", split="test"),
         r"main\.csv: toy-a miniature cm3 fair test recall 20: mean '0.625', built again '0.5'"),
        (edit_cell("tables/significance.csv", "p_value", "0.001"), r"significance\.csv: .*built again"),
        (edit_cell("tables/pairs.csv", "effect", "-1"), r"pairs\.csv: .*effect '-1', built again"),
        (edit_text("tables/main.md", "0.5000", "0.9999"), r"main\.md: line \d+ is '.*0\.9999.*', built again '.*0\.5000"),
        (edit_text("summary.json", "0.5", "0.75"), r"summary\.json: line \d+ is"),
        (edit_text("figures/wins.svg", "</svg>", "<text>best</text></svg>"), r"wins\.svg: drawn otherwise"),
        (edit_text("runs.jsonl", '"precision_at_20": 0.025', '"precision_at_20": 0.5'),
         r"runs\.jsonl: results/runs/.* precision_at_20 0\.5, from the places of its hits 0\.025"),
        (edit_text("runs.jsonl", '"precision_at_20": 0.025', '"precision_at_20": NaN'), r"precision_at_20 nan, from the places"),
        (edit_text("runs.jsonl", '"precision_at_20": 0.025', '"precision_at_20": 0.025, "recall_at_99": 0.9'),
         r"recall_at_99, which the study does not measure"),
        (lambda folder: (folder / "runs.jsonl").write_text((folder / "runs.jsonl").read_text().splitlines()[0] + "\n" + (folder / "runs.jsonl").read_text()),
         r"runs\.jsonl: line 2 is a second one of results/runs/"),
        (edit_text("runs.jsonl", '"seed": 0', '"seed": 5'), r"run\.json: seed 5, planned 0"),
        (edit_text("runs.jsonl", '"purpose": "final"', '"purpose": "trial"'), r"run\.json: purpose trial, planned final"),
        (edit_text("runs.jsonl", '"features": {"image": "image', '"features": {"images": "image'),
         r"run\.json: features of images, text, planned image, text"),
        (edit_text("runs.jsonl", '"valid": {"recall_at_20": ', '"valid": {"recall_at_20": 1'), r"run\.json: valid recall_at_20 1.*, measured"),
        (edit_text("runs.jsonl", '"wall_seconds": 36.0', '"wall_seconds": 1.0'), r"cost\.csv: .*wall_hours"),
        (edit_text("runs.jsonl", "/seed0", "/seed7"),
         r"runs\.jsonl: line \d+ is of no job of the study as it is configured: results/runs/.*/seed7"),
        (edit_text("runs.jsonl", '"metrics"', '"measures"'), r"recall_at_20 None, from the places of its hits 0\.\d"),
        (lambda folder: (folder / "datasets.jsonl").unlink(), r"datasets\.jsonl: no line of toy-a"),
        (edit_table("evidence/toy-a/exposure.parquet", lambda rows: rows.assign(item=999)), r"IndexError"),
        (edit_table("evidence/toy-a/hits.parquet", lambda hits: hits.drop(columns="rank")), r"KeyError: 'rank'"),
        (edit_text("runs.jsonl", "{", "["), r"runs\.jsonl: line 1 is no JSON object; restore the file from git"),
        (edit_text("datasets.jsonl", '"n_users": 10', '"n_users": 90'), r"novelty_at_10 .*, from the places"),
        (edit_table("evidence/toy-a/hits.parquet", first_rank_later), r"ndcg_at_\d+ .*, from the places of its hits"),
        (edit_table("evidence/toy-a/hits.parquet", lambda hits: hits.iloc[1:]), r"recall_at_10 .*, from the places"),
        (edit_table("evidence/toy-a/hits.parquet", lambda hits: pd.concat([hits, hits.iloc[:1]])),
         r"hits\.parquet: more hits of .* than items that were held out"),
        (edit_table("evidence/toy-a/hits.parquet", lambda hits: hits.assign(user=99)), r"a hit of no user or no place"),
        (edit_table("evidence/toy-a/users.parquet", lambda users: users.assign(n_relevant=8)), r"recall_at_10"),
        (edit_table("evidence/toy-a/users.parquet", lambda users: users.assign(history=9)), r"short_history\.csv: .*n_users"),
        (edit_table("evidence/toy-a/exposure.parquet", lambda rows: rows.assign(listed=1)), r"gini_at_10"),
        (edit_table("evidence/toy-a/items.parquet", lambda items: items.assign(held_out=1)), r"long_tail\.csv: .*n_test_pairs"),
        (lambda folder: (folder / "evidence/toy-a/hits.parquet").write_bytes(b"PAR1"), r"hits\.parquet: no readable parquet"),
        (lambda folder: (folder / "evidence/toy-a/exposure.parquet").unlink(), r"exposure\.parquet: no such file"),
        (lambda folder: (folder / "tables/cost.csv").unlink(), r"cost\.csv: missing"),
        (lambda folder: (folder / "tables/best.csv").write_text("a\n"), r"best\.csv: a file that the study does not make"),
    ],
)  # fmt: skip
def test_what_was_tampered_with_is_named(root: Path, tamper: Callable[[Path], None], difference: str) -> None:
    folder = published(root)
    tamper(folder)
    (folder / CHECKSUMS).write_text(checksums(folder))  # whoever edits a value can edit its hash
    assert any(re.search(difference, line) for line in verified(root).differences), verified(root).text


PUBLISHED = sorted(path.parent for path in (REPOSITORY / "results/reference").glob("*/evidence"))


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda path: path.name)
def test_committed_metrics_follow_from_committed_hits(folder: Path) -> None:
    """Tables may be printed otherwise by later code; values and hashes stay."""
    plan = plan_of_file(Path(f"config/studies/{folder.name}.yaml"), REPOSITORY)
    found = verify_published(plan, folder, REPOSITORY)
    assert [line for line in found.differences if "built again" not in line and "drawn otherwise" not in line] == []


def test_hashes_tell_what_was_changed_added_and_removed(root: Path) -> None:
    folder = published(root)
    edit_text("tables/main.tex", "cm3", "CM3")(folder)
    (folder / "notes.txt").write_text("x")
    (folder / "figures/wins.svg").unlink()
    said = verified(root).text
    for name, what in (
        ("tables/main.tex", "another file"),
        ("notes.txt", "not listed"),
        ("figures/wins.svg", "not there"),
    ):
        assert f"{folder / name}: {what} in SHA256SUMS" in said
    (folder / CHECKSUMS).unlink()
    assert "not listed in SHA256SUMS" in verified(root).text


def test_a_folder_without_evidence_is_one_line(root: Path) -> None:
    shutil.rmtree(published(root) / "evidence")
    with pytest.raises(MmreproError, match=r"evidence: no such folder; publish the study again"):
        verified(root)


def test_nothing_is_published_that_does_not_follow(root: Path) -> None:
    path = root / Layout.measures("hand", "toy-a")
    known = {key: value for key, value in json.loads(path.read_text()).items() if key != "checksum"}
    run = next(iter(known["runs"]))
    known["runs"][run]["test"]["recall_at_20"] = 0.875
    path.write_text(json.dumps(known))
    before = checksums(published(root))
    with pytest.raises(MmreproError, match=r"not published: .*recall_at_20 0\.875, from the places"):
        publish_reference(plan_of_file(STUDY_FILE, root), root / "results/reference", root)
    assert checksums(published(root)) == before


def local(root: Path) -> Verification:
    return verify_local(plan_of_file(STUDY_FILE, root), STUDY_FILE, root)


def test_local_results_are_verified_from_their_lists(here: Path) -> None:
    found = local(here)
    assert found.differences == [] and "measured again from its lists" in found.text
    assert "6 files of final runs are compared with the SHA-256 in their records" in found.text


def test_means_are_compared_with_what_is_published_within_what_seeds_do(here: Path) -> None:
    folder = here / "results/reference/hand/tables"
    shutil.copytree(here / "results/hand/tables", folder)
    said = local(here).text
    # lightgcn has a spread over seeds: 6 metrics, 2 cutoffs, 2 splits, 2 data sets; popularity has none
    assert "results/reference/hand: 48 of 48 means of accuracy within 2 standard deviations of their difference" in said
    edit_cell("main.csv", "mean", "0.9", model="lightgcn", metric="recall", k="20", split="test", dataset="toy-b")(
        folder
    )
    said = local(here).text
    assert "47 of 48 means" in said
    assert "  outside: toy-b none lightgcn fair test recall 20: 0.3125, published 0.9000" in said
    assert "published numbers: " in said and "every number follows" in said  # a band is no difference


def other_list(root: Path) -> None:
    path = next(iter(sorted(root.glob("results/runs/toy-a/**/lists.parquet"))))
    first_rank_later(pd.read_parquet(path)).to_parquet(path)


def first_run(root: Path) -> Path:
    return next(iter(sorted(root.glob("results/runs/toy-a/**/run.json")))).parent


def other_users(root: Path) -> None:
    path = root / Layout.measures("hand", "toy-a").with_suffix(".parquet")
    frame = pd.read_parquet(path)
    frame.loc[0, "recall_at_20"] += 0.125
    frame.to_parquet(path, index=False)


def other_measure(root: Path) -> None:
    path = root / Layout.measures("hand", "toy-b")
    known = {key: value for key, value in json.loads(path.read_text()).items() if key != "checksum"}
    known["runs"][next(iter(known["runs"]))]["test"]["gini_at_10"] = 0.5
    path.write_text(json.dumps(known))


@pytest.mark.parametrize(
    ("tamper", "difference"),
    [
        (edit_cell("results/hand/tables/main.csv", "mean", "0.625", model="lightgcn", metric="recall", k="20", split="test"),
         "main.csv: toy-a none lightgcn fair test recall 20: mean '0.625', built again '0.3125'"),
        (lambda root: next(iter(sorted(root.glob("results/runs/toy-a/**/lists.parquet")))).unlink(), "lists.parquet: not the file"),
        (other_list, "lists.parquet: not the file that its run left"),
        (other_measure, "measures/toy-b.json: results/runs/toy-b/none/popularity"),
        (other_users, "measures/toy-a.parquet: recall_at_20 of 1 rows, such as results/runs/toy-a"),
        (lambda root: edit_text("config.yaml", "seed: 0", "seed: 3")(first_run(root)), "config.yaml: not the settings in run.json"),
        (lambda root: edit_text("history.jsonl", '{"epoch": 7}\n', "")(first_run(root)), "history.jsonl: 6 epochs, 7 in run.json"),
        (lambda root: (root / "results/hand/tables/main.md").unlink(), "main.md: missing"),
    ],
)  # fmt: skip
def test_local_results_that_were_tampered_with_are_named(
    here: Path, tamper: Callable[[Path], None], difference: str
) -> None:
    tamper(here)
    found = local(here)
    assert any(difference in line for line in found.differences), found.text
    assert "/tmp" not in found.text.replace(str(here), "")  # no path of the folder in which it was built again


def test_the_command_says_so_by_its_exit_code(root: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    for path in ("hand", "results/hand", "config/studies/hand.yaml"):
        assert CliRunner().invoke(app, ["verify", path]).exit_code == 0
    monkeypatch.chdir(root)
    assert CliRunner().invoke(app, ["verify", "results/reference/hand"]).exit_code == 0
    shutil.copytree(published(root), root / "downloaded")
    assert CliRunner().invoke(app, ["verify", "downloaded"]).exit_code == 0
    edit_text("tables/main.md", "0.5000", "0.9999")(published(root))
    result = CliRunner().invoke(app, ["verify", "results/reference/hand"])
    assert result.exit_code == 1 and "DIFFERS" in result.output and "2 differences" in result.output
