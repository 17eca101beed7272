import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from alignment_hand_made import ALL, WORDS, random_parts, settings, small_objective
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mmrepro.features.alignment.contents import Contents
from mmrepro.features.alignment.embeddings import Part
from mmrepro.features.alignment.measures import Retrieval
from mmrepro.features.alignment.objective import TEMPERATURE, Prediction, matching_loss
from mmrepro.features.alignment.targets import PatchTarget, TokenTarget, VectorTarget

N_ITEMS = 4
SAME = {name: torch.arange(N_ITEMS) for name in ALL}
OBJECTIVE = small_objective(random_parts(N_ITEMS))


def terms_and_objective() -> tuple[dict[str, torch.Tensor], torch.nn.Module]:
    parts = random_parts(N_ITEMS)
    objective = small_objective(parts)
    hidden = objective.draw_hidden(parts, settings(ALL).sources, np.random.default_rng(0))
    return objective(parts, hidden, SAME), objective


def test_plain_masked_prediction_gives_the_unified_vector_no_gradient_and_each_other_term_does() -> None:
    terms, objective = terms_and_objective()
    assert list(terms) == [
        "image", "image from unified", "text", "text from unified", "sound", "sound from unified", "matching",
    ]  # fmt: skip
    last_expert_of_cls = list(objective.encoder.blocks[-1].experts[0].parameters())
    for name, term in terms.items():
        gradients = torch.autograd.grad(term, last_expert_of_cls, retain_graph=True, allow_unused=True)
        reached = [gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients]
        assert reached == [name not in ALL] * len(gradients), name
        (start,) = torch.autograd.grad(term, [objective.encoder.cls], retain_graph=True)
        assert float(start.abs().sum()) > 0


@given(st.integers(0, 10_000), st.floats(0.01, 0.99))
@hypothesis_settings(max_examples=25, deadline=None)
def test_the_share_that_is_hidden_is_what_the_configuration_says(seed: int, ratio: float) -> None:
    generator = np.random.default_rng(seed)
    parts = random_parts(7, seed)
    for part in parts.values():
        part.present.copy_(torch.from_numpy(generator.random(part.present.shape) < 0.7))
    sources = settings(
        {**ALL, "image": {**ALL["image"], "mask_ratio": ratio}, "text": {**ALL["text"], "mask_ratio": ratio}}
    ).sources
    hidden = OBJECTIVE.draw_hidden(parts, sources, generator)
    has = torch.stack([part.present.any(1) for part in parts.values()])
    for name in ("image", "text"):
        assert not (hidden[name] & ~parts[name].present).any()
        for row, count in zip(hidden[name], parts[name].present.sum(1).tolist(), strict=True):
            assert int(row.sum()) == min(count, max(1, math.floor(ratio * count + 0.5)))
    assert torch.equal(hidden["sound"][:, 0], has[2] & (has.sum(0) > 1))


def test_unknown_words_are_seen_and_never_hidden() -> None:
    parts = random_parts(N_ITEMS)
    parts["text"].content[:, 1:] = 1
    for seed in range(5):
        hidden = OBJECTIVE.draw_hidden(parts, settings(ALL).sources, np.random.default_rng(seed))["text"]
        assert hidden[:, 0].all() and not hidden[:, 1:].any()


def test_one_vector_of_an_item_is_hidden_each_as_often() -> None:
    sources = settings({name: ALL["sound"] for name in ("a", "b", "c")}).sources
    part = random_parts(3000)["sound"]
    hidden = OBJECTIVE.draw_hidden(dict.fromkeys(sources, part), sources, np.random.default_rng(0))
    together = torch.cat(list(hidden.values()), dim=1)
    assert (together.sum(1) == 1).all()
    assert all(900 < int(count) < 1100 for count in together.sum(0))


def test_matching_equals_its_formula_and_equal_contents_are_no_negatives() -> None:
    a = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    b = torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    none = torch.eye(3, dtype=torch.bool)
    root = 1 / math.sqrt(2)
    cosines = np.array([[1, root, 0], [0, root, 1], [root, 1, root]]) / TEMPERATURE
    rows = np.log(np.exp(cosines).sum(1)) - cosines.diagonal()
    columns = np.log(np.exp(cosines).sum(0)) - cosines.diagonal()
    assert float(matching_loss(a, b, none)) == pytest.approx((rows + columns).mean() / 2, rel=1e-5)
    alike = none.clone()
    alike[1, 2] = alike[2, 1] = True
    kept = np.where(alike.numpy() & ~none.numpy(), -np.inf, cosines)
    without = np.log(np.exp(kept).sum(1)) + np.log(np.exp(kept).sum(0)) - 2 * cosines.diagonal()
    assert float(matching_loss(a, b, alike)) == pytest.approx(without.mean() / 2, rel=1e-5)
    assert float(matching_loss(a, b, torch.ones(3, 3, dtype=torch.bool))) == pytest.approx(0, abs=1e-6)


def test_predictions_from_the_unified_vector_are_told_apart_by_place() -> None:
    content = torch.arange(2 * 3 * 16 * 16).reshape(2, 3, 16, 16).remainder(251).to(torch.uint8)
    prediction = Prediction(PatchTarget(4, [content]), 2)
    part = Part(content, torch.ones(2, 4, dtype=torch.bool))
    rows = torch.tensor([1, 3, 6])  # item 0: patches 1 and 3; item 1: patch 2
    wanted, places = prediction.wanted(part, rows), prediction.places(rows, 4)
    assert places.tolist() == [1, 3, 2]
    with torch.no_grad():
        prediction.from_unified.weight.zero_()
        prediction.from_unified.bias.copy_(prediction.target.of(content)[0].flatten())  # says item 0's patches of both
        errors = prediction.by_unified(torch.randn(2, 2), rows // 4, places, wanted)
    expected = (prediction.target.of(content)[0, 2] - prediction.target.of(content)[1, 2]).square().mean()
    torch.testing.assert_close(errors, torch.stack([torch.tensor(0.0), torch.tensor(0.0), expected]))


def test_a_patch_is_its_sixteen_cells_standardised_by_cell_and_colour() -> None:
    generator = np.random.default_rng(3)
    pixels = generator.integers(0, 256, (5, 3, 16, 16), dtype=np.uint8)
    target = PatchTarget(4, [torch.from_numpy(pixels[:2]), torch.from_numpy(pixels[2:])])
    cells = np.array(
        [
            [pixels[i, c, 8 * r + 2 * y : 8 * r + 2 * y + 2, 8 * s + 2 * x : 8 * s + 2 * x + 2].mean() / 255
             for y in range(4) for x in range(4) for c in range(3)]
            for i in range(5) for r in range(2) for s in range(2)
        ]
    )  # fmt: skip
    standardised = (cells - cells.mean(0)) / cells.std(0)
    found = target.of(torch.from_numpy(pixels)).reshape(20, 48).numpy()
    np.testing.assert_allclose(found, standardised, atol=2e-4)
    np.testing.assert_allclose(target.baseline().numpy(), standardised.reshape(5, 4, 48).mean(0), atol=2e-4)


def test_a_patch_that_four_does_not_divide_is_cut_into_cells_of_its_own() -> None:
    content = torch.zeros(1, 3, 12, 12, dtype=torch.uint8)
    content[:, :, :6, 6:] = 255  # the second of four patches of 6 pixels
    target = PatchTarget(4, [content])
    assert (target.of(content)[0].std(-1) < 1e-5).all()


def test_tokens_of_two_items_are_predicted_and_the_baseline_counts_them() -> None:
    ids = np.array([[2, 2, 3, 0], [2, 4, 1, 1], [3, 3, 2, 0]])  # bright 4 times, dark 3; red has one item only
    target = TokenTarget(WORDS, ids, ids != 0)
    shares = [Fraction(5, 9), Fraction(4, 9)]
    np.testing.assert_allclose(target.baseline().exp().numpy(), [[float(share) for share in shares]], rtol=1e-6)
    assert target.scale == pytest.approx(-sum(float(p) * math.log(p) for p in shares))
    part = Part(torch.from_numpy(ids), torch.from_numpy(ids != 0))
    assert target.predictable(part).tolist() == [
        [True, True, True, False],
        [True, False, False, False],
        [True, True, True, False],
    ]
    errors = target.errors(target.baseline(), torch.zeros(2, dtype=torch.int64), target.of(torch.tensor([2, 3])))
    np.testing.assert_allclose(errors.numpy(), [-math.log(share) for share in shares], rtol=1e-6)


def test_vectors_are_standardised_and_a_constant_column_stays() -> None:
    content = torch.tensor([[1.0, 7.0], [3.0, 7.0]])
    target = VectorTarget(2, [content[:1], content[1:]])
    assert target.of(content)[:, 0].tolist() == [[-1.0, 0.0], [1.0, 0.0]]


def contents(present: list[bool], same: list[int]) -> Contents:
    n = len(present)
    return Contents(np.zeros((n, 1)), np.array(present)[:, None], {}, np.array(same))


def test_retrieval_ranks_by_cosine_and_counts_ties_as_misses() -> None:
    picture, text = contents([True] * 5, [0, 1, 2, 3, 4]), contents([True, True, True, True, False], [0, 1, 0, 2, 3])
    retrieval = Retrieval.draw({"image": picture, "text": text}, np.array([0, 1, 4]), seed=0)
    assert retrieval.queries.tolist() == [0, 1]  # item 4 has no text
    assert sorted(retrieval.candidates[0].tolist()) == [0, 1, 3]  # item 2 has the text of item 0
    assert set(retrieval.candidates[1].tolist()) <= {0, 1, 2, 3} and retrieval.candidates[1, 0] == 1
    vectors = {"image": torch.tensor([[1.0, 0], [0, 1], [0, 0], [0, 0], [0, 0]])}
    vectors["text"] = torch.tensor([[2.0, 1], [0, 3], [0, 1], [0, 9], [0, 0]])
    found = retrieval.measure(lambda source, items: vectors[source][torch.from_numpy(items)])
    # item 0 is first of three; item 1 ties with every candidate but item 0 (items 2 and 3 have the same direction)
    rank = 1 + len({2, 3} & set(retrieval.candidates[1].tolist()))
    assert rank > 1
    assert found == {"recall_at_1": 0.5, "recall_at_10": 1.0, "mean_reciprocal_rank": pytest.approx((1 + 1 / rank) / 2)}
    record = retrieval.record(None, found)
    assert (record["queries"], record["candidates"]) == (2, 3)
    assert record["chance"] == {
        "recall_at_1": pytest.approx(1 / 3), "recall_at_10": 1.0, "mean_reciprocal_rank": pytest.approx((1 + 1 / 2 + 1 / 3) / 3),
    }  # fmt: skip


def test_retrieval_takes_a_hundred_others_and_none_without_queries() -> None:
    many = contents([True] * 150, list(range(150)))
    catalogue = {"image": many, "text": many}
    retrieval = Retrieval.draw(catalogue, np.array([7, 9]), seed=1)
    assert retrieval.candidates.shape == (2, 101)
    assert all(len(set(row)) == 101 for row in retrieval.candidates.tolist())
    nothing = Retrieval.draw(
        {"image": contents([False] * 3, [0, 1, 2]), "text": contents([True] * 3, [0, 1, 2])}, np.arange(3), 0
    )
    assert nothing.measure(lambda source, items: torch.zeros(len(items), 2)) is None
    assert nothing.record(None, None)["chance"] is None
