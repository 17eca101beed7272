"""Where a job computes: threads of the CPU, or a graphics card."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmrepro.errors import MmreproError


@dataclass(frozen=True)
class Device:
    """A device and the precision used on it.

    Attributes
    ----------
    name
        What torch calls the device.
    precision
        float32, or bfloat16: matrix products in bfloat16, weights as the encoder keeps them.
    label
        The device in a record, a GPU with its model, whose kind decides last bits.
    """

    name: Literal["cpu", "cuda"]
    precision: Literal["float32", "bfloat16"]
    label: str

    def description(self) -> dict[str, str]:
        """Return the entries of a table's record."""
        return {"device": self.label, "precision": self.precision}

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Run without gradients, and in bfloat16 where that is the precision."""
        import torch

        half = self.precision == "bfloat16"
        with torch.inference_mode(), torch.autocast(self.name, torch.bfloat16, enabled=half):
            yield


def encoding_device(wanted: Literal["auto", "cpu", "cuda"]) -> Device:
    """Choose device and precision of an encoder: the CPU in float32, or a GPU in bfloat16.

    Parameters
    ----------
    wanted
        `auto` takes a GPU where there is one.

    Raises
    ------
    MmreproError
        For `cuda` without a GPU.
    """
    import torch

    has_gpu = torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        raise MmreproError("`device: cuda`, but torch sees no GPU here; set `device: cpu` or `auto` in config/features")
    if wanted == "cpu" or not has_gpu:
        return Device("cpu", "float32", "cpu")
    return Device("cuda", "bfloat16", f"cuda ({torch.cuda.get_device_name()})")


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Run torch with a fixed number of threads, which is part of the result, and restore the former number."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fix_threads(threads: int) -> None:
    """Set torch's threads for the process; refuse where they are not to be had, because they are part of the result.

    Raises
    ------
    MmreproError
        With fewer processors than threads.
    """
    import torch

    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if available < threads:
        raise MmreproError(
            f"the study asks for threads: {threads}, but {available} are to be had; lower `threads` in the study"
        )
    torch.set_num_threads(threads)


def training_device(wanted: str) -> str:
    """Return the device of a training: the best there is for `auto`, else the one named.

    Raises
    ------
    MmreproError
        For a device that this machine lacks.
    """
    import torch

    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, there in found.items() if there)
    if not found[wanted]:
        raise MmreproError(
            f"the study asks for device: {wanted}, which this machine lacks; set `device: auto` in the study"
        )
    return wanted


def device_name(device: str) -> str:
    """Return what a record calls a device: a GPU's model, or the processor with the instructions that torch uses on it.

    Two processors give different last bits where their instructions differ, so both belong to a record.
    """
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{_processor_name()}, {torch.backends.cpu.get_cpu_capability()}"


def _processor_name(described: Path = Path("/proc/cpuinfo")) -> str:
    """Linux says it in a file; elsewhere Python knows at least the architecture."""
    try:
        lines = described.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine() or "unknown processor"
