"""One run, from files to files: load, build, train, rank, record."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch

from mmrepro.columns import EVERYONE, TEST, TRAIN, VALID
from mmrepro.config.base import content_hash
from mmrepro.config.model import is_lists
from mmrepro.config.run import RunSpec, metric_of
from mmrepro.datasets.interactions import STATISTICS, PreparedDataset
from mmrepro.errors import MmreproError
from mmrepro.evaluation.evaluator import Evaluator, EveryonesEvaluator
from mmrepro.evaluation.given_lists import given_lists, read_rows
from mmrepro.evaluation.lists import lists_frame
from mmrepro.evaluation.measure import GIVEN
from mmrepro.evaluation.metrics import metric_named, ordered_metric
from mmrepro.features.item_graph import graph_file, load_neighbours
from mmrepro.features.matrix import FeatureMatrix
from mmrepro.models.base import ItemContent, Model, ModelParameters, TrainedParameters, build_model, model_class
from mmrepro.models.outside import in_its_words
from mmrepro.records.files import file_sha256, read_object
from mmrepro.runtime.checkpoint import Checkpoint
from mmrepro.runtime.devices import fix_threads, training_device
from mmrepro.runtime.meter import Meter
from mmrepro.runtime.seeds import derive_seed, seed_everything
from mmrepro.study.kinds import training_code
from mmrepro.study.layout import LIST_DEPTH
from mmrepro.training.recorder import Recorder, Results
from mmrepro.training.released import Behaviour
from mmrepro.training.trainer import Outcome, Settings, Trainer, fit_closed_form

MOSTLY_COVERED = 0.5


def train(spec: RunSpec, seed: int, prepared: Path, features: Path | None, output: Path) -> None:
    """Run one training job and write its folder; `run.json` comes last and says that the run is finished.

    Parameters
    ----------
    spec
        The resolved configuration.
    seed
        The run's seed number.
    prepared
        Folder of the prepared data set.
    features
        Folder of the feature set; None for a model without features.
    output
        The run's folder. A checkpoint of the same code, configuration and data found there is resumed.

    Raises
    ------
    MmreproError
        For missing threads or device, a folder another process writes to, data that do not fit, or a diverged loss.
    """
    meter = Meter()
    output.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(output / ".lock", timeout=0):
            with _blamed(spec.outside):
                _train_locked(spec, seed, prepared, features, output, meter)
    except filelock.Timeout:
        raise MmreproError(f"{output}: another process writes to this run; wait for it or end it") from None


@contextmanager
def _blamed(outside: str | None) -> Iterator[None]:
    """Tell what fails in a class of the user's own by its own line, after the whole way to it."""
    try:
        yield
    except (MmreproError, OSError, MemoryError):
        raise
    except Exception as error:
        if outside is None:
            raise
        traceback.print_exc()
        raise in_its_words(outside, error) from error


def _train_locked(spec: RunSpec, seed: int, prepared: Path, features: Path | None, output: Path, meter: Meter) -> None:
    if spec.outside is not None and is_lists(spec.outside):
        _take_lists(spec, seed, prepared, output, meter)
        return
    fix_threads(spec.threads)
    trained = model_class(spec.model, spec.outside)
    device = "cpu" if trained.closed_form else training_device(spec.device)
    parameters = trained.Parameters.model_validate(spec.parameters)
    recorder = Recorder(spec, seed, parameters.model_dump(mode="json"), output)
    dataset = PreparedDataset.load(prepared)
    content, content_record = load_content(spec, parameters, features, dataset)
    base_seed = seed if spec.protocol.seeding == "literal" else derive_seed(spec.dataset, spec.model, seed)
    seed_everything(base_seed)
    evaluator = (EveryonesEvaluator if spec.purpose == "serving" else Evaluator)(dataset, spec.protocol, device)
    interactions = evaluator.dataset.of(TRAIN)
    model = build_model(spec.model, interactions, content, spec.parameters, spec.protocol, spec.outside).to(device)
    data = {"interactions": dataset.content_hash, **content_record}
    code = training_code(spec.model, spec.watch, spec.outside)
    identity = {
        "code": code, "spec": content_hash(spec.differences()), "seed": seed, "data": content_hash(data),
        "torch": str(torch.__version__),
    }  # fmt: skip
    checkpoint = Checkpoint(output / "checkpoint.pt", identity, meter)
    if spec.purpose != "serving":
        dataset.require_held_out(*_splits(spec))
    watched = None if spec.purpose == "serving" else watched_metric(spec.watch, evaluator)
    outcome = _fit(spec, watched, model, parameters, evaluator, base_seed, checkpoint, recorder)
    results = None if spec.purpose == "trial" else _results(spec, model, outcome)
    found = {
        "epochs": len(outcome.history),
        "best_epoch": outcome.best_epoch,
        "n_parameters": sum(p.numel() for p in model.parameters()),
        **({} if watched is None else _watched(spec, watched, outcome, evaluator)),
    }
    recorder.write(outcome.history, results, found, {"code": code, "data": data}, device, meter.spent())
    checkpoint.remove()


def _take_lists(spec: RunSpec, seed: int, prepared: Path, output: Path, meter: Meter) -> None:
    """A run whose lists another system has made: they are ranked and masked as those of a model."""
    path = Path(str(spec.outside))
    if spec.purpose != "final":
        raise MmreproError(f"{path}: lists of another system, which is neither searched nor trained here")
    dataset = PreparedDataset.load(prepared)
    dataset.require_held_out(*_splits(spec))
    evaluator = Evaluator(dataset, spec.protocol)
    given = given_lists(read_rows(path), prepared, evaluator, LIST_DEPTH, str(path))
    watched = watched_metric(spec.watch, evaluator)
    outcome = Outcome(given.lists, None, [], 0)
    found = {"epochs": 0, "best_epoch": 0, "n_parameters": 0, **_watched(spec, watched, outcome, evaluator)}
    data = {"interactions": dataset.content_hash, GIVEN: file_sha256(path), "listed": given.counts}
    origin = {"code": training_code(spec.model, spec.watch, spec.outside), "data": data}
    recorder = Recorder(spec, seed, {}, output)
    recorder.write([], Results(lists_frame(given.lists), {}, {}), found, origin, "cpu", meter.spent())


def _fit(
    spec: RunSpec, watched: str | None, model: Model, parameters: ModelParameters, evaluator: Evaluator, seed: int,
    checkpoint: Checkpoint, recorder: Recorder,
) -> Outcome:  # fmt: skip
    settings = _settings(spec, watched, seed)
    if model.closed_form:
        return fit_closed_form(model, evaluator, settings)
    if not isinstance(parameters, TrainedParameters):
        raise MmreproError(f"model '{spec.model}': its parameters must derive from TrainedParameters")
    behaviour = Behaviour.of(spec.protocol, model, parameters)
    report = recorder.progress(parameters.max_epochs, watched)
    return Trainer(model, evaluator, parameters, behaviour, settings, checkpoint, report).fit()


def _settings(spec: RunSpec, watched: str | None, seed: int) -> Settings:
    """What a run validates and ranks, by its purpose."""
    bfloat16 = spec.precision == "bfloat16"
    if watched is None:
        return Settings(seed, None, LIST_DEPTH, (EVERYONE,), LIST_DEPTH, bfloat16)
    name, cutoff = metric_of(watched)
    depth = LIST_DEPTH if spec.purpose == "final" else cutoff
    return Settings(seed, metric_named(name), cutoff, _splits(spec), depth, bfloat16)


def _splits(spec: RunSpec) -> tuple[str, ...]:
    """Splits that are ranked: a fair trial never sees test."""
    return (VALID, TEST) if spec.purpose == "final" or spec.protocol.select_on == TEST else (VALID,)


def _results(spec: RunSpec, model: Model, outcome: Outcome) -> Results:
    """What a final run or a refit leaves: lists as rows, weights, and embeddings in float16."""
    weights = {name: value.cpu() for name, value in model.state_dict().items()}
    if outcome.embeddings is None:
        return Results(lists_frame(outcome.lists), weights, {})
    users, items = (x.float().numpy().astype(np.float16) for x in outcome.embeddings)
    return Results(lists_frame(outcome.lists), weights, {"users": users, "items": items})


def watched_metric(watch: str, evaluator: Evaluator) -> str:
    """Return the metric that stopping and selection look at: the one asked for, or NDCG where that says nothing.

    A metric that does not look at the order of a list is the same for every model where the list holds all candidates.

    Parameters
    ----------
    watch
        As in `recall_at_20`.
    evaluator
        Knows the candidates of the validation users.
    """
    name, cutoff = metric_of(watch)
    covered = evaluator.covered(VALID, cutoff)
    ordered = ordered_metric(name)
    if ordered.__name__ == name or covered <= MOSTLY_COVERED:
        return watch
    instead = f"{ordered.__name__}_at_{cutoff}"
    print(
        f"the first {cutoff} places hold all candidates of {covered:.0%} of the validation users, so that {watch} says "
        f"little of a model: {instead} is watched instead",
        file=sys.stderr,
    )
    return instead


def _watched(spec: RunSpec, watched: str, outcome: Outcome, evaluator: Evaluator) -> dict[str, Any]:
    """The watched metric on the splits that choose, and for how many users it was asked in vain; of a fair run, test is
    measured by nobody but the stage `measure`.
    """
    chosen = {VALID, spec.protocol.select_on}
    name, cutoff = metric_of(watched)
    values = {
        split: {watched: evaluator.value(lists, split, metric_named(name), cutoff)}
        for split, lists in outcome.lists.items()
        if split in chosen
    }
    return {"watch": watched, "covered": evaluator.covered(VALID, metric_of(spec.watch)[1]), **values}


def is_made_of(record: Mapping[str, Any], prepared: Path, features: Path | None, modalities: Sequence[str]) -> bool:
    """Return whether a run was trained on the data that are there now, by the hashes in its record.

    Parameters
    ----------
    record
        Its `run.json`.
    prepared, features
        Folders of the data set and of the feature set, as for `train`.
    modalities
        Those it reads.
    """
    known = record.get("data", {})
    here = (read_object(prepared / STATISTICS) or {}).get("content_hash")
    read = modalities if features is not None else ()
    tables = {m: (read_object(Path(f"{features}/{m}.json")) or {}).get("matrix_sha256") for m in read}
    return bool(known.get("interactions") == here and known.get("features", {}) == tables)


def load_content(
    spec: RunSpec, parameters: ModelParameters, folder: Path | None, dataset: PreparedDataset
) -> tuple[ItemContent, dict[str, Any]]:
    """Load features and item graphs of a run, and what the record says of them."""
    if spec.features is None or folder is None:
        return ItemContent(), {}
    tables = {m: FeatureMatrix.load(folder, m, dataset.n_items, dataset.item_list_hash) for m in spec.modalities}
    count = int(getattr(parameters, "neighbours", 0))
    neighbours = {m: load_neighbours(folder, m, dataset.n_items, count)[0] for m in tables} if count else {}
    graphs = {m: file_sha256(graph_file(folder, m)) for m in neighbours}
    features = {m: torch.from_numpy(np.asarray(t.matrix, dtype=np.float32)) for m, t in tables.items()}
    record = {
        "features": {m: t.record["matrix_sha256"] for m, t in tables.items()},
        "encoders": {m: t.description for m, t in tables.items()},
        "untrained": [m for m, t in tables.items() if t.untrained],
        "missing": {m: t.record["n_missing"] for m, t in tables.items()},
        "sharing": {m: t.record.get("n_sharing", 0) for m, t in tables.items()},
        **({"graphs": graphs} if graphs else {}),
    }
    return ItemContent(features, neighbours), record
