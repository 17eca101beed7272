"""What a person sees of a running workflow: a line a job, how far all of it is, and how long the rest may take."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmrepro.reporting.escape import one_line
from mmrepro.study.kinds import KINDS

LAST_LINES = 5
"""Of the log of a failed job."""
SCHEDULER = r"(?:slurm|srun|sbatch)\w*\b.*: "
"""Beginning of what a scheduler writes into a log of its own, among what Snakemake does."""
VERBS = {
    "fetch": "fetch", "images": "download images of", "prepare": "prepare", "align_content": "pre-train",
    "extract": "encode", "item_graph": "item graph of", "probe": "probe", "train": "train", "train_trial": "try",
    "select": "choose", "search": "search",
    "measure": "measure", "tables": "build tables", "page": "build the page", "track": "tell MLflow",
}  # fmt: skip
"""Rule -> what a line about one of its jobs begins with."""
STOPPED, FAILED = "mmrepro: stopped", "mmrepro: failed"
"""Last line of the log of a job that was asked to end, which is no failure, and of one that failed without a word."""


@dataclass
class Running:
    """A job that runs.

    Attributes
    ----------
    rule
        Its rule.
    label
        What is made, in words.
    log, product
        Its log, and the output that tells what it found.
    started
        By `time.monotonic`.
    """

    rule: str
    label: str
    log: Path | None
    product: Path | None
    started: float


@dataclass
class Screen:
    """The state of a workflow, from what Snakemake tells.

    Attributes
    ----------
    counts
        Rule -> jobs of this start.
    """

    counts: dict[str, int] = field(default_factory=dict)
    running: dict[int, Running] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    stopped: bool = False

    @property
    def total(self) -> int:
        """Jobs of this start."""
        return sum(self.counts.values())

    def begin(self, stats: Mapping[str, int]) -> str:
        """Note how many jobs each rule has; return a line that says so."""
        self.counts = {rule: int(n) for rule, n in stats.items() if rule not in ("all", "total")}
        parts = [f"{n} {KINDS[rule].title if rule in KINDS else rule}" for rule, n in self.counts.items()]
        return f"{self.total} jobs: {', '.join(parts)}"

    def start(
        self, job: int, rule: str, wildcards: Mapping[str, str], log: Sequence[str], output: Sequence[str]
    ) -> None:
        """Note that a job starts, and what it makes."""
        if rule != "all":
            told = next((Path(file) for file in output if str(file).endswith(".json")), None)
            written = Path(log[0]) if log else None
            self.running[job] = Running(rule, label_of(rule, wildcards), written, told, time.monotonic())

    def finish(self, job: int) -> str | None:
        """Note that a job is done; return its line."""
        found = self.running.pop(job, None)
        if found is None:
            return None
        self.done += 1
        self.failed.pop(found.label, None)  # a later attempt did it
        seconds = time.monotonic() - found.started
        self.seconds.setdefault(found.rule, []).append(seconds)
        result = result_of(found)
        return f"{self.place}  {found.label}{': ' if result else ''}{result}, {duration(seconds)}{self.rest}"

    def fail(self, job: int, why: str = "", logs: Sequence[str] = ()) -> Iterator[str]:
        """Note that a job has failed; yield the lines that say so, with the end of its log.

        Parameters
        ----------
        job
            Its number.
        why
            What the scheduler knows of it.
        logs
            Its logs, the scheduler's last.
        """
        found = self.running.pop(job, None)
        if found is None or self.stopped:
            _mark(found.log if found is not None else None, STOPPED)
            return
        said = last_lines(found.log)
        if said[-1:] == [STOPPED]:
            return
        reason = next((line for line in reversed(said) if line.startswith("mmrepro: ")), "")
        if not reason:
            _mark(found.log, FAILED)
        self.failed[found.label] = why or reason.removeprefix("mmrepro: ") or "see its log"
        yield f"FAILED  {found.label}{': ' if why else ''}{why}"
        others = [Path(path) for path in logs if found.log is None or Path(path) != found.log]
        told = [line for path in others for line in last_lines(path, SCHEDULER)]
        yield from (f"    {one_line(line)}" for line in (*said, *told))
        yield from (f"    log: {path.as_posix()}" for path in (found.log, *others) if path is not None)

    def end(self) -> Iterator[str]:
        """Yield what is to be said when all is over."""
        if self.stopped:
            for one in self.running.values():
                _mark(one.log, STOPPED)
            yield f"stopped after {self.done} of {self.total} jobs; the same command goes on from there"
        elif self.failed:
            yield f"{len(self.failed)} failed, {self.done} of {self.total} jobs done in {duration(self.elapsed)}:"
            yield from (f"  {label}: {why}" for label, why in self.failed.items())
            yield "mend what is named; the same command then does the rest"
        elif self.total:
            yield f"{self.done} of {self.total} jobs done in {duration(self.elapsed)}"

    @property
    def logs(self) -> list[Path]:
        """Logs of the jobs that run."""
        return [one.log for one in self.running.values() if one.log is not None]

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    @property
    def place(self) -> str:
        """How many jobs are done, right-aligned."""
        width = len(str(self.total))
        return f"[{self.done:>{width}}/{self.total}]"

    @property
    def rest(self) -> str:
        """How long the rest may take, once a tenth is done."""
        left = self.seconds_left()
        return f"   ({duration(left)} left)" if left is not None and self.done < self.total else ""

    def seconds_left(self) -> float | None:
        """Return the seconds that the jobs left may take, by the mean of their rule's jobs so far and by how many run
        at once; None before a tenth of the jobs is done.
        """
        finished = [seconds for found in self.seconds.values() for seconds in found]
        if len(finished) < max(2, self.total / 10):
            return None
        overall = sum(finished) / len(finished)
        work = 0.0
        for rule, count in self.counts.items():
            here = self.seconds.get(rule, [])
            work += (count - len(here)) * (sum(here) / len(here) if here else overall)
        busy = sum(finished) + sum(time.monotonic() - one.started for one in self.running.values())
        work -= sum(time.monotonic() - one.started for one in self.running.values())
        return max(work, 0.0) / max(1.0, busy / max(self.elapsed, 1e-9))

    def progress(self, least: float = 0.0) -> list[str]:
        """Return a line for each running job that has run for some seconds, with the last words of its log."""
        now = time.monotonic()
        lines = []
        for one in self.running.values():
            if now - one.started >= least:
                said = last_lines(one.log)
                words = f": {said[-1].rpartition('seed ')[2].partition(' | ')[2] or said[-1]}" if said else ""
                lines.append(f"{one.label}, {duration(now - one.started)}{one_line(words)}")
        return lines


def _mark(log: Path | None, how: str) -> None:
    """Have a log say how its job ended."""
    if log is not None and log.is_file():
        with log.open("a", encoding="utf-8") as handle:
            handle.write(f"{how}\n")


def label_of(rule: str, wildcards: Mapping[str, str]) -> str:
    """Return a job in words: what is made, of which data, with which seed."""
    verb = VERBS.get(rule, rule)
    w = wildcards
    if rule in ("train", "train_trial", "select", "search"):
        features = f" ({w['features']})" if w.get("features") not in (None, "none") else ""
        seed = f", seed {w['seed']}" if "seed" in w else ""
        return f"{verb} {w.get('model', '?')} on {w.get('dataset', '?')}{features}{seed}"
    if rule in ("extract", "align_content", "item_graph"):
        return f"{verb} {w.get('modality', '?')} of {w.get('dataset', '?')} ({w.get('features', '?')})"
    if rule == "measure":
        return f"{verb} {w.get('dataset', '?')}"
    named = [w[name] for name in ("dataset", "features", "study") if name in w]
    return " ".join([verb, *named]) if named else verb


def result_of(job: Running) -> str:
    """Return what a finished job found, in words; nothing where its product tells none."""
    try:
        found = json.loads(job.product.read_text(encoding="utf-8")) if job.product is not None else {}
    except (OSError, ValueError):
        return ""
    if not isinstance(found, dict):
        return ""
    return ", ".join(_words(job.rule, found))


def _words(rule: str, found: Mapping[str, Any]) -> Iterator[str]:
    if rule in ("train", "train_trial"):
        if found.get("epochs"):
            yield f"{found['epochs']} epochs, best {found.get('best_epoch')}"
        for name, value in (found.get("valid") or {}).items():
            yield f"valid {name.replace('_at_', '@')} {value:.4f}"
    elif rule in ("select", "search") and "parameters" in found:
        yield ", ".join(f"{name} {value}" for name, value in found["parameters"].items())
    elif rule == "prepare" and "n_users" in found:
        rows = sum((found.get("interactions") or {}).values())
        yield f"{found['n_users']} users, {found['n_items']} items, {rows} interactions"
    elif "n_items" in found and "dim" in found:
        yield f"{found['n_items']} items, {found['dim']} wide"


def last_lines(path: Path | None, which: str = "") -> list[str]:
    """Return the last lines of a log that are not blank, and match; a progress bar counts as what it shows last."""
    if path is None or not path.is_file():
        return []
    with path.open("rb") as handle:
        handle.seek(max(0, path.stat().st_size - 8192))
        text = handle.read().decode("utf-8", "replace")
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith('{"epoch"') and re.match(which, line)][-LAST_LINES:]


def duration(seconds: float) -> str:
    """Return a time in words."""
    minutes = round(seconds / 60)
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
