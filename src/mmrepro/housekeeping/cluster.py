"""Whether a cluster can run studies: which of its commands work, and which jobs no node of it can ever start."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mmrepro.housekeeping.queue import ask
from mmrepro.housekeeping.raw_files import size_text
from mmrepro.study.plan import Job

SOON = 120
"""Seconds for which finished jobs must be remembered for `squeue` to tell how they ended."""
SHOWN = 5
"""Jobs that are named of those that cannot start for the same reason."""


@dataclass(frozen=True)
class Nodes:
    """Nodes of one kind in a partition.

    Attributes
    ----------
    partition
        Its name; jobs go to the default one, which has a star, unless told otherwise.
    cores, memory_mb, gpus
        Of a node.
    minutes
        Longest time that a job may ask for; none: no limit.
    state
        Slurm's word.
    """

    partition: str
    cores: int
    memory_mb: int
    gpus: int
    minutes: int | None
    state: str


def cluster(jobs: Iterable[Job], longest: int) -> tuple[list[str], list[str]]:
    """Describe the cluster, and what stands in the way of jobs.

    Parameters
    ----------
    jobs
        Those that are left to do.
    longest
        Minutes that a job may ask for; one that needs longer runs in slices.

    Returns
    -------
    tuple of two lists of str
        Lines about the cluster, and problems.
    """
    nodes = nodes_here()
    if not nodes:
        return ["  no Slurm answers here"], ["cluster: `sinfo` tells of no partition; run this on a login node"]
    lines, problems = [f"  {_status_command()}"], []
    for name in dict.fromkeys(node.partition for node in nodes):
        lines.append(f"  partition {name}: {_largest([node for node in nodes if node.partition == name])}")
    never: dict[str, list[Job]] = {}
    for job in jobs:
        if (why := _why_never(job, nodes, longest)) is not None:
            never.setdefault(why, []).append(job)
    for why, found in never.items():
        shown = ", ".join(job.product.as_posix() for job in found[:SHOWN])
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        problems.append(f"cluster: no node can ever start {shown}{more}: {why}")
    return lines, problems


def nodes_here() -> list[Nodes]:
    """Return what `sinfo` tells of partitions and their nodes."""
    rows = (line.split("|") for line in ask("sinfo", "--noheader", "--format=%P|%c|%m|%G|%l|%T").splitlines())
    return [
        Nodes(partition, _integer(cores), _integer(memory), _gpus(gres), _minutes(limit), state)
        for partition, cores, memory, gres, limit, state in rows
    ]


def _status_command() -> str:
    """Which command tells how jobs ended."""
    found = re.search(r"MinJobAge\s*=\s*(\d+)", ask("scontrol", "show", "config"))
    age = int(found[1]) if found else 0
    if ask("squeue", "--noheader", "--version") and age >= SOON:
        return f"`squeue` tells how jobs end, for {age} s after; no accounting is needed"
    if ask("sacct", "--noheader", "--version"):
        return "`sacct` tells how jobs end: set `mmrepro-slurm-status-command: sacct` in the profile"
    return f"`squeue` forgets finished jobs after {age} s, and `sacct` does not answer: failures will be taken for ends"


def _why_never(job: Job, nodes: Sequence[Nodes], longest: int) -> str | None:
    """What a job asks for that no node has, where that is so."""
    needs, minutes = job.needs, min(job.runtime, longest)
    fitting = list(nodes)
    for fits, why in (
        (lambda node: node.gpus >= needs.gpus, f"{needs.gpus} GPU asked for, none has any"),
        (lambda node: node.cores >= needs.threads, f"{needs.threads} cores asked for"),
        (lambda node: node.memory_mb >= needs.memory_mb, f"{size_text(needs.memory_mb)} of memory asked for"),
        (
            lambda node: node.minutes is None or node.minutes >= minutes,
            f"{minutes} minutes asked for; lower `mmrepro-slurm-longest` in the profile",
        ),
    ):
        left = [node for node in fitting if fits(node)]
        if not left:
            return f"{why} ({_largest(fitting)})"
        fitting = left
    return None


def _largest(nodes: Sequence[Nodes]) -> str:
    """The most that nodes have."""
    limits = [node.minutes for node in nodes]
    longest = "no limit of time" if None in limits else f"{max(limit for limit in limits if limit is not None)} minutes"
    return (
        f"at most {max(node.cores for node in nodes)} cores, {size_text(max(node.memory_mb for node in nodes))}, "
        f"{max(node.gpus for node in nodes)} GPUs, {longest}"
    )


def _integer(text: str) -> int:
    """A number, of which Slurm says with a plus that some nodes have more."""
    return int(re.sub(r"\D", "", text) or 0)


def _gpus(gres: str) -> int:
    """GPUs in `gpu:2`, `gpu:a100:4(S:0-1)` or `(null)`."""
    return sum(int(number) for number in re.findall(r"gpu(?::[^:,(]+)?:(\d+)", gres))


def _minutes(limit: str) -> int | None:
    """Minutes in `1-00:00:00`, `30:00` or `infinite`."""
    if not re.search(r"\d", limit):
        return None
    days, _, clock = limit.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    hours, minutes = (parts[0], parts[1]) if len(parts) == 3 else (0, parts[0])
    return 1440 * int(days or 0) + 60 * hours + minutes
