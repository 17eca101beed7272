import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "workflow", "src", "config", "profiles", "envs", "data/published", "pyproject.toml", "README.md")

NOT_INHERITED = ("MMREPRO_MIRROR", "PYTHONDONTWRITEBYTECODE")  # the second: every job would compile the copy anew


@dataclass(frozen=True)
class Checkout:
    """A copy of the project in a folder of its own, whose code is the code that runs."""

    folder: Path

    def call(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        variables = {**inherited, "PYTHONPATH": str(self.folder / "src"), **environment}
        variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
        return subprocess.run(command, cwd=self.folder, env=variables, capture_output=True, text=True)

    def snakemake(
        self, *arguments: str, study: str | None = "smoke", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        named = () if study is None else ("--configfile", f"config/studies/{study}.yaml")
        return self.call("snakemake", "--cores", "2", *arguments, *named, **environment)

    def planned(self, *arguments: str, study: str | None = "smoke") -> list[str]:
        """Output files of the jobs that a dry run plans."""
        result = self.snakemake("--dry-run", *arguments, study=study)
        assert result.returncode == 0, result.stdout + result.stderr
        text = result.stdout + result.stderr
        return [line.split("output:")[1].strip() for line in text.splitlines() if line.strip().startswith("output:")]


def copy_project(folder: Path) -> Checkout:
    for part in PARTS:
        source, target = ROOT / part, folder / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        elif source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return Checkout(folder)
