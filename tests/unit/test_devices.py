"""What a record says of the machine."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from mmrepro.runtime import devices


def test_a_processor_is_named_with_its_instructions() -> None:
    name, _, instructions = devices.device_name("cpu").rpartition(", ")
    assert name not in ("", "cpu")
    assert instructions == torch.backends.cpu.get_cpu_capability()


@pytest.mark.parametrize(
    ("described", "name"),
    [
        (
            "processor\t: 0\nmodel name\t: Some CPU @ 2.5 GHz\n\nprocessor\t: 1\nmodel name\t: Another\n",
            "Some CPU @ 2.5 GHz",
        ),
        ("processor\t: 0\nCPU implementer\t: 0x41\n", platform.processor() or platform.machine()),
        (None, platform.processor() or platform.machine()),
    ],
)
def test_a_processor_without_a_name_has_its_architecture(tmp_path: Path, described: str | None, name: str) -> None:
    file = tmp_path / "cpuinfo"
    if described is not None:
        file.write_text(described)
    assert devices._processor_name(file) == name
