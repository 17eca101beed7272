"""Run `snakemake` until nothing is left to do; what `make` calls: `run_study.py STUDY [arguments of snakemake]`.

A study is given by its name or its file; an empty one is the embedded study.
One study runs at a time in a folder. A lock that a killed Snakemake left behind is removed. A search may change the
settings of final runs, which Snakemake sees at its next start: hence the repetition. An import into MLflow that failed
is left to the next call.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from mmrepro.config.files import load_yaml
from mmrepro.errors import MmreproError
from mmrepro.housekeeping.commands import study_path
from mmrepro.reporting.escape import one_line
from mmrepro.study.layout import Layout

EMBEDDED = "miniature"
ROUNDS = 5
DONE = "Nothing to be done"
REFUSED = re.compile(r"^WorkflowError in file .*:\n(.+)\n", re.MULTILINE)
"""What is wrong with a study, between the places in the rules where it was found."""
PLANNED = re.compile(r"^(\w+) +\d+$", re.MULTILINE)
"""A rule and the number of its jobs, as a dry run lists them."""


def other_snakemake() -> int | None:
    """Process number of a Snakemake that was started in this folder by other means."""
    for process in psutil.process_iter():
        try:
            named = any(Path(word).name == "snakemake" for word in process.cmdline()[:3])
            if named and process.cwd() == str(Path.cwd()):
                return process.pid
        except psutil.Error:
            continue
    return None


def snakemake(*arguments: str) -> int:
    """Run Snakemake in the terminal; signals reach it, and it decides how to stop."""
    process = subprocess.Popen(["snakemake", *arguments])
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    return process.wait()


def dry_run(arguments: list[str]) -> tuple[bool, str]:
    """Whether a dry run succeeds, and what it says."""
    command = ["snakemake", *arguments, "--dry-run", "--quiet", "rules"]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return result.returncode == 0, result.stdout


def configuration(study: str) -> list[str]:
    """Arguments that name a study's file, once it can be read."""
    if not study:
        return []
    path = study_path(Path(study))
    if not isinstance(load_yaml(path), dict):
        raise MmreproError(f"{path}: no mapping of keys to values; begin with `study: {path.stem}`")
    return ["--configfile", str(Path.cwd() / path)]


def made(study: str) -> str:
    """Where the page and the tables of a study are."""
    path = study_path(Path(study or EMBEDDED))
    folder = Layout.study(str(load_yaml(path)["study"]))
    return f"page:   {folder / 'report/index.html'}\ntables: {folder / 'tables/main.md'} and beside it"


def forget(study: str) -> None:
    """Forget what Snakemake knows of files that were deleted."""
    from mmrepro.housekeeping.workflow_records import forget_absent
    from mmrepro.study.resolve import plan_of_file

    forget_absent(plan_of_file(study_path(Path(study or EMBEDDED))), Path())


def run(study: str, arguments: list[str]) -> int:
    """Run the workflow until a dry run plans nothing."""
    if (number := other_snakemake()) is not None:
        print(f"snakemake (process {number}) is running in this folder; wait for it, or end it", file=sys.stderr)
        return 1
    if any(Path(".snakemake/locks").glob("*")) and (status := snakemake(*arguments, "--unlock")):
        return status
    for number in range(ROUNDS):
        valid, message = dry_run(arguments)
        if not valid:
            told = REFUSED.search(message)
            print(told[1] if told else message.strip(), file=sys.stderr)
            return 1
        if DONE in message:
            if number == 0:  # else Snakemake has just said what was done
                print(next(line for line in message.splitlines() if DONE in line))
            return 0
        if number > 0 and set(PLANNED.findall(message)) == {"track", "all", "total"}:
            print("all is made but the import into MLflow, which the next run tries again")
            return 0
        if number == 0:
            forget(study)
        if status := snakemake(*arguments, "--rerun-incomplete"):
            return status if status > 0 else 128 - status
    print(f"snakemake still plans jobs after {ROUNDS} rounds; `snakemake -n` says why", file=sys.stderr)
    return 1


def main() -> int:
    """Take the lock and run."""
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C reaches Snakemake itself, which is waited for
    try:
        with FileLock(".make.lock", timeout=0):
            arguments = [*configuration(sys.argv[1]), *sys.argv[2:]]
            if {"--delete-all-output", "--dry-run", "--dryrun", "-n"} & {*arguments}:
                status = snakemake(*arguments)
                if status == 0 and "--delete-all-output" in arguments:
                    print(f"removed what was made for {sys.argv[1] or EMBEDDED}; data of others, logs and MLflow stay")
                return status
            status = run(sys.argv[1], arguments)
            if status == 0:
                print(made(sys.argv[1]))
            return status
    except MmreproError as error:
        print(one_line(str(error)), file=sys.stderr)
        return 1
    except Timeout:
        print("another `make` is running in this folder; wait for it to end", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
