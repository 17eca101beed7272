"""How well an encoder does on items it was not trained on: masked prediction, and retrieval across sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from mmrepro.config.features import AlignmentSource
from mmrepro.features.alignment.catalogue import Catalogue, read_parts
from mmrepro.features.alignment.objective import Objective
from mmrepro.runtime.devices import Device

OTHERS = 100
"""Candidates of a query besides the right one; fewer where the catalogue has fewer."""

CUTOFFS = (1, 10)


def prediction_errors(
    objective: Objective,
    catalogue: Catalogue,
    sources: dict[str, AlignmentSource],
    items: np.ndarray,
    batch_size: int,
    seed: int,
    device: Device,
) -> dict[str, dict[str, float | None]]:
    """Measure masked prediction from the states, with the same tokens hidden at every call.

    Parameters
    ----------
    objective
        Encoder and predictions; in evaluation mode.
    catalogue
        Contents of all items.
    sources
        Mask ratios.
    items
        The items to measure on.
    batch_size
        Items of a batch.
    seed
        Of what is hidden.
    device
        Where the objective is.

    Returns
    -------
    dict
        Source -> `baseline` and `trained`: mean error of a predictor that sees nothing and of the encoder, in the
        target's unit; None where nothing is hidden.
    """
    generator = np.random.default_rng(seed)
    sums = {name: np.zeros(3) for name in sources}
    for start in range(0, len(items), batch_size):
        parts = read_parts(catalogue, items[start : start + batch_size], device.name)
        hidden = objective.draw_hidden(parts, sources, generator)
        with device.inference():
            found = objective.errors(parts, hidden)
        for name, (errors, baseline) in found.items():
            sums[name] += len(errors), float(errors.double().sum()), float(baseline.double().sum())

    def mean(total: float, count: float) -> float | None:
        return float(total / count) if count else None

    return {name: {"baseline": mean(b, n), "trained": mean(t, n)} for name, (n, t, b) in sums.items()}


@dataclass(frozen=True)
class Retrieval:
    """Find an item by one of its sources, given another, among others drawn from the catalogue.

    Attributes
    ----------
    query, candidates_from
        The sources.
    queries
        Items that are looked for (queries,).
    candidates
        Shape (queries, candidates): the item itself first, then others with another content of that source.
    """

    query: str
    candidates_from: str
    queries: np.ndarray
    candidates: np.ndarray

    @classmethod
    def draw(cls, catalogue: Catalogue, held_out: np.ndarray, seed: int) -> Retrieval:
        """Draw the candidates: 100 others for each held-out item that has both of the first two sources, or all there
        are.
        """
        query, other = list(catalogue)[:2]
        there = {name: np.any(contents.present, axis=1) for name, contents in catalogue.items()}
        queries = held_out[there[query][held_out] & there[other][held_out]]
        pool, same = np.flatnonzero(there[other]), catalogue[other].same
        generator = np.random.default_rng(seed)
        sizes = np.bincount(same[pool])
        count = min(OTHERS, len(pool) - int(sizes[same[queries]].max(initial=0)))
        candidates = np.empty((len(queries), 1 + count), dtype=np.int64)
        for row, item in enumerate(queries):
            others = pool[np.not_equal(same[pool], same[item])]
            candidates[row] = [item, *generator.choice(others, count, replace=False)]
        return cls(query, other, queries, candidates)

    def measure(self, unify: Callable[[str, np.ndarray], torch.Tensor]) -> dict[str, float] | None:
        """Return recall at 1 and 10 and the mean reciprocal rank; a candidate with the same score ranks before the
        item.

        Parameters
        ----------
        unify
            From a source and items to the unified vectors of that source alone, (items, dim), on the CPU.
        """
        if not len(self.queries):
            return None
        distinct, position = np.unique(self.candidates, return_inverse=True)
        asked = F.normalize(unify(self.query, self.queries).double(), dim=-1).numpy()
        offered = F.normalize(unify(self.candidates_from, distinct).double(), dim=-1).numpy()
        position = position.reshape(self.candidates.shape)
        scores = np.stack([offered[rows] @ vector for rows, vector in zip(position, asked, strict=True)])
        no_worse = scores[:, 1:] >= scores[:, :1]
        return _figures(1 + np.count_nonzero(no_worse, axis=1))

    def record(self, untrained: dict[str, float] | None, trained: dict[str, float] | None) -> dict[str, Any]:
        """Return the entry of a run's record; `chance` is what an order by lot gives on average."""
        n_candidates = self.candidates.shape[1]
        chance = _figures(np.arange(1, n_candidates + 1)) if len(self.queries) else None
        return {
            "query": self.query,
            "candidates_from": self.candidates_from,
            "queries": len(self.queries),
            "candidates": n_candidates,
            "chance": chance,
            "untrained": untrained,
            "trained": trained,
        }


def _figures(ranks: np.ndarray) -> dict[str, float]:
    found = {f"recall_at_{k}": float(np.mean(ranks <= k)) for k in CUTOFFS}
    return {**found, "mean_reciprocal_rank": float(np.mean(1 / ranks))}
