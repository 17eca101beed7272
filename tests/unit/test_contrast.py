import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmrepro.ops import contrast
from mmrepro.ops.content import unified_matrix
from mmrepro.ops.contrast import content_id_alignment, contrast_with_all, info_nce, similarity_gap
from mmrepro.ops.losses import unit

pytestmark = pytest.mark.usefixtures("one_thread")


def random_rows(seed: int, rows: int, size: int) -> Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def once(rows: int) -> Tensor:
    return torch.ones(rows, dtype=torch.float64)


def plain_gap(vectors: Tensor, content: Tensor) -> Tensor:
    """The formula over the batch's own rows, with both square matrices."""
    return torch.linalg.matrix_norm(vectors @ vectors.T - content @ content.T) / len(vectors)


@st.composite
def members(draw: st.DrawFn) -> Tensor:
    """Rows of a batch that name each of a few members at least once."""
    distinct = draw(st.integers(1, 7))
    return torch.tensor([*range(distinct), *draw(st.lists(st.integers(0, distinct - 1), max_size=12))])


@settings(max_examples=50, deadline=None)
@given(members(), st.integers(0, 1000), st.sampled_from([0.05, 0.2, 1.0, 3.0]), st.sampled_from([1, 3, 256]))
def test_distinct_rows_with_counts_equal_cross_entropy_over_the_batch(
    batch: Tensor, seed: int, temperature: float, block_rows: int
) -> None:
    counts = batch.bincount().double()
    rows = [random_rows(seed + n, len(counts), 4).requires_grad_() for n in (0, 1)]
    a, b = (unit(x) for x in rows)
    logits = a.index_select(0, batch) @ b.index_select(0, batch).T / temperature
    plain = F.cross_entropy(logits, torch.arange(len(batch)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrast, "BLOCK_ROWS", block_rows)
        ours = info_nce(a, b, counts, temperature)
    assert float(ours.detach()) == pytest.approx(float(plain.detach()), abs=1e-12)
    assert max(0.0, math.log(len(batch)) - 2 / temperature) - 1e-9 <= float(ours.detach())
    assert float(ours.detach()) <= math.log(len(batch)) + 2 / temperature + 1e-9
    expected = torch.autograd.grad(3 * plain, rows, retain_graph=True)
    for mine, theirs in zip(torch.autograd.grad(3 * ours, rows), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)


def test_content_and_id_vectors_are_contrasted_group_by_group() -> None:
    contents, identities = (random_rows(n, 9, 4).requires_grad_() for n in (0, 1))
    groups = torch.tensor([2, 0, 2, 3]), torch.tensor([5, 8, 8, 7, 5, 5])
    ours = content_id_alignment(contents, identities, groups, 0.3)
    plain = torch.zeros((), dtype=torch.float64)
    for rows in groups:
        logits = F.normalize(contents[rows]) @ F.normalize(identities[rows]).T / 0.3
        plain = plain + F.cross_entropy(logits, torch.arange(len(rows)))
    assert float(ours.detach()) == pytest.approx(float(plain.detach()), rel=1e-12)
    inputs = contents, identities
    expected = torch.autograd.grad(plain, inputs)
    for mine, theirs in zip(torch.autograd.grad(ours, inputs), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n - 1), min_size=1, max_size=9))),
    st.integers(0, 1000),
    st.sampled_from([0.05, 0.2, 1.0]),
    st.sampled_from([1, 3, 64]),
)
def test_contrast_with_all_rows_is_a_sum_over_the_batch(
    table: tuple[int, list[int]], seed: int, temperature: float, block_rows: int
) -> None:
    n, batch = table[0], torch.tensor(table[1])
    tables = [random_rows(seed + k, n, 4).requires_grad_() for k in (0, 1)]
    logits = F.normalize(tables[0])[batch] @ F.normalize(tables[1]).T / temperature
    plain = F.cross_entropy(logits, batch, reduction="sum")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrast, "BLOCK_ROWS", block_rows)
        ours = contrast_with_all(*tables, batch, temperature)
    assert float(ours.detach()) == pytest.approx(float(plain.detach()), rel=1e-10, abs=1e-11)
    size = len(batch)
    assert max(0.0, size * (math.log(n) - 2 / temperature)) - 1e-9 <= float(ours.detach())
    assert float(ours.detach()) <= size * (math.log(n) + 2 / temperature) + 1e-9
    expected = torch.autograd.grad(3 * plain, tables, retain_graph=True)
    for mine, theirs in zip(torch.autograd.grad(3 * ours, tables), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-10)


def test_contrast_with_all_in_closed_form() -> None:
    axes = torch.eye(4, dtype=torch.float64)
    repeated = float(contrast_with_all(2 * axes, 3 * axes, torch.tensor([1, 1, 3]), 0.5))
    assert repeated == pytest.approx(3 * math.log(1 + 3 * math.exp(-2)))
    assert float(contrast_with_all(axes, -axes, torch.tensor([0]), 0.5)) == pytest.approx(math.log(1 + 3 * math.exp(2)))


def test_contrast_with_all_holds_the_products_of_a_block_of_rows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    n, linear, sizes = 300, F.linear, []

    def measured(*operands: Tensor) -> Tensor:
        result = linear(*operands)
        sizes.append(tuple(result.shape))
        return result

    monkeypatch.setattr(contrast.F, "linear", measured)
    contrast_with_all(random_rows(0, n, 4), random_rows(1, n, 4), torch.arange(150), 0.2)
    assert sizes == [(contrast.BLOCK_ROWS, n), (contrast.BLOCK_ROWS, n), (150 - 2 * contrast.BLOCK_ROWS, n)]


def test_info_nce_in_closed_form() -> None:
    equal, axes = unit(torch.ones(5, 3, dtype=torch.float64)), torch.eye(4, dtype=torch.float64)
    assert float(info_nce(equal, equal, once(5), 0.2)) == pytest.approx(math.log(5))
    counts = torch.tensor([1.0, 2.0, 3.0, 1.0, 1.0], dtype=torch.float64)
    assert float(info_nce(equal, equal, counts, 0.2)) == pytest.approx(math.log(8))
    assert float(info_nce(axes, axes, once(4), 0.5)) == pytest.approx(math.log(1 + 3 * math.exp(-2)))
    assert float(info_nce(axes, -axes, once(4), 0.5)) == pytest.approx(math.log(1 + 3 * math.exp(2)))
    repeated = float(info_nce(axes[:2], axes[:2], torch.tensor([3.0, 1.0], dtype=torch.float64), 1.0))
    assert repeated == pytest.approx((3 * math.log(3 + math.exp(-1)) + math.log(1 + 3 * math.exp(-1))) / 4)


def test_a_low_temperature_overflows_nowhere() -> None:
    rows = unit(random_rows(0, 6, 3).float())
    assert float(info_nce(rows, rows, torch.ones(6), 1e-3)) == pytest.approx(0, abs=1e-3)
    assert float(info_nce(rows, -rows, torch.ones(6), 1e-3)) > 1000


@settings(max_examples=50, deadline=None)
@given(members(), st.integers(0, 1000), st.sampled_from([1, 3, 256]))
def test_gap_of_distinct_rows_equals_the_norm_over_the_batch(batch: Tensor, seed: int, chunk_rows: int) -> None:
    counts = batch.bincount().double()
    vectors, content = random_rows(seed, len(counts), 3).requires_grad_(), unit(random_rows(seed + 1, len(counts), 5))
    plain = plain_gap(vectors.index_select(0, batch), content[batch])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrast, "CHUNK_ROWS", chunk_rows)
        ours = similarity_gap(vectors, content, counts)
    assert float(ours.detach()) == pytest.approx(float(plain.detach()), rel=1e-12)
    expected = torch.autograd.grad(3 * plain, vectors)[0]
    torch.testing.assert_close(torch.autograd.grad(3 * ours, vectors)[0], expected, rtol=1e-9, atol=1e-11)


def test_gap_in_closed_form_and_without_a_gradient_where_it_is_zero() -> None:
    axes = torch.eye(4, dtype=torch.float64)
    assert float(similarity_gap(2 * axes, axes, once(4))) == pytest.approx(math.sqrt(4 * 9) / 4)
    equal = unit(torch.ones(4, 3, dtype=torch.float64))
    assert float(similarity_gap(axes, equal, once(4))) == pytest.approx(math.sqrt(12) / 4)
    same = axes.clone().requires_grad_()
    similarity_gap(same, axes, once(4)).backward()
    assert same.grad is not None and not same.grad.any()


def test_pair_losses_are_float32_under_autocast() -> None:
    a, b = (unit(random_rows(n, 9, 4).float()) for n in (0, 1))

    def losses() -> list[Tensor]:
        rows = torch.tensor([0, 3, 3])
        all_rows = contrast_with_all(a, b, rows, 0.2), content_id_alignment(a, b, (rows,), 0.2)
        return [info_nce(a, b, torch.ones(9), 0.2), similarity_gap(a, b, torch.ones(9)), *all_rows]

    exact = losses()
    with torch.autocast("cpu", torch.bfloat16):
        under = losses()
    assert all(torch.equal(x, y) for x, y in zip(exact, under, strict=True))


def test_one_modality_is_the_matrix_itself() -> None:
    matrix = random_rows(0, 4, 3)
    assert unified_matrix({"image": matrix}) is matrix


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(1, 5), min_size=2, max_size=4), st.floats(1e-3, 1e3))
def test_products_of_several_modalities_are_sums_of_their_cosines(seed: int, widths: list[int], scale: float) -> None:
    features = {f"m{n}": random_rows(seed + n, 6, width) for n, width in enumerate(widths)}
    matrix = unified_matrix({**features, "m0": scale * features["m0"]})
    assert matrix.shape == (6, sum(widths))
    cosines = sum(F.cosine_similarity(x[:, None], x[None], dim=2) for x in features.values())
    torch.testing.assert_close(matrix @ matrix.T, cosines)


def test_a_missing_modality_adds_nothing() -> None:
    image, text = random_rows(0, 3, 2), random_rows(1, 3, 4)
    text[1] = 0
    matrix = unified_matrix({"image": image, "text": text})
    assert matrix[1, 2:].tolist() == [0] * 4
    assert torch.linalg.vector_norm(matrix, dim=1).square().tolist() == pytest.approx([2, 1, 2])
