"""The commands by which finished runs answer; they work from any directory."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmrepro.housekeeping.commands import Json, study_path
from mmrepro.reporting.escape import visible

if TYPE_CHECKING:
    from mmrepro.reporting.runs import Wanted
    from mmrepro.study.plan import Plan

Study = Annotated[str, typer.Argument(metavar="STUDY", help="a study's name or file, or the folder of a finished run")]
Model = Annotated[str | None, typer.Option(help="of a study's main table")]
Dataset = Annotated[str | None, typer.Option(help="where the study has several")]
Protocol = Annotated[str | None, typer.Option(help="unless given, the study's first")]
Seed = Annotated[int | None, typer.Option(help="unless given, the study's first")]
Run = Annotated[str | None, typer.Option(help="a run's name, as `mmrepro runs` lists it, in place of all these")]
Project = Annotated[
    Path | None, typer.Option(help="folder of the project; unless given, the nearest one from here upward")
]


def runs(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="a study's name or file")], project: Project = None,
    json: Json = False,
) -> None:  # fmt: skip
    """List a study's runs by name, with what they reach on test and where they lie."""
    from mmrepro.library.project import project_folder, working_in
    from mmrepro.reporting.runs import runs_frame

    root = project_folder(project)
    file = _study_file(study, root)
    with working_in(root):
        frame = runs_frame(_plan(file))
    if json:
        print(frame.to_json(orient="records", indent=2))
    else:
        shown = frame.to_string(index=False, na_rep="–", float_format="{:.4f}".format)
        print(visible(shown))


def recommend(
    study: Study, model: Model = None, dataset: Dataset = None, protocol: Protocol = None, seed: Seed = None,
    run: Run = None,
    user: Annotated[list[str] | None, typer.Option(help="a user's key; several times for several users")] = None,
    users: Annotated[
        Path | None, typer.Option(help="a file with a column `user`, or a key a line; `--output` alone: all users")
    ] = None,
    liked: Annotated[str | None, typer.Option(help="keys of items that somebody likes, comma separated")] = None,
    k: Annotated[int, typer.Option(help="number of items", min=1, max=1000)] = 10,
    output: Annotated[Path | None, typer.Option(help="write .csv, .parquet or .jsonl instead of printing")] = None,
    skip_unknown: Annotated[bool, typer.Option("--skip-unknown", help="leave unknown users out")] = False,
    project: Project = None,
) -> None:  # fmt: skip
    """Recommend items to users, or to somebody who likes certain items; what they have had is left out."""
    from mmrepro.config.files import load_dataset
    from mmrepro.errors import MmreproError
    from mmrepro.housekeeping.workflow_records import is_source_changed
    from mmrepro.library.project import project_folder, working_in
    from mmrepro.reporting.recommend import (
        as_text,
        read_keys,
        recommend_liked,
        recommend_users,
        require_format,
        write_table,
    )  # fmt: skip
    from mmrepro.reporting.runs import Wanted
    from mmrepro.training.serving import Server

    if sum(given is not None for given in (user or None, users, liked)) > 1:
        raise MmreproError("give --user, --users or --liked, one of them")
    if output is None and not (user or users or liked):
        raise MmreproError("say for whom: --user KEY, --users FILE or --liked KEYS; with --output alone, for all users")
    if output is not None:
        require_format(output)
    keys = read_keys(users) if users else user
    output = output and output.absolute()
    root = project_folder(project)
    folder = _folder(study, root, Wanted(run, model, dataset, protocol, seed))
    with working_in(root):
        server = Server.load(folder)
        if liked:
            found = recommend_liked(server, [key.strip() for key in liked.split(",") if key.strip()], k)
        else:
            found = recommend_users(server, keys, k, skip_unknown=skip_unknown)
        if output is None:
            print(as_text(found.frame))
        else:
            write_table(found.frame, output)
        changed = is_source_changed(load_dataset(Path(f"config/datasets/{server.spec.dataset}.yaml")), Path())
    told = [_from(folder, server.spec.purpose), *found.notes]
    told += [f"files of {server.spec.dataset} have changed since: what they add is not known here; `make`"] * changed
    if output is not None:
        told.insert(0, f"{output}: {len(found.frame)} rows")
    print(visible("\n".join(told)), file=sys.stderr)


def refit(
    study: Study, model: Model = None, dataset: Dataset = None, protocol: Protocol = None, seed: Seed = None,
    run: Run = None,
    output: Annotated[Path | None, typer.Option(help="unless given, a folder below results/serving")] = None,
    project: Project = None,
) -> None:  # fmt: skip
    """Train a final run's model on all interactions, for `recommend`; nothing is left to measure it by."""
    from mmrepro.library.project import project_folder, working_in
    from mmrepro.reporting.runs import Wanted
    from mmrepro.training.refit import refit as start

    output = output and output.absolute()
    root = project_folder(project)
    folder = _folder(study, root, Wanted(run, model, dataset, protocol, seed), prefer_refit=False)
    with working_in(root):
        with contextlib.redirect_stdout(io.StringIO()):  # what training tells programs
            made = start(folder, output)
        print(visible(made.as_posix()))


def export(
    study: Study, model: Model = None, dataset: Dataset = None, protocol: Protocol = None, seed: Seed = None,
    run: Run = None,
    output: Annotated[Path, typer.Option(help="a folder that is not there yet")] = Path("export"),
    project: Project = None,
) -> None:  # fmt: skip
    """Write a run's vectors and index of items and users, and a card that says where they come from."""
    from mmrepro.library.project import project_folder, working_in
    from mmrepro.reporting.runs import Wanted
    from mmrepro.serving.export import export as write

    output = output.absolute()
    root = project_folder(project)
    folder = _folder(study, root, Wanted(run, model, dataset, protocol, seed))
    with working_in(root):
        print(visible(write(folder, output)))


def _from(folder: Path, purpose: str) -> str:
    seen = "all interactions" if purpose == "serving" else "training interactions; `mmrepro refit` trains on all"
    return f"from {folder.as_posix()}, trained on {seen}"


def _study_file(study: str, root: Path) -> Path:
    """A study's file relative to the project; a path from here is one."""
    path = Path(study)
    if path.suffix and path.is_file():
        return path.absolute()
    with contextlib.chdir(root):
        return study_path(path)


def _plan(file: Path) -> Plan:
    from mmrepro.housekeeping.commands import resolved

    return resolved(file)


def _folder(study: str, root: Path, wanted: Wanted, prefer_refit: bool = True) -> Path:
    """Folder of the run that is meant, relative to the project; its refit where there is one."""
    from mmrepro.errors import MmreproError
    from mmrepro.library.project import working_in
    from mmrepro.reporting.runs import find_run
    from mmrepro.training.refit import refitted

    path = Path(study)
    told = [wanted.model, wanted.dataset, wanted.protocol, wanted.seed]
    if (wanted.name is not None or (path / "run.json").is_file()) and any(one is not None for one in told):
        raise MmreproError(
            "a run's name or folder says all; leave --model, --dataset, --protocol and --seed out beside it"
        )
    if (path / "run.json").is_file():
        return path.absolute()
    if len(path.parts) > 1 and not path.suffix and not (root / path / "run.json").is_file():
        raise MmreproError(f"{study}: no run.json there; name a study, or the folder of a finished run")
    file = _study_file(study, root)
    with working_in(root):
        if (Path(study) / "run.json").is_file():
            return Path(study)
        run = find_run(_plan(file), wanted)
        return (refitted(run.folder) if prefer_refit else None) or run.folder


COMMANDS = (recommend, refit, export, runs)
