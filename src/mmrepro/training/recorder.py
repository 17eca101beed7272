"""What a training tells and leaves: progress, the files of its folder, and its record. Nothing here decides a
number.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml

from mmrepro.config.run import RunSpec
from mmrepro.evaluation.lists import lists_frame
from mmrepro.records.files import atomic_path, write_json, write_text
from mmrepro.records.provenance import git_state, versions

if TYPE_CHECKING:
    from mmrepro.models.base import Model
    from mmrepro.training.trainer import Outcome


class Recorder:
    """Writes the folder of one run; `run.json` comes last and says that the run is finished.

    Parameters
    ----------
    spec, seed
        The run.
    parameters
        All parameters of its model, defaults included.
    output
        Its folder; what a killed process left half written there is removed.
    """

    def __init__(self, spec: RunSpec, seed: int, parameters: dict[str, Any], output: Path) -> None:
        self.output = output
        given = spec.model_dump(mode="json")
        self.configuration = {**given, "parameters": parameters, "seed": seed}
        self.label = f"{spec.dataset} {spec.model} seed {seed}"
        for leftover in output.glob(".*.part*"):
            leftover.unlink()

    def progress(self, max_epochs: int, watch: str) -> Callable[[dict[str, Any]], None]:
        """Return what prints a line an epoch for people, and the same as JSON for programs."""

        def report(record: dict[str, Any]) -> None:
            best = " *" if record["best_epoch"] == record["epoch"] else f"   (best: epoch {record['best_epoch']})"
            value = f"valid {watch.replace('_at_', '@')} {record['valid'][watch]:.4f}{best}"
            head = f"{self.label} | epoch {record['epoch']}/{max_epochs} | loss {record['loss']:.4f}"
            print(f"{head} | {value} | {record['seconds']:.2f} s", file=sys.stderr, flush=True)
            print(json.dumps(record), flush=True)

        return report

    def write(
        self, model: Model, outcome: Outcome, values: dict[str, dict[str, float]], origin: dict[str, Any],
        device: str, spent: dict[str, Any],
    ) -> None:  # fmt: skip
        """Write all files of the run.

        Parameters
        ----------
        model, outcome
            What was trained.
        values
            Split -> the watched metric's value there.
        origin
            Fingerprint of the code and hashes of the data.
        device
            Where it was computed.
        spent
            What `Meter.spent` returns.
        """
        write_text(self.output / "config.yaml", yaml.safe_dump(self.configuration, sort_keys=False))
        history = "".join(json.dumps(record) + "\n" for record in outcome.history)
        write_text(self.output / "history.jsonl", history)
        if self.configuration["purpose"] == "final":
            self._write_results(model, outcome)
        cuda = device == "cuda"
        record = {
            "status": "finished",
            **self.configuration,
            "device": device,
            "device_name": torch.cuda.get_device_name() if cuda else device,
            "peak_gpu_memory_mb": round(torch.cuda.max_memory_allocated() / 2**20, 1) if cuda else None,
            "versions": versions(),
            "git": git_state(Path(__file__).parent),
            **origin,
            "epochs": len(outcome.history),
            "best_epoch": outcome.best_epoch,
            "n_parameters": sum(p.numel() for p in model.parameters()),
            **values,
            **spent,
        }
        write_json(self.output / "run.json", record)

    def _write_results(self, model: Model, outcome: Outcome) -> None:
        with atomic_path(self.output / "lists.parquet") as temporary:
            lists_frame(outcome.lists).to_parquet(temporary, index=False)
        with atomic_path(self.output / "model.pt") as temporary, temporary.open("wb") as handle:
            # a file without a name: the archive's inner folder would be named after it, and no two files were the same
            torch.save({name: value.cpu() for name, value in model.state_dict().items()}, handle)
        if outcome.embeddings is not None:
            users, items = (x.float().numpy().astype(np.float16) for x in outcome.embeddings)
            with atomic_path(self.output / "embeddings.npz") as temporary:
                np.savez(temporary, users=users, items=items)
