"""One run, from files to files: load, build, train, rank, record."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch
import yaml

from mmrepro.columns import TEST, TRAIN, VALID
from mmrepro.config.base import content_hash
from mmrepro.config.run import RunSpec
from mmrepro.datasets.interactions import PreparedDataset
from mmrepro.errors import MmreproError
from mmrepro.evaluation.evaluator import Evaluator, lists_frame, per_user_frame
from mmrepro.features.item_graph import load_neighbours
from mmrepro.features.matrix import FeatureMatrix
from mmrepro.models.base import ItemContent, Model, TrainedParameters, TrainingInteractions, build_model, model_class
from mmrepro.records.files import atomic_path, read_json, write_json, write_text
from mmrepro.records.fingerprint import training_fingerprint
from mmrepro.records.provenance import git_state, versions
from mmrepro.runtime.checkpoint import Checkpoint
from mmrepro.runtime.meter import Meter
from mmrepro.runtime.seeds import derive_seed, seed_everything
from mmrepro.training.trainer import Outcome, Trainer, fit_closed_form

LIST_DEPTH = 100


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
            for leftover in output.glob(".*.part*"):  # of a killed process
                leftover.unlink()
            _train_locked(spec, seed, prepared, features, output, meter)
    except filelock.Timeout:
        raise MmreproError(f"{output}: another process writes to this run; wait for it or end it") from None


def _train_locked(spec: RunSpec, seed: int, prepared: Path, features: Path | None, output: Path, meter: Meter) -> None:
    set_threads(spec.threads)
    device = choose_device(spec.device)
    dataset = PreparedDataset.load(prepared)
    item_list_hash = read_json(prepared / "statistics.json")["item_list_hash"]
    content, content_record = load_content(spec, features, dataset, item_list_hash)
    interactions = TrainingInteractions(*dataset.pairs(TRAIN), dataset.n_users, dataset.n_items)
    base_seed = seed if spec.protocol.seeding == "literal" else derive_seed(spec.dataset, spec.model, seed)
    seed_everything(base_seed)
    model = build_model(spec.model, interactions, content, spec.parameters, spec.protocol).to(device)
    code = training_fingerprint(spec.model)
    data = {"interactions": dataset.content_hash, **content_record}
    identity = {
        "code": code,
        "spec": content_hash(spec.model_dump(mode="json")),
        "seed": seed,
        "data": content_hash(data),
        "torch": torch.__version__,
    }
    checkpoint = Checkpoint(output / "checkpoint.pt", identity, meter)
    label = f"{spec.dataset} {spec.model} seed {seed}"
    outcome = _fit(spec, model, interactions, dataset, base_seed, device, checkpoint, label)
    _write(spec, seed, output, model, outcome)
    described = {"code": code, "data": data, **_describe_outcome(model, outcome)}
    write_json(output / "run.json", {**_describe_run(spec, seed, device), **described, **meter.spent()})
    checkpoint.remove()


def _describe_run(spec: RunSpec, seed: int, device: str) -> dict[str, Any]:
    """What was run, where, and with which code."""
    cuda = device == "cuda"
    return {
        "status": "finished",
        "purpose": spec.purpose,
        **spec.model_dump(mode="json", exclude={"purpose"}),
        "seed": seed,
        "device": device,
        "device_name": torch.cuda.get_device_name() if cuda else device,
        "peak_gpu_memory_mb": round(torch.cuda.max_memory_allocated() / 2**20, 1) if cuda else None,
        "versions": versions(),
        "git": git_state(Path(__file__).parent),
    }


def _describe_outcome(model: Model, outcome: Outcome) -> dict[str, Any]:
    """What came out, in figures."""
    return {
        "epochs": len(outcome.history),
        "best_epoch": outcome.best_epoch,
        "n_parameters": sum(p.numel() for p in model.parameters()),
        **{split: evaluation.means for split, evaluation in outcome.evaluations.items()},
    }


def _fit(
    spec: RunSpec, model: Model, interactions: TrainingInteractions, dataset: PreparedDataset,
    seed: int, device: str, checkpoint: Checkpoint, label: str,
) -> Outcome:  # fmt: skip
    evaluator = Evaluator(dataset, spec.protocol, device)
    splits = (VALID, TEST) if spec.purpose == "final" or spec.protocol.select_on == TEST else (VALID,)
    if model.closed_form:
        return fit_closed_form(model, evaluator, spec.cutoffs, LIST_DEPTH, splits)
    parameters = model_class(spec.model).Parameters.model_validate(spec.parameters)
    if not isinstance(parameters, TrainedParameters):
        raise MmreproError(f"model '{spec.model}': its parameters must derive from TrainedParameters")
    trainer = Trainer(
        model, interactions, evaluator, parameters, spec.protocol,
        seed=seed, cutoffs=spec.cutoffs, depth=LIST_DEPTH if spec.purpose == "final" else max(spec.cutoffs), splits=splits,
        precision=spec.precision, checkpoint=checkpoint, report=_progress(label, parameters.max_epochs),
    )  # fmt: skip
    return trainer.fit()


def _progress(label: str, max_epochs: int) -> Any:
    """Print a line an epoch for people, and the same as JSON for programs."""

    def report(record: dict[str, Any]) -> None:
        best = " *" if record["best_epoch"] == record["epoch"] else f"   (best: epoch {record['best_epoch']})"
        print(
            f"{label} | epoch {record['epoch']}/{max_epochs} | loss {record['loss']:.4f}"
            f" | valid recall@20 {record['valid']['recall_at_20']:.4f}{best} | {record['seconds']:.2f} s",
            file=sys.stderr,
            flush=True,
        )
        print(json.dumps(record), flush=True)

    return report


def _write(spec: RunSpec, seed: int, output: Path, model: Model, outcome: Outcome) -> None:
    """Write all files of a run but its record."""
    configuration = {**spec.model_dump(mode="json"), "seed": seed}
    write_text(output / "config.yaml", yaml.safe_dump(configuration, sort_keys=False))
    write_text(output / "history.jsonl", "".join(json.dumps(record) + "\n" for record in outcome.history))
    if spec.purpose == "trial":
        return
    with atomic_path(output / "lists.parquet") as temporary:
        lists_frame(outcome.evaluations).to_parquet(temporary, index=False)
    with atomic_path(output / "per_user.parquet") as temporary:
        per_user_frame(outcome.evaluations).to_parquet(temporary, index=False)
    with atomic_path(output / "model.pt") as temporary:
        torch.save({name: value.cpu() for name, value in model.state_dict().items()}, temporary)
    if outcome.embeddings is not None:
        users, items = (x.float().numpy().astype(np.float16) for x in outcome.embeddings)
        with atomic_path(output / "embeddings.npz") as temporary:
            np.savez(temporary, users=users, items=items)


def load_content(
    spec: RunSpec, folder: Path | None, dataset: PreparedDataset, item_list_hash: str
) -> tuple[ItemContent, dict[str, Any]]:
    """Load features and item graphs of a run, and what the record says of them."""
    if spec.features is None or folder is None:
        return ItemContent(), {}
    tables = {m: FeatureMatrix.load(folder, m, dataset.n_items, item_list_hash) for m in spec.modalities}
    count = int(spec.parameters.get("neighbours", 0))
    neighbours = {m: load_neighbours(folder, m, dataset.n_items, count)[0] for m in tables} if count else {}
    features = {m: torch.from_numpy(np.asarray(t.matrix, dtype=np.float32)) for m, t in tables.items()}
    record = {
        "features": {m: t.record["matrix_sha256"] for m, t in tables.items()},
        "encoders": {m: _describe(t.record) for m, t in tables.items()},
        "missing": {m: t.record["n_missing"] for m, t in tables.items()},
    }
    return ItemContent(features, neighbours), record


def _describe(record: dict[str, Any]) -> str:
    """Encoder, architecture or file, and weights of a feature table, in words."""
    encoder = record["encoder"]
    words = [encoder["encoder"], encoder.get("architecture"), encoder.get("file"), record["weights"]]
    words.append(record.get("change") and f"({record['change']})")
    return " ".join(word for word in words if word)


def set_threads(threads: int) -> None:
    """Set PyTorch's threads; refuse where they are not to be had, because they are part of the result."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if available < threads:
        raise MmreproError(
            f"the study asks for threads: {threads}, but {available} are to be had; lower `threads` in the study"
        )
    torch.set_num_threads(threads)


def choose_device(wanted: str) -> str:
    """Return the device: the best there is for `auto`, else the one named, which must exist."""
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, there in found.items() if there)
    if not found[wanted]:
        raise MmreproError(
            f"the study asks for device: {wanted}, which this machine lacks; set `device: auto` in the study"
        )
    return wanted
