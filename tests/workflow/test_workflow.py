import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import yaml
from checkout import Checkout, copy_project

pytestmark = pytest.mark.slow


@contextmanager
def edited(path: Path, old: str, new: str) -> Iterator[None]:
    text = path.read_text()
    assert text.count(old) == 1, f"{path}: the text to edit stands {text.count(old)} times"
    path.write_text(text.replace(old, new))
    try:
        yield
    finally:
        path.write_text(text)


def copy_finished(finished: Checkout, folder: Path) -> Checkout:
    """A copy that a test may change."""
    shutil.copytree(finished.folder, folder)
    return Checkout(folder)


def test_a_finished_study_has_its_products_and_plans_nothing(finished: Checkout) -> None:
    folder = finished.folder / "results/smoke"
    for suffix in ("csv", "md", "tex"):
        assert (folder / f"tables/main.{suffix}").stat().st_size > 0
    main = pd.read_csv(folder / "tables/main.csv")
    assert set(main["model"]) == {"lightgcn", "cm3"}
    assert main["n_seeds"].eq(1).all()
    assert "random" in (folder / "tables/main.md").read_text()
    assert json.loads((folder / "summary.json").read_text())["holes"] == 0
    assert (finished.folder / "results/mlflow.db").is_file()
    assert finished.planned() == []


def test_a_touched_file_plans_nothing(finished: Checkout) -> None:
    next((finished.folder / "data/features").rglob("image.json")).touch()
    assert finished.planned() == []


def test_a_deleted_table_or_figure_is_made_again(finished: Checkout) -> None:
    folder = finished.folder / "results/smoke"
    for name in ("tables/cost.md", "figures/degrees.svg"):
        aside = (folder / name).rename(folder / "aside")
        assert any(f"results/smoke/{name}" in job.split(", ") for job in finished.planned())
        aside.rename(folder / name)
    assert finished.planned() == []


def test_a_comment_plans_nothing_and_a_formula_exactly_the_runs_that_use_it(finished: Checkout) -> None:
    losses = finished.folder / "src/mmrepro/ops/losses.py"
    with edited(losses, "BPR_EPSILON = 1e-10", "# a word more\nBPR_EPSILON = 1e-10"):
        assert finished.planned() == []
    with edited(losses, "(a - b).square().sum(dim=-1).mean()", "(a - b).square().sum(dim=-1).mean() * 1.0"):
        trained = [path for path in finished.planned() if "results/runs" in path]
        assert len(trained) == 1 and "/cm3/" in trained[0]
    with edited(losses, "BPR_EPSILON = 1e-10", "BPR_EPSILON = 1e-9"):
        trained = [path for path in finished.planned() if "results/runs" in path]
        assert len(trained) == 1 and "/lightgcn/" in trained[0]


def test_a_refactoring_is_accepted_only_where_it_changes_no_number(finished: Checkout, tmp_path: Path) -> None:
    checkout = copy_finished(finished, tmp_path / "checkout")
    losses, formula = checkout.folder / "src/mmrepro/ops/losses.py", "(a - b).square().sum(dim=-1).mean()"
    with edited(losses, formula, f"{formula} * 2.0"):
        refused = checkout.call("mmrepro", "accept", "config/studies/smoke.yaml")
        assert refused.returncode == 1 and "made again" in refused.stderr
    assert checkout.planned() == []  # nothing was marked
    with edited(losses, formula, "torch.square(a - b).sum(dim=-1).mean()"):
        accepted = checkout.call("mmrepro", "accept", "config/studies/smoke.yaml")
        assert accepted.returncode == 0, accepted.stderr
        assert not [path for path in checkout.planned() if "results/runs" in path]


def test_the_next_study_finds_no_key_of_the_default(finished: Checkout) -> None:
    other = {"study": "other", "title": "Another", "datasets": ["mini-sports"], "models": ["popularity"]}
    (finished.folder / "config/studies/other.yaml").write_text(yaml.safe_dump(other))
    planned = " ".join(finished.planned(study="other"))
    assert "mini-sports" in planned and "results/other" in planned
    assert "mini-baby" not in planned and "cm3" not in planned and "seed1" not in planned
    assert "mini-elec" in " ".join(finished.planned(study=None))


def test_a_slice_of_a_study_plans_that_slice(finished: Checkout) -> None:
    sliced = finished.planned("--config", "models=freedom", "datasets=mini-elec", "seeds=0", study=None)
    runs = [path for path in sliced if "results/runs" in path]
    assert len(runs) == 1 and "mini-elec/miniature/freedom" in runs[0]


def test_two_studies_share_a_run(finished: Checkout) -> None:
    smoke = yaml.safe_load((finished.folder / "config/studies/smoke.yaml").read_text())
    smoke |= {"study": "twin", "seeds": [0, 1]}
    (finished.folder / "config/studies/twin.yaml").write_text(yaml.safe_dump(smoke))
    runs = [path for path in finished.planned(study="twin") if "results/runs" in path]
    assert len(runs) == 2 and all("/seed1/" in path for path in runs)


def test_a_misspelt_key_stops_the_workflow_with_the_nearest(finished: Checkout) -> None:
    path = finished.folder / "config/studies/wrong.yaml"
    path.write_text("study: wrong\ntitle: t\ndatasets: [mini-baby]\nmodels: [cm3]\nfeaturs: {default: miniature}\n")
    result = finished.snakemake("--dry-run", study="wrong")
    assert result.returncode != 0
    assert "unknown key 'featurs'; did you mean 'features'?" in result.stdout + result.stderr


def test_the_slurm_profile_plans_every_job_with_its_resources(finished: Checkout) -> None:
    result = finished.snakemake("--dry-run", "--workflow-profile", "profiles/slurm", "--forceall")
    text = result.stdout + result.stderr
    assert result.returncode == 0, text
    jobs = [line for line in text.splitlines() if line.strip().startswith("resources:")]
    assert len(jobs) >= 9
    for rule in ("mem_mb=", "runtime="):
        assert sum(rule in line for line in jobs) >= 8
    assert any("gpu=" in line for line in jobs)


def test_the_command_of_a_trace_makes_just_this_run_again(finished: Checkout, tmp_path: Path) -> None:
    said = finished.call("mmrepro", "trace", "smoke", "cm3", "R@20").stdout
    again = re.search(r"again: snakemake (.*)", said)
    assert again is not None, said
    clone = copy_project(tmp_path / "clone")
    result = clone.call("snakemake", "--dry-run", *shlex.split(again[1]))
    assert result.returncode == 0, result.stdout + result.stderr
    planned = dict(re.findall(r"^(\w+) +(\d+)$", result.stdout + result.stderr, re.MULTILINE))
    assert planned.pop("total") == "7"
    assert planned == {"fetch": "1", "prepare": "1", "extract": "2", "item_graph": "2", "train": "1"}


def test_the_report_shows_tables_and_figure(finished: Checkout, tmp_path: Path) -> None:
    report = tmp_path / "report.zip"
    result = finished.snakemake("--report", str(report))
    assert result.returncode == 0, result.stdout + result.stderr
    listing = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", str(report)], capture_output=True, text=True
    ).stdout
    assert "main.md" in listing and "accuracy.svg" in listing and "index.html" in listing
    value = re.search(r"\d\.\d{4}", (finished.folder / "results/smoke/tables/main.md").read_text())
    assert value is not None
    with zipfile.ZipFile(report) as archive:
        front = "".join(archive.read(name).decode() for name in archive.namelist() if name.endswith("report.html"))
    assert f">{value[0]}<" in front  # the main table, rendered


def test_status_and_recommend_answer(finished: Checkout) -> None:
    status = finished.call("mmrepro", "status", "config/studies/smoke.yaml")
    assert status.returncode == 0 and "done" in status.stdout
    run = next(finished.folder.glob("results/runs/mini-baby/*/cm3/*/seed0"))
    users = pd.read_parquet(finished.folder / "data/prepared/mini-baby/users.parquet")
    items = pd.read_parquet(finished.folder / "data/prepared/mini-baby/items.parquet")
    relative = str(run.relative_to(finished.folder))
    for option in (("--user", users["key"][0]), ("--liked", f"{items['key'][0]},{items['key'][1]}")):
        answer = finished.call("mmrepro", "recommend", relative, *option, "--k", "3")
        assert answer.returncode == 0, answer.stderr
        assert len(answer.stdout.strip().splitlines()) == 4
    listed = json.loads(finished.call("mmrepro", "runs", "smoke", "--json").stdout)
    [name] = [row["run"] for row in listed if row["folder"] == relative]
    named = finished.call("mmrepro", "recommend", "smoke", "--run", name, "--liked", items["key"][0], "--k", "3")
    assert named.returncode == 0 and f"from {relative}, trained" in named.stderr
    unknown = finished.call("mmrepro", "recommend", "smoke", "--run", name[:-1], "--user", users["key"][0])
    assert unknown.returncode == 1 and f"did you mean '{name}'" in unknown.stderr
    unknown = finished.call("mmrepro", "recommend", relative, "--user", "nobody")
    assert unknown.returncode == 1 and "nobody" in unknown.stderr


def test_a_killed_snakemake_goes_on_where_it_stopped(finished: Checkout, tmp_path: Path) -> None:
    checkout = copy_finished(finished, tmp_path / "checkout")
    run = next(checkout.folder.glob("results/runs/mini-baby/none/lightgcn/*/seed0"))
    tables = Path("results/smoke/tables")
    shutil.rmtree(run)
    shutil.rmtree(checkout.folder / tables)
    process = subprocess.Popen(
        [Path(sys.executable).parent / "snakemake", "--cores", "1", "--configfile", "config/studies/smoke.yaml"],
        cwd=checkout.folder,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(checkout.folder / "src")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (run / ".lock").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (run / "run.json").exists()
    result = checkout.call(sys.executable, "workflow/scripts/run_study.py", "smoke", "--cores", "2")
    assert result.returncode == 0, result.stdout + result.stderr
    for name in ("main.csv", "main.md"):
        assert (checkout.folder / tables / name).read_text() == (finished.folder / tables / name).read_text()
