"""The project in which the library works: its folder, and what must be made there before a model can be trained."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mmrepro.config.files import validate
from mmrepro.config.study import StudyConfig
from mmrepro.errors import MmreproError
from mmrepro.housekeeping.workflow_records import is_current
from mmrepro.study.plan import Plan
from mmrepro.study.resolve import make_plan

MARKS = ("Snakefile", "config/studies")
NAME, ORIGIN = "library", "mmrepro"
DATA_KINDS = ("fetch", "images", "prepare", "align_content", "extract", "item_graph")


def project_folder(folder: str | Path | None = None) -> Path:
    """Return the folder of the project: the given one, the nearest one from here upward, or the package's own.

    Raises
    ------
    MmreproError
        Where there is none.
    """
    here = Path(folder if folder is not None else Path()).absolute()
    above = [here] if folder is not None else [here, *here.parents, Path(__file__).parents[3]]
    found = next((path for path in above if all((path / mark).exists() for mark in MARKS)), None)
    if found is None:
        raise MmreproError(
            f"{here}: no project of mmrepro (a folder with Snakefile and config/); name one (`folder`, `--project`)"
        )
    return found


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Work in a project's folder, to which all paths of configuration are relative, and come back."""
    with contextlib.chdir(folder):
        yield


def name_in(folder: Path, given: str | Path, kind: str) -> str:
    """Return the name of a data set or feature set given by name, or by its file in the project's `config/<kind>`.

    Raises
    ------
    MmreproError
        For a file elsewhere.
    """
    path = Path(given)
    if path.suffix != ".yaml":
        return str(given)
    home = folder / "config" / kind
    if (path if path.is_absolute() else Path.cwd() / path).resolve().parent not in (home.resolve(),):
        raise MmreproError(f"{path}: not in {home}, where the workflow looks for it; move it there")
    return path.stem


def plan_of(model: str, dataset: str, features: str | None, **changes: Any) -> Plan:
    """Return the plan of a study of one model on one data set, as the workflow would resolve it.

    Parameters
    ----------
    model
        Name, or `folder/file.py:Class`.
    dataset, features
        Names; none for a model without content.
    **changes
        Other keys of the study.

    Raises
    ------
    MmreproError
        As `make_plan`.
    """
    study = {"study": NAME, "title": "Of the library", "datasets": [dataset], "models": [model], "feature_quality": []}
    given = {"features": {"default": features}} if features else {}
    return make_plan(validate(StudyConfig, {**study, **given, **changes}, ORIGIN), Path(), ORIGIN)


def ensure_data(plan: Plan) -> None:
    """Have Snakemake make what a plan's trainings read and what is not there as code, settings and inputs want it.

    Raises
    ------
    MmreproError
        When it fails, or another one works in this folder.
    """
    jobs = plan.jobs_of(*DATA_KINDS)
    if all(is_current(plan, job, Path()) for job in jobs):
        return
    targets = [path.as_posix() for job in jobs for path in job.files]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "library.yaml"
        file.write_text(yaml.safe_dump(plan.study.model_dump(mode="json", exclude_defaults=True)), encoding="utf-8")
        command = ["snakemake", "--cores", "all", "--rerun-incomplete", "--quiet", "all", "--configfile", str(file)]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # rules call `mmrepro`
        environment = {**os.environ, "PATH": path}
        done = subprocess.run(
            [sys.executable, "-m", *command, "--", *targets], env=environment, capture_output=True, text=True
        )
    if done.returncode:
        raise MmreproError(_reason(done.stdout + done.stderr))


def _reason(said: str) -> str:
    """Why Snakemake failed: the words of a job, or its own."""
    if "LockException" in said:
        return "another workflow works in this folder; wait until it is done, or try again in a copy"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    own = [line.removeprefix("mmrepro: ") for line in lines if line.startswith("mmrepro: ")]
    return own[-1] if own else f"the data could not be made: {lines[-1] if lines else 'no word'}"
