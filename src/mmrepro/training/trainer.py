"""The training loop: a reader should understand it in one sitting."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmrepro.columns import TEST, VALID
from mmrepro.config.protocol import Protocol
from mmrepro.errors import MmreproError
from mmrepro.evaluation.evaluator import Evaluation, Evaluator
from mmrepro.evaluation.ranking import Scorer, make_scorer
from mmrepro.models.base import Batch, Model, TrainedParameters, TrainingInteractions
from mmrepro.runtime.checkpoint import CHECKPOINT_EVERY, Checkpoint
from mmrepro.runtime.seeds import derive_seed
from mmrepro.training.optimiser import Adam
from mmrepro.training.sampling import NegativeSampler, epoch_batches

WATCHED_METRIC = "recall_at_20"
WATCHED_CUTOFFS = (10, 20)


@dataclass(frozen=True)
class Outcome:
    """What a run leaves behind: evaluations by split, the embeddings that ranked, and how training went."""

    evaluations: dict[str, Evaluation]
    embeddings: tuple[Tensor, Tensor] | None
    history: list[dict[str, Any]]
    best_epoch: int


class Trainer:
    """Trains one model on one data set.

    Parameters
    ----------
    model
        Already on its device.
    interactions
        Training pairs.
    evaluator
        Ranks validation and test.
    parameters
        The model's parameters.
    protocol
        The switches (methods, section 6).
    seed
        Batches, negatives and draws of each epoch derive from it.
    cutoffs, depth
        Of the final evaluation.
    splits
        What the final evaluation covers; `test` is only ever ranked when it is among them.
    report
        Called with each epoch's record.
    """

    def __init__(
        self,
        model: Model,
        interactions: TrainingInteractions,
        evaluator: Evaluator,
        parameters: TrainedParameters,
        protocol: Protocol,
        *,
        seed: int,
        cutoffs: tuple[int, ...],
        depth: int,
        splits: tuple[str, ...] = (VALID, TEST),
        precision: str = "float32",
        checkpoint: Checkpoint | None = None,
        report: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.model, self.interactions, self.evaluator = model, interactions, evaluator
        self.parameters, self.protocol, self.seed = parameters, protocol, seed
        self.cutoffs, self.depth, self.splits = cutoffs, depth, splits
        self.bfloat16, self.checkpoint, self.report = precision == "bfloat16", checkpoint, report
        self.device = next(model.parameters()).device
        from_train = protocol.negatives_from == "train_items"
        self.sampler = NegativeSampler(interactions, from_train) if model.samples_negatives else None
        ignored = protocol.weight_decay == "as_program" and model.released.ignores_weight_decay
        decay = 0.0 if ignored else parameters.weight_decay
        self.optimiser = Adam(model.parameters(), parameters.learning_rate, decay)
        self.stale = protocol.score_with == "last_batch" and model.released.scores_with_last_batch
        self.draw = protocol.ranking_draw == "last_batch"
        self.patience = model.released.patience if protocol.patience == "released" else parameters.patience
        self.before_last_step: dict[str, Any] = {}
        self.state: dict[str, Any] = {
            "epoch": 0,
            "best_epoch": 0,
            "best_value": -1.0,
            "bad": 0,
            "best": None,
            "history": [],
        }

    def fit(self) -> Outcome:
        """Train until validation stops improving, and return the outcome of the best epoch."""
        self._resume()
        while self.state["epoch"] < self.parameters.max_epochs and not self._exhausted():
            self._epoch(self.state["epoch"] + 1)
            if self.checkpoint is not None and self.state["epoch"] % CHECKPOINT_EVERY == 0:
                self._save()
        best = self.state["best"]
        if self.protocol.test_from == "best_parameters":
            self.model.load_state_dict(best["parameters"])
            with self._generator(best["generator"]):
                best = {"result": self._evaluate_finally()}
        evaluations, embeddings = best["result"]
        return Outcome(evaluations, embeddings, self.state["history"], self.state["best_epoch"])

    def _exhausted(self) -> bool:
        bad = self.state["bad"]
        return bool(bad > self.patience if self.protocol.stop_when == "exceeds" else bad >= self.patience)

    def _epoch(self, epoch: int) -> None:
        """Train one epoch, validate, and note whether it is the best so far."""
        started = time.perf_counter()
        finished = epoch - 1
        decay = self.parameters.learning_rate_decay ** (finished / self.parameters.learning_rate_decay_epochs)
        self.optimiser.learning_rate = self.parameters.learning_rate * decay
        torch.manual_seed(derive_seed(self.seed, "epoch", epoch))
        terms = self._train(epoch)
        with self._scoring() as scorer:
            valid = self.evaluator.evaluate(scorer, VALID, WATCHED_CUTOFFS, max(WATCHED_CUTOFFS)).means
            value = valid[WATCHED_METRIC]
            if self.protocol.round_digits is not None:
                value = round(value, self.protocol.round_digits)
            improved = value > self.state["best_value"]
            if improved:
                self.state.update(best_value=value, best_epoch=epoch, best=self._note())
        self.state["bad"] = 0 if improved else self.state["bad"] + 1
        self.state["epoch"] = epoch
        record = {
            "epoch": epoch,
            "loss": sum(terms.values()),
            "terms": terms,
            "learning_rate": self.optimiser.learning_rate,
            "valid": valid,
            "best_epoch": self.state["best_epoch"],
            "seconds": round(time.perf_counter() - started, 3),
        }
        self.state["history"].append(record)
        if self.report is not None:
            self.report(record)

    def _train(self, epoch: int) -> dict[str, float]:
        """Run the optimiser over an epoch's batches; return the mean of each term."""
        self.model.train()
        self.model.start_epoch()
        sums: dict[str, float] = {}
        size = self.parameters.batch_size
        n_batches = -(-len(self.interactions.users) // size)
        for number, batch in enumerate(epoch_batches(self.interactions, self.sampler, size, self.seed, epoch), 1):
            generator = torch.get_rng_state()
            terms = self._loss(Batch(*(column.to(self.device) for column in batch)), epoch)
            self.optimiser.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            if number == n_batches:
                self.before_last_step = {"generator": generator, "parameters": self._copy() if self.stale else None}
            self.optimiser.step()
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + float(term.detach())
        return {name: total / n_batches for name, total in sums.items()}

    def _loss(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            terms = self.model.loss(batch)
        for name, term in terms.items():
            if not bool(torch.isfinite(term)):
                raise MmreproError(
                    f"loss term '{name}' is {float(term.detach())} in epoch {epoch}; lower learning_rate"
                    f" (now {self.parameters.learning_rate}), or check the features for constant or extreme rows"
                )
        return terms

    def _copy(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    @contextmanager
    def _scoring(self) -> Iterator[Scorer]:
        """The scorer that the protocol asks for: current parameters, or those of the last batch; draws or their mean."""
        current = None
        if self.stale:
            current = self._copy()
            self.model.load_state_dict(self.before_last_step["parameters"])
        try:
            with self._generator(self.before_last_step["generator"]):
                yield self._scorer()
        finally:
            if current is not None:
                self.model.load_state_dict(current)

    @torch.no_grad()
    def _scorer(self) -> Scorer:
        self.model.eval()
        return make_scorer(self.model, self.draw)

    @staticmethod
    @contextmanager
    def _generator(state: Tensor) -> Iterator[None]:
        """Draw from PyTorch's generator in a given state, and leave it as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(state)
            yield

    def _note(self) -> dict[str, Any]:
        """What must be kept of the best epoch so far; called while the scoring parameters are in place."""
        if self.protocol.test_from == "best_parameters":
            return {"parameters": self._copy(), "generator": self.before_last_step["generator"]}
        with self._generator(self.before_last_step["generator"]):
            return {"result": self._evaluate_finally()}

    @torch.no_grad()
    def _evaluate_finally(self) -> tuple[dict[str, Evaluation], tuple[Tensor, Tensor] | None]:
        self.model.eval()
        generator = torch.get_rng_state()
        scorer = make_scorer(self.model, self.draw)
        evaluations = {s: self.evaluator.evaluate(scorer, s, self.cutoffs, self.depth) for s in self.splits}
        torch.set_rng_state(generator)
        embeddings = None
        if self.model.has_embeddings:
            users, items = self.model.embed(self.draw)
            embeddings = users.detach().cpu().clone(), items.detach().cpu().clone()
        return evaluations, embeddings

    def _save(self) -> None:
        assert self.checkpoint is not None
        training = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        self.checkpoint.save({"training": training, "progress": self.state})

    def _resume(self) -> None:
        saved = self.checkpoint.load() if self.checkpoint is not None else None
        if saved is None:
            return
        self.model.load_state_dict(saved["training"]["model"])
        self.optimiser.load_state_dict(saved["training"]["optimiser"])
        self.state = saved["progress"]
        print(f"resumed after epoch {self.state['epoch']}", file=sys.stderr)


def fit_closed_form(
    model: Model, evaluator: Evaluator, cutoffs: tuple[int, ...], depth: int, splits: tuple[str, ...]
) -> Outcome:
    """Fit a model without a training loop and evaluate it."""
    model.fit()
    scorer = make_scorer(model)
    evaluations = {split: evaluator.evaluate(scorer, split, cutoffs, depth) for split in splits}
    return Outcome(evaluations, model.embed() if model.has_embeddings else None, [], 0)
