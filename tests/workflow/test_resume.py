import itertools
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mmrepro.config.features import ItemGraphSection
from mmrepro.config.protocol import Protocol
from mmrepro.config.run import RunSpec
from mmrepro.datasets.interactions import INTERACTIONS, write_prepared
from mmrepro.features.item_graph import build_item_graph
from mmrepro.features.matrix import FeatureMatrix
from mmrepro.housekeeping.screen import STOPPED
from mmrepro.runtime.checkpoint import CHECKPOINT_EVERY
from mmrepro.runtime.devices import torch_threads
from mmrepro.runtime.interruption import STATUS
from mmrepro.training.run import train

N_USERS, N_ITEMS, EPOCHS, THREADS = 400, 200, 14, 2
SHORTEST_LIFE, LONGEST_LIFE = 4, 7  # epochs; checkpoints are 5 apart, so a short life may be in vain
MOST_LIVES = 20


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A prepared data set with features, as far as training reads it."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"user": rng.integers(0, N_USERS, 4000), "item": rng.integers(0, N_ITEMS, 4000)})
    frame = frame.drop_duplicates().astype(np.int32)
    frame["split"] = rng.choice(["train", "valid", "test"], len(frame), p=[0.8, 0.1, 0.1])
    folder = tmp_path / "prepared"
    counts = {"dataset": "random", "n_users": N_USERS, "n_items": N_ITEMS}
    hashes = {"content_hash": "0" * 64, "item_list_hash": "1" * 64}
    write_prepared(folder, {INTERACTIONS: frame.reset_index(drop=True)}, {**counts, **hashes})
    for modality, dim in (("image", 96), ("text", 32)):
        matrix = rng.normal(size=(N_ITEMS, dim)).astype(np.float32)
        record = {
            "encoder": {"encoder": "published", "file": "none"}, "weights": "none", "item_list_hash": "1" * 64,
            "n_missing": 0,
        }  # fmt: skip
        FeatureMatrix(matrix, modality, record).save(tmp_path / "features")
        build_item_graph(ItemGraphSection(), modality, tmp_path / "features", tmp_path / "features")
    return folder


SPEC = RunSpec(
    purpose="final", dataset="random", features="random", modalities=("image", "text"), model="cm3",
    parameters={"max_epochs": EPOCHS, "patience": EPOCHS, "neighbours": 10, "batch_size": 1024},
    protocol=Protocol(ranking_draw="last_batch", score_with="last_batch"), threads=THREADS,
)  # fmt: skip


def training_command(prepared: Path, output: Path) -> list[str]:
    return [
        sys.executable, "-m", "mmrepro", "train", "--run", SPEC.model_dump_json(),
        "--seed", "0", "--threads", str(THREADS), "--prepared", str(prepared),
        "--features", str(prepared.parent / "features"), "--output", str(output),
    ]  # fmt: skip


def test_asked_to_end_it_saves_the_epoch_that_runs_and_goes_on_to_the_same_bytes(
    prepared: Path, tmp_path: Path
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    subprocess.run(training_command(prepared, whole), check=True, capture_output=True)
    with subprocess.Popen(training_command(prepared, stopped), stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if json.loads(line)["epoch"] == 2:  # a checkpoint would follow after the fifth
                process.terminate()
                break
        seen = [json.loads(line)["epoch"] for line in process.stdout]
        said = process.stderr.read()
    assert process.returncode == STATUS and said.endswith(f"{STOPPED}\n")
    saved = torch.load(stopped / "checkpoint.pt", weights_only=True)["state"]["progress"]["epoch"]
    assert saved == (seen[-1] if seen else 2) and saved < EPOCHS and not (stopped / "run.json").exists()
    again = subprocess.run(training_command(prepared, stopped), capture_output=True, text=True)
    assert again.returncode == 0 and f"resumed after epoch {saved}" in again.stderr
    for name in ("lists.parquet", "embeddings.npz", "model.pt"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()


def start_and_kill(command: list[str], epochs: int, share: float) -> tuple[int, int]:
    """Kill the process a share of an epoch after some epochs; return the first and the last one it reported."""
    reported: list[int] = []
    arrived = [time.perf_counter()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            reported.append(json.loads(line)["epoch"])
            arrived.append(time.perf_counter())
            if len(reported) == epochs:
                time.sleep(share * (arrived[-1] - arrived[-2]))
                process.kill()
                break
    assert process.returncode in (0, -signal.SIGKILL)
    return reported[0], reported[-1]


def history(folder: Path) -> list[dict[str, object]]:
    records = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_bit_for_bit_as_an_uninterrupted_one(tmp_path: Path, prepared: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with torch_threads(THREADS):
        train(SPEC, 0, prepared, tmp_path / "features", whole)
    moments = random.Random(0)
    lives: list[tuple[int, int]] = []
    while not (killed / "run.json").exists():
        assert len(lives) < MOST_LIVES, lives
        epochs = moments.randint(SHORTEST_LIFE, LONGEST_LIFE)
        lives.append(start_and_kill(training_command(prepared, killed), epochs, moments.random()))
    assert len(lives) > 2
    for (_, last), (first, _) in itertools.pairwise(lives):
        saved = last - last % CHECKPOINT_EVERY
        assert first == saved + 1 or (last == saved and first == saved - CHECKPOINT_EVERY + 1)  # killed while saving
    assert history(killed) == history(whole)
    assert [record["epoch"] for record in history(killed)] == list(range(1, EPOCHS + 1))
    pd.testing.assert_frame_equal(
        *(pd.read_parquet(folder / "lists.parquet") for folder in (killed, whole)), check_exact=True
    )
    parameters, expected = (torch.load(folder / "model.pt") for folder in (killed, whole))
    assert list(parameters) == list(expected)
    assert all(torch.equal(parameters[name], expected[name]) for name in expected)
    assert not (killed / "checkpoint.pt").exists()
