"""Names reach the shell as names: of a study's file, with spaces, quotation marks and commands in them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from checkout import Checkout

pytestmark = pytest.mark.slow
NAME = """it's a "$(touch PWNED)" `touch PWNED` & one.yaml"""


def test_a_study_file_of_any_name_is_run_and_none_is_a_command(finished: Checkout, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "my lab's check out")
    shutil.copytree(finished.folder, checkout.folder)
    folder = tmp_path / "my studies"
    folder.mkdir()
    shutil.copy(checkout.folder / "config/studies/smoke.yaml", folder / NAME)
    made = checkout.call(sys.executable, "workflow/scripts/run_study.py", str(folder / NAME), "--cores", "2")
    assert made.returncode == 0, made.stdout + made.stderr
    assert "measure" in made.stdout + made.stderr  # its file is another one, so measures and tables are made again
    assert not list(tmp_path.rglob("PWNED")) and not Path("PWNED").exists()
    again = checkout.call(sys.executable, "workflow/scripts/run_study.py", str(folder / NAME), "--cores", "2")
    assert again.returncode == 0 and "Nothing to be done" in again.stdout


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ("SMOKE", "config/studies/SMOKE.yaml: no such file; did you mean 'smoke'?"),
        ("smokes.yaml", "config/studies/smokes.yaml: no such file; did you mean 'smoke'?"),
        ("smok", "config/studies/smok.yaml: no such file; did you mean 'smoke'?"),
        ("config/studies/smokes.yaml", "config/studies/smokes.yaml: no such file; did you mean 'smoke'?"),
        ("/nowhere/at all.yaml", "/nowhere/at all.yaml: no such file; check the path"),
    ],
)
def test_a_misspelt_study_is_one_line(finished: Checkout, study: str, message: str) -> None:
    for words in (
        (sys.executable, "workflow/scripts/run_study.py", study, "--cores", "2"),
        ("mmrepro", "status", study),
    ):
        result = finished.call(*words)
        assert result.returncode == 1 and result.stderr.removeprefix("mmrepro: ").strip() == message


def test_what_is_wrong_with_a_study_is_one_line(finished: Checkout, tmp_path: Path) -> None:
    study = tmp_path / "wrong.yaml"
    study.write_text((finished.folder / "config/studies/smoke.yaml").read_text() + "modles: [cm3]\n")
    result = finished.call(sys.executable, "workflow/scripts/run_study.py", str(study), "--cores", "2")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.strip() == f"{study}: unknown key 'modles'; did you mean 'models'?"


def test_an_empty_study_is_one_line(finished: Checkout, tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    result = finished.call(
        sys.executable, "workflow/scripts/run_study.py", str(tmp_path / "empty.yaml"), "--cores", "2"
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr + result.stdout


def test_a_terminal_without_letters_shows_their_numbers(finished: Checkout) -> None:
    plain = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for words in (("tables", "smoke", "--output", "results"), ("show", "results/smoke"), ("status", "smoke")):
        result = finished.call("mmrepro", *words, **plain)
        assert result.returncode == 0, result.stderr
