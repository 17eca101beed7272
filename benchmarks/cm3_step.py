"""Seconds of a CM3 training step, part by part, and steps a second against a plain formulation of the same formulas.

The data are generated: the size is that of Amazon Baby, item popularity follows a power law, features are noise.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
from plain_cm3 import PlainCM3, RetryingSampler, neighbour_graph, normalised_graph
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function

from mmrepro.config.protocol import Protocol
from mmrepro.models import cm3
from mmrepro.models.base import Batch, ItemContent
from mmrepro.ops.interactions import Interactions
from mmrepro.runtime.seeds import seed_everything
from mmrepro.training.sampling import NegativeSampler, epoch_batches

BATCH_SIZE = 2048
PARAMETERS = cm3.CM3Parameters(n_layers=3, batch_size=BATCH_SIZE)
PARTS = ("draws", "dense layers", "fusion", "graph products", "losses", "optimiser")
LOSS_TOLERANCE = 1e-4
UNMARKED_FUSION = cm3.spherical_bezier


class MarkedCM3(cm3.CM3):
    """CM3 whose parts carry labels in a profile."""

    def draw_positions(self) -> Tensor:
        """Label the random draws."""
        with record_function("draws"):
            return super().draw_positions()

    def project(self, positions: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Label the dense layers; the fusion inside has its own label."""
        with record_function("dense layers"):
            return super().project(positions)

    def propagate(self, projected: dict[str, Tensor], fused: Tensor) -> tuple[Tensor, Tensor]:
        """Label the graph products."""
        with record_function("graph products"):
            return super().propagate(projected, fused)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Label what is left: gathering the batch's rows and the losses."""
        with record_function("losses"):
            return super().loss(batch)


def marked_fusion(*arguments: Any) -> Tensor:
    """Label the fusion."""
    with record_function("fusion"):
        return UNMARKED_FUSION(*arguments)


@dataclass
class Workload:
    """Generated data of a given size."""

    interactions: Interactions
    content: ItemContent

    @classmethod
    def generate(cls, users: int, items: int, pairs: int, image_dim: int, text_dim: int) -> Workload:
        """Draw `pairs` distinct interactions, and features and neighbours without any structure."""
        rng = np.random.default_rng(0)
        popularity = np.arange(1, items + 1) ** -0.8
        drawn = rng.integers(0, users, 2 * pairs) * items + rng.choice(
            items, size=2 * pairs, p=popularity / popularity.sum()
        )
        chosen = rng.permutation(np.unique(drawn))[:pairs]
        features = {
            name: torch.from_numpy(rng.standard_normal((items, dim), dtype=np.float32))
            for name, dim in (("image", image_dim), ("text", text_dim))
        }
        others = rng.integers(1, items // 10, (items, PARAMETERS.neighbours - 1)).cumsum(axis=1)
        shifts = np.concatenate([np.zeros((items, 1), dtype=np.int64), others], axis=1)
        neighbours = torch.from_numpy((np.arange(items)[:, None] + shifts) % items)
        content = ItemContent(features, dict.fromkeys(features, neighbours))
        return cls(Interactions(chosen // items, chosen % items, users, items), content)


def plain_model(data: Workload, ours: cm3.CM3) -> PlainCM3:
    """Build the plain formulation with the same weights."""
    pairs, weight = data.interactions, PARAMETERS.image_weight
    near = data.content.neighbours
    item_graph = (neighbour_graph(near["image"], weight) + neighbour_graph(near["text"], 1 - weight)).coalesce()
    plain = PlainCM3(
        normalised_graph(pairs.users, pairs.items, pairs.n_users, pairs.n_items), item_graph,
        data.content.features["image"], data.content.features["text"], pairs.n_users,
        size=PARAMETERS.embedding_size, n_layers=PARAMETERS.n_layers, gamma=PARAMETERS.gamma, alpha=PARAMETERS.alpha,
        min_similarity=PARAMETERS.min_similarity, max_similarity=PARAMETERS.max_similarity,
    )  # fmt: skip
    weights = ours.state_dict()
    plain.load_state_dict({name: weights[cm3.CM3.reference_names[name]] for name in plain.state_dict()})
    return plain


def our_step(model: cm3.CM3, batches: list[Batch], half: bool = False) -> Callable[[int], float]:
    """Return a function that makes one training step as the trainer does."""
    optimiser = torch.optim.Adam(model.parameters(), lr=PARAMETERS.learning_rate, fused=True)

    def step(number: int) -> float:
        torch.use_deterministic_algorithms(True)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            terms = model.loss(batches[number % len(batches)])
        total = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        with record_function("optimiser"):
            optimiser.step()
        return float(total.detach())

    return step


def plain_step(model: PlainCM3, batches: list[Batch], sampler: RetryingSampler) -> Callable[[int], float]:
    """Return a function that makes one training step, negative items included."""
    optimiser = torch.optim.Adam(model.parameters(), lr=PARAMETERS.learning_rate, foreach=False)

    def step(number: int) -> float:
        torch.use_deterministic_algorithms(False)
        users, positives, _ = batches[number % len(batches)]
        total = model.loss(users, positives, sampler.draw(users))
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        return float(total.detach())

    return step


def seconds(step: Callable[[int], float], number: int) -> float:
    """Time one step."""
    started = time.perf_counter()
    step(number)
    return time.perf_counter() - started


def profile_parts(step: Callable[[int], float], steps: int) -> dict[str, list[float]]:
    """Return forward and backward seconds of each part, mean over steps, from the profiler's records.

    A backward node carries the sequence number of the forward operation that made it, which tells its part.
    """
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for number in range(steps):
            step(number)
    events = list(profiler.events())
    found = {part: [0.0, 0.0] for part in (*PARTS, "gradients into place")}
    part_of: dict[int, str] = {}
    for event in events:
        label = enclosing_part(event)
        if event.name in PARTS:
            found[event.name][0] += event.cpu_time_total
            parent = enclosing_part(event.cpu_parent)
            if parent is not None:
                found[parent][0] -= event.cpu_time_total
        elif label is not None and event.sequence_nr >= 0:
            part_of.setdefault(event.sequence_nr, label)
    for event in events:
        if event.name.startswith("autograd::engine::evaluate_function"):
            found[part_of.get(event.sequence_nr, "gradients into place")][1] += event.cpu_time_total
    return {part: [value / steps / 1e6 for value in values] for part, values in found.items()}


def enclosing_part(event: Any) -> str | None:
    """Return the innermost labelled part that a profiler's event lies in."""
    while event is not None:
        if event.name in PARTS:
            return str(event.name)
        event = event.cpu_parent
    return None


def compare(steps: dict[str, Callable[[int], float]], rounds: int, extra: dict[str, float]) -> dict[str, np.ndarray]:
    """Make one step of each variant a round, in turn; return their seconds, with what each costs beside its step."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for number in range(-1, rounds):
        for name in names:
            spent = seconds(steps[name], max(number, 0)) + extra.get(name, 0.0)
            if number >= 0:  # the first round warms up
                taken[name].append(spent)
        names = names[1:] + names[:1]
    return {name: np.array(values) for name, values in taken.items()}


def print_parts(parts: dict[str, list[float]], sampling: float, measured: float) -> None:
    """Print the parts of our step and how they add up."""
    print(f"{'part':22}{'forward':>10}{'backward':>10}{'both':>10}   seconds a step")
    rows = {"sampling": [sampling, 0.0], **parts}
    for part, (forward, backward) in rows.items():
        print(f"{part:22}{forward:10.4f}{backward:10.4f}{forward + backward:10.4f}")
    total = sum(map(sum, rows.values()))
    print(f"{'sum of the parts':42}{total:10.4f}   of {measured + sampling:.4f} measured\n")


def print_ratios(taken: dict[str, np.ndarray], reference: str) -> None:
    """Print each variant's steps a second against a reference, round by round."""
    heading = f"steps a second, times {reference} (median, min .. max)"
    print(f"{'variant':26}{'s a step':>10}{'fastest':>10}{heading:>64}")
    for name, values in taken.items():
        ratios = taken[reference] / values
        ratio = f"{np.median(ratios):.2f}   {ratios.min():.2f} .. {ratios.max():.2f}"
        print(f"{name:26}{np.median(values):10.4f}{values.min():10.4f}{ratio:>64}")
    print()


def check_losses(ours: cm3.CM3, plain: PlainCM3, batch: Batch) -> None:
    """Stop unless both formulations give the same loss from the same weights, batch and draws."""
    with torch.no_grad():
        torch.manual_seed(1)
        first = float(sum(ours.loss(batch).values()))
        torch.manual_seed(1)
        second = float(plain.loss(*batch))
    print(f"loss: ours {first:.6f}, plain {second:.6f}\n")
    if not abs(first - second) <= LOSS_TOLERANCE:
        sys.exit(f"the two formulations differ by {abs(first - second):.1e}, more than {LOSS_TOLERANCE}")


def build(data: Workload, cls: type[cm3.CM3] = cm3.CM3) -> cm3.CM3:
    """Build the model; all have the same weights."""
    torch.manual_seed(0)
    return cls(data.interactions, data.content, PARAMETERS, Protocol())


def report_parts(data: Workload, batches: list[Batch], sampling: float, steps: int) -> None:
    """Measure and print the parts of our step."""
    with mock.patch.object(cm3, "spherical_bezier", marked_fusion):
        step = our_step(build(data, MarkedCM3), batches)
        step(0)
        measured = float(np.median([seconds(step, number) for number in range(steps)]))
        print_parts(profile_parts(step, steps), sampling, measured)


def report_ratios(data: Workload, plain: PlainCM3, batches: list[Batch], sampling: float, rounds: int) -> None:
    """Measure and print the steps a second of all variants."""
    pairs = data.interactions
    steps = {
        "ours, float32": our_step(build(data), batches),
        "ours, bfloat16": our_step(build(data), batches, half=True),
        "plain": plain_step(plain, batches, RetryingSampler(pairs.users, pairs.items, 0)),
    }
    print_ratios(compare(steps, rounds, {name: sampling for name in steps if name != "plain"}), "plain")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for option, default in (("steps", 15), ("threads", 2), ("users", 19445), ("items", 7050), ("pairs", 118551)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--image-dim", type=int, default=4096)
    parser.add_argument("--text-dim", type=int, default=384)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seed_everything(0)
    data = Workload.generate(options.users, options.items, options.pairs, options.image_dim, options.text_dim)
    sampler = NegativeSampler(data.interactions)
    batches = list(epoch_batches(data.interactions, sampler, BATCH_SIZE, 0, 1))
    started = time.perf_counter()
    sum(1 for _ in epoch_batches(data.interactions, sampler, BATCH_SIZE, 0, 2))
    sampling = (time.perf_counter() - started) / len(batches)
    plain = plain_model(data, build(data))
    check_losses(build(data), plain, batches[0])
    full = batches[:-1] or batches
    report_parts(data, full, sampling, options.steps)
    report_ratios(data, plain, full, sampling, options.steps)


if __name__ == "__main__":
    main()
