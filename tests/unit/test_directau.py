import math

import numpy as np
import pytest
import torch
from planted import N_ITEMS, N_USERS, planted_model, planted_trainer

from mmrepro.config.protocol import Protocol
from mmrepro.models.base import Batch
from mmrepro.models.directau import DirectAU


def build(**parameters: object) -> DirectAU:
    model = planted_model("directau", Protocol(), **parameters)
    assert isinstance(model, DirectAU)
    return model


def a_batch() -> Batch:
    return Batch(torch.tensor([0, 4, 4, 9]), torch.tensor([3, 3, 11, 20]), torch.tensor([1, 2, 5, 6]))


def terms(model: DirectAU, batch: Batch) -> dict[str, float]:
    return {name: float(term.detach()) for name, term in model.loss(batch).items()}


def uniformity(rows: np.ndarray) -> float:
    pairs = [(a, b) for a in range(len(rows)) for b in range(a)]
    return math.log(sum(math.exp(-2 * float(((rows[a] - rows[b]) ** 2).sum())) for a, b in pairs) / len(pairs))


@pytest.mark.parametrize("n_layers", [0, 2])
def test_loss_is_alignment_and_the_weighted_mean_of_both_uniformities(n_layers: int) -> None:
    model, batch = build(n_layers=n_layers, gamma=3.0), a_batch()
    users, items = (x.detach().double().numpy() for x in model.embed())
    u, i = users[batch.users.numpy()], items[batch.positives.numpy()]
    u, i = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (u, i))
    expected = {
        "alignment": ((u - i) ** 2).sum(axis=1).mean(),
        "user_uniformity": 3 / 2 * uniformity(u),
        "item_uniformity": 3 / 2 * uniformity(i),
    }
    assert terms(model, batch) == pytest.approx(expected, rel=1e-5)


def test_negatives_are_neither_sampled_nor_read() -> None:
    assert planted_trainer("directau", Protocol()).sampler is None
    model, batch = build(), a_batch()
    assert terms(model, batch) == terms(model, batch._replace(negatives=batch.positives))


def test_loss_ignores_lengths_and_scores_do_not() -> None:
    model, batch = build(), a_batch()
    before, products = terms(model, batch), model.embed()[0] @ model.embed()[1].T
    with torch.no_grad():
        model.item_embedding[3] *= 4
    assert terms(model, batch) == pytest.approx(before, rel=1e-5)
    torch.testing.assert_close(model.embed()[0] @ model.embed()[1][3], 4 * products[:, 3])


def test_without_layers_it_is_matrix_factorisation_and_with_them_lightgcn() -> None:
    model = build()
    users, items = model.embed()
    assert users is model.user_embedding and items is model.item_embedding
    lightgcn = planted_model("lightgcn", Protocol(), n_layers=3)
    for ours, theirs in zip(build(n_layers=3).embed(), lightgcn.embed(), strict=True):
        assert torch.equal(ours, theirs)  # the same seed draws the same tables
        assert len(ours) in (N_USERS, N_ITEMS)


@pytest.mark.parametrize("n_layers", [0, 2])
def test_training_lowers_the_loss(n_layers: int) -> None:
    outcome = planted_trainer("directau", Protocol(), n_layers=n_layers, max_epochs=8).fit()
    losses = [record["loss"] for record in outcome.history]
    assert losses[-1] < losses[0] - 0.3


def test_weight_decay_is_on_by_default() -> None:
    assert build().parameters_.weight_decay == 1e-6
