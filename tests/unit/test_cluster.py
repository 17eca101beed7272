"""What is told of a cluster, from what its commands print."""

from __future__ import annotations

import logging
import re
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hand_made import make_root
from snakemake_interface_common.exceptions import WorkflowError

import snakemake_executor_plugin_mmrepro_slurm as plugin
from mmrepro.housekeeping import cluster as module
from mmrepro.housekeeping import queue
from mmrepro.housekeeping.cluster import Nodes, cluster, nodes_here
from mmrepro.housekeeping.queue import ended, job_name, living_jobs, undecided_devices
from mmrepro.study.needs import Needs

SINFO = "main*|16+|64000+|(null)|1-00:00:00|idle\ngpu|8|32000|gpu:a100:4(S:0-1)|30:00|mixed\nlong|4|8000|gpu:2|infinite|down\n"


def answering(monkeypatch: pytest.MonkeyPatch, **said: str) -> None:
    """Commands of Slurm that print what is said."""

    def ask(*command: str) -> str:
        return said.get(command[0], "")

    monkeypatch.setattr(queue, "ask", ask)
    monkeypatch.setattr(module, "ask", ask)


def test_partitions_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, sinfo=SINFO)
    assert nodes_here() == [
        Nodes("main*", 16, 64000, 0, 1440, "idle"), Nodes("gpu", 8, 32000, 4, 30, "mixed"),
        Nodes("long", 4, 8000, 2, None, "down"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("needs", "longest", "message"),
    [
        (Needs(memory_mb=60_000, minutes=5), 1440, None),
        (Needs(memory_mb=70_000), 1440, r"no node can ever start .*70 GB of memory asked for \(at most 16 cores"),
        (Needs(threads=32), 1440, "32 cores asked for"),
        (Needs(gpus=8), 1440, "8 GPU asked for"),
        (Needs(gpus=1, memory_mb=40_000), 1440, r"40 GB of memory asked for \(at most 8 cores, 32 GB"),
        (Needs(memory_mb=60_000, minutes=5000), 2880, "2880 minutes asked for; lower `mmrepro-slurm-longest`"),
        (Needs(memory_mb=60_000, minutes=5000), 1440, None),
    ],
)
def test_jobs_that_can_never_start_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: Needs, longest: int, message: str | None
) -> None:
    answering(monkeypatch, sinfo=SINFO, squeue="slurm 22", scontrol="MinJobAge = 300 sec")
    job = replace(make_root(tmp_path).jobs_of("train")[0], needs=needs)
    lines, problems = cluster([job], longest)
    assert "`squeue` tells how jobs end, for 300 s after" in lines[0] and "partition gpu: at most 8 cores" in lines[2]
    assert bool(problems) is (message is not None)
    assert message is None or re.search(message, problems[0])


def test_where_nothing_answers_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch)
    assert cluster([], 1440)[1] == ["cluster: `sinfo` tells of no partition; run this on a login node"]
    answering(monkeypatch, sinfo=SINFO, squeue="slurm 22", sacct="slurm 22", scontrol="MinJobAge = 10 sec")
    assert "mmrepro-slurm-status-command: sacct" in cluster([], 1440)[0][0]


@pytest.mark.parametrize(
    ("said", "state", "words"),
    [
        (
            "JobState=OUT_OF_MEMORY Reason=OutOfMemory ExitCode=0:125 MinMemoryNode=2G",
            "OUT_OF_MEMORY",
            "more than the 2G",
        ),
        ("JobState=TIMEOUT RunTime=1-00:00:03 ExitCode=0:0", "TIMEOUT", "ended after 1-00:00:03"),
        ("JobState=FAILED ExitCode=1:0 StdOut=none.log", "FAILED", r"exit status 1:0"),
        ("JobState=FAILED ExitCode=1:0 StdOut=killed.log MinMemoryNode=400M", "OUT_OF_MEMORY", "more than the 400M"),
        ("JobState=STAGE_OUT ExitCode=1:0", "STAGE_OUT", "Slurm calls it STAGE_OUT"),
    ],
)
def test_an_end_in_plain_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, state: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("killed.log").write_text("slurmstepd-vm: error: StepId=1.0 exceeded memory limit (6 > 4), being killed\n")
    answering(monkeypatch, scontrol=said)
    found = ended("7")
    assert found is not None and found.state == state and words in found.words


def test_where_the_queue_has_forgotten_accounting_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, sacct="CANCELLED by 0|2G|00:01:00|0:15\n")
    found = ended("7")
    assert found is not None and found.state == "CANCELLED"
    answering(monkeypatch)
    assert ended("7") is None


def test_names_are_read_by_people_and_told_apart_by_what_is_made() -> None:
    one, other = (job_name("train cm3 on baby (published), seed 0", ["a.json", code]) for code in ("1", "2"))
    assert one.startswith("train-cm3-on-baby-published-seed-0-") and one != other
    assert job_name("train cm3 on baby (published), seed 0", ["a.json", "1"]) == one and "," not in one


def test_jobs_of_an_earlier_start_are_those_of_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, squeue=f"7|{tmp_path}\n8|/elsewhere\n")
    assert living_jobs("name", tmp_path) == ["7"]


def test_only_jobs_of_an_earlier_start_are_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted, adopted = [], []
    monkeypatch.setattr(plugin.slurm.Executor, "run_job", lambda self, job: submitted.append(self.run_uuid))
    executor = object.__new__(plugin.Executor)
    settings = SimpleNamespace(orphans="adopt", longest=60)
    executor.workflow = SimpleNamespace(workdir_init=tmp_path, executor_settings=settings)
    executor._mine, executor._names, executor._submitted = threading.local(), {}, {"7"}
    executor.logger, executor.slurm_logdir = logging.getLogger("test"), tmp_path
    executor._report_job_submission_threadsafe = lambda info: adopted.append(info.external_jobid)
    job = SimpleNamespace(
        name="fetch", wildcards_dict={"dataset": "a"}, output=["x"], params=["code"], is_group=lambda: False
    )
    monkeypatch.setattr(plugin, "living_jobs", lambda name, folder: ["7"])  # an attempt that is about to end
    executor.run_job(job)
    assert len(submitted) == 1 and submitted[0].startswith("fetch-a-") and not adopted
    monkeypatch.setattr(plugin, "living_jobs", lambda name, folder: ["7", "8"])
    executor.run_job(job)
    assert len(submitted) == 1 and adopted == ["8"]


def test_what_becomes_of_orphans_is_no_other_word(tmp_path: Path) -> None:
    executor = object.__new__(plugin.Executor)
    executor.workflow = SimpleNamespace(executor_settings=SimpleNamespace(orphans="adpot"))
    with pytest.raises(WorkflowError, match="'adpot'; valid are adopt, cancel"):
        executor.__post_init__()


def test_no_more_time_is_asked_for_than_the_longest() -> None:
    for asked, wanted in (("sbatch -t 500 --mem 2", "sbatch -t 60 --mem 2"), ("sbatch -t 5", "sbatch -t 5")):
        assert plugin._within(60, lambda command: command, asked) == wanted


def test_a_device_that_is_left_to_the_node_is_named(tmp_path: Path) -> None:
    plan = make_root(tmp_path)
    assert undecided_devices(plan) == []
    auto = plan.study.model_copy(update={"device": "auto"})
    assert undecided_devices(replace(plan, study=auto)) == ["the study"]
