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
from mmrepro.runtime.checkpoint import CHECKPOINT_EVERY
from mmrepro.runtime.devices import torch_threads
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
