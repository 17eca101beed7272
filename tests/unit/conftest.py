from collections.abc import Iterator
from pathlib import Path

import pytest
from hand_made import make_root, write_all


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For modules that compute what is too small to be divided."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A checkout with the hand-made study, all runs finished."""
    write_all(tmp_path, make_root(tmp_path))
    return tmp_path
