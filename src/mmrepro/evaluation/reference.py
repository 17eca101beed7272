"""Comparison of a model with the reference tensors of its published program."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmrepro.config.model import model_names
from mmrepro.config.protocol import Protocol
from mmrepro.errors import MmreproError
from mmrepro.evaluation.ranking import make_scorer
from mmrepro.models.base import Batch, ItemContent, Model, build_model, model_class
from mmrepro.ops.interactions import Interactions
from mmrepro.ops.neighbours import nearest_neighbours

LOSS_TOLERANCE, SCORE_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4, 1e-4
HELD_AT_ZERO = "zero"  # name in `reference_draws` of a draw that was 0 while the file was made, and is not in it
NEGLIGIBLE = 1e-6  # a stored gradient this small is rounding noise of an analytical zero


@dataclass(frozen=True)
class Agreement:
    """Worst error of each kind: loss relative, scores absolute, gradients relative to each tensor's largest entry."""

    loss: float
    scores: float
    gradients: dict[str, float]

    @property
    def agrees(self) -> bool:
        """Whether all errors are within the tolerances."""
        worst = max(self.gradients.values(), default=0.0)
        return self.loss <= LOSS_TOLERANCE and self.scores <= SCORE_TOLERANCE and worst <= GRADIENT_TOLERANCE


def reference_files(paths: list[Path]) -> list[Path]:
    """Return the files, a folder being replaced by those in it that are named after a model.

    Raises
    ------
    MmreproError
        For a folder without any.
    """
    found = []
    for path in paths:
        inside = [path / f"{name}.npz" for name in model_names() if (path / f"{name}.npz").is_file()]
        if path.is_dir() and not inside:
            raise MmreproError(f"{path}: no file here is named after a model; give a folder with <model>.npz")
        found += inside or [path]
    return found


def check_reference(path: Path) -> Agreement:
    """Compute loss, scores and gradients of the model a reference file is named after, and compare.

    Parameters
    ----------
    path
        `<model>.npz`; `dataset.npz` lies beside it.

    Raises
    ------
    MmreproError
        For a missing file, an unknown model, or a tensor that has no counterpart.
    """
    for needed in (path, path.with_name("dataset.npz")):
        if not needed.is_file():
            raise MmreproError(f"{needed}: no such file; give a reference file that lies beside its dataset.npz")
    reference, data = dict(np.load(path)), dict(np.load(path.with_name("dataset.npz")))
    untrained = path.with_stem(f"{path.stem}_hidden")  # tables that the program draws once and never trains
    if untrained.is_file():
        reference |= {f"param/{name}": value for name, value in np.load(untrained).items()}
    model = _build(path.stem, reference, data)
    _load_parameters(model, reference, path)
    for draw, method in model.reference_draws.items():
        value = torch.zeros(()) if draw == HELD_AT_ZERO else torch.from_numpy(reference[draw])
        owner, _, name = method.rpartition(".")
        setattr(model.get_submodule(owner), name, lambda *_, value=value: value)
    model.start_epoch()
    loss = torch.stack(list(model.loss(_batch(reference)).values())).sum()
    loss.backward()
    with torch.no_grad():
        scores = make_scorer(model, draw=True)(torch.arange(len(reference["scores"])))
    expected = float(reference["loss"])
    return Agreement(
        abs(float(loss.detach()) - expected) / abs(expected),
        float((scores - torch.from_numpy(reference["scores"])).abs().max()),
        _gradient_errors(model, reference),
    )


def _batch(reference: dict[str, Any]) -> Batch:
    """The batch: some programs shift item ids by the number of users in place, and some draw no negatives."""
    n_users, n_items = reference["scores"].shape
    users, *items = (torch.from_numpy(row).long() for row in reference["batch"])
    positives, negatives = (row - n_users if int(row.max()) >= n_items else row for row in (items[0], items[-1]))
    return Batch(users, positives, negatives)


def _build(name: str, reference: dict[str, Any], data: dict[str, Any]) -> Model:
    """Build the model on the small data set: item graphs from raw features, forward pass as the reference reads
    them.
    """
    cls = model_class(name)
    settings = json.loads(str(reference["config"]))
    valid = cls.Parameters.model_fields
    parameters = {
        ours: settings[theirs]
        for theirs, ours in cls.reference_parameters.items()
        if theirs in settings and ours in valid
    }
    users, items, label = data["interactions"][:, 0], data["interactions"][:, 1], data["interactions"][:, 2].astype(int)
    shape = reference["scores"].shape
    training = Interactions(users[label == 0].astype(int), items[label == 0].astype(int), *shape)
    raw = {m: torch.from_numpy(data[m]).float() for m in cls.reference_modalities}
    count = parameters.get("neighbours", 10)
    neighbours = {m: nearest_neighbours(x, count)[0] for m, x in raw.items()}
    # a trainable table of the reference shares its memory with the raw features and was overwritten with them; where
    # the table is a parameter here too, the features given serve the graphs alone, which were built before
    features = dict(raw)
    for modality in raw:
        table = f"{modality}_embedding.weight"
        if f"param/{table}" in reference and table not in cls.reference_names:
            features[modality] = torch.from_numpy(reference[f"param/{table}"])
    content = ItemContent(features, neighbours)
    return build_model(name, training, content, {**parameters, **cls.released.parameters}, Protocol())


def _counterparts(model: Model, reference: dict[str, Any], kind: str) -> dict[str, tuple[str, Tensor]]:
    """Reference tensors of one kind by the name of the parameter here."""
    own = dict(model.named_parameters())
    return {
        model.reference_names[key.removeprefix(kind)]: (key, torch.from_numpy(value))
        for key, value in reference.items()
        if key.startswith(kind) and model.reference_names.get(key.removeprefix(kind)) in own
    }


def _load_parameters(model: Model, reference: dict[str, Any], path: Path) -> None:
    found = _counterparts(model, reference, "param/")
    missing = sorted(set(dict(model.named_parameters())) - set(found))
    if missing:
        raise MmreproError(f"{path}: nothing for parameter '{missing[0]}'; complete `reference_names` of the model")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(found[name][1].reshape(parameter.shape))


def _gradient_errors(model: Model, reference: dict[str, Any]) -> dict[str, float]:
    errors = {}
    stored = _counterparts(model, reference, "grad/")
    for name, parameter in model.named_parameters():
        ours = parameter.grad
        if name not in stored or ours is None:
            errors[name] = float("inf") if (name in stored) != (ours is not None) else 0.0
            continue
        theirs = stored[name][1].reshape(parameter.shape)
        largest = float(theirs.abs().max())
        scale = largest if largest > NEGLIGIBLE else NEGLIGIBLE / GRADIENT_TOLERANCE
        errors[name] = float((ours - theirs).abs().max()) / scale
    return errors
