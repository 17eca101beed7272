"""Every model trains and scores where it was moved to: nothing it computes with stays on the host."""

import pytest
import torch
from accelerator import Accelerator, NotMoved
from planted import N_ITEMS, planted_batch, planted_model, total_loss
from torch import Tensor

from mmrepro.config.model import model_names
from mmrepro.config.protocol import Protocol, ProtocolConfig
from mmrepro.models.base import Batch, Model, model_class
from mmrepro.models.lightgcn import LightGCN


def moved_batch(accelerator: Accelerator) -> Batch:
    return Batch(*(accelerator.keep(column.clone()) for column in planted_batch()))


@pytest.mark.parametrize("protocol", ["fair", "released"])
@pytest.mark.parametrize("name", model_names())
def test_a_model_computes_where_it_is(name: str, protocol: str) -> None:
    model, accelerator = planted_model(name, ProtocolConfig.model_validate({"base": protocol}).resolve()), Accelerator()
    accelerator.move(model)
    users = accelerator.keep(torch.arange(7))
    with accelerator:
        if model_class(name).closed_form:
            model.fit()
        else:
            model.start_epoch()
            total_loss(model, moved_batch(accelerator)).backward()
            assert all(accelerator.holds(p.grad) for p in model.parameters() if p.grad is not None)
        if model.has_embeddings:
            of_users, of_items = model.embed()
            scores = model.scores(of_users[users] @ of_items.T)
        else:
            scores = model.score(users)
        assert scores.shape == (7, N_ITEMS) and accelerator.holds(scores)


class LeavesItsWeights(LightGCN):
    """Keeps a tensor that is no buffer, which `to` does not move."""

    weights = torch.ones(N_ITEMS)

    def embed(self) -> tuple[Tensor, Tensor]:
        users, items = super().embed()
        return users, items * self.weights[:, None]


class MakesItsWeights(LightGCN):
    """Makes a tensor without saying where."""

    def embed(self) -> tuple[Tensor, Tensor]:
        users, items = super().embed()
        return users, items * torch.ones(N_ITEMS, 1)


class AsksNumpy(LightGCN):
    """Computes with numpy on the way."""

    def embed(self) -> tuple[Tensor, Tensor]:
        users, items = super().embed()
        return users, items * float(items.detach().numpy().std())


@pytest.mark.parametrize(
    ("kind", "message"),
    [(LeavesItsWeights, "aten.mul"), (MakesItsWeights, "aten.mul"), (AsksNumpy, "numpy of a tensor")],
)
def test_what_stays_on_the_host_is_found(kind: type[Model], message: str) -> None:
    model, accelerator = planted_model("lightgcn", Protocol()), Accelerator()
    accelerator.move(model)
    with accelerator:
        model.embed()
        model.__class__ = kind
        with pytest.raises(NotMoved, match=message):
            model.embed()
