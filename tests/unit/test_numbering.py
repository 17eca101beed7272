"""Neither names nor the order of rows decide a number: what is drawn, what is held out, what is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrepro.columns import TEST, TRAIN
from mmrepro.config.dataset import DatasetConfig
from mmrepro.config.protocol import Protocol
from mmrepro.datasets.interactions import PreparedDataset, load_items
from mmrepro.datasets.numbering import numbered
from mmrepro.datasets.prepare import prepare
from mmrepro.evaluation.evaluator import Evaluator
from mmrepro.evaluation.metrics import ndcg, recall
from mmrepro.evaluation.ranking import make_scorer
from mmrepro.models.base import ItemContent, build_model

KINDS = ("random-per-user", "time-per-user", "global-time", "leave-one-out")
CLOSED_FORMS = ("popularity", "itemknn", "ease")


def shop(**changes: Any) -> DatasetConfig:
    options = {"interactions_file": "orders.csv", "timestamp_column": "time"}
    base = {"dataset": "shop", "title": "Shop", "reader": "tabular", "folder": "shop", "licence": "none"}
    return DatasetConfig.model_validate({**base, "options": options, **changes})


def orders(seed: int, n_users: int = 40, n_items: int = 25, days: int = 10**6) -> pd.DataFrame:
    """Purchases in which few items are bought by many."""
    generator = np.random.default_rng(seed)
    shares = 1 / np.arange(1, n_items + 1)
    rows = [
        (f"u{user:03d}", f"i{item:03d}", int(generator.integers(0, days)))
        for user in range(n_users)
        for item in generator.choice(n_items, generator.integers(3, 12), replace=False, p=shares / shares.sum())
    ]
    return pd.DataFrame(rows, columns=["user", "item", "time"])


def renamed(table: pd.DataFrame, seed: int, columns: tuple[str, ...] = ("user", "item")) -> pd.DataFrame:
    """The same purchases under other names, in another order of lines."""
    generator, table = np.random.default_rng(seed), table.copy()
    for column in columns:
        keys = table[column].unique()
        other = [f"{word}-{column}" for word in generator.permutation(len(keys))]
        table[column] = table[column].map(dict(zip(keys, other, strict=True)))
    return table.sample(frac=1, random_state=seed)


def prepared(folder: Path, table: pd.DataFrame, **changes: Any) -> PreparedDataset:
    folder.mkdir(parents=True)
    table.to_csv(folder / "orders.csv", index=False)
    prepare(shop(**changes), folder, folder / "out")
    return PreparedDataset.load(folder / "out")


def measured(dataset: PreparedDataset, model: str) -> tuple[float, ...]:
    built = build_model(model, dataset.of(TRAIN), ItemContent(), {}, Protocol())
    built.fit()
    evaluator = Evaluator(dataset, Protocol())
    lists = evaluator.rank(make_scorer(built), TEST, 20)
    return tuple(evaluator.value(lists, TEST, metric, k) for metric in (recall, ndcg) for k in (5, 10, 20))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_other_names_and_another_order_change_no_metric(
    tmp_path_factory: pytest.TempPathFactory, kind: str, seed: int
) -> None:
    table, folder = orders(seed), tmp_path_factory.mktemp("renamed")
    first = prepared(folder / "a", table, split={"kind": kind}, cold_users="keep")
    second = prepared(folder / "b", renamed(table, seed), split={"kind": kind}, cold_users="keep")
    pd.testing.assert_frame_equal(first.interactions, second.interactions)
    for model in CLOSED_FORMS:
        assert measured(first, model) == measured(second, model)


def test_renaming_customers_alone_changes_nothing_but_their_names(tmp_path: Path) -> None:
    table = orders(3)
    first = prepared(tmp_path / "a", table)
    second = prepared(tmp_path / "b", renamed(table, 5, ("user",)))
    pd.testing.assert_frame_equal(first.interactions, second.interactions)
    assert load_items(tmp_path / "a/out")["key"].tolist() == load_items(tmp_path / "b/out")["key"].tolist()


def test_numbers_say_nothing_of_popularity() -> None:
    correlations = []
    for seed in range(30):
        table = orders(seed, n_users=200, n_items=60)
        rows = table.assign(**{name: pd.factorize(table[name], sort=True)[0] for name in ("user", "item")})
        order = numbered(rows.rename(columns={"time": "timestamp"}))[1]
        counts = rows["item"].value_counts().reindex(order).to_numpy()
        correlations.append(np.corrcoef(np.arange(len(counts)), counts)[0, 1])
    assert abs(np.mean(correlations)) < 0.08  # standard error 0.024; by order of appearance it is -0.6 and less


def test_without_times_only_keys_tell_twins_apart_and_nothing_follows_from_them(tmp_path: Path) -> None:
    table = orders(11).drop(columns="time")
    twins = table[table["user"] == "u004"].assign(user="a-twin")
    table = pd.concat([table, twins])
    options = {"options": {"interactions_file": "orders.csv"}}
    first = prepared(tmp_path / "a", table, **options)
    second = prepared(tmp_path / "b", renamed(table, 2), **options)
    pd.testing.assert_frame_equal(first.interactions, second.interactions)


def sparse(generator: np.random.Generator) -> pd.DataFrame:
    """Users with three items each, of so many that most are bought once or twice."""
    return pairs((user, item) for user in range(300) for item in generator.choice(400, 3, replace=False))


def chains(generator: np.random.Generator) -> pd.DataFrame:
    """Purchases of two items each that link users one after the other, and many that nobody shares."""
    linked = ((user, user + step) for user in range(60) for step in (0, 1))
    alone = ((user, 100 + 2 * user + step) for user in range(60, 90) for step in (0, 1))
    return pairs([*linked, *alone])


def shifted(generator: np.random.Generator) -> pd.DataFrame:
    """Everybody has five items and every item five users: nothing but the whole tells them apart."""
    return pairs((user, (user + step) % 30) for user in range(30) for step in (0, 1, 3, 7, 12))


def mixed(generator: np.random.Generator) -> pd.DataFrame:
    """Five random pairings of users and items: as even, and without the symmetry."""
    return pairs((user, int(item)) for _ in range(5) for user, item in enumerate(generator.permutation(40)))


def pairs(found: Iterable[tuple[int, int]]) -> pd.DataFrame:
    return pd.DataFrame(sorted(set(found)), columns=["user", "item"])


def positions(rows: pd.DataFrame) -> np.ndarray:
    """The pairs, by the numbers of user and item."""
    places = [dict(zip(order, range(len(order)), strict=True)) for order in numbered(rows)]
    return np.array(sorted(zip(rows["user"].map(places[0]), rows["item"].map(places[1]), strict=True)))


@pytest.mark.parametrize("table", [sparse, chains, shifted, mixed])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_without_times_and_with_much_alike_no_name_decides(
    table: Callable[[np.random.Generator], pd.DataFrame], seed: int
) -> None:
    generator = np.random.default_rng(seed)
    rows = table(generator)
    others = [generator.permutation(rows[name].max() + 1)[rows[name]] for name in ("user", "item")]
    other = pd.DataFrame({"user": others[0], "item": others[1]}).sample(frac=1, random_state=seed)
    np.testing.assert_array_equal(positions(rows), positions(other))


def test_leave_one_out_by_the_day_holds_out_popular_items_as_often_as_by_the_second(tmp_path: Path) -> None:
    """Ties once went to the item that was numbered last: the least popular one."""
    exact = orders(1, n_users=600, n_items=150)
    by_day = exact.assign(time=0)
    found = {}
    for name, table in (("exact", exact), ("day", by_day)):
        dataset = prepared(tmp_path / name, table, split={"kind": "leave-one-out"})
        found[name] = measured(dataset, "popularity")[2]
    assert found["day"] == pytest.approx(found["exact"], abs=0.06)  # two draws of 600 users: 0.02 each
