"""What the authors' programs do while training where a fair comparison does otherwise (methods, 6).

The training loop asks this module at the places where the two protocols part; `fair` gives the plain answer everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmrepro.config.protocol import Protocol
from mmrepro.evaluation.ranking import Scorer, make_scorer
from mmrepro.models.base import Model, TrainedParameters


@dataclass(frozen=True)
class Behaviour:
    """A protocol's switches as they act on one model.

    Attributes
    ----------
    patience
        Epochs without a better value that are waited for.
    exceeds
        Whether training stops one such epoch later.
    round_digits
        Digits to which values are rounded before they are compared.
    scores_stale
        Whether the parameters before the last step rank.
    draws
        Whether the last batch's random draws are made while ranking.
    weight_decay
        What reaches the optimiser.
    from_train_items
        Whether negatives are items with a training interaction only.
    restores
        Whether the best epoch's parameters are restored for the final lists; otherwise the lists are kept as they were.
    """

    patience: int
    exceeds: bool = False
    round_digits: int | None = None
    scores_stale: bool = False
    draws: bool = False
    weight_decay: float = 0.0
    from_train_items: bool = False
    restores: bool = True

    @classmethod
    def of(cls, protocol: Protocol, model: Model, parameters: TrainedParameters) -> Behaviour:
        """Return what a protocol means for a model."""
        ignored = protocol.weight_decay == "as_program" and model.released.ignores_weight_decay
        return cls(
            patience=model.released.patience if protocol.patience == "released" else parameters.patience,
            exceeds=protocol.stop_when == "exceeds",
            round_digits=protocol.round_digits,
            scores_stale=protocol.score_with == "last_batch" and model.released.scores_with_last_batch,
            draws=protocol.ranking_draw == "last_batch",
            weight_decay=0.0 if ignored else parameters.weight_decay,
            from_train_items=protocol.negatives_from == "train_items",
            restores=protocol.test_from == "best_parameters",
        )

    def exhausted(self, bad: int) -> bool:
        """Return whether so many epochs in a row without a better value end training."""
        return bad > self.patience if self.exceeds else bad >= self.patience

    def compared(self, value: float) -> float:
        """Return a value as it is compared."""
        return value if self.round_digits is None else round(value, self.round_digits)


@dataclass
class LastBatch:
    """What is kept of the moment before an epoch's last step: the generator's state, and parameters where they rank."""

    generator: Tensor
    parameters: dict[str, Tensor] | None


@contextmanager
def scoring(model: Model, behaviour: Behaviour, last: LastBatch) -> Iterator[Scorer]:
    """Give the scorer that ranks: current parameters or the last batch's, the mean of draws or the last batch's
    draw.
    """
    current = None
    if behaviour.scores_stale and last.parameters is not None:
        current = copy_of(model)
        model.load_state_dict(last.parameters)
    try:
        with drawing_from(last.generator):
            yield evaluating(model, behaviour)
    finally:
        if current is not None:
            model.load_state_dict(current)


@torch.no_grad()
def evaluating(model: Model, behaviour: Behaviour) -> Scorer:
    """Return the scorer of a model in evaluation mode."""
    model.eval()
    return make_scorer(model, behaviour.draws)


@contextmanager
def drawing_from(state: Tensor) -> Iterator[None]:
    """Draw from PyTorch's generator in a given state, and leave it as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(state)
        yield


def copy_of(model: Model) -> dict[str, Any]:
    """Return a copy of a model's parameters and buffers."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
