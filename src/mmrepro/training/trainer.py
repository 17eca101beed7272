"""The training loop: a reader should understand it in one sitting."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmrepro.columns import TEST, TRAIN, VALID
from mmrepro.errors import MmreproError
from mmrepro.evaluation.evaluator import Evaluator
from mmrepro.evaluation.lists import RankedLists
from mmrepro.evaluation.metrics import Compute
from mmrepro.evaluation.ranking import Scorer, make_scorer
from mmrepro.models.base import Batch, Model, TrainedParameters
from mmrepro.runtime.checkpoint import Checkpoint
from mmrepro.runtime.seeds import derive_seed
from mmrepro.training.optimiser import Adam
from mmrepro.training.released import Behaviour, LastBatch, copy_of, drawing_from, scoring
from mmrepro.training.sampling import NegativeSampler, epoch_batches


@dataclass(frozen=True)
class Outcome:
    """What training leaves behind: lists by split, the embeddings that ranked, and how it went."""

    lists: dict[str, RankedLists]
    embeddings: tuple[Tensor, Tensor] | None
    history: list[dict[str, Any]]
    best_epoch: int


@dataclass(frozen=True)
class Settings:
    """What a training is told beside its model.

    Attributes
    ----------
    seed
        Batches, negatives and draws of each epoch derive from it.
    metric, cutoff
        On validation, what stopping looks at. Without a metric nothing is validated: all epochs are trained, and the
        last one counts as the best.
    splits, depth
        Splits that are ranked in the end (`test` never is unless it is among them), and the length of those lists.
    bfloat16
        Whether losses are computed in bfloat16.
    """

    seed: int
    metric: Compute | None
    cutoff: int = 20
    splits: tuple[str, ...] = (VALID, TEST)
    depth: int = 100
    bfloat16: bool = False


class Trainer:
    """Trains one model on one data set.

    Parameters
    ----------
    model
        Already on its device.
    evaluator
        Ranks validation and test, and holds the training pairs.
    parameters
        The model's parameters.
    behaviour
        What the protocol means for this model.
    settings
        Seed, metric, and what is ranked in the end.
    checkpoint
        Where progress is kept.
    report
        Called with each epoch's record.
    """

    def __init__(
        self,
        model: Model,
        evaluator: Evaluator,
        parameters: TrainedParameters,
        behaviour: Behaviour,
        settings: Settings,
        checkpoint: Checkpoint | None = None,
        report: Callable[[dict[str, Any]], None] = lambda record: None,
    ) -> None:
        self.model, self.evaluator, self.parameters = model, evaluator, parameters
        self.behaviour, self.settings, self.checkpoint, self.report = behaviour, settings, checkpoint, report
        self.interactions = evaluator.dataset.of(TRAIN)
        self.device = next(model.parameters()).device
        pool = behaviour.from_train_items
        self.sampler = NegativeSampler(self.interactions, pool) if model.samples_negatives else None
        self.optimiser = Adam(model.parameters(), parameters.learning_rate, behaviour.weight_decay)
        self.last: LastBatch | None = None
        self.state: dict[str, Any] = {
            "epoch": 0, "best_epoch": 0, "best_value": -1.0, "bad": 0, "best": None, "history": [],
        }  # fmt: skip

    def fit(self) -> Outcome:
        """Train until validation stops improving, and return the outcome of the best epoch."""
        self._resume()
        while self.state["epoch"] < self.parameters.max_epochs and not self.behaviour.exhausted(self.state["bad"]):
            self._epoch(self.state["epoch"] + 1)
            if self.checkpoint is not None and self.checkpoint.is_due(self.state["epoch"]):
                self._save()
        best = self.state["best"]
        if self.behaviour.restores:
            self.model.load_state_dict(best["parameters"])
            with drawing_from(best["generator"]):
                lists, embeddings = self._rank_finally()
        else:
            lists = {split: RankedLists(*(x.numpy() for x in found)) for split, found in best["lists"].items()}
            embeddings = best["embeddings"]
        return Outcome(lists, embeddings, self.state["history"], self.state["best_epoch"])

    def _epoch(self, epoch: int) -> None:
        """Train one epoch, validate, and note whether it is the best so far."""
        started = time.perf_counter()
        decay = self.parameters.learning_rate_decay ** ((epoch - 1) / self.parameters.learning_rate_decay_epochs)
        self.optimiser.learning_rate = self.parameters.learning_rate * decay
        torch.manual_seed(derive_seed(self.settings.seed, "epoch", epoch))
        terms, self.last = self._train(epoch)
        with scoring(self.model, self.behaviour, self.last) as scorer:
            valid, improved = self._validate(scorer, epoch)
            if improved:
                self.state.update(best_epoch=epoch, best=self._note())
        self.state.update(bad=0 if improved or not valid else self.state["bad"] + 1, epoch=epoch)
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
        self.report(record)

    def _validate(self, scorer: Scorer, epoch: int) -> tuple[dict[str, float], bool]:
        """The metric on validation by name, and whether the epoch is the best so far."""
        metric, cutoff = self.settings.metric, self.settings.cutoff
        if metric is None:
            return {}, epoch == self.parameters.max_epochs
        value = self.evaluator.value(self.evaluator.rank(scorer, VALID, cutoff), VALID, metric, cutoff)
        compared = self.behaviour.compared(value)
        improved = compared > self.state["best_value"]
        self.state["best_value"] = max(compared, self.state["best_value"])
        return {f"{metric.__name__}_at_{cutoff}": value}, improved

    def _train(self, epoch: int) -> tuple[dict[str, float], LastBatch]:
        """Run the optimiser over an epoch's batches; return the mean of each term, and the moment before the last
        step.
        """
        self.model.train()
        self.model.start_epoch()
        sums: dict[str, float] = {}
        size = self.parameters.batch_size
        n_pairs = len(self.interactions.users) if self.sampler is None else int(self.sampler.usable.sum())
        n_batches = -(-n_pairs // size)
        batches = epoch_batches(self.interactions, self.sampler, size, self.settings.seed, epoch)
        last = None
        for number, batch in enumerate(batches, 1):
            generator = torch.get_rng_state()
            terms = self._loss(Batch(*(column.to(self.device) for column in batch)), epoch)
            self.optimiser.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            if number == n_batches:
                last = LastBatch(generator, copy_of(self.model) if self.behaviour.scores_stale else None)
            self.optimiser.step()
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + float(term.detach())
        assert last is not None
        return {name: total / n_batches for name, total in sums.items()}, last

    def _loss(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.bfloat16):
            terms = self.model.loss(batch)
        if not isinstance(terms, dict):
            raise MmreproError(f"`loss` returns a {type(terms).__name__}; return named terms, such as {{'bpr': ...}}")
        for name, term in terms.items():
            if term.ndim:
                raise MmreproError(f"loss term '{name}' has the shape {tuple(term.shape)}; return its mean or sum")
            if not bool(torch.isfinite(term)):
                raise MmreproError(
                    f"loss term '{name}' is {float(term.detach())} in epoch {epoch}; lower learning_rate"
                    f" (now {self.parameters.learning_rate}), or check the features for constant or extreme rows"
                )
        return terms

    def _note(self) -> dict[str, Any]:
        """What must be kept of the best epoch so far; called while the scoring parameters are in place."""
        assert self.last is not None
        if self.behaviour.restores:
            return {"parameters": copy_of(self.model), "generator": self.last.generator}
        with drawing_from(self.last.generator):
            lists, embeddings = self._rank_finally()
        kept = {split: tuple(map(torch.from_numpy, (x.users, x.items, x.scores))) for split, x in lists.items()}
        return {"lists": kept, "embeddings": embeddings}

    @torch.no_grad()
    def _rank_finally(self) -> tuple[dict[str, RankedLists], tuple[Tensor, Tensor] | None]:
        self.model.eval()
        generator = torch.get_rng_state()
        scorer = make_scorer(self.model, self.behaviour.draws)
        lists = {split: self.evaluator.rank(scorer, split, self.settings.depth) for split in self.settings.splits}
        torch.set_rng_state(generator)
        if not self.model.has_embeddings:
            return lists, None
        users, items = self.model.embed_drawn() if self.behaviour.draws else self.model.embed()
        return lists, (users.detach().cpu().clone(), items.detach().cpu().clone())

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


def fit_closed_form(model: Model, evaluator: Evaluator, settings: Settings) -> Outcome:
    """Fit a model without a training loop and rank."""
    model.fit()
    scorer = make_scorer(model)
    lists = {split: evaluator.rank(scorer, split, settings.depth) for split in settings.splits}
    return Outcome(lists, model.embed() if model.has_embeddings else None, [], 0)
