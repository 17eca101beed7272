"""What the encoder learns from: hidden content from what is seen, and the single sources of an item from each other.

Each batch of items is seen with a part of each item hidden: a share of its patches and of its tokens, and one of its
vectors where it has something else. What is hidden is predicted twice: from the state of its own position (masked
prediction as in BEiT-3), and from the unified vector alone. Masked prediction from states alone would give the unified
vector no gradient at all, for nothing reads the last state of CLS; the second prediction makes it carry the item. The
matching term (InfoNCE within the batch) brings together the unified vectors of an item's views with nothing hidden:
each source alone, and all that it has. An item without one source then gets a vector near the one that it would have
had with it, and the view that is encoded in the end is one that was trained; without it all vectors came to lie in one
direction.
"""

from __future__ import annotations

from itertools import combinations
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrepro.config.features import AlignmentSource, VectorSource
from mmrepro.features.alignment.embeddings import Hidden, Part, Parts
from mmrepro.features.alignment.encoder import UnifiedEncoder
from mmrepro.features.alignment.targets import Target

TEMPERATURE = 0.07
WHOLE = ""
"""The view of all that an item has, which no source is called."""


class Prediction(nn.Module):
    """The two predictions of one source: by the state of a hidden token, and by the unified vector.

    Parameters
    ----------
    target
        What is predicted.
    dim
        Width of states and unified vectors.
    """

    def __init__(self, target: Target, dim: int) -> None:
        super().__init__()
        self.target = target
        self.from_states = nn.Linear(dim, target.width)
        self.from_unified = nn.Linear(dim, target.places * target.width)
        with torch.no_grad():  # what sees nothing is where learning starts
            self.from_states.bias.copy_(target.baseline().mean(0))
            self.from_unified.bias.copy_(target.baseline().flatten())

    def by_states(self, states: Tensor, rows: Tensor, wanted: Tensor) -> Tensor:
        """Return the errors at the hidden tokens, flat positions `rows` (n,), given states (items, tokens, dim)."""
        predicted = self.from_states(states.flatten(0, 1).index_select(0, rows))
        return self.target.errors(predicted, torch.arange(len(rows), device=rows.device), wanted)

    def by_unified(self, unified: Tensor, items: Tensor, places: Tensor, wanted: Tensor) -> Tensor:
        """Return the errors at the hidden tokens, given the unified vectors and the item and place of each token
        (n,).
        """
        predicted = self.from_unified(unified).reshape(-1, self.target.width)
        return self.target.errors(predicted, items * self.target.places + places, wanted)

    def wanted(self, part: Part, rows: Tensor) -> Tensor:
        """Return the targets of the hidden tokens."""
        return self.target.of(part.content).flatten(0, 1).index_select(0, rows)

    def places(self, rows: Tensor, n_tokens: int) -> Tensor:
        """Return the place of each hidden token, of those that the target tells apart."""
        return rows % n_tokens % self.target.places


class Objective(nn.Module):
    """The losses of a batch, and the layers that predict, which encoding does without.

    Parameters
    ----------
    encoder
        The encoder.
    targets
        What is predicted of each source.
    matching_weight
        Of the matching term; at 0 it is left out.
    """

    def __init__(self, encoder: UnifiedEncoder, targets: dict[str, Target], matching_weight: float) -> None:
        super().__init__()
        self.encoder, self.matching_weight = encoder, matching_weight
        self.predictions = nn.ModuleList(Prediction(target, encoder.dim) for target in targets.values())

    def prediction(self, source: str) -> Prediction:
        """Return the predictions of a source."""
        return cast(Prediction, self.predictions[self.encoder.sources.index(source)])

    def forward(self, parts: Parts, hidden: Hidden, same: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the terms of the loss, each already weighted.

        Parameters
        ----------
        parts
            All sources of a batch.
        hidden
            What is hidden of it, from `draw_hidden`.
        same
            Source -> (items,), int64: items of equal content share a number.

        Returns
        -------
        dict
            `<source>` and `<source> from unified` for each source of which something is hidden, in multiples of the
            error of a predictor that sees nothing; `matching`.
        """
        unified, states = self.encoder(parts, hidden)
        terms: dict[str, Tensor] = {}
        for name, part in parts.items():
            prediction, (rows, n_tokens) = self.prediction(name), _rows(hidden[name])
            if not len(rows):
                continue
            wanted, scale = prediction.wanted(part, rows), prediction.target.scale
            terms[name] = prediction.by_states(states[name], rows, wanted).mean() / scale
            places = prediction.places(rows, n_tokens)
            errors = prediction.by_unified(unified, rows // n_tokens, places, wanted)
            terms[f"{name} from unified"] = errors.mean() / scale
        if self.matching_weight:
            terms["matching"] = self.matching_weight * self.matching(parts, same)
        return terms

    def matching(self, parts: Parts, same: dict[str, Tensor]) -> Tensor:
        """Return the mean matching term over pairs of views: each source alone, and all that an item has."""
        views = {name: self.encoder({name: part})[0] for name, part in parts.items()}
        there = {name: part.present.any(1) for name, part in parts.items()}
        alike = {name: numbers[:, None] == numbers for name, numbers in same.items()}
        views[WHOLE], there[WHOLE] = self.encoder(parts)[0], torch.stack(list(there.values())).any(0)
        alike[WHOLE] = torch.eye(len(views[WHOLE]), dtype=torch.bool, device=views[WHOLE].device)
        terms = []
        for a, b in combinations(views, 2):
            rows = torch.nonzero(there[a] & there[b])[:, 0]
            if len(rows) > 1:
                no_negatives = (alike[a] | alike[b]).index_select(0, rows).index_select(1, rows)
                terms.append(
                    matching_loss(views[a].index_select(0, rows), views[b].index_select(0, rows), no_negatives)
                )
        return torch.stack(terms).mean() if terms else self.encoder.cls.sum() * 0

    @torch.no_grad()
    def errors(self, parts: Parts, hidden: Hidden) -> dict[str, tuple[Tensor, Tensor]]:
        """Return, for each source, the errors at the hidden tokens (n,) of the states and of the baseline."""
        _, states = self.encoder(parts, hidden)
        found = {}
        for name, part in parts.items():
            prediction, (rows, n_tokens) = self.prediction(name), _rows(hidden[name])
            wanted, places = prediction.wanted(part, rows), prediction.places(rows, n_tokens)
            baseline = prediction.target.errors(prediction.target.baseline(), places, wanted)
            found[name] = prediction.by_states(states[name], rows, wanted), baseline
        return found

    def draw_hidden(self, parts: Parts, sources: dict[str, AlignmentSource], generator: np.random.Generator) -> Hidden:
        """Draw what is hidden of a batch.

        Parameters
        ----------
        parts
            All sources of the batch.
        sources
            Their mask ratios.
        generator
            Decides all draws, on the CPU, whatever the device.

        Returns
        -------
        dict
            Of each item `mask_ratio` of its predictable patches and tokens, rounded, at least one where there is any;
            and one of its vectors where it has another source.
        """
        hidden: Hidden = {}
        n_present = sum(part.present.any(1).cpu().numpy().astype(int) for part in parts.values())
        vectors = [name for name, source in sources.items() if isinstance(source, VectorSource)]
        for name, source in sources.items():
            if not isinstance(source, VectorSource):
                predictable = self.prediction(name).target.predictable(parts[name]).cpu().numpy()
                count = predictable.sum(1)
                wanted = np.clip(np.floor(source.mask_ratio * count + 0.5), np.minimum(count, 1), None)
                hidden[name] = _to(_first_of(predictable, wanted, generator), parts[name].content)
        if vectors:
            there = np.concatenate([parts[name].present.cpu().numpy() for name in vectors], axis=1)
            chosen = _first_of(there, np.where(n_present > 1, np.minimum(there.sum(1), 1), 0), generator)
            for column, name in enumerate(vectors):
                hidden[name] = _to(chosen[:, [column]], parts[name].content)
        return hidden


def matching_loss(a: Tensor, b: Tensor, alike: Tensor) -> Tensor:
    """Return InfoNCE between the rows of two views, the mean of both directions.

    Parameters
    ----------
    a, b
        Shape (n, dim); row i of both belongs to item i.
    alike
        Shape (n, n), bool: pairs of items that are no negatives of each other.
    """
    similarity = F.normalize(a.float(), dim=-1) @ F.normalize(b.float(), dim=-1).T / TEMPERATURE
    others = alike & ~torch.eye(len(a), dtype=torch.bool, device=a.device)
    similarity = similarity.masked_fill(others, -torch.inf)
    own = similarity.diagonal()
    return (similarity.logsumexp(0) + similarity.logsumexp(1)).mean() / 2 - own.mean()


def _first_of(eligible: np.ndarray, wanted: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """In each row a random choice of as many eligible places as are wanted."""
    order = np.where(eligible, generator.random(eligible.shape), 2.0)
    rank = order.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    return rank < wanted[:, None]


def _rows(hidden: Tensor) -> tuple[Tensor, int]:
    """Flat positions of the hidden tokens, and the number of tokens of an item."""
    return torch.nonzero(hidden.reshape(-1))[:, 0], hidden.shape[1]


def _to(array: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(array).to(like.device)
