import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "workflow")]
from checkout import Checkout, copy_project  # noqa: E402
from slurm import problem, running_slurm  # noqa: E402

NEEDED = "MMREPRO_REQUIRE_SLURM"
"""Set where a Slurm that cannot be started is a failure and no reason to skip."""


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A real Slurm of one node."""
    why = problem()
    if why is not None:
        (pytest.fail if os.environ.get(NEEDED) else pytest.skip)(why)
    with running_slurm(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The smoke study, made on this machine without a cluster."""
    checkout = copy_project(tmp_path_factory.mktemp("local"))
    result = checkout.snakemake()
    assert result.returncode == 0, result.stdout + result.stderr
    return checkout
