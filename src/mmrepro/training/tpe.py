"""A search in one job: Optuna's tree-structured Parzen estimator proposes each trial from the values of those before
it.

Nothing but the trials' own folders is kept between two starts: a search that was killed proposes the same trials again,
finds the finished ones, and goes on where it stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import filelock
import optuna

from mmrepro.config.run import RunSpec
from mmrepro.records.files import read_object
from mmrepro.runtime.seeds import derive_seed
from mmrepro.study.kinds import training_code
from mmrepro.study.layout import Layout
from mmrepro.study.space import SequentialSearch, Space, combinations, shuffled
from mmrepro.training.run import is_made_of, train
from mmrepro.training.selection import judged, select

REPEATS = 50
"""Proposals of finished trials in a row after which an untried combination is drawn at random instead."""

Places = tuple[int, ...]
"""A combination: the place of each parameter's value in the space."""


def search(
    settings: SequentialSearch, prepared: Path, features: Path | None, output: Path, root: Path = Path()
) -> None:
    """Run the trials of a search one after another, and write the selection file last.

    The sampler is Optuna's TPE over the values of the space as categories, with its defaults (the first ten trials are
    drawn at random) and a seed from data set, model and tuning seed. Every trial is a combination that was not tried
    yet, so that a budget counts as in the other samplers; a larger one begins with the trials of a smaller one.

    Parameters
    ----------
    settings
        The search. Its budget is cut down to the number of combinations.
    prepared, features
        Folders of the prepared data set and of the feature set; None for a model without features.
    output
        The selection file; that of `select`, trials in the order tried.
    root
        Folder that receives `results/trials/`, where a trial of the same code, settings and data is not run again.

    Raises
    ------
    MmreproError
        As `train`.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spec, space = settings.trial, settings.space
    seed = derive_seed(spec.dataset, spec.model, settings.seed) % 2**32
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    untried = [_places(space, values) for values in shuffled(space, settings.seed, spec.model)]
    folders: list[Path] = []
    for number in range(1, min(settings.budget, len(combinations(space))) + 1):
        proposal, places = _propose(study, space, untried)
        untried.remove(places)
        values = {name: space[name][place] for name, place in zip(space, places, strict=True)}
        print(f"trial {number} of at most {settings.budget}: {values}", file=sys.stderr, flush=True)
        trial = settings.trial_with(values)
        folder = root / Layout.run(trial, settings.seed)
        value = judged(_finished(trial, settings.seed, prepared, features, folder))
        study.tell(proposal, value)
        folders.append(folder)
    select(folders, list(space), output)


def _places(space: Space, values: dict[str, Any]) -> Places:
    return tuple(space[name].index(values[name]) for name in space)


def _propose(study: optuna.Study, space: Space, untried: list[Places]) -> tuple[optuna.trial.Trial, Places]:
    """Ask until the proposal is an untried one; repeated ones count as running, which the sampler keeps away from."""
    names = sorted(space)  # draws are made in this order, whatever the order in a file
    choices = {name: optuna.distributions.CategoricalDistribution(tuple(range(len(space[name])))) for name in names}
    repeated: list[optuna.trial.Trial] = []
    while True:
        if len(repeated) == REPEATS:
            study.enqueue_trial(dict(zip(space, untried[0], strict=True)))
        proposal = study.ask(dict(choices))
        places = tuple(proposal.params[name] for name in space)
        if places in untried:
            break
        repeated.append(proposal)
    for trial in repeated:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return proposal, places


def _finished(spec: RunSpec, seed: int, prepared: Path, features: Path | None, folder: Path) -> dict[str, Any]:
    """The record of a trial, which is trained unless it is there; another search may want the same one just now."""
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / ".search.lock"):
        if not _is_current(spec, prepared, features, folder / "run.json"):
            train(spec, seed, prepared, features, folder)
    return read_object(folder / "run.json") or {}


def _is_current(spec: RunSpec, prepared: Path, features: Path | None, path: Path) -> bool:
    """Whether a record comes from today's code and data; its settings are the folder's name."""
    record = read_object(path)
    if record is None or not is_made_of(record, prepared, features, spec.modalities):
        return False
    return bool(record.get("code") == training_code(spec.model, spec.watch, spec.outside))
