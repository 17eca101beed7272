import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from http_server import Answer, running_server

from mmrepro.__main__ import main
from mmrepro.datasets.mirror import mirror_folder
from mmrepro.errors import MmreproError

ROOT = Path(__file__).parents[2]


def run(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command."""
    monkeypatch.setattr(sys, "argv", ["mmrepro", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    captured = capsys.readouterr()
    return int(exit_.value.code or 0), captured.out, captured.err


TRAIN = ["train", "--seed", "0", "--prepared", "nowhere", "--output", "out", "--threads", "1", "--run"]
SPEC = '{"purpose": "final", "dataset": "tiny", "model": "MODEL", "threads": THREADS}'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fetch", "nosuch.yaml", "--output", "out"], "nosuch.yaml: no such file"),
        (["prepare", "nosuch.yaml", "raw", "--output", "out"], "nosuch.yaml: no such file"),
        (["extract", "nosuch.yaml", "image", "prepared", "raw", "--output", "out"], "nosuch.yaml: no such file"),
        (["item-graph", "nosuch.yaml", "image", "features", "--output", "out"], "nosuch.yaml: no such file"),
        (["tables", "nosuch.yaml", "--output", "out"], "nosuch.yaml: no such file"),
        (["status", "nosuch.yaml"], "nosuch.yaml: no such file"),
        (["track", "nosuch.yaml"], "nosuch.yaml: no such file"),
        (["check-reference", "nosuch.npz"], "nosuch.npz: no such file"),
        (["recommend", "nosuch", "--user", "x"], "nosuch"),
        (["show", "nosuch"], "nosuch"),
        ([*TRAIN, SPEC.replace("MODEL", "bpr").replace("THREADS", "1")], "nowhere/statistics.json: no such file"),
        ([*TRAIN, SPEC.replace("MODEL", "bpr").replace("THREADS", "2")], "the study asks for threads: 2"),
        ([*TRAIN, SPEC.replace("MODEL", "bpr").replace("THREADS", "1, \"thread\": 1")], "did you mean 'threads'?"),
        (["fetch", "broken.yaml", "--output", "out"], "broken.yaml: not valid YAML"),
        (["fetch", "misspelt.yaml", "--output", "out"], "misspelt.yaml: unknown key 'readr'; did you mean 'reader'?"),
        (["status", "study.yaml"], "study.yaml: `parameters` names unknown model 'lightgnc'; did you mean 'lightgcn'?"),
    ],
    ids=lambda value: " ".join(value[:2])[:30] if isinstance(value, list) else "",
)  # fmt: skip
def test_a_users_problem_is_one_line_on_stderr_and_exit_status_one(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.yaml").write_text("a: [1\n  b: {")
    dataset = yaml.safe_load((ROOT / "config/datasets/mini-baby.yaml").read_text())
    Path("misspelt.yaml").write_text(yaml.safe_dump({**dataset, "readr": dataset["reader"]}))
    study = {"study": "tiny", "title": "Tiny", "datasets": ["mini-baby"], "models": ["bpr"]}
    Path("study.yaml").write_text(yaml.safe_dump({**study, "parameters": {"lightgnc": {}}}))
    status, output, error = run(arguments, monkeypatch, capsys)
    assert status == 1 and output == ""
    assert error.startswith("mmrepro: ") and error.endswith("\n") and error.count("\n") == 1
    assert message in error and "Traceback" not in error
    assert not Path("out").exists() or not any(p.is_file() and p.name != ".lock" for p in Path("out").rglob("*"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = {"dataset": "toy", "title": "Toy", "reader": "mmrec", "folder": "toy", "licence": "none"}
    monkeypatch.delenv("MMREPRO_MIRROR", raising=False)
    (tmp_path / "f.csv.part").symlink_to("/dev/full")
    with running_server() as server:
        server.answers["/f.csv"] = [Answer(b"a,b\n" * 20_000)]
        config = tmp_path / "toy.yaml"
        config.write_text(yaml.safe_dump({**dataset, "files": [{"name": "f.csv", "url": f"{server.url}/f.csv"}]}))
        status, _, error = run(["fetch", str(config), "--output", str(tmp_path)], monkeypatch, capsys)
    assert status == 1
    assert error == "mmrepro: the disk is full; free some space and run the same command again\n"
    assert not (tmp_path / "f.csv").exists() and not (tmp_path / "MANIFEST.json").exists()


def test_installed_command_prints_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mmrepro", "fetch", "nosuch.yaml", "--output", "out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "mmrepro: nosuch.yaml: no such file; check the path\n"


def test_start_imports_no_heavy_package() -> None:
    script = (
        "import sys, mmrepro.__main__, mmrepro.study.resolve\n"
        "heavy = {'torch', 'pandas', 'open_clip', 'sentence_transformers', 'matplotlib', 'mlflow', 'scipy', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_help_lists_one_command_a_stage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, output, _ = run(["--help"], monkeypatch, capsys)
    assert status == 0
    for command in (
        "fetch",
        "prepare",
        "extract",
        "item-graph",
        "train",
        "select",
        "tables",
        "track",
        "check-reference",
    ):
        assert command in output


def test_mirror_comes_from_the_environment_and_empty_means_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMREPRO_MIRROR", str(tmp_path))
    assert mirror_folder() == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    monkeypatch.setenv("MMREPRO_MIRROR", f"~/{tmp_path.name}")
    assert mirror_folder() == tmp_path
    monkeypatch.setenv("MMREPRO_MIRROR", "somewhere")
    with pytest.raises(MmreproError, match="MMREPRO_MIRROR=somewhere: no such folder; correct it, or unset it"):
        mirror_folder()
    monkeypatch.setenv("MMREPRO_MIRROR", "")
    assert mirror_folder() is None


def test_schema_command_writes_all_schemas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, _ = run(["schema", "--output", str(tmp_path)], monkeypatch, capsys)
    assert status == 0
    assert {"study.json", "dataset.json", "feature_set.json", "model.json"} <= {p.name for p in tmp_path.glob("*.json")}
    assert (tmp_path / "models/cm3.json").is_file()
