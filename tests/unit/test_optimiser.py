import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from mmrepro.runtime.checkpoint import Checkpoint
from mmrepro.runtime.meter import Meter
from mmrepro.training.optimiser import Adam


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    drawn = [nn.Parameter(torch.randn(size, generator=generator)) for size in ((4, 3), (5,), ())]
    return [*drawn, nn.Parameter(torch.ones(2), requires_grad=False)]


def course(optimiser: Any, trained: list[nn.Parameter], steps: range) -> None:
    """Steps in which the second parameter has no gradient every other time."""
    for step in steps:
        optimiser.zero_grad()
        generator = torch.Generator().manual_seed(step)
        for number, parameter in enumerate(trained[:3]):
            if number != 1 or step % 2:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimiser.step()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_steps_are_those_of_torch_bit_for_bit(weight_decay: float) -> None:
    ours, theirs = parameters(), parameters()
    course(Adam(ours, 0.02, weight_decay), ours, range(7))
    course(torch.optim.Adam(theirs, lr=0.02, weight_decay=weight_decay, fused=True), theirs, range(7))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert not torch.equal(ours[0], parameters()[0]) and torch.equal(ours[3], torch.ones(2))


def test_a_loaded_state_goes_on_as_if_nothing_had_happened() -> None:
    whole, parts = parameters(), parameters()
    course(Adam(whole, 0.02, 0.1), whole, range(6))
    first = Adam(parts, 0.02, 0.1)
    course(first, parts, range(3))
    second = Adam(parts, 0.02, 0.1)
    second.load_state_dict(first.state_dict())
    course(second, parts, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_training_does_not_import_the_compiler_of_torch() -> None:
    program = """
import sys
import mmrepro.training.run
from mmrepro.training.optimiser import Adam
from mmrepro.runtime.seeds import seed_everything
import torch
seed_everything(0)
weight = torch.nn.Parameter(torch.ones(3))
optimiser = Adam([weight], 0.1, 0.0)
weight.square().sum().backward()
optimiser.step()
assert torch.are_deterministic_algorithms_enabled()
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_resumed_job_has_spent_what_both_its_parts_spent(tmp_path: Any) -> None:
    earlier = {"wall_seconds": 1000.0, "cpu_seconds": 500.0, "peak_memory_mb": 1e9, "energy_joules": None}
    first = Meter()
    first.resume(earlier)
    Checkpoint(tmp_path / "checkpoint.pt", {"code": "1"}, first).save({"epoch": 5})
    second = Meter()
    assert second.spent()["wall_seconds"] < 1000
    assert Checkpoint(tmp_path / "checkpoint.pt", {"code": "1"}, second).load() == {"epoch": 5}
    spent = second.spent()
    assert (
        spent["energy_joules"] is None
        and spent["wall_seconds"] >= 1000
        and spent["cpu_seconds"] >= 500
        and spent["peak_memory_mb"] == 1e9
    )
