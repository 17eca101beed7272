"""A finished run's model for serving: trained again, with the run's settings, on all interactions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmrepro.config.files import validate
from mmrepro.config.model import is_lists
from mmrepro.config.run import RunSpec
from mmrepro.errors import MmreproError
from mmrepro.models.base import TrainedParameters, model_class
from mmrepro.records.files import AGAIN, read_object
from mmrepro.study.kinds import training_code
from mmrepro.study.layout import Layout
from mmrepro.training.run import is_made_of, train

Record = dict[str, Any]


def refit(run_folder: Path, output: Path | None = None, root: Path = Path()) -> Path:
    """Train the model of a final run on training, validation and test interactions together.

    It is trained for as many epochs as the run's best one, or fitted where it is fitted in closed form, with the seed
    and settings of the run. Nothing is left to measure it by: its record has no metric and says `purpose: serving`.

    Parameters
    ----------
    run_folder
        Folder of the final run.
    output
        Receives `model.pt`, `embeddings.npz` (of models with embeddings), `lists.parquet` (of every user, the first
        100 items that the user has not had), `config.yaml`, `history.jsonl` and `run.json`; none: a folder below
        `results/serving`.
    root
        Folder that holds `data/` and `results/`.

    Returns
    -------
    Path
        The folder written.

    Raises
    ------
    MmreproError
        For a folder without a final run, a run that was made of other data than those that are there, or what `train`
        refuses.
    """
    record, spec, seed = _planned(run_folder)
    prepared = root / Layout.prepared(spec.dataset)
    features = root / Layout.features(spec.dataset, spec.features) if spec.features else None
    if not is_made_of(record, prepared, features, spec.modalities):
        raise MmreproError(f"{run_folder}: made of other data than those in data/; run the study again")
    folder = output or root / Layout.run(spec, seed)
    train(spec, seed, prepared, features, folder)
    return folder


def refitted(run_folder: Path, root: Path = Path()) -> Path | None:
    """Return the folder of a final run's refit, where there is one by today's code and of the run's data.

    Parameters are those of `refit`, which says what it raises.
    """
    record, spec, seed = _planned(run_folder)
    folder = root / Layout.run(spec, seed)
    found = read_object(folder / "run.json")
    code = training_code(spec.model, spec.watch, spec.outside)
    if found is None or found.get("code") != code or found.get("data") != record.get("data"):
        return None
    return folder


def _planned(run_folder: Path) -> tuple[Record, RunSpec, int]:
    """Record of a final run, and specification and seed of its refit."""
    path = run_folder / "run.json"
    record = read_object(path)
    if record is None or record.get("purpose") != "final":
        raise MmreproError(f"{path}: no record of a final run; name the folder of one (results/runs/...)")
    found = validate(RunSpec, {key: record[key] for key in RunSpec.model_fields if key in record}, str(path))
    if found.outside is not None and is_lists(found.outside):
        raise MmreproError(f"{path}: lists of another system ({found.outside}), which cannot be trained here")
    if not isinstance(record.get("seed"), int):
        raise MmreproError(f"{path}: no seed; {AGAIN}")
    return record, _serving(found, record.get("best_epoch"), path), record["seed"]


def _serving(spec: RunSpec, best_epoch: object, path: Path) -> RunSpec:
    """The settings of a refit: those of the run, what a search has chosen among them, and the number of epochs."""
    parameters = model_class(spec.model, spec.outside).Parameters.model_validate(spec.parameters)
    if isinstance(parameters, TrainedParameters):
        if not isinstance(best_epoch, int) or best_epoch < 1:
            raise MmreproError(f"{path}: no best_epoch; {AGAIN}")
        parameters = parameters.model_copy(update={"max_epochs": best_epoch})
    chosen = parameters.model_dump(mode="json", exclude_defaults=True)
    return spec.model_copy(update={"purpose": "serving", "parameters": chosen, "selected_by": None, "selects": ()})
