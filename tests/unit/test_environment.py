import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "envs/requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_FILES = sorted((ROOT / "envs").glob("*.yaml"))
ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)(?: ; (?P<marker>[^\\]+?))? \\$", re.MULTILINE)


def pinned(requirements: list[str]) -> dict[str, str]:
    pins = {}
    for requirement in map(Requirement, requirements):
        (specifier,) = requirement.specifier
        assert specifier.operator == "==" and "*" not in specifier.version, f"{requirement} is not pinned"
        pins[canonicalize_name(requirement.name)] = specifier.version
    return pins


def locked() -> dict[str, str]:
    return {canonicalize_name(entry["name"]): entry["version"] for entry in ENTRY.finditer(LOCK)}


def conda_pins(path: Path) -> dict[str, str]:
    dependencies = yaml.safe_load(path.read_text())["dependencies"]
    (from_pip,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    return pinned(from_pip)


def runtime_pins() -> dict[str, str]:
    return pinned(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["offline"])


def test_every_pin_of_the_project_is_in_the_lock():
    extras = [requirement for extra in PROJECT["optional-dependencies"].values() for requirement in extra]
    pins = pinned(PROJECT["dependencies"] + extras)
    assert len(pins) > 25
    assert {name: locked().get(name) for name in pins} == pins


def test_the_lock_holds_nothing_but_pins_with_hashes_and_no_host():
    starts = [line for line in LOCK.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(starts) == len(locked()) == len(list(ENTRY.finditer(LOCK)))
    blocks = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert "://" not in LOCK and "--index" not in LOCK


def test_markers_of_the_lock_are_valid():
    for entry in ENTRY.finditer(LOCK):
        if entry["marker"]:
            Marker(entry["marker"])


@pytest.mark.parametrize("path", CONDA_FILES, ids=lambda path: path.name)
def test_conda_files_pin_what_the_project_pins(path):
    pins = conda_pins(path)
    assert pins.pop("setuptools") == locked()["setuptools"]  # builds the package after the environment is made
    assert pins == runtime_pins()


@pytest.mark.parametrize("path", CONDA_FILES, ids=lambda path: path.name)
def test_conda_files_have_a_python_that_the_project_accepts(path):
    dependencies = [entry for entry in yaml.safe_load(path.read_text())["dependencies"] if isinstance(entry, str)]
    (python,) = [entry.partition("=")[2] for entry in dependencies if entry.startswith("python=")]
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{python}.0")


def test_rules_name_conda_files_that_exist():
    named = {
        (rules.parent / name).resolve()
        for rules in (ROOT / "workflow/rules").glob("*.smk")
        for name in re.findall(r'conda:\s+"([^"]+)"', rules.read_text())
    }
    assert named == {path.resolve() for path in CONDA_FILES}


def test_the_build_tool_of_the_offline_installation_is_locked():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    for requirement in map(Requirement, build):
        assert requirement.specifier.contains(locked()[canonicalize_name(requirement.name)])
