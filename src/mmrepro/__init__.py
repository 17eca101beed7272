"""mmrepro: multimodal recommendation, reproduced.

From Python: `load` data, `train` a model, `evaluate` lists from elsewhere, read the `results` of a study.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmrepro.library.data import Data, load
    from mmrepro.library.results import Results, evaluate
    from mmrepro.library.tables import results
    from mmrepro.library.training import Run, run_in, train

__version__ = "0.1.0"
__all__ = ["Data", "Results", "Run", "evaluate", "load", "results", "run_in", "train"]

_HOMES = {
    "Data": "data", "load": "data", "Results": "results", "evaluate": "results", "results": "tables",
    "Run": "training", "run_in": "training", "train": "training",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: a command imports no more than it needs."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mmrepro' has no attribute '{name}'; it offers {', '.join(__all__)}")
    return getattr(import_module(f"mmrepro.library.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
