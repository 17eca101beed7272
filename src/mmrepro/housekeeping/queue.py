"""What Slurm knows of jobs: their names in the queue, those of an earlier start, and how one ended, in plain words."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmrepro.study.plan import Plan

LONGEST_NAME = 60
LAST_BYTES = 20_000
MEMORY = re.compile(r"exceeded (?:job |step )?memory limit|oom[-_ ]?kill", re.IGNORECASE)
"""What Slurm writes into the log of a job of which it killed a step."""
SECONDS = 30
"""That a command of Slurm is waited for."""
LIVING = "PENDING,CONFIGURING,RUNNING,SUSPENDED,COMPLETING,REQUEUED,STOPPED,RESIZING"
STATES = {
    "OUT_OF_MEMORY": "out of memory: it needed more than the {memory} it asked for; the next attempt asks for more",
    "TIMEOUT": "out of time: it was ended after {time}; what can go on from a checkpoint does so at the next start",
    "CANCELLED": "cancelled, by a person or by the cluster; the same command starts it again",
    "NODE_FAIL": "its node failed; the next attempt goes on from the last checkpoint",
    "PREEMPTED": "another job took its place; the next attempt goes on from the last checkpoint",
    "BOOT_FAIL": "its node did not start; the next attempt gets another one",
    "DEADLINE": "the cluster's deadline for it has passed; ask for less time (`mmrepro-slurm-longest` in the profile)",
    "FAILED": "it ended with an error (exit status {exit}); the end of its log says which",
}
"""State of an ended job -> what that means, and what helps."""


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Attributes
    ----------
    state
        Slurm's word, as in `OUT_OF_MEMORY`.
    words
        What that means, and what helps.
    """

    state: str
    words: str


def undecided_devices(plan: Plan) -> list[str]:
    """Return the files of a study, and of feature sets that it reads, whose device is left to the machine that runs."""
    found = ["the study"] if plan.study.device == "auto" else []
    for name in sorted({features for _, features in plan.feature_sets_read} & plan.feature_sets.keys()):
        encoders = plan.feature_sets[name].modalities.values()
        if any(getattr(encoder, "device", "cpu") == "auto" for encoder in encoders):
            found.append(f"config/features/{name}.yaml")
    return found


def job_name(label: str, identity: Any) -> str:
    """Return a job's name in the queue: what it does, and eight digits by which it is known again.

    Parameters
    ----------
    label
        What it does, in words.
    identity
        What it makes, by which code and settings, as JSON values.
    """
    words = re.sub(r"[^A-Za-z0-9_.]+", "-", label).strip("-")[:LONGEST_NAME]
    digits = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    return f"{words}-{digits}"


def living_jobs(name: str, folder: Path) -> list[str]:
    """Return the numbers of the user's jobs of a name and a folder that queue or run."""
    said = ask("squeue", "--me", "--noheader", f"--name={name}", f"--states={LIVING}", "--format=%i|%Z")
    found = (line.split("|", 1) for line in said.splitlines() if "|" in line)
    return [number for number, place in found if Path(place).resolve() == folder.resolve()]


def ended(number: str) -> Ended | None:
    """Return how a job ended; None where Slurm knows nothing of it any more."""
    told = dict(pair.partition("=")[::2] for pair in ask("scontrol", "show", "job", "--oneliner", number).split())
    if "JobState" in told:
        state, status = told["JobState"], told.get("ExitCode", "?")
        if state == "FAILED" and MEMORY.search(_last_words(told.get("StdOut", ""))):
            state = "OUT_OF_MEMORY"  # where a step of the job was killed, not the job
        memory = told.get("MinMemoryNode") or told.get("MinMemoryCPU") or "memory"
        return _in_words(state, memory=memory, time=told.get("RunTime", "its time"), exit=status)
    fields = ask("sacct", "-X", "-j", number, "--noheader", "--parsable2", "--format=State,ReqMem,Elapsed,ExitCode")
    if not fields.strip():
        return None
    state, memory, time, status = fields.splitlines()[0].split("|")
    return _in_words(state.split()[0], memory=memory, time=time, exit=status)


def _last_words(path: str) -> str:
    """The end of a job's log."""
    try:
        return Path(path).read_bytes()[-LAST_BYTES:].decode("utf-8", "replace")
    except OSError:
        return ""


def _in_words(state: str, **known: str) -> Ended:
    sentence = STATES.get(state, "Slurm calls it {state}; ask those who run the cluster")
    return Ended(state, sentence.format(state=state, **known))


def ask(*command: str) -> str:
    """What a command of Slurm prints; nothing where it is not there, fails or hangs."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        return _run(command)
    except (OSError, subprocess.SubprocessError):
        return ""


def _run(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stdout
