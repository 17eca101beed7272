"""A real Slurm of one node, with memory limits and two GPUs that do not exist."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIGURATION = Path("/etc/slurm")
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol", "scancel", "srun")
MARK = "# of mmrepro's tests\n"
SLURM = """ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
MinJobAge=600
KillWait=10
ReturnToService=2
SchedulerParameters=sched_interval=1,bf_interval=1
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory={memory} Gres=gpu:fake:2
PartitionName=main Nodes={host} Default=YES MaxTime=1440 State=UP
"""


def problem() -> str | None:
    """Why no Slurm can be started here; none where it can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "only root can start a Slurm here"
    lacking = [name for name in PROGRAMS if shutil.which(name) is None and not Path(f"/usr/sbin/{name}").exists()]
    if lacking:
        return f"no {lacking[0]} here (Debian: slurm-wlm, munge)"
    file = CONFIGURATION / "slurm.conf"
    if file.exists() and not file.read_text().startswith(MARK):
        return f"{file} is of another cluster"
    return None


@contextmanager
def running_slurm(folder: Path) -> Iterator[None]:
    """Start a Slurm whose state lies in a folder, and end it."""
    host = socket.gethostname().partition(".")[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 * 9 // 10
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    CONFIGURATION.mkdir(exist_ok=True)
    text = MARK + SLURM.format(host=host, folder=folder, memory=memory)
    (CONFIGURATION / "slurm.conf").write_text(text)
    (CONFIGURATION / "gres.conf").write_text(f"{MARK}NodeName={host} Name=gpu Type=fake File=/dev/tty[0-1]\n")
    _start_munge()
    daemons = [
        subprocess.Popen(["/usr/sbin/slurmctld", "-D"]),
        subprocess.Popen(["/usr/sbin/slurmd", "-D", "-N", host]),
    ]
    try:
        wait_for(lambda: "idle" in ask("sinfo", "--noheader", "--format=%T"), "the node", 120)
        yield
    finally:
        subprocess.run(["scancel", "--user=root"], check=False, capture_output=True)
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)
        for name in ("slurm.conf", "gres.conf"):
            (CONFIGURATION / name).unlink()


def _start_munge() -> None:
    key, socket_folder = Path("/etc/munge/munge.key"), Path("/run/munge")
    if not key.exists():
        key.write_bytes(os.urandom(1024))
        shutil.chown(key, "munge", "munge")
        key.chmod(0o400)
    socket_folder.mkdir(exist_ok=True)
    shutil.chown(socket_folder, "munge", "munge")
    if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode:
        subprocess.run(["runuser", "-u", "munge", "--", "/usr/sbin/munged", "--force"], check=True)


def ask(*command: str) -> str:
    """What a command of Slurm prints; nothing where it fails."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def jobs(*states: str) -> dict[str, str]:
    """Number -> name of the jobs in the queue, of some states."""
    wanted = [f"--states={','.join(states)}"] if states else []
    lines = ask("squeue", "--noheader", "--format=%i|%j", *wanted).splitlines()
    return dict(line.split("|") for line in lines)


def wait_for(met: Callable[[], object], what: str, seconds: float = 600) -> None:
    """Wait until a condition is met, and fail when it takes too long."""
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.2)
