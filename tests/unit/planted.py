"""A small data set with a planted structure, and short training runs on it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmrepro.config.protocol import Protocol
from mmrepro.datasets.interactions import INTERACTIONS, PreparedDataset, write_prepared
from mmrepro.evaluation.evaluator import Evaluator
from mmrepro.evaluation.lists import RankedLists
from mmrepro.evaluation.metrics import recall
from mmrepro.models.base import (
    Batch,
    ItemContent,
    Model,
    TrainedParameters,
    build_model,
    model_class,
)
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.neighbours import nearest_neighbours
from mmrepro.runtime.seeds import seed_everything
from mmrepro.training.released import Behaviour
from mmrepro.training.sampling import NegativeSampler, epoch_batches
from mmrepro.training.trainer import Outcome, Settings, Trainer

N_USERS, N_ITEMS, N_TASTES, NEVER_TRAINED = 60, 50, 5, 4
SMALL = {"embedding_size": 8, "batch_size": 128, "learning_rate": 0.01, "max_epochs": 3}


def planted_dataset() -> PreparedDataset:
    """Users like the items of their taste; the last items are never trained on, but stand in validation and test."""
    rng = np.random.default_rng(7)
    rows = []
    for user in range(N_USERS):
        liking = np.where(np.arange(N_ITEMS) % N_TASTES == user % N_TASTES, 8.0, 1.0)
        items = rng.choice(N_ITEMS, size=12, replace=False, p=liking / liking.sum())
        warm = [item for item in items if item < N_ITEMS - NEVER_TRAINED]
        cold = [item for item in items if item >= N_ITEMS - NEVER_TRAINED]
        held_out = (cold + warm)[:4]
        splits = {item: "valid" if place % 2 else "test" for place, item in enumerate(held_out)}
        rows += [(user, item, splits.get(item, "train")) for item in items]
    frame = pd.DataFrame(rows, columns=["user", "item", "split"]).astype({"user": np.int32, "item": np.int32})
    return PreparedDataset("planted", N_USERS, N_ITEMS, "0" * 64, frame)


def write_planted(folder: Path, more: dict[str, pd.DataFrame] | None = None) -> Path:
    """Write the data set as `mmrepro prepare` does, as far as training reads it."""
    data = planted_dataset()
    counts = {"dataset": data.dataset, "n_users": data.n_users, "n_items": data.n_items}
    hashes = {"content_hash": data.content_hash, "item_list_hash": "1" * 64, "numbering": None}
    write_prepared(folder, {INTERACTIONS: data.interactions, **(more or {})}, {**counts, **hashes})
    return folder


def training_pairs(data: PreparedDataset) -> Interactions:
    return data.of("train")


def planted_content(modalities: tuple[str, ...] = ("image", "text")) -> ItemContent:
    """Image and text tell an item's taste, among noise; audio and video are noise."""
    rng = np.random.default_rng(8)
    tastes = np.eye(N_TASTES)[np.arange(N_ITEMS) % N_TASTES]
    features = {
        name: torch.from_numpy(tastes @ rng.normal(size=(N_TASTES, dim)) + rng.normal(size=(N_ITEMS, dim)) / 2).float()
        for name, dim in (("image", 12), ("text", 7))
    }
    features |= {name: torch.from_numpy(rng.normal(size=(N_ITEMS, 3))).float() for name in ("audio", "video")}
    chosen = {name: features[name] for name in modalities}
    return ItemContent(chosen, {name: nearest_neighbours(matrix, 10)[0] for name, matrix in chosen.items()})


def planted_batch() -> Batch:
    data = training_pairs(planted_dataset())
    return next(iter(epoch_batches(data, NegativeSampler(data), 128, seed=0, epoch=1)))


def loss_terms(model: Model, batch: Batch | None = None) -> dict[str, float]:
    """Each term of the loss, what it draws being the same whenever it is called."""
    torch.manual_seed(5)
    return {name: float(term.detach()) for name, term in model.loss(batch or planted_batch()).items()}


def total_loss(model: Model, batch: Batch | None = None) -> Tensor:
    return torch.stack(list(model.loss(batch or planted_batch()).values())).sum()


class ScriptedEvaluator(Evaluator):
    """Ranks as ever, but the watched metric of each epoch is given."""

    def __init__(self, dataset: PreparedDataset, protocol: Protocol, values: list[float]) -> None:
        super().__init__(dataset, protocol)
        self.values = iter(values)

    def value(self, lists: RankedLists, split: str, metric: str, cutoff: int) -> float:
        return next(self.values)


def planted_model(
    name: str, protocol: Protocol | None = None, seed: int = 0, *, content: ItemContent | None = None,
    data: Interactions | None = None, **parameters: Any,
) -> Model:  # fmt: skip
    seed_everything(seed)
    content, data = content or planted_content(), data or training_pairs(planted_dataset())
    small = SMALL if issubclass(model_class(name).Parameters, TrainedParameters) else {}
    return build_model(name, data, content, {**small, **parameters}, protocol or Protocol())


def planted_trainer(
    name: str, protocol: Protocol, *, scripted: list[float] | None = None, model: Model | None = None,
    precision: str = "float32", checkpoint: Any = None, report: Any = None, seed: int = 0,
    splits: tuple[str, ...] = ("valid", "test"), **parameters: Any,
) -> Trainer:  # fmt: skip
    data = planted_dataset()
    values = model_class(name).Parameters.model_validate({**SMALL, **parameters})
    assert isinstance(values, TrainedParameters)
    evaluator = Evaluator(data, protocol) if scripted is None else ScriptedEvaluator(data, protocol, scripted)
    model = model or planted_model(name, protocol, seed, **parameters)
    settings = Settings(seed, recall, splits=splits, depth=30, bfloat16=precision == "bfloat16")
    told = {} if report is None else {"report": report}
    behaviour = Behaviour.of(protocol, model, values)
    return Trainer(model, evaluator, values, behaviour, settings, checkpoint, **told)


def without_seconds(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in history]


def training_course(outcome: Outcome) -> list[tuple[int, dict[str, float], float]]:
    """What the optimiser did, apart from how epochs were scored."""
    return [(record["epoch"], record["terms"], record["learning_rate"]) for record in outcome.history]


def recall_at_20(outcome: Outcome, split: str, data: PreparedDataset | None = None) -> float:
    """Recall@20 of the lists that a training leaves."""
    return Evaluator(data or planted_dataset(), Protocol()).value(outcome.lists[split], split, recall, 20)


def same_lists(a: Outcome, b: Outcome) -> bool:
    return list(a.lists) == list(b.lists) and all(
        np.array_equal(left.items, right.items) and np.array_equal(left.scores, right.scores)
        for left, right in zip(a.lists.values(), b.lists.values(), strict=True)
    )


def same_parameters(a: Model, b: Model) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def assert_same_run(trainer: Trainer, outcome: Outcome, other_trainer: Trainer, other: Outcome) -> None:
    """Compare two runs bit for bit."""
    assert without_seconds(outcome.history) == without_seconds(other.history)
    assert outcome.best_epoch == other.best_epoch
    assert same_lists(outcome, other)
    assert same_parameters(trainer.model, other_trainer.model)
    for left, right in zip(outcome.embeddings or (), other.embeddings or (), strict=True):
        assert torch.equal(left, right)
