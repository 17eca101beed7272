"""What features are worth before any recommender is trained: the intermediate evaluations of AlignRec, written out.

The paper's own definitions could not be read (methods, 5.2); these are ours.

- **zero-shot**: all items are ranked for each test user by the cosine between an item's features and the user's
  history: `mean`, the mean of the unit-length feature rows of the training items, or `last`, the row of the training
  item with the latest time. Training and validation items are not ranked; recall and NDCG are those of the test items.
- **item-CF**: the share of the N nearest items by co-occurrence in training that are among the N nearest by features,
  as a mean over the items that have any (`item_neighbours.py`).
- **mask-modality**: the same for a feature set of which a share of the items has lost a modality
  (`features/derived.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmrepro.columns import TEST, TRAIN, VALID, Columns
from mmrepro.config.protocol import Protocol
from mmrepro.datasets.interactions import PreparedDataset
from mmrepro.errors import MmreproError
from mmrepro.evaluation.evaluator import Evaluator
from mmrepro.evaluation.item_neighbours import cf_neighbours, neighbour_recall, popular_neighbours
from mmrepro.evaluation.lists import tie_order
from mmrepro.evaluation.metrics import ndcg, recall
from mmrepro.evaluation.ranking import NO_ITEM, Scorer
from mmrepro.features.matrix import FeatureMatrix
from mmrepro.ops.content import unified_matrix
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.losses import unit
from mmrepro.ops.neighbours import nearest_neighbours
from mmrepro.records.files import write_record
from mmrepro.runtime.devices import torch_threads
from mmrepro.study.kinds import code_of

ALL = "all"
NEIGHBOURS = (10, 20, 50)
ZERO_SHOT = (recall, ndcg)
"""Metrics whose expected value under a random order has a closed form below."""
TILE = 2048  # users and items whose features are held in float64 at once


@torch_threads(1)  # part of the result
def probe(
    prepared: Path, features: Path, modalities: Sequence[str], output: Path, cutoffs: Sequence[int] = (10, 20)
) -> None:
    """Measure each modality of a feature set, and where there are several all of them as one matrix.

    Parameters
    ----------
    prepared
        Folder of the prepared data set.
    features
        Folder of the feature set.
    modalities
        Its modalities, at least one.
    output
        The file written: `probes` holds for each modality `zero_shot` (`last` is null where a training interaction has
        no time) and `item_cf` (null where no two items share a user), `floors` what chance and popularity reach in the
        same measures. Test users without a training item have no history: they are left out and counted.
    cutoffs
        Ranks at which zero-shot lists are cut.

    Raises
    ------
    MmreproError
        When a file is missing or does not fit the data set, or no test user has a training item.
    """
    dataset = PreparedDataset.load(prepared)
    tables = {m: FeatureMatrix.load(features, m, dataset.n_items, dataset.item_list_hash) for m in modalities}
    matrices = {m: torch.from_numpy(np.asarray(table.matrix, dtype=np.float32)) for m, table in tables.items()}
    measures = _Measures(dataset, cutoffs)
    probes = [measures.probe(modality, matrix) for modality, matrix in matrices.items()]
    if len(matrices) > 1:
        probes.append(measures.probe(ALL, unified_matrix(matrices)))
    first = next(iter(tables.values())).record
    record = {
        "dataset": dataset.dataset,
        "features": first["feature_set"],
        "masked_share": first.get("masked_share", 0.0),
        "code": code_of("probe"),
        "data": {
            "interactions": dataset.content_hash,
            "features": {m: table.record["matrix_sha256"] for m, table in tables.items()},
            "missing": {m: table.record["n_missing"] for m, table in tables.items()},
        },
        "n_items": dataset.n_items,
        **measures.counts(),
        "probes": probes,
        "floors": measures.floors(),
    }
    write_record(output, record)


class _Measures:
    """A data set, ready to measure features against it."""

    def __init__(self, dataset: PreparedDataset, cutoffs: Sequence[int]) -> None:
        self.cutoffs = cutoffs
        self.n_items = dataset.n_items
        self.training = dataset.of(TRAIN).matrix
        self.dataset, self.users, self.without_history = _with_history(dataset, np.diff(self.training.indptr) > 0)
        self.evaluator = Evaluator(self.dataset, Protocol())
        self.histories = {"mean": self.training, "last": last_items(self.dataset)}
        self.sizes = {n: min(n, self.n_items - 1) for n in NEIGHBOURS}
        self.depth = max(self.sizes.values())
        self.wanted = cf_neighbours(self.training, self.depth)

    def counts(self) -> dict[str, int]:
        """Users ranked for and left out, and items that item-CF is a mean over."""
        compared = int((self.wanted != NO_ITEM).any(axis=1).sum())
        without = {"users_without_history": self.without_history}
        return {"users": self.users, **without, "items_with_cf_neighbours": compared}

    def probe(self, modality: str, matrix: Tensor) -> dict[str, Any]:
        """The two measures of one feature matrix."""
        items = unit(matrix)
        zero_shot = {
            kind: None if history is None else self.zero_shot(history_scorer(items, history))
            for kind, history in self.histories.items()
        }
        near = nearest_neighbours(matrix, self.depth + 1)[0][:, 1:].numpy()  # the first is the item itself
        return {"modality": modality, "zero_shot": zero_shot, "item_cf": self.item_cf(near)}

    def zero_shot(self, scorer: Scorer) -> dict[str, float]:
        """Recall and NDCG of the lists that scores give."""
        lists = self.evaluator.rank(scorer, TEST, max(self.cutoffs))
        return {
            f"{metric.__name__}_at_{k}": self.evaluator.value(lists, TEST, metric, k)
            for metric in ZERO_SHOT
            for k in self.cutoffs
        }

    def item_cf(self, lists: np.ndarray) -> dict[str, float | None]:
        """Recall of the neighbours by co-occurrence at each N."""
        return {str(n): neighbour_recall(self.wanted, lists, size) for n, size in self.sizes.items()}

    def floors(self) -> dict[str, Any]:
        """What chance and popularity (the number of training users) reach."""
        popularity = np.bincount(self.training.indices, minlength=self.n_items)
        scores = torch.from_numpy(popularity.astype(np.float32))
        return {
            "random": {str(n): size / (self.n_items - 1) for n, size in self.sizes.items()},
            "popularity": self.item_cf(popular_neighbours(popularity, self.depth)),
            "zero_shot_random": random_zero_shot(self.dataset, self.cutoffs),
            "zero_shot_popularity": self.zero_shot(lambda users: scores.expand(len(users), -1)),
        }


def _with_history(dataset: PreparedDataset, trained: np.ndarray) -> tuple[PreparedDataset, int, int]:
    """The data set without the test rows of users that training does not know, and test users kept and dropped."""
    frame = dataset.interactions
    tested = frame[Columns.SPLIT] == TEST
    known = trained[frame[Columns.USER]]
    n_kept, n_dropped = (frame.loc[tested & part, Columns.USER].nunique() for part in (known, ~known))
    if not n_kept:
        raise MmreproError(
            f"data set '{dataset.dataset}': no test user has a training item, so there is no history to rank "
            "by; choose another split.kind in config/datasets"
        )
    return replace(dataset, interactions=frame[~tested | known]), n_kept, n_dropped


def last_items(dataset: PreparedDataset) -> Any:
    """Return each user's training item of the latest time; at equal times a fixed draw says which is later.

    Returns
    -------
    scipy.sparse.csr_matrix or None
        Shape (n_users, n_items), at most a single one a row; none where a training interaction has no time.
    """
    frame = dataset.interactions
    train = frame[frame[Columns.SPLIT] == TRAIN]
    if Columns.TIMESTAMP not in train or train[Columns.TIMESTAMP].isna().any():
        return None
    places = np.argsort(tie_order(dataset.n_items))[train[Columns.ITEM]]
    order = np.lexsort((places, train[Columns.TIMESTAMP], train[Columns.USER]))
    last = train.iloc[order].drop_duplicates(Columns.USER, keep="last")
    users, items = last[Columns.USER].to_numpy(), last[Columns.ITEM].to_numpy()
    return Interactions(users, items, dataset.n_users, dataset.n_items).matrix


def history_scorer(items: Tensor, histories: Any, tile: int = TILE) -> Scorer:
    """Return a function from users to the inner products of all items with the sum of the users' items.

    With items of unit length these rank like the cosine with their mean, whose length is the same for all candidates.
    An item of zero length scores 0. Products are made in float64 and compared in float32, so that equal rows tie.

    Parameters
    ----------
    items
        Rows of length 1 or 0, shape (n_items, dim), float32.
    histories
        Binary sparse matrix, shape (n_users, n_items), float32.
    tile
        Users and items of one product; beside the scores it takes 8 tile (2 dim + tile) bytes.
    """

    def score(users: Tensor) -> Tensor:
        scores = torch.empty(len(users), len(items))
        for top in range(0, len(users), tile):
            rows = slice(top, top + tile)
            profiles = torch.from_numpy(histories[users[rows].numpy()] @ items.numpy()).double()
            for left in range(0, len(items), tile):
                columns = slice(left, left + tile)
                scores[rows, columns] = (profiles @ items[columns].double().T).float()
        return scores

    return score


def random_zero_shot(dataset: PreparedDataset, cutoffs: Sequence[int]) -> dict[str, float]:
    """Return the expected recall and NDCG of a random order of the candidates, in closed form.

    A test item that is a candidate stands at each of the c ranks with probability 1 / c. With r test items of a user,
    f of them candidates, recall at k is f min(k, c) / (r c), and NDCG (f / c) D(min(k, c)) / D(min(k, r)),
    D(n) = sum over j = 1..n of 1 / log2(j + 1).

    Parameters
    ----------
    dataset
        With at least one test row; training and validation items are no candidates.
    cutoffs
        Ranks at which lists are cut.
    """
    masked, relevant = dataset.of(TRAIN, VALID), dataset.of(TEST)
    users = relevant.distinct_users
    candidates, n_relevant = dataset.n_items - masked.history_lengths[users], relevant.history_lengths[users]
    open_ = np.setdiff1d(relevant.distinct_codes, masked.distinct_codes) // dataset.n_items
    share = np.bincount(open_, minlength=dataset.n_users)[users] / np.maximum(candidates, 1)
    gains = np.append(0, (1 / np.log2(np.arange(2, max(cutoffs) + 2))).cumsum())
    expected = {
        recall: {k: share * np.minimum(k, candidates) / n_relevant for k in cutoffs},
        ndcg: {k: share * gains[np.minimum(k, candidates)] / gains[np.minimum(k, n_relevant)] for k in cutoffs},
    }
    return {f"{metric.__name__}_at_{k}": float(expected[metric][k].mean()) for metric in ZERO_SHOT for k in cutoffs}
