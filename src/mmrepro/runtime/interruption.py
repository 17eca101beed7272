"""How a job ends that is asked to: it keeps what it has, and leaves with a status of its own.

A cluster asks (SIGTERM) when a job's time is up, and kills half a minute later.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

STATUS = 75
"""Of a process that was asked to end and goes on when it is started again."""
PATIENCE = 20.0
"""Seconds that an epoch may take for its end to be waited for."""


class Stopped(BaseException):
    """The job was asked to end, and has kept what it had."""


@dataclass
class Interruption:
    """Whether this process has been asked to end.

    Attributes
    ----------
    asked
        It has.
    epoch
        Seconds that the last epoch took; None before the first has ended.
    """

    asked: bool = False
    epoch: float | None = None

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Heed SIGTERM: end with the epoch that runs, or at once where that may take too long."""
        before = signal.signal(signal.SIGTERM, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if self.epoch is None or self.epoch > PATIENCE:
            raise Stopped


INTERRUPTION = Interruption()
