"""The contract of a model, and how a model is found by its name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mmrepro.config.base import Strict, nearest
from mmrepro.config.model import model_names
from mmrepro.config.protocol import Protocol
from mmrepro.errors import MmreproError
from mmrepro.models.outside import load_class
from mmrepro.ops.dense import linear_of_constant
from mmrepro.ops.graphs import SparseGraph
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.projection import principal_components


class ModelParameters(Strict):
    """Parameters of any model; a model without training has no others."""


class TrainedParameters(ModelParameters):
    """Parameters that every model trained by gradient descent shares."""

    embedding_size: int = Field(64, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    learning_rate_decay: float = Field(1.0, gt=0, le=1, description="factor reached after `learning_rate_decay_epochs`")
    learning_rate_decay_epochs: int = Field(50, ge=1)
    weight_decay: float = Field(0.0, ge=0, description="L2 inside Adam")
    batch_size: int = Field(2048, ge=1)
    max_epochs: int = Field(1000, ge=1)
    patience: int = Field(20, ge=1, description="epochs without a better watched metric on validation before stopping")


class ContentParameters(TrainedParameters):
    """Parameters that every model with features shares."""

    feature_rank: int | None = Field(None, ge=1, description="project wider features onto so many principal components")


@dataclass(frozen=True)
class ItemContent:
    """What is known of the items beside interactions.

    `features` has one float32 matrix (n_items, dim) a modality, in the order of the feature set; `neighbours` the
    indices (n_items, k) of each item's nearest items by cosine in that modality, the item itself included.
    """

    features: dict[str, Tensor] = field(default_factory=dict)
    neighbours: dict[str, Tensor] = field(default_factory=dict)


class Batch(NamedTuple):
    """Rows of a training step: int64 indices, each of shape (batch,)."""

    users: Tensor
    positives: Tensor
    negatives: Tensor


@dataclass(frozen=True)
class ReleasedBehaviour:
    """What the authors' program does with this model where `fair` does otherwise (methods, section 6)."""

    patience: int = 20
    scores_with_last_batch: bool = False
    ignores_weight_decay: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)
    """Parameters by which the program departs from the paper (switch `oddities`)."""


class Model(nn.Module):
    """Base of all models, built from what they use of training interactions, item content, parameters and protocol.

    A model offers `embed` (scores are inner products) or overrides `score`; a trained model offers `loss`, a
    closed-form one `fit`. It keeps nothing between a training batch and scoring.
    """

    Parameters: ClassVar[type[ModelParameters]] = ModelParameters
    uses_features: ClassVar[bool] = False
    closed_form: ClassVar[bool] = False
    samples_negatives: ClassVar[bool] = True
    released: ClassVar[ReleasedBehaviour] = ReleasedBehaviour()
    reference_names: ClassVar[dict[str, str]] = {}
    """Name of a tensor in the reference files -> name of the parameter here."""
    reference_parameters: ClassVar[dict[str, str]] = {"reg_weight": "reg_weight", "n_layers": "n_layers"}
    """Key of the reference configuration -> parameter here; other keys have no effect there."""
    reference_draws: ClassVar[dict[str, str]] = {}
    """Random draw in the reference files -> method here that draws it; `zero`: it was held at 0 there."""
    reference_modalities: ClassVar[tuple[str, ...]] = ("image", "text")
    """Features of the reference data set that the program reads."""

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the named terms whose sum is minimised, each a scalar."""
        raise MmreproError(f"model '{type(self).__name__}' offers no loss; it is fitted in closed form")

    def fit(self) -> None:
        """Fit a closed-form model to the training interactions it was built from."""

    def start_epoch(self) -> None:
        """Redraw whatever the model samples once an epoch; PyTorch's generator is seeded for the epoch."""

    def embed(self) -> tuple[Tensor, Tensor]:
        """Return vectors of all users (n_users, d) and items (n_items, d), by the mean of what training draws."""
        raise MmreproError(f"model '{type(self).__name__}' has no embeddings")

    def embed_drawn(self) -> tuple[Tensor, Tensor]:
        """Return them with the random draws of training, from PyTorch's generator; as they are where nothing is."""
        return self.embed()

    def score(self, users: Tensor) -> Tensor:
        """Return scores (len(users), n_items) of a model without embeddings."""
        raise MmreproError(f"model '{type(self).__name__}' offers neither embeddings nor scores")

    def score_history(self, items: Tensor) -> Tensor:
        """Return scores (n_items,) for somebody who is no user, by the items (n,) that he likes: here the mean cosine
        of embeddings.
        """
        unit = F.normalize(self.embed()[1].float(), dim=1)
        return unit @ unit.index_select(0, items).mean(dim=0)

    def scores(self, products: Tensor) -> Tensor:
        """Return scores from inner products of `embed`, any shape: the products, unless a program squashes them."""
        return products

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Model:
        """Move and convert graphs along with parameters and buffers."""
        super()._apply(fn, recurse)
        for name, value in list(vars(self).items()):
            if isinstance(value, SparseGraph):
                setattr(self, name, value.apply(fn))
        return self

    @property
    def has_embeddings(self) -> bool:
        """Whether scores are inner products of `embed`."""
        return type(self).embed is not Model.embed


def xavier_uniform(rows: int, columns: int) -> nn.Parameter:
    """Return a table drawn from U(-a, a), a = sqrt(6 / (rows + columns))."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(rows, columns)))


def xavier_normal(rows: int, columns: int) -> nn.Parameter:
    """Return a table drawn from N(0, 2 / (rows + columns))."""
    return nn.Parameter(nn.init.xavier_normal_(torch.empty(rows, columns)))


class FeatureTables(nn.Module):
    """The item features as parameters that start from the features, or as constants.

    Parameters
    ----------
    features
        Modality to its matrix, float32, shape (n_items, dim).
    trainable
        Fine-tune the matrices.
    """

    def __init__(self, features: dict[str, Tensor], trainable: bool) -> None:
        super().__init__()
        self.modalities, self.trainable = tuple(features), trainable
        for modality, matrix in features.items():
            if trainable:
                self.register_parameter(modality, nn.Parameter(matrix.clone()))
            else:
                self.register_buffer(modality, matrix, persistent=False)

    def __getitem__(self, modality: str) -> Tensor:
        return getattr(self, modality)

    def linear(self, modality: str, layer: nn.Linear) -> Tensor:
        """Return the layer applied to every item's row, (n_items, out)."""
        function = F.linear if self.trainable else linear_of_constant
        return function(self[modality], layer.weight, layer.bias)


def require_features(content: ItemContent, model: str) -> dict[str, Tensor]:
    """Return the features, or say that the model cannot do without."""
    if not content.features:
        raise MmreproError(f"model '{model}' needs item features; name a feature set under `features` in the study")
    return content.features


def model_class(name: str, outside: str | None = None) -> type[Model]:
    """Return the model class defined in `models/<name>.py`, or in a file of the user's own project.

    Parameters
    ----------
    name
        The model's name.
    outside
        `folder/file.py:Class` where it is no model of the package.

    Raises
    ------
    MmreproError
        For a name without a file (names the nearest), or a class that is no model.
    """
    if outside is not None:
        return _outside_class(outside)
    if name not in model_names():
        raise MmreproError(f"unknown model '{name}'; {nearest(name, model_names())}")
    module = importlib.import_module(f"mmrepro.models.{name}")
    found = [
        v
        for v in vars(module).values()
        if isinstance(v, type) and issubclass(v, Model) and v.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise MmreproError(f"models/{name}.py must define exactly one model class, found {len(found)}")
    return found[0]


def _outside_class(outside: str) -> type[Model]:
    found = load_class(outside)
    if not issubclass(found, Model):
        raise MmreproError(f"{outside}: not derived from Model of mmrepro.models.base; derive it")
    if found.embed is not Model.embed and found.score is not Model.score:
        raise MmreproError(
            f"{outside}: it has both `embed`, whose inner products are the scores, and `score`, which would be "
            "ignored; keep one (another name will do for what the loss needs)"
        )
    return found


def build_model(
    name: str, interactions: Interactions, content: ItemContent, parameters: dict, protocol: Protocol,
    outside: str | None = None,
) -> Model:  # fmt: skip
    """Build a model by name: its constructor is given what it names of `interactions`, `content`, `parameters`,
    `protocol`.

    Features wider than the parameter `feature_rank` (if set) are projected onto their principal components first.
    """
    cls = model_class(name, outside)
    values = cls.Parameters.model_validate(parameters)
    rank = getattr(values, "feature_rank", None)
    if rank is not None:
        features = {m: principal_components(x, rank) for m, x in content.features.items()}
        content = ItemContent(features, content.neighbours)
    offered = {"interactions": interactions, "content": content, "parameters": values, "protocol": protocol}
    wanted = inspect.signature(cls).parameters
    if unknown := [key for key in wanted if key not in offered]:
        raise MmreproError(f"model '{name}': its constructor names '{unknown[0]}'; {nearest(unknown[0], [*offered])}")
    return cls(**{key: offered[key] for key in wanted})
