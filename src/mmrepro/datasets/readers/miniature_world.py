"""The planted model behind the miniature data sets: tastes, what shows of them, and who takes what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from mmrepro.config.base import Strict

DIMENSIONS = 4
SIDE = 64  # pixels
WORDS = (  # slot j tells dimension j, from low to high
    ("quiet", "mild", "plain", "bold", "loud"),
    ("tiny", "slim", "fair", "broad", "giant"),
    ("silky", "soft", "firm", "hard", "rugged"),
    ("frosty", "cool", "warm", "hot", "blazing"),
)


class Options(Strict):
    """Settings of a miniature data set."""

    prefix: str = Field(pattern=r"^[A-Z]+$", description="begins every key, so that none is taken for a real one")
    seed: int
    nouns: tuple[str, ...] = Field(min_length=2, max_length=6, description="one cluster of tastes each")
    users: int = Field(340, ge=20)
    items: int = Field(310, ge=20)
    interactions_per_user: float = Field(9.5, ge=6)
    interests: int = Field(3, ge=1, description="tastes a user has")
    spread: float = Field(0.9, ge=0, description="standard deviation of tastes within a cluster; between clusters: 0.6")
    choosiness: float = Field(8.0, ge=0, description="weight of the distance of tastes in a choice")
    popularity_skew: float = Field(0.4, ge=0, description="weight of the logarithm of the item's popularity rank")
    image_noise: float = Field(0.1, ge=0, description="standard deviation of the noise on tastes before drawing")
    text_noise: float = Field(0.1, ge=0, description="standard deviation of the noise on tastes before naming")


@dataclass(frozen=True)
class World:
    """Users, items and choices.

    Attributes
    ----------
    tastes
        Latent vectors of the items (items, 4); about unit variance.
    clusters
        Cluster of each item.
    users, items
        Choices in order of time, user by user.
    """

    tastes: np.ndarray
    clusters: np.ndarray
    users: np.ndarray
    items: np.ndarray


def make_world(options: Options) -> World:
    """Draw a world.

    An item's taste is its cluster's centre plus `spread` times a standard normal vector. A user has several interests,
    each of them the taste of some item. A user takes n items without replacement (n: 5 + geometric; every twentieth
    user only 3), item i with weight exp(-choosiness * d^2 / 2) / rank_i^popularity_skew, where d is the distance of its
    taste to the nearest interest.

    Parameters
    ----------
    options
        Sizes, seed and the strength of each effect.
    """
    generator = np.random.default_rng([options.seed, 0])
    centres = 0.6 * generator.normal(size=(len(options.nouns), DIMENSIONS))
    clusters = np.arange(options.items) % len(options.nouns)
    tastes = centres[clusters] + options.spread * generator.normal(size=(options.items, DIMENSIONS))
    wishes = tastes[generator.integers(options.items, size=(options.users, options.interests))]
    distance = ((wishes[:, :, None, :] - tastes) ** 2).sum(-1).min(axis=1)
    popularity = -options.popularity_skew * np.log1p(generator.permutation(options.items))
    weight = popularity - options.choosiness * distance / 2
    order = np.argsort(-(weight + generator.gumbel(size=weight.shape)), axis=1)  # Gumbel top-n: draws one by one
    lengths = 5 + generator.geometric(1 / (options.interactions_per_user - 4), size=options.users) - 1
    lengths[::20] = 3
    lengths = np.minimum(lengths, options.items // 2)
    users = np.repeat(np.arange(options.users), lengths)
    items = np.concatenate([order[user, :length] for user, length in enumerate(lengths)])
    return World(tastes, clusters, users, items)


def titles(world: World, options: Options) -> list[str]:
    """Name each item: a word for each dimension of its noisy taste, in five steps, and the noun of its cluster."""
    generator = np.random.default_rng([options.seed, 1])
    seen = world.tastes + options.text_noise * generator.normal(size=world.tastes.shape)
    steps = np.digitize(seen, [-1.2, -0.4, 0.4, 1.2])
    return [
        " ".join([*(WORDS[slot][step] for slot, step in enumerate(row)), options.nouns[cluster]])
        for row, cluster in zip(steps, world.clusters, strict=True)
    ]


def pictures(world: World, options: Options) -> np.ndarray:
    """Paint each item.

    Three mixtures of the noisy taste are the red, green and blue of the ground; three others those of the figure, whose
    shape is the cluster's and whose size follows the fourth dimension. Fine noise of 4 grey levels lies over it.

    Returns
    -------
    np.ndarray
        uint8, (items, 64, 64, 3).
    """
    generator = np.random.default_rng([options.seed, 2])
    seen = world.tastes + options.image_noise * generator.normal(size=world.tastes.shape)
    ground = _colours(seen[:, [0, 1, 2]])
    figure = _colours(seen[:, [3, 0, 1]] * np.array([1.0, -1.0, -1.0]))
    radius = SIDE * (0.28 + 0.12 * np.tanh(seen[:, 3]))
    mask = np.stack([_shape(cluster, size) for cluster, size in zip(world.clusters, radius, strict=True)])
    colour = np.where(mask[..., None], figure[:, None, None, :], ground[:, None, None, :])
    noise = generator.normal(scale=4, size=colour.shape)
    return np.clip(np.rint(colour + noise), 0, 255).astype(np.uint8)


def _colours(values: np.ndarray) -> np.ndarray:
    return 127.5 + 110 * np.tanh(0.7 * values)


def _shape(cluster: int, radius: float) -> np.ndarray:
    """Pixels of a disc, square, diamond, ring, cross or stripes around the middle."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    distance = np.hypot(x, y)
    shapes = (
        distance < radius,
        np.maximum(abs(x), abs(y)) < radius * 0.9,
        abs(x) + abs(y) < radius * 1.25,
        (distance < radius * 1.3) & (distance > radius * 0.7),
        (np.minimum(abs(x), abs(y)) < radius * 0.4) & (np.maximum(abs(x), abs(y)) < radius * 1.3),
        (distance < radius * 1.4) & (np.sin(y * 0.6) > 0),
    )
    return shapes[cluster]
