"""What a job has spent so far, over all the processes that worked on it."""

from __future__ import annotations

import resource
import time
from typing import Any

from mmrepro.runtime.energy import EnergyMeter


class Meter:
    """Counts time, memory and energy from its making on; `resume` adds what an interrupted process had spent before."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._energy = EnergyMeter()
        self._energy.__enter__()  # a job is measured until its process ends
        self._earlier: dict[str, Any] = {"wall_seconds": 0, "cpu_seconds": 0, "peak_memory_mb": 0, "energy_joules": 0}

    def resume(self, earlier: dict[str, Any]) -> None:
        """Add what `spent` returned in the process that wrote a checkpoint."""
        self._earlier = dict(earlier)

    def spent(self) -> dict[str, Any]:
        """Return wall and CPU seconds, the peak of resident memory in MiB, and joules where the machine tells them."""
        earlier, joules = self._earlier, self._energy.read()
        known = joules is not None and earlier["energy_joules"] is not None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {
            "wall_seconds": round(earlier["wall_seconds"] + time.perf_counter() - self._wall, 3),
            "cpu_seconds": round(earlier["cpu_seconds"] + time.process_time() - self._cpu, 3),
            "peak_memory_mb": round(max(earlier["peak_memory_mb"], peak), 1),
            "energy_joules": round(earlier["energy_joules"] + joules, 1) if known else None,
        }
