"""What a training tells and leaves: progress, the files of its folder, and its record. Nothing here decides a
number.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml

from mmrepro.config.run import RunSpec
from mmrepro.records.files import atomic_path, file_sha256, remove_leftovers, write_record, write_text
from mmrepro.records.provenance import git_state, versions
from mmrepro.runtime.devices import device_name

if TYPE_CHECKING:
    import pandas as pd

CONFIG, HISTORY = "config.yaml", "history.jsonl"
LISTS, MODEL, EMBEDDINGS = "lists.parquet", "model.pt", "embeddings.npz"


@dataclass(frozen=True)
class Results:
    """What a final run or a refit leaves: lists as rows, weights by name, embeddings by name."""

    lists: pd.DataFrame
    weights: dict[str, torch.Tensor]
    embeddings: dict[str, np.ndarray]


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
        remove_leftovers(output)

    def progress(self, max_epochs: int, watch: str | None) -> Callable[[dict[str, Any]], None]:
        """Return what prints a line an epoch for people, and the same as JSON for programs."""

        def report(record: dict[str, Any]) -> None:
            best = " *" if record["best_epoch"] == record["epoch"] else f"   (best: epoch {record['best_epoch']})"
            valid = [f"valid {watch.replace('_at_', '@')} {record['valid'][watch]:.4f}{best}"] if watch else []
            head = f"{self.label} | epoch {record['epoch']}/{max_epochs} | loss {record['loss']:.4f}"
            print(" | ".join([head, *valid, f"{record['seconds']:.2f} s"]), file=sys.stderr, flush=True)
            print(json.dumps(record), flush=True)

        return report

    def write(
        self, history: list[dict[str, Any]], results: Results | None, found: dict[str, Any], origin: dict[str, Any],
        device: str, spent: dict[str, Any],
    ) -> None:  # fmt: skip
        """Write all files of the run.

        Parameters
        ----------
        history
            A record an epoch.
        results
            Lists, weights and embeddings; none of a trial.
        found
            What training found, handed on as it is.
        origin
            Fingerprint of the code and hashes of the data.
        device
            Where it was computed.
        spent
            What `Meter.spent` returns.
        """
        write_text(self.output / CONFIG, yaml.safe_dump(self.configuration, sort_keys=False))
        write_text(self.output / HISTORY, "".join(json.dumps(record) + "\n" for record in history))
        if results is not None:
            self._write_results(results)
        cuda = device == "cuda"
        files = (CONFIG, HISTORY, LISTS, MODEL, EMBEDDINGS)
        record = {
            "status": "finished",
            **self.configuration,
            "device": device,
            "device_name": device_name(device),
            "peak_gpu_memory_mb": round(torch.cuda.max_memory_allocated() / 2**20, 1) if cuda else None,
            "versions": versions(),
            "git": git_state(Path(__file__).parent),
            "files": {name: file_sha256(self.output / name) for name in files if (self.output / name).is_file()},
            **origin,
            **found,
            **spent,
        }
        write_record(self.output / "run.json", record)

    def _write_results(self, results: Results) -> None:
        with atomic_path(self.output / LISTS) as temporary:
            results.lists.to_parquet(temporary, index=False)
        with atomic_path(self.output / MODEL) as temporary, temporary.open("wb") as handle:
            # a file without a name: the archive's inner folder would be named after it, and no two files were the same
            torch.save(results.weights, handle)
        if results.embeddings:
            with atomic_path(self.output / EMBEDDINGS) as temporary:
                np.savez(temporary, **results.embeddings)  # type: ignore[arg-type]  # numpy types `allow_pickle` alone
