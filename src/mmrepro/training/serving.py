"""A finished run that answers: its model, made again from weights and data, ranks for anybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from mmrepro.columns import SPLITS, TEST, TRAIN, Columns
from mmrepro.config.files import validate
from mmrepro.config.model import is_lists
from mmrepro.config.run import RunSpec
from mmrepro.datasets.interactions import PreparedDataset, load_left_out
from mmrepro.errors import MmreproError
from mmrepro.evaluation.evaluator import Evaluator, EveryonesEvaluator
from mmrepro.evaluation.lists import NO_ITEM, RankedLists, lists_of_rows
from mmrepro.evaluation.ranking import make_scorer, rank
from mmrepro.models.base import Model, build_model, model_class
from mmrepro.ops.interactions import Interactions
from mmrepro.records.files import AGAIN, read_object, read_table, recorded_file
from mmrepro.runtime.devices import training_device
from mmrepro.runtime.seeds import derive_seed, seed_everything
from mmrepro.study.kinds import training_code
from mmrepro.study.layout import Layout
from mmrepro.training.recorder import CONFIG, LISTS, MODEL
from mmrepro.training.run import is_made_of, load_content

CHECKED_USERS = 64
"""Users whose lists must come out of the model that is made again as the run left them."""
TOLERANCE = 1e-3
"""Of scores, relative to the largest; a GPU that made the run rounds otherwise."""


@dataclass(frozen=True)
class Server:
    """A run's model and what it may offer.

    Attributes
    ----------
    folder, record, spec
        The run.
    dataset
        Its data.
    model, device
        As the run left it, and where it computes.
    had
        All that users have had: the interactions of all splits, and those that preparation left out.
    offered
        Items that it may offer, shape (n_items,), bool: an item that nobody has had is offered by its content alone.
    """

    folder: Path
    record: Mapping[str, Any]
    spec: RunSpec
    dataset: PreparedDataset
    model: Model
    device: str
    had: Interactions
    offered: np.ndarray

    @classmethod
    def load(cls, folder: Path, root: Path = Path()) -> Server:
        """Make a run's model again.

        Parameters
        ----------
        folder
            Of a final run, or of its refit.
        root
            Folder that holds `data/`.

        Raises
        ------
        MmreproError
            For a folder without a finished run, a run of other code or data than are there now, lists of another
            system, a damaged file, or a model that does not list what the run lists.
        """
        spec, record = run_of(folder)
        prepared = root / Layout.prepared(spec.dataset)
        features = root / Layout.features(spec.dataset, spec.features) if spec.features else None
        if not is_made_of(record, prepared, features, spec.modalities):
            raise MmreproError(f"{folder}: made of other data than those in data/; run the study again")
        if record.get("code") != training_code(spec.model, spec.watch, spec.outside):
            raise MmreproError(f"{folder}: the code of {spec.model} has changed since; run the study again")
        dataset = PreparedDataset.load(prepared)
        device = "cpu" if model_class(spec.model, spec.outside).closed_form else training_device(spec.device)
        kind = EveryonesEvaluator if spec.purpose == "serving" else Evaluator
        evaluator = kind(dataset, spec.protocol, device)
        model = _model(folder, record, spec, evaluator, features)
        bought = evaluator.dataset.of(TRAIN).popularity > 0
        had = _had(dataset, load_left_out(prepared))
        found = cls(folder, record, spec, dataset, model, device, had, bought | model.uses_features)
        if spec.purpose == "final":
            found._require_lists(evaluator)
        return found

    def rank(self, users: np.ndarray, k: int) -> RankedLists:
        """Return the first k items for users, what they have had left out.

        Parameters
        ----------
        users
            Indices, rising, shape (n,).
        k
            Length of the lists.
        """
        with torch.no_grad():
            scorer = make_scorer(self.model)
        return rank(lambda n: self._masked(scorer(n)), users, self.dataset.n_items, self.had.by_user, k, self.device)

    def rank_history(self, items: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the first k items, and their scores, for somebody who likes items, these left out.

        Parameters
        ----------
        items
            Indices, shape (n,).
        k
            Length of the list.
        """
        with torch.no_grad():
            scores = self._masked(self.model.score_history(torch.from_numpy(items).to(self.device))[None])
        somebody, masked = np.zeros(1, dtype=np.int64), (np.zeros(len(items), dtype=np.int64), np.sort(items))
        found = rank(lambda _: scores, somebody, self.dataset.n_items, masked, k, self.device)
        kept = found.items[0] != NO_ITEM
        return found.items[0][kept], found.scores[0][kept]

    def _masked(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores without the items that are not offered."""
        if self.offered.all():
            return scores
        return scores.masked_fill(torch.from_numpy(~self.offered).to(scores.device), -torch.inf)

    def _require_lists(self, evaluator: Evaluator) -> None:
        """What the model ranks for a few test users must be what the run has listed."""
        users = self.dataset.of(TEST).distinct_users[:CHECKED_USERS]
        filters = [(Columns.SPLIT, "==", TEST), (Columns.USER, "<=", int(users.max(initial=0)))]
        rows = read_table(recorded_file(self.folder, self.record, LISTS), filters=filters)
        listed = lists_of_rows(rows, users)
        with torch.no_grad():
            scorer, known = make_scorer(self.model), evaluator.masked(TEST).by_user
        again = rank(scorer, users, self.dataset.n_items, known, listed.items.shape[1], self.device)
        largest = np.abs(listed.scores[np.isfinite(listed.scores)]).max(initial=1e-9)
        same = np.isclose(again.scores, listed.scores, rtol=0, atol=TOLERANCE * largest)
        if not same.all():
            raise MmreproError(
                f"{self.folder}: its weights do not give its lists again (protocol: {self._departures() or 'fair'}); "
                "serve a run of the protocol fair, or its refit"
            )

    def _departures(self) -> str:
        switched = self.spec.protocol.model_dump(exclude_defaults=True)
        return ", ".join(f"{name} {value}" for name, value in switched.items())


def run_of(folder: Path) -> tuple[RunSpec, dict[str, Any]]:
    """Return the specification and the record of a finished run that can serve.

    Raises
    ------
    MmreproError
        For a folder without one, and for lists of another system.
    """
    path = folder / "run.json"
    record = read_object(path)
    if record is None:
        raise MmreproError(f"{folder}: no run.json there; name a study, or the folder of a finished run")
    if record.get("purpose") not in ("final", "serving"):
        raise MmreproError(f"{path}: no record of a final run or a refit; name the folder of one (results/runs/...)")
    settings = {key: record[key] for key in RunSpec.model_fields if key in record}
    # a record has the metric that was watched, perhaps in place of the one asked for, which is part of the code
    spec = validate(RunSpec, {**settings, **_asked(folder / CONFIG)}, str(path))
    if spec.outside is not None and is_lists(spec.outside):
        raise MmreproError(f"{folder}: lists of another system ({spec.outside}), which offers nothing beyond them")
    return spec, record


def _asked(path: Path) -> dict[str, Any]:
    """The metric that the run's configuration names."""
    try:
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return {"watch": written["watch"]} if isinstance(written, dict) and "watch" in written else {}


def _had(dataset: PreparedDataset, left_out: pd.DataFrame) -> Interactions:
    known = dataset.of(*SPLITS)
    users = np.concatenate([known.users, left_out[Columns.USER].to_numpy(np.int64)])
    items = np.concatenate([known.items, left_out[Columns.ITEM].to_numpy(np.int64)])
    return Interactions(users, items, dataset.n_users, dataset.n_items)


def _model(
    folder: Path, record: Mapping[str, Any], spec: RunSpec, evaluator: Evaluator, features: Path | None
) -> Model:
    parameters = model_class(spec.model, spec.outside).Parameters.model_validate(spec.parameters)
    content, _ = load_content(spec, parameters, features, evaluator.dataset)
    seed = int(record["seed"])
    seed_everything(seed if spec.protocol.seeding == "literal" else derive_seed(spec.dataset, spec.model, seed))
    interactions = evaluator.dataset.of(TRAIN)
    model = build_model(spec.model, interactions, content, spec.parameters, spec.protocol, spec.outside)
    if model.closed_form:
        model.fit()
    else:
        path = recorded_file(folder, record, MODEL)
        try:
            model.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
        except (OSError, RuntimeError) as error:
            raise MmreproError(
                f"{path}: not the weights of {spec.model} ({str(error).splitlines()[0]}); {AGAIN}"
            ) from None
    return model.to(evaluator.device)
