"""Any scheduler, by its commands: here a shell script."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkout import Checkout, copy_project
from test_slurm import results

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
SUBMIT = """#!/bin/sh
# submit.sh MEMORY SCRIPT: runs it in the background; its number names the file that its end is written to.
mkdir -p queue
number=$(ls queue | wc -l)
echo "$1" > queue/$number.asked
nohup sh -c '"$2"; echo $? > queue/$1.end' submit $number "$2" > /dev/null 2>&1 &
echo $number
"""
STATUS = """#!/bin/sh
if [ -f queue/$1.end ]; then grep -qx 0 queue/$1.end && echo success || echo failed; else echo running; fi
"""
COMMANDS = """
cluster-generic-submit-cmd: ./submit.sh {resources.mem_mb}
cluster-generic-status-cmd: ./status.sh
cluster-generic-cancel-cmd: "true"
"""


def test_a_shell_script_as_the_scheduler_makes_the_same(local: Checkout, tmp_path: Path) -> None:
    checkout = copy_project(tmp_path)
    for name, text in (("submit.sh", SUBMIT), ("status.sh", STATUS)):
        (checkout.folder / name).write_text(text)
        (checkout.folder / name).chmod(0o755)
    profile = checkout.folder / "profiles/cluster-generic/profile.yaml"
    shipped = profile.read_text().splitlines()
    kept = [line for line in shipped if not line.startswith(("cluster-generic", "  qsub", "  -l"))]
    assert len(shipped) - len(kept) == 4
    profile.write_text("\n".join(kept) + COMMANDS)
    result = checkout.call(
        "snakemake", "--workflow-profile", "profiles/cluster-generic", "--seconds-between-status-checks", "1",
        "--configfile", "config/studies/smoke.yaml",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "12 of 12 jobs done" in result.stderr
    here, there = results(local.folder), results(checkout.folder)
    assert here.keys() == there.keys() and [name for name in here if here[name] != there[name]] == []
    asked = [path.read_text().strip() for path in (checkout.folder / "queue").glob("*.asked")]
    assert len(asked) == 9 and "2000" in asked  # of eleven jobs, two trainings and two graphs share submissions
