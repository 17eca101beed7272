"""Checkpoints: written atomically, and only read back by the very run that wrote them; reading one runs no code."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mmrepro.records.files import atomic_path
from mmrepro.runtime.interruption import INTERRUPTION, Stopped
from mmrepro.runtime.meter import Meter

CHECKPOINT_EVERY = 5  # epochs
SECONDS_AT_MOST = 120.0
"""Between checkpoints; an epoch that takes longer is saved at its end."""


class Checkpoint:
    """One file beside a run's results, tied to the hashes of its code, configuration and data.

    Parameters
    ----------
    path
        The file; it is no declared output of any rule, since Snakemake deletes those of a failed job.
    identity
        Hashes that must agree for the state to be used; a file with others is discarded.
    meter
        What the job has spent goes into the file, and back from it.
    """

    def __init__(self, path: Path, identity: dict[str, Any], meter: Meter | None = None) -> None:
        self.path, self.identity, self.meter = path, identity, meter or Meter()
        self.saved = self.ended = time.monotonic()

    def is_due(self, epoch: int) -> bool:
        """Return whether the state is to be saved after an epoch: every few epochs, every few minutes, and where the
        process has been asked to end.
        """
        now = time.monotonic()
        INTERRUPTION.epoch, self.ended = now - self.ended, now
        return INTERRUPTION.asked or epoch % CHECKPOINT_EVERY == 0 or now - self.saved >= SECONDS_AT_MOST

    def load(self) -> dict[str, Any] | None:
        """Return the state last saved, or None where there is none that fits."""
        import torch

        if not self.path.is_file():
            return None
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception:  # a file of another version, or not ours: start anew
            content = {}
        if content.get("identity") != self.identity:
            self.path.unlink()
            return None
        self.meter.resume(content["spent"])
        return dict(content["state"])

    def save(self, state: dict[str, Any]) -> None:
        """Write the state.

        Raises
        ------
        Stopped
            Where the process has been asked to end.
        """
        import torch

        content = {"identity": self.identity, "spent": self.meter.spent(), "state": state}
        with atomic_path(self.path) as temporary, temporary.open("wb") as handle:
            torch.save(content, handle)
        self.saved = time.monotonic()
        if INTERRUPTION.asked:
            raise Stopped

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)
