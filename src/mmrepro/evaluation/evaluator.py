"""Ranking and metrics of one split under a protocol's masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmrepro.columns import TEST, TRAIN, VALID, Columns
from mmrepro.config.protocol import Protocol
from mmrepro.datasets.interactions import PreparedDataset
from mmrepro.evaluation.metrics import hits, overall_metrics, per_user_metrics
from mmrepro.evaluation.ranking import NO_ITEM, RankedLists, Scorer, rank


@dataclass(frozen=True)
class Evaluation:
    """Lists, metrics of each user and their means for one split."""

    lists: RankedLists
    per_user: dict[str, np.ndarray]
    means: dict[str, float]


class Evaluator:
    """Scores validation and test of a data set; users without a row in the split are left out."""

    def __init__(self, dataset: PreparedDataset, protocol: Protocol, device: str = "cpu") -> None:
        self.dataset, self.protocol, self.device = dataset, protocol, device
        self.popularity = np.bincount(dataset.pairs(TRAIN)[1], minlength=dataset.n_items)
        self._masks = {VALID: self._sorted_pairs(TRAIN)}
        at_test = (TRAIN, VALID) if protocol.mask_at_test == "train+valid" else (TRAIN,)
        self._masks[TEST] = self._sorted_pairs(*at_test)
        self._relevant = {split: self._unique_pairs(split) for split in (VALID, TEST)}

    def _sorted_pairs(self, *splits: str) -> tuple[np.ndarray, np.ndarray]:
        users, items = (np.concatenate(parts) for parts in zip(*(self.dataset.pairs(s) for s in splits), strict=True))
        order = np.argsort(users, kind="stable")
        return users[order], items[order]

    def _unique_pairs(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        users, items = self.dataset.pairs(split)
        pairs = np.unique(users * self.dataset.n_items + items)
        return pairs // self.dataset.n_items, pairs % self.dataset.n_items

    def evaluate(self, scorer: Scorer, split: str, cutoffs: Sequence[int], depth: int) -> Evaluation:
        """Rank `depth` items for each user of a split and compare with the split's items.

        Returns
        -------
        Evaluation
            Metrics of each user, their means, and coverage and novelty of all lists.
        """
        relevant_users, relevant_items = self._relevant[split]
        users, n_relevant = np.unique(relevant_users, return_counts=True)
        lists = rank(scorer, users, self.dataset.n_items, self._masks[split], depth, self.device)
        hit = hits(lists, relevant_users, relevant_items, self.dataset.n_items)
        per_user = per_user_metrics(hit, n_relevant, cutoffs)
        means = {name: float(values.mean()) if len(values) else 0.0 for name, values in per_user.items()}
        means.update(overall_metrics(lists, self.popularity, self.dataset.n_users, cutoffs))
        return Evaluation(lists, per_user, means)


def lists_frame(evaluations: dict[str, Evaluation]) -> pd.DataFrame:
    """Return the lists of all splits as rows (split, user, rank, item, score), ranks from 1."""
    frames = []
    for split, evaluation in evaluations.items():
        lists = evaluation.lists
        n, k = lists.items.shape
        frame = pd.DataFrame(
            {
                Columns.SPLIT: split,
                Columns.USER: np.repeat(lists.users.astype(np.int32), k),
                Columns.RANK: np.tile(np.arange(1, k + 1, dtype=np.int16), n),
                Columns.ITEM: lists.items.ravel().astype(np.int32),
                Columns.SCORE: lists.scores.ravel(),
            }
        )
        frames.append(frame[frame[Columns.ITEM] != NO_ITEM])
    return pd.concat(frames, ignore_index=True)


def per_user_frame(evaluations: dict[str, Evaluation]) -> pd.DataFrame:
    """Return the metrics of each user as rows (split, user, metric@k ...)."""
    frames = [
        pd.DataFrame({Columns.SPLIT: split, Columns.USER: e.lists.users.astype(np.int32), **e.per_user})
        for split, e in evaluations.items()
    ]
    return pd.concat(frames, ignore_index=True)
