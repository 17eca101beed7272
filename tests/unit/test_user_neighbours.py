import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from mmrepro.ops.user_neighbours import (
    UserNeighbours,
    count_weights,
    neighbour_sum_graph,
    repeat_at_random,
    users_with_common_items,
)

DATA = Path(__file__).parents[1] / "reference/data"


def lists_of(*rows: list[tuple[int, int]], width: int) -> UserNeighbours:
    """Lists made by hand from (user, count), padded with nobody."""
    padded = torch.tensor([row + [(0, 0)] * (width - len(row)) for row in rows], dtype=torch.int32)
    return UserNeighbours(padded[:, :, 0].contiguous(), padded[:, :, 1].contiguous())


def brute_force(users: np.ndarray, items: np.ndarray, n_users: int, n_items: int, count: int) -> UserNeighbours:
    taken = np.zeros((n_users, n_items), dtype=int)
    taken[users, items] = 1
    common = taken @ taken.T
    np.fill_diagonal(common, 0)
    rows = [sorted(((int(u), int(n)) for u, n in enumerate(row) if n), key=lambda p: (-p[1], p[0])) for row in common]
    return lists_of(*(row[:count] for row in rows), width=count)


@pytest.mark.parametrize("chunk_bytes", [1, 1000, 2**20])
@pytest.mark.parametrize("case", range(6))
def test_lists_equal_those_of_the_dense_matrix_whatever_the_chunk(case: int, chunk_bytes: int) -> None:
    rng = np.random.default_rng(case)
    n_users, n_items, n_pairs, count = (int(rng.integers(*span)) for span in ((1, 40), (1, 30), (1, 250), (1, 45)))
    pairs = rng.integers(0, n_users, n_pairs), rng.integers(0, n_items, n_pairs)  # some repeated
    found = users_with_common_items(*pairs, n_users, n_items, count, chunk_bytes)
    expected = brute_force(*pairs, n_users, n_items, count)
    assert torch.equal(found.users, expected.users) and torch.equal(found.counts, expected.counts)


def test_worked_example_with_ties_a_loner_and_an_empty_user() -> None:
    pairs = [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (2, 1), (3, 1), (4, 2)]  # user 4 alone with item 2, user 5 empty
    found = users_with_common_items(*np.array(pairs).T, 6, 3, 2)
    assert found.users.tolist() == [[2, 1], [0, 2], [0, 1], [0, 2], [0, 0], [0, 0]]
    assert found.counts.tolist() == [[2, 1], [1, 1], [2, 1], [1, 1], [0, 0], [0, 0]]


def test_memory_stays_within_a_small_multiple_of_the_bound() -> None:
    n = 1500  # all took item 0: the dense matrix of pairs would have n^2 entries, 36 MB at 16 bytes
    tracemalloc.start()
    found = users_with_common_items(np.arange(n), np.zeros(n, dtype=np.int64), n, 1, 4, chunk_bytes=200_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
    assert found.users[-1].tolist() == [0, 1, 2, 3] and found.users[0].tolist() == [1, 2, 3, 4]


def test_repeats_fill_short_lists_and_leave_the_others() -> None:
    given = lists_of([(5, 3), (2, 1)], [(1, 9), (2, 8), (3, 7), (4, 6)], [], [(7, 2)], width=4)
    torch.manual_seed(0)
    drawn = repeat_at_random(given)
    for before, after in zip(given, drawn, strict=True):
        assert torch.equal(after[0, :2], before[0, :2]) and torch.equal(after[1:3], before[1:3])
    assert set(zip(drawn.users[0].tolist(), drawn.counts[0].tolist(), strict=True)) == {(5, 3), (2, 1)}
    assert drawn.users[3].tolist() == [7] * 4 and drawn.counts[3].tolist() == [2] * 4
    torch.manual_seed(0)
    assert torch.equal(repeat_at_random(given).users, drawn.users)


def test_repeats_are_drawn_from_the_list_as_extended_so_far() -> None:
    n = 20_000
    users = torch.tensor([[1, 2, 0, 0]], dtype=torch.int32).expand(n, 4)
    torch.manual_seed(1)
    drawn = repeat_at_random(UserNeighbours(users, (users > 0).int())).users
    deviation = 4 * 0.5 / n**0.5
    assert float((drawn[:, 2] == 1).float().mean()) == pytest.approx(1 / 2, abs=deviation)
    # the fourth equals the third where it is the third or its origin; from the first two alone it were one half
    assert float((drawn[:, 3] == drawn[:, 2]).float().mean()) == pytest.approx(2 / 3, abs=deviation)


def test_weights_are_a_softmax_over_the_real_neighbours() -> None:
    weights = count_weights(torch.tensor([[2, 1, 0], [1000, 1, 1], [0, 0, 0]], dtype=torch.int32))
    share = np.exp(2) / (np.exp(2) + np.exp(1))
    np.testing.assert_allclose(weights.numpy(), [[share, 1 - share, 0], [1, 0, 0], [0, 0, 0]], rtol=1e-6)


def test_graph_adds_up_repeats_and_holds_no_zeros() -> None:
    users, weights = (
        torch.tensor([[1, 2, 1], [0, 0, 0], [0, 0, 0]]),
        torch.tensor([[0.5, 0.25, 0.25], [0] * 3, [1, 0, 0]]),
    )
    graph = neighbour_sum_graph(users.int(), weights)
    assert graph.dense().tolist() == [[0, 0.75, 0.25], [0, 0, 0], [1, 0, 0]]
    assert torch.equal(graph.transpose.to_dense(), graph.dense().T)
    assert graph.matrix.values().tolist() == [0.75, 0.25, 1.0]


@pytest.mark.parametrize("model", ["dualgnn", "dragon"])
def test_neighbours_and_weights_of_the_program_agree(model: str) -> None:
    data, reference = np.load(DATA / "dataset.npz"), np.load(DATA / f"{model}.npz")
    user, item, label = data["interactions"][:, :3].astype(int).T
    drawn = torch.from_numpy(reference["draw/epoch_user_graph"])
    (n_users, width), n_items = drawn.shape, reference["scores"].shape[1]
    ours = users_with_common_items(user[label == 0], item[label == 0], n_users, n_items, width)
    everyone = users_with_common_items(user[label == 0], item[label == 0], n_users, n_items, n_users)
    count_of = torch.zeros(n_users, n_users, dtype=torch.int32).scatter_add_(1, everyone.users.long(), everyone.counts)
    counts = count_of.gather(1, drawn)
    torch.testing.assert_close(count_weights(counts), torch.from_numpy(reference["draw/user_weight_matrix"]))
    lengths = (ours.counts > 0).sum(dim=1)
    assert 0 < int((lengths < width).sum()) < n_users  # some lists are short, some are not
    for row, length in enumerate(lengths.tolist()):
        assert torch.equal(counts[row, :length], ours.counts[row, :length])
        if length < width:
            assert set(drawn[row].tolist()) == set(ours.users[row, :length].tolist())
