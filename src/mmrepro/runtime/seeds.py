"""Seeds: derived from keys, and set before weights are made."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derive_seed(*keys: object) -> int:
    """Return a seed in [0, 2^63) from keys such as data set, model and seed number."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, keys)).encode()).digest()[:8], "big") >> 1


def seed_everything(seed: int) -> None:
    """Seed all generators before weights are made, and ask for deterministic algorithms."""
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries may use the global generator
    torch.manual_seed(seed)
    # the same flag as use_deterministic_algorithms sets, without that function's import of PyTorch's compiler
    torch.set_deterministic_debug_mode("warn" if torch.cuda.is_available() else "error")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
