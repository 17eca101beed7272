"""What a job has spent so far, over all the processes that worked on it."""

from __future__ import annotations

import resource
import time
from typing import Any


class Meter:
    """Counts time and memory from its making on; `resume` adds what an interrupted process had spent before."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._earlier: dict[str, float] = {}

    def resume(self, earlier: dict[str, Any]) -> None:
        """Add what `spent` returned in the process that wrote a checkpoint."""
        self._earlier = dict(earlier)

    def spent(self) -> dict[str, Any]:
        """Return wall and CPU seconds, and the peak of resident memory in MiB."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {
            "wall_seconds": round(self._earlier.get("wall_seconds", 0) + time.perf_counter() - self._wall, 3),
            "cpu_seconds": round(self._earlier.get("cpu_seconds", 0) + time.process_time() - self._cpu, 3),
            "peak_memory_mb": round(max(self._earlier.get("peak_memory_mb", 0), peak), 1),
        }
