"""Ranking of validation and test under a protocol's masks, or of everybody with all that is known masked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mmrepro.columns import TEST, TRAIN, VALID, Columns
from mmrepro.config.protocol import Protocol
from mmrepro.datasets.interactions import PreparedDataset
from mmrepro.evaluation.lists import RankedLists
from mmrepro.evaluation.metrics import Compute, Measured, mean_over_users
from mmrepro.evaluation.ranking import Scorer, rank
from mmrepro.ops.interactions import Interactions


class Evaluator:
    """Scores validation and test of a data set; users without a row in the split are left out."""

    def __init__(self, dataset: PreparedDataset, protocol: Protocol, device: str = "cpu") -> None:
        self.dataset, self.device = dataset, device
        at_test = (TRAIN, VALID) if protocol.mask_at_test == "train+valid" else (TRAIN,)
        self._masked = {VALID: dataset.of(TRAIN), TEST: dataset.of(*at_test)}

    def rank(self, scorer: Scorer, split: str, depth: int) -> RankedLists:
        """Rank `depth` items for each user of a split."""
        users = self.dataset.of(split).distinct_users
        return rank(scorer, users, self.dataset.n_items, self._masked[split].by_user, depth, self.device)

    def masked(self, split: str) -> Interactions:
        """Return the interactions whose items no list of a split holds."""
        return self._masked[split]

    def covered(self, split: str, depth: int) -> float:
        """Return the share of a split's users whose candidates all stand among the first `depth`."""
        users = self.dataset.of(split).distinct_users
        return float((self.dataset.n_items - self._masked[split].history_lengths[users] <= depth).mean())

    def value(self, lists: RankedLists, split: str, metric: Compute, cutoff: int) -> float:
        """Return the mean over users of a metric of a split's lists."""
        return mean_over_users(metric, Measured(lists, self.dataset.of(split), self.dataset.of(TRAIN)), cutoff)


class EveryonesEvaluator(Evaluator):
    """Takes all interactions for training ones and ranks for every user what that user has not had: nothing is left to
    be measured.
    """

    def __init__(self, dataset: PreparedDataset, protocol: Protocol, device: str = "cpu") -> None:
        known = dataset.interactions.assign(**{Columns.SPLIT: TRAIN})
        super().__init__(replace(dataset, interactions=known), protocol, device)

    def rank(self, scorer: Scorer, split: str, depth: int) -> RankedLists:
        """Rank `depth` items for every user, whatever the lists are called."""
        everyone, known = np.arange(self.dataset.n_users), self.dataset.of(TRAIN).by_user
        return rank(scorer, everyone, self.dataset.n_items, known, depth, self.device)
