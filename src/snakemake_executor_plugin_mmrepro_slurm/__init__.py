"""Slurm as a study needs it: the plugin of Snakemake, with names that a person can read in the queue, jobs of an
earlier start taken over, long jobs in slices, and failures in plain words; `executor: mmrepro-slurm`.
"""

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import snakemake_executor_plugin_slurm as slurm
from snakemake_executor_plugin_slurm.submit_string import get_submit_command as submit_command
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from mmrepro.housekeeping.queue import Ended, ended, job_name, living_jobs
from mmrepro.housekeeping.screen import label_of

common_settings = slurm.common_settings
ORPHANS = ("adopt", "cancel")
RESUMED = ("images", "align_content", "train", "train_trial", "search")
"""Rules whose jobs go on from what they have left."""


@dataclass
class ExecutorSettings(slurm.ExecutorSettings):
    """Settings of the plugin of Snakemake, and two more."""

    longest: int = field(
        default=1440,
        metadata={
            "help": "Minutes that a job may ask for. One that needs longer runs in slices, each of which goes on from "
            "the checkpoint of the one before, without a retry being counted."
        },
    )
    slices: int = field(default=50, metadata={"help": "Slices that a job may have, at most."})
    orphans: str = field(
        default="adopt",
        metadata={
            "help": "What to do with jobs of an earlier start of this workflow that still queue or run: `adopt` them "
            "(wait for them, submit none in their place) or `cancel` them."
        },
    )


def _within(longest: int, command: Callable[..., str], *arguments: Any, **more: Any) -> str:
    """A command that submits a job, which asks for no more than the longest time."""
    return re.sub(
        r" -t (\d+)", lambda found: f" -t {min(longest, int(found[1]))}", command(*arguments, **more), count=1
    )


class Executor(slurm.Executor):
    """Submits each job under its own name."""

    def __post_init__(self, test_mode: bool = False) -> None:
        """Begin without jobs."""
        self._mine: Any = threading.local()
        self._names: dict[str, str] = {}
        self._submitted: set[str] = set()
        self._slices: Counter[str] = Counter()
        orphans = self.workflow.executor_settings.orphans
        if orphans not in ORPHANS:
            raise WorkflowError(f"mmrepro-slurm-orphans '{orphans}'; valid are {', '.join(ORPHANS)}")
        super().__post_init__(test_mode)
        # the plugin asks for the time of the rule, and offers no other place to ask for less
        slurm.get_submit_command = partial(_within, self.workflow.executor_settings.longest, submit_command)

    @property
    def run_uuid(self) -> str:
        """What jobs are called: while one is submitted its name, else the names of all, as queries list them."""
        submitted: str | None = getattr(self._mine, "name", None)
        return submitted or ",".join(dict.fromkeys(self._names.values())) or self._own_name

    @run_uuid.setter
    def run_uuid(self, value: str) -> None:
        self._own_name = value

    def run_job(self, job: Any) -> None:
        """Submit a job, unless one of an earlier start is still there for it."""
        name = self._name_of(job)
        here = self.workflow.workdir_init
        for found in living_jobs(name, Path(here)):
            if found in self._submitted:
                continue  # an attempt or slice of this start, which is about to end
            if self.workflow.executor_settings.orphans == "cancel":
                slurm.cancel_slurm_jobs([SubmittedJobInfo(job, external_jobid=found)], set(), self.logger)
                continue
            self.logger.warning(f"{name}: job {found} of an earlier start is still there, and is waited for")
            log = self.slurm_logdir / f"adopted/{found}.log"
            self._report_job_submission_threadsafe(SubmittedJobInfo(job, found, {"slurm_logfile": log}))
            return
        with self._named(name):
            super().run_job(job)

    def report_job_submission(self, job_info: SubmittedJobInfo, *args: Any, **more: Any) -> None:
        """Note under which name a job is known."""
        if job_info.external_jobid is not None:
            self._names[job_info.external_jobid] = self._name_of(job_info.job)
            self._submitted.add(job_info.external_jobid)
        super().report_job_submission(job_info, *args, **more)

    def report_job_success(self, job_info: SubmittedJobInfo) -> None:
        """Forget the job."""
        self._names.pop(job_info.external_jobid, None)
        super().report_job_success(job_info)

    def report_job_error(self, job_info: SubmittedJobInfo, msg: str | None = None, **more: Any) -> None:
        """Say why a job failed and what helps; a slice that was used up is followed by the next one."""
        number = self._names.pop(job_info.external_jobid, None) and job_info.external_jobid
        how = ended(number) if number else None
        if how is not None and self._is_slice(job_info.job, how):
            self._submit_job(job_info.job)
            return
        words = f"mmrepro: {how.words} " if how is not None else msg
        super().report_job_error(job_info, msg=words, **more)

    def _is_slice(self, job: Any, how: Ended) -> bool:
        """Whether a job that goes on from checkpoints was ended by the longest time that it may ask for."""
        settings, name = self.workflow.executor_settings, self._name_of(job)
        kinds = {one.name for one in job.jobs} if job.is_group() else {job.name}
        if how.state != "TIMEOUT" or not kinds <= {*RESUMED} or job.resources.get("runtime", 0) <= settings.longest:
            return False
        self._slices[name] += 1
        return self._slices[name] < settings.slices

    def _name_of(self, job: Any) -> str:
        jobs = [*job.jobs] if job.is_group() else [job]
        identity = sorted([[*map(str, one.output)], *map(str, one.params)] for one in jobs)
        label = f"{job.name} of {len(jobs)}" if job.is_group() else label_of(job.name, job.wildcards_dict)
        return job_name(label, identity)

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        self._mine.name = name
        try:
            yield
        finally:
            self._mine.name = None
