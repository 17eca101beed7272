import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmrepro.errors import MmreproError
from mmrepro.ops.interactions import Interactions
from mmrepro.training.sampling import NegativeSampler, epoch_batches


def interactions(pairs: list[tuple[int, int]], n_users: int, n_items: int) -> Interactions:
    columns = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return Interactions(columns[:, 0], columns[:, 1], n_users, n_items)


def random_interactions(seed: int, n_users: int = 20, n_items: int = 15, share: float = 0.4) -> Interactions:
    bought = np.random.default_rng(seed).random((n_users, n_items)) < share
    bought[:, -1] = False
    users, items = bought.nonzero()
    return Interactions(users, items, n_users, n_items)


def allowed_negatives(data: Interactions, train_items_only: bool) -> dict[int, set[int]]:
    pool = set(data.items.tolist()) if train_items_only else set(range(data.n_items))
    allowed = {user: set(pool) for user in range(data.n_users)}
    for user, item in zip(data.users.tolist(), data.items.tolist(), strict=True):
        allowed[user].discard(item)
    return allowed


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(2, 7),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), min_size=1, max_size=40),
    st.booleans(),
    st.integers(0, 1000),
)
def test_draws_are_exactly_the_items_a_user_has_not_trained_on(
    n_users: int, n_items: int, pairs: list[tuple[int, int]], train_items_only: bool, seed: int
) -> None:
    pairs = [(user % n_users, item % n_items) for user, item in pairs]
    data = interactions(pairs, n_users, n_items)
    allowed = allowed_negatives(data, train_items_only)
    trained = sorted({user for user, _ in pairs if allowed[user]})
    if not trained:
        with pytest.raises(MmreproError, match="every user has all items in training"):
            NegativeSampler(data, train_items_only)
        return
    usable = NegativeSampler(data, train_items_only).usable
    assert usable.tolist() == [bool(allowed[user]) for user in data.users.tolist()]
    # 200 draws miss a given one of at most 7 items with probability (6/7)^200 < 1e-13
    users = np.repeat(trained, 200)
    drawn = NegativeSampler(data, train_items_only).draw(users, np.random.default_rng(seed))
    assert {user: set(drawn[users == user].tolist()) for user in trained} == {u: allowed[u] for u in trained}


def test_no_training_positive_over_many_draws_of_all_users() -> None:
    data = random_interactions(0, n_users=80, n_items=60)
    sampler, generator = NegativeSampler(data), np.random.default_rng(0)
    positives = set(zip(data.users.tolist(), data.items.tolist(), strict=True))
    users = np.tile(np.arange(80), 200)
    assert not positives & set(zip(users.tolist(), sampler.draw(users, generator).tolist(), strict=True))


@pytest.mark.parametrize("train_items_only", [False, True])
def test_draws_are_uniform_over_the_allowed_items(train_items_only: bool) -> None:
    data = random_interactions(1)
    sampler, generator = NegativeSampler(data, train_items_only), np.random.default_rng(2)
    for user, allowed in allowed_negatives(data, train_items_only).items():
        drawn = sampler.draw(np.full(4000, user), generator)
        counts = np.bincount(drawn, minlength=data.n_items)[sorted(allowed)]
        assert counts.sum() == 4000
        assert stats.chisquare(counts).pvalue > 1e-4


def test_pool_switch_leaves_out_items_without_a_training_row() -> None:
    data = interactions([(0, 0), (1, 2), (1, 5)], 3, 8)
    users = np.repeat([0, 1, 2], 300)
    everything = NegativeSampler(data).draw(users, np.random.default_rng(0))
    trained = NegativeSampler(data, train_items_only=True).draw(users, np.random.default_rng(0))
    assert set(everything[users == 2].tolist()) == set(range(8))
    assert set(trained[users == 0].tolist()) == {2, 5}
    assert set(trained[users == 1].tolist()) == {0}
    assert set(trained[users == 2].tolist()) == {0, 2, 5}


def test_repeated_training_pairs_count_once() -> None:
    once, twice = interactions([(0, 1), (0, 3)], 1, 5), interactions([(0, 3), (0, 1), (0, 3)], 1, 5)
    users = np.zeros(50, dtype=np.int64)
    draws = [NegativeSampler(data).draw(users, np.random.default_rng(3)) for data in (once, twice)]
    np.testing.assert_array_equal(*draws)


def test_user_with_every_item_of_the_training_pool_has_negatives_outside_of_it() -> None:
    data = interactions([(0, 0), (0, 1), (1, 0)], 2, 3)
    assert NegativeSampler(data).draw(np.array([0]), np.random.default_rng(0)).tolist() == [2]
    assert NegativeSampler(data).usable.all()
    assert NegativeSampler(data, train_items_only=True).usable.tolist() == [False, False, True]


@pytest.mark.parametrize("batch_size", [1, 7, 50, 10_000])
def test_each_pair_comes_once_an_epoch_and_only_the_last_batch_is_shorter(batch_size: int) -> None:
    data = random_interactions(4)
    batches = list(epoch_batches(data, NegativeSampler(data), batch_size, seed=0, epoch=1))
    sizes = [len(batch.users) for batch in batches]
    assert all(size == batch_size for size in sizes[:-1]) and 0 < sizes[-1] <= batch_size
    seen = [pair for b in batches for pair in zip(b.users.tolist(), b.positives.tolist(), strict=True)]
    assert sorted(seen) == sorted(zip(data.users.tolist(), data.items.tolist(), strict=True))
    negatives = {pair for b in batches for pair in zip(b.users.tolist(), b.negatives.tolist(), strict=True)}
    assert not negatives & set(seen)


def test_batches_are_a_function_of_seed_and_epoch_alone() -> None:
    data = random_interactions(5)
    sampler = NegativeSampler(data)

    def epoch_rows(seed: int, epoch: int, batch_size: int = 16) -> list[list[int]]:
        batches = list(epoch_batches(data, sampler, batch_size, seed, epoch))
        return [[value for batch in batches for value in batch[column].tolist()] for column in range(3)]

    first = epoch_rows(0, 3)
    np.random.seed(1)  # noqa: NPY002 - the global generator must not matter
    epoch_rows(0, 1)
    assert epoch_rows(0, 3) == first
    assert epoch_rows(0, 3, batch_size=5) == first
    assert epoch_rows(0, 4) != first and epoch_rows(1, 3) != first
    assert epoch_rows(0, 3)[:2] != epoch_rows(3, 0)[:2]


def test_without_a_sampler_negatives_repeat_the_positives() -> None:
    data = random_interactions(6)
    for batch in epoch_batches(data, None, 32, seed=0, epoch=1):
        assert batch.negatives.tolist() == batch.positives.tolist()


def test_pairs_of_a_user_who_has_every_item_are_left_out() -> None:
    data = interactions([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)], n_users=2, n_items=3)
    batches = list(epoch_batches(data, NegativeSampler(data), 2, seed=0, epoch=1))
    assert [batch.users.tolist() for batch in batches] == [[1, 1]]
    assert batches[0].negatives.tolist() == [2, 2]
