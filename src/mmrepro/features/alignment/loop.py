"""The loop that pre-trains a multimodal encoder: batches, steps, measures, checkpoints."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmrepro.config.features import AlignRecEncoder
from mmrepro.errors import MmreproError
from mmrepro.features.alignment.catalogue import Catalogue, read_parts
from mmrepro.features.alignment.measures import Retrieval, prediction_errors
from mmrepro.features.alignment.objective import Objective
from mmrepro.runtime.checkpoint import Checkpoint
from mmrepro.runtime.devices import Device
from mmrepro.runtime.seeds import derive_seed

Report = Callable[[dict[str, Any]], None]

WARM_UP = 0.1  # share of the steps
LARGEST_GRADIENT = 1.0  # norm


class Alignment:
    """The training loop.

    Parameters
    ----------
    encoder
        The configuration.
    objective
        Encoder and predictions, on their device.
    catalogue
        Contents of all items.
    trained, held_out
        Items to train on, and to measure on.
    device
        Where the objective is, and the precision.
    checkpoint
        Kept every few epochs.
    report
        Called with each epoch's record.
    """

    def __init__(
        self,
        encoder: AlignRecEncoder,
        objective: Objective,
        catalogue: Catalogue,
        trained: np.ndarray,
        held_out: np.ndarray,
        device: Device,
        checkpoint: Checkpoint,
        report: Report,
    ) -> None:
        self.encoder, self.objective, self.catalogue = encoder, objective, catalogue
        self.trained, self.held_out, self.device = trained, held_out, device
        self.checkpoint, self.report = checkpoint, report
        self.retrieval = Retrieval.draw(catalogue, held_out, derive_seed(encoder.seed, "retrieval"))
        self.optimiser = torch.optim.AdamW(_groups(objective, encoder.weight_decay), lr=0.0, fused=True)
        self.n_batches = math.ceil(len(trained) / encoder.batch_size)
        self.state: dict[str, Any] = {"epoch": 0, "history": []}

    def fit(self) -> None:
        """Train all epochs; `state` then holds the history and what was measured before and after."""
        self._resume()
        if "untrained" not in self.state:
            self.state["untrained"] = self._measure(), self._retrieve()
        while self.state["epoch"] < self.encoder.epochs:
            self._epoch(self.state["epoch"] + 1)
            if self.checkpoint.is_due(self.state["epoch"]):
                self._save()
        self.state["trained"] = self._measure(), self._retrieve()

    def _epoch(self, epoch: int) -> None:
        """Train one epoch and measure on the held-out items, which takes a forward pass of one of the views."""
        started = time.perf_counter()
        terms = self._train(epoch)
        held_out = {name: errors["trained"] for name, errors in self._measure().items()}
        record = {
            "epoch": epoch,
            "loss": sum(terms.values()),
            "terms": terms,
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "held_out": held_out,
            "seconds": round(time.perf_counter() - started, 3),
        }
        self.state["epoch"] = epoch
        self.state["history"].append(record)
        self.report(record)

    def _train(self, epoch: int) -> dict[str, float]:
        """Run the optimiser over an epoch's batches; return the mean of each term."""
        self.objective.train()
        order = np.random.default_rng(derive_seed(self.encoder.seed, "order", epoch)).permutation(self.trained)
        sums: dict[str, float] = {}
        for first in range(0, self.n_batches, self.encoder.accumulate):
            numbers = range(first, min(first + self.encoder.accumulate, self.n_batches))
            for number in numbers:
                start = number * self.encoder.batch_size
                terms = self._terms(order[start : start + self.encoder.batch_size], epoch, number)
                (torch.stack(list(terms.values())).sum() / len(numbers)).backward()
                for name, term in terms.items():
                    sums[name] = sums.get(name, 0.0) + float(term.detach())
            self._step(epoch, first)
        return {name: total / self.n_batches for name, total in sums.items()}

    def _terms(self, items: np.ndarray, epoch: int, number: int) -> dict[str, torch.Tensor]:
        """The terms of one batch, all finite."""
        generator = np.random.default_rng(derive_seed(self.encoder.seed, "hidden", epoch, number))
        device, half = self.device.name, self.device.precision == "bfloat16"
        parts = read_parts(self.catalogue, items, device)
        hidden = self.objective.draw_hidden(parts, self.encoder.sources, generator)
        same = {name: torch.from_numpy(contents.same[items]).to(device) for name, contents in self.catalogue.items()}
        # other kernels of the towers' attention have no deterministic gradient on a GPU
        with sdpa_kernel(SDPBackend.MATH), torch.autocast(device, torch.bfloat16, enabled=half):
            terms = self.objective(parts, hidden, same)
        for name, term in terms.items():
            if not bool(torch.isfinite(term)):
                raise MmreproError(
                    f"alignrec: loss term '{name}' is {float(term)} in epoch {epoch}; lower learning_rate (now "
                    f"{self.encoder.learning_rate}) in config/features"
                )
        return terms

    def _step(self, epoch: int, first: int) -> None:
        """One step of the optimiser; the learning rate warms up linearly and falls to nothing along a cosine."""
        steps = math.ceil(self.n_batches / self.encoder.accumulate)
        step, total = (epoch - 1) * steps + first // self.encoder.accumulate, steps * self.encoder.epochs
        warm_up = max(1, round(WARM_UP * total))
        fall = (1 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up))) / 2
        for group in self.optimiser.param_groups:
            group["lr"] = self.encoder.learning_rate * ((step + 1) / warm_up if step < warm_up else fall)
        nn.utils.clip_grad_norm_(self.objective.parameters(), LARGEST_GRADIENT)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def _measure(self) -> dict[str, dict[str, float | None]]:
        self.objective.eval()
        seed = derive_seed(self.encoder.seed, "measured")
        return prediction_errors(
            self.objective,
            self.catalogue,
            self.encoder.sources,
            self.held_out,
            self.encoder.batch_size,
            seed,
            self.device,
        )

    def _retrieve(self) -> dict[str, float] | None:
        self.objective.eval()

        def unify(name: str, items: np.ndarray) -> torch.Tensor:
            found, one = [], {name: self.catalogue[name]}
            for start in range(0, len(items), self.encoder.batch_size):
                parts = read_parts(one, items[start : start + self.encoder.batch_size], self.device.name)
                with self.device.inference():
                    found.append(self.objective.encoder(parts)[0].float().cpu())
            return torch.cat(found)

        return self.retrieval.measure(unify)

    def figures(self) -> dict[str, Any]:
        """Return the entries `sources` and `retrieval` of the record."""
        (before, found_before), (after, found_after) = self.state["untrained"], self.state["trained"]
        sources = {
            name: {
                "target": target.name,
                "measure": target.measure,
                "baseline": after[name]["baseline"],
                "untrained": before[name]["trained"],
                "trained": after[name]["trained"],
            }
            for name, target in ((name, self.objective.prediction(name).target) for name in self.encoder.sources)
        }
        return {"sources": sources, "retrieval": self.retrieval.record(found_before, found_after)}

    def _save(self) -> None:
        training = {"objective": self.objective.state_dict(), "optimiser": self.optimiser.state_dict()}
        self.checkpoint.save({"training": training, "progress": self.state})

    def _resume(self) -> None:
        saved = self.checkpoint.load()
        if saved is None:
            return
        self.objective.load_state_dict(saved["training"]["objective"])
        self.optimiser.load_state_dict(saved["training"]["optimiser"])
        self.state = saved["progress"]
        print(f"resumed after epoch {self.state['epoch']}", file=sys.stderr)


def _groups(objective: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices of layers and tables decay; biases, norms, positions, CLS and mask vectors do not."""
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in objective.named_parameters():
        (decaying if parameter.ndim > 1 and name.endswith("weight") else others).append(parameter)
    return [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
