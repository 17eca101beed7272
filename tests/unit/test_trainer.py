import subprocess
import sys
from pathlib import Path
from typing import Any

import filelock
import pytest
import torch
from planted import (
    assert_same_run,
    planted_model,
    planted_trainer,
    recall_at_20,
    same_lists,
    same_parameters,
    without_seconds,
)

from mmrepro.config.protocol import Protocol, ProtocolConfig
from mmrepro.config.run import RunSpec
from mmrepro.errors import MmreproError
from mmrepro.runtime.checkpoint import Checkpoint
from mmrepro.runtime.devices import fix_threads
from mmrepro.training.run import train

FAIR, RELEASED = Protocol(), ProtocolConfig(base="released").resolve()

TWO_THREADS = """
import hashlib
import numpy as np, pandas as pd, torch
from mmrepro.config.protocol import Protocol
from mmrepro.datasets.interactions import PreparedDataset
from mmrepro.evaluation.evaluator import Evaluator
from mmrepro.evaluation.metrics import recall
from mmrepro.models.base import ItemContent, build_model, model_class
from mmrepro.ops.neighbours import nearest_neighbours
from mmrepro.runtime.seeds import seed_everything
from mmrepro.training.released import Behaviour
from mmrepro.training.trainer import Settings, Trainer

torch.set_num_threads(2)
rng = np.random.default_rng(0)
frame = pd.DataFrame({"user": rng.integers(0, 900, 9000), "item": rng.integers(0, 400, 9000)}).drop_duplicates()
frame["split"] = np.where(np.arange(len(frame)) % 9 == 0, "valid", "train")
data = PreparedDataset("random", 900, 400, "0", frame)
features = {m: torch.from_numpy(rng.normal(size=(400, 64)).astype("f")) for m in ("image", "text")}
content = ItemContent(features, {m: nearest_neighbours(x, 10)[0] for m, x in features.items()})
print(torch.get_num_threads())
for name in ("lightgcn", "cm3"):
    seed_everything(0)
    model = build_model(name, data.of("train"), content, {"max_epochs": 2}, Protocol())
    parameters = model_class(name).Parameters(max_epochs=2)
    outcome = Trainer(model, Evaluator(data, Protocol()), parameters, Behaviour.of(Protocol(), model, parameters),
                      Settings(0, recall, splits=("valid",), depth=20)).fit()
    digest = hashlib.sha256(outcome.lists["valid"].scores.tobytes())
    for value in model.state_dict().values():
        digest.update(value.numpy().tobytes())
    print(digest.hexdigest())
"""


class Stopped(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("name", ["bpr", "lightgcn", "vbpr", "alignrec", "cm3"])
def test_two_runs_of_one_seed_are_equal_bit_for_bit_and_another_seed_is_not(name: str) -> None:
    first, second, other = (planted_trainer(name, FAIR, seed=seed) for seed in (3, 3, 4))
    outcome = first.fit()
    assert_same_run(first, outcome, second, second.fit())
    assert not same_lists(outcome, other.fit())


@pytest.mark.slow
def test_two_processes_with_two_threads_are_equal_bit_for_bit() -> None:
    command = [sys.executable, "-c", TWO_THREADS]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert first.split()[0] == "2" and len(first.split()) == 3
    assert first == second


@pytest.mark.parametrize("name", ["bpr", "lightgcn", "vbpr", "alignrec", "cm3"])
def test_training_learns_the_planted_structure(name: str) -> None:
    outcome = planted_trainer(name, FAIR, max_epochs=12).fit()
    recall = [record["valid"]["recall_at_20"] for record in outcome.history]
    assert outcome.history[-1]["loss"] < outcome.history[0]["loss"]
    assert max(recall) > recall[0]
    assert recall_at_20(outcome, "valid") == max(recall)


@pytest.mark.parametrize(("stop_when", "last_epoch"), [("reaches", 5), ("exceeds", 6)])
def test_training_stops_when_the_bad_epochs_reach_or_exceed_the_patience(stop_when: str, last_epoch: int) -> None:
    values = [0.1, 0.2, 0.2, 0.1, 0.15, 0.1, 0.3, 0.4]
    trainer = planted_trainer("lightgcn", Protocol(stop_when=stop_when), scripted=values, patience=3, max_epochs=8)
    outcome = trainer.fit()
    assert [record["epoch"] for record in outcome.history] == list(range(1, last_epoch + 1))
    assert [record["best_epoch"] for record in outcome.history] == [1] + [2] * (last_epoch - 1)


def test_an_improvement_resets_the_count_of_bad_epochs() -> None:
    values = [0.1, 0.1, 0.2, 0.1, 0.3, 0.1, 0.1, 0.9]
    outcome = planted_trainer("bpr", FAIR, scripted=values, patience=2, max_epochs=8).fit()
    assert (len(outcome.history), outcome.best_epoch) == (7, 5)


def test_the_earliest_of_equally_good_epochs_is_kept_even_when_all_are_zero() -> None:
    outcome = planted_trainer("bpr", FAIR, scripted=[0.0] * 4, max_epochs=4).fit()
    assert outcome.best_epoch == 1


def test_learning_rate_falls_by_the_number_of_finished_epochs() -> None:
    used: list[float] = []
    trainer = planted_trainer(
        "bpr", FAIR, max_epochs=5, learning_rate=0.02, learning_rate_decay=0.5, learning_rate_decay_epochs=2,
        report=lambda record: used.append(trainer.optimiser.learning_rate),
    )  # fmt: skip
    outcome = trainer.fit()
    assert used == pytest.approx([0.02, 0.02 * 0.5**0.5, 0.01, 0.02 * 0.5**1.5, 0.005])
    assert [record["learning_rate"] for record in outcome.history] == used


def test_a_constant_learning_rate_is_the_default() -> None:
    outcome = planted_trainer("bpr", FAIR, learning_rate=0.02).fit()
    assert {record["learning_rate"] for record in outcome.history} == {0.02}


def test_a_diverged_loss_names_epoch_term_and_advice() -> None:
    trainer = planted_trainer("lightgcn", FAIR, learning_rate=1e30, batch_size=10_000)
    with pytest.raises(MmreproError, match=r"loss term 'bpr' is nan in epoch 2; lower learning_rate \(now 1e\+30\)"):
        trainer.fit()


def stop_after(epochs: int, seen: list[int]) -> Any:
    def report(record: dict[str, Any]) -> None:
        seen.append(record["epoch"])
        if record["epoch"] == epochs:
            raise Stopped

    return report


@pytest.mark.parametrize("protocol", [FAIR, RELEASED], ids=["fair", "released"])
@pytest.mark.parametrize("name", ["lightgcn", "alignrec", "cm3"])
def test_a_stopped_run_resumes_and_ends_as_an_uninterrupted_one(tmp_path: Path, name: str, protocol: Protocol) -> None:
    whole = planted_trainer(name, protocol, max_epochs=9)
    expected = whole.fit()
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", {"code": "1"})
    seen: list[int] = []
    with pytest.raises(Stopped):
        planted_trainer(name, protocol, max_epochs=9, checkpoint=checkpoint, report=stop_after(7, seen)).fit()
    fresh_weights = planted_model(name, protocol, seed=99)  # all of it must come from the checkpoint
    resumed = planted_trainer(
        name, protocol, model=fresh_weights, max_epochs=9, checkpoint=checkpoint, report=stop_after(99, seen)
    )
    assert_same_run(resumed, resumed.fit(), whole, expected)
    assert seen == [*range(1, 8), *range(6, 10)]


def test_a_run_stopped_by_its_patience_is_not_trained_further_when_resumed(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", {"code": "1"})
    values = [0.5, *[0.1] * 9]
    first = planted_trainer("bpr", FAIR, scripted=values, patience=4, max_epochs=9, checkpoint=checkpoint)
    expected = first.fit()
    again = planted_trainer("bpr", FAIR, scripted=[], patience=4, max_epochs=9, checkpoint=checkpoint)
    assert_same_run(again, again.fit(), first, expected)


@pytest.mark.parametrize("changed", [{"code": "2", "seed": 0}, {"code": "1", "seed": 1}, {"code": "1"}])
def test_a_checkpoint_of_another_identity_is_discarded(tmp_path: Path, changed: dict[str, Any]) -> None:
    path = tmp_path / "checkpoint.pt"
    Checkpoint(path, {"code": "1", "seed": 0}).save({"epoch": 5})
    assert Checkpoint(path, {"code": "1", "seed": 0}).load() == {"epoch": 5}
    assert Checkpoint(path, changed).load() is None
    assert not path.exists()


def test_a_run_with_a_foreign_checkpoint_starts_at_the_first_epoch(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    planted_trainer("bpr", FAIR, max_epochs=6, checkpoint=Checkpoint(path, {"code": "1"})).fit()
    fresh, resumed = planted_trainer("bpr", FAIR), planted_trainer("bpr", FAIR, checkpoint=Checkpoint(path, {}))
    assert_same_run(resumed, resumed.fit(), fresh, fresh.fit())


def test_a_damaged_checkpoint_is_discarded(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"half a file")
    assert Checkpoint(path, {"code": "1"}).load() is None
    assert not path.exists()


@pytest.mark.parametrize("name", ["lightgcn", "alignrec", "cm3"])
def test_training_in_bfloat16_learns_too_and_keeps_float32_parameters(name: str) -> None:
    exact = planted_trainer(name, FAIR, max_epochs=8).fit()
    trainer = planted_trainer(name, FAIR, max_epochs=8, precision="bfloat16")
    outcome = trainer.fit()
    losses, expected = ([record["loss"] for record in o.history] for o in (outcome, exact))
    assert losses[-1] < losses[0]
    assert losses == pytest.approx(expected, abs=0.05)
    assert {value.dtype for value in trainer.model.state_dict().values()} == {torch.float32}


def test_bfloat16_is_in_force_where_the_model_has_matrix_products() -> None:
    exact, half = (planted_trainer("cm3", FAIR, precision=p).fit() for p in ("float32", "bfloat16"))
    assert without_seconds(exact.history) != without_seconds(half.history)


def test_test_is_ranked_only_when_asked_for() -> None:
    assert list(planted_trainer("bpr", FAIR, splits=("valid",)).fit().lists) == ["valid"]


def test_the_model_left_behind_is_the_one_that_was_evaluated() -> None:
    trainer = planted_trainer("bpr", FAIR, scripted=[0.1, 0.9, 0.3, 0.2], max_epochs=4)
    outcome = trainer.fit()
    until_best = planted_trainer("bpr", FAIR, scripted=[0.1, 0.9], max_epochs=2)
    assert same_lists(outcome, until_best.fit())
    assert same_parameters(trainer.model, until_best.model)


def test_threads_that_are_not_to_be_had_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0}, raising=False)
    with pytest.raises(MmreproError, match=r"threads: 2, but 1 are to be had; lower `threads`"):
        fix_threads(2)


def test_a_run_folder_in_use_is_refused(tmp_path: Path) -> None:
    spec = RunSpec(purpose="final", dataset="planted", model="bpr")
    with (
        filelock.FileLock(tmp_path / ".lock"),
        pytest.raises(MmreproError, match=f"{tmp_path}: another process writes to this run"),
    ):
        train(spec, 0, tmp_path / "prepared", None, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


class Command:
    """What runs code when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_a_checkpoint_that_somebody_put_there_runs_no_code(tmp_path: Path) -> None:
    identity = {"code": "c"}
    target = tmp_path / "ran"
    torch.save({"identity": identity, "spent": {}, "state": Command(target)}, tmp_path / "checkpoint.pt")
    assert Checkpoint(tmp_path / "checkpoint.pt", identity).load() is None
    assert not target.exists() and not (tmp_path / "checkpoint.pt").exists()
