"""Training from Python: the code, seeds and folders of the workflow."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.config.model import model_names, outside_name
from mmrepro.config.run import WATCH
from mmrepro.errors import MmreproError
from mmrepro.library.data import Data
from mmrepro.library.project import ensure_data, plan_of, working_in
from mmrepro.library.results import CUTOFFS, Results, checked_cutoffs, with_keys
from mmrepro.records.definitions import ROOT
from mmrepro.records.files import read_arrays, read_object, read_table, recorded_file
from mmrepro.reporting.recommend import recommend_liked, recommend_users
from mmrepro.runtime.devices import torch_threads
from mmrepro.study.layout import Layout
from mmrepro.study.outside import forget_outside, schema_of
from mmrepro.training.run import is_made_of
from mmrepro.training.run import train as start
from mmrepro.training.serving import Server, run_of

IMPORTED = time.time()


@dataclass(frozen=True)
class Run(Results):
    """A trained model: what it lists, how good that is, and what it recommends.

    Attributes
    ----------
    path
        Its folder, as the workflow names it.
    """

    path: Path = Path()

    @property
    def record(self) -> dict[str, Any]:
        """How it was made: settings, code, data, machine, time."""
        return read_object(self.path / "run.json") or {}

    @property
    def history(self) -> pd.DataFrame:
        """A row an epoch."""
        return pd.read_json(self.path / "history.jsonl", lines=True)

    @property
    def embeddings(self) -> dict[str, np.ndarray]:
        """`users` and `items`, float16, in the order of indices; empty for a model without embeddings."""
        path = recorded_file(self.path, self.record, "embeddings.npz")
        if not path.is_file():
            return {}
        users, items = read_arrays(path, "users", "items")
        return {"users": users, "items": items}

    @cached_property
    def _server(self) -> Server:
        return Server.load(self.path, self.data.folder)

    def recommend(
        self, users: Sequence[str] | str | None = None, k: int = 10, liked: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Recommend items to users, or to somebody who likes certain items; known items are left out.

        Parameters
        ----------
        users
            Keys of users; none, and nothing liked: all users.
        k
            Length of the lists.
        liked
            Keys of items, instead of users.

        Returns
        -------
        pd.DataFrame
            Columns user (unless for `liked`), rank, item, title, score.
        """
        if k < 1:
            raise MmreproError(f"k = {k}: a list has at least one item")
        with working_in(self.data.folder):
            if liked is not None:
                return recommend_liked(self._server, list(liked), k).frame
            keys = [users] if isinstance(users, str) else users
            return recommend_users(self._server, keys, k).frame


def train(
    model: str | Path, data: Data, seed: int = 0, *, protocol: str = "fair", threads: int = 1, device: str = "cpu",
    watch: str = WATCH, cutoffs: Sequence[int] = CUTOFFS, quiet: bool = False, **parameters: Any,
) -> Run:  # fmt: skip
    """Train a model as a study would, to the last digit; a finished run of the same code, data and settings is taken.

    Parameters
    ----------
    model
        Name of a model, or `folder/file.py:Class` of the project.
    data
        From `load`; with features for a model that reads content.
    seed
        Weights, batches and negatives derive from data set, model and it.
    protocol
        `fair` or `released`.
    threads, device
        As in a study; threads are part of the result.
    watch
        Metric on validation by which training stops.
    cutoffs
        Lengths at which lists are measured.
    quiet
        Print no epochs.
    **parameters
        That differ from the model's defaults.

    Raises
    ------
    MmreproError
        For an unknown model or parameter (with the nearest), a model that needs features, or what training refuses.
    """
    if not isinstance(data, Data):
        raise MmreproError(f"data: {data!r} is no data; load them with mmrepro.load")
    _require_fresh_code()
    forget_outside()
    with working_in(data.folder):
        name = _reference(model, data.folder)
        called = _called(name, data)
        changes = {
            "seeds": [seed], "protocols": {protocol: {"base": protocol}}, "threads": threads, "device": device,
            "watch": watch, "cutoffs": checked_cutoffs(cutoffs),
        }  # fmt: skip
        plan = plan_of(name, data.dataset, data.features, **changes, parameters={called: parameters})
        run = plan.runs[0]
        ensure_data(plan)
        data.prepared_dataset()  # which have perhaps just been made anew
        features = Layout.features(run.spec.dataset, run.spec.features) if run.spec.features else None
        prepared = Layout.prepared(run.spec.dataset)
        record = read_object(run.record)
        done = record is not None and record.get("code") == run.code
        if not done or not is_made_of(record or {}, prepared, features, run.spec.modalities):
            with _own_state(threads), _silence(quiet):
                start(run.spec, run.seed, prepared, features, run.folder)
    return run_in(data.folder / run.folder, data, cutoffs)


def run_in(folder: str | Path, data: Data, cutoffs: Sequence[int] = CUTOFFS) -> Run:
    """Return the finished run that lies in a folder.

    Raises
    ------
    MmreproError
        For a folder without one, or a damaged file.
    """
    path, at = Path(folder), checked_cutoffs(cutoffs)
    _, record = run_of(path)
    if (record.get("data") or {}).get("interactions") != data.statistics["content_hash"]:
        raise MmreproError(f"{path}: made of other data than '{data.dataset}' as it is prepared; load its data set")
    lists = read_table(recorded_file(path, record, "lists.parquet"))
    return Run(data, with_keys(lists, data.prepared), at, path)


def _reference(model: str | Path, folder: Path) -> str:
    """A model's name, or the path of its class relative to the project."""
    text = str(model)
    path, separator, name = text.partition(":")
    if not separator:
        if Path(text).suffix:
            raise MmreproError(
                f"{text}: no model; name one, or `folder/file.py:Class`, and measure lists with `evaluate`"
            )
        return text
    if Path(path).is_absolute():
        if not Path(path).is_relative_to(folder):
            raise MmreproError(f"{path}: not in {folder}; models of one's own lie in the project")
        path = Path(path).relative_to(folder).as_posix()
    return f"{path}:{name}"


def _called(reference: str, data: Data) -> str:
    """How a study calls the model, which must not read content that the data lack."""
    outside = reference if ":" in reference else None
    called = outside_name(outside) if outside else reference
    if (
        data.features is None
        and (outside or called in model_names())
        and schema_of(called, outside, Path()).uses_features
    ):
        raise MmreproError(f"'{called}' reads content; load the data with `features=`")
    return called


def _require_fresh_code() -> None:
    """A run is recorded with the code on disk, which must be the code that was imported."""
    changed = [path for path in ROOT.rglob("*.py") if path.stat().st_mtime > IMPORTED]
    if changed:
        raise MmreproError(f"{changed[0]}: changed since it was imported; start Python again")


@contextlib.contextmanager
def _own_state(threads: int) -> Iterator[None]:
    """Leave torch's threads and generators, and the way it fails, as they were."""
    import torch

    mode = torch.get_deterministic_debug_mode()
    legacy = np.random.get_state()  # noqa: NPY002 - training seeds the global generator
    try:
        with torch_threads(threads), torch.random.fork_rng():
            yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        np.random.set_state(legacy)  # noqa: NPY002


@contextlib.contextmanager
def _silence(quiet: bool) -> Iterator[None]:
    """Training tells programs of its epochs on stdout, people on stderr."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.ExitStack() as stack:
        if quiet:
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        yield
