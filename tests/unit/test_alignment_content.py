import json
import shutil
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd
import pytest
import torch
from alignment_hand_made import ALL, IMAGE, TITLE, settings, write_catalogue
from features_hand_made import make_items

from mmrepro.config.features import AlignRecEncoder
from mmrepro.datasets.interactions import load_items
from mmrepro.errors import MmreproError
from mmrepro.features.alignment.pretrain import align_content
from mmrepro.features.encoders.alignrec import encode
from mmrepro.features.encoders.base import Encoded
from mmrepro.features.shards import Shards
from mmrepro.records.files import read_object
from mmrepro.runtime.devices import Device

NAME = "tiny.unified"
ENCODER = settings(epochs=25, dim=32, layers=1, batch_size=24, learning_rate=1e-2)
QUICK = settings()


def align(encoder: AlignRecEncoder, prepared: Path, raw: Path, output: Path, report: Any = None) -> dict[str, Any]:
    align_content(encoder, NAME, prepared, raw, output, report or (lambda record: None))
    return read_object(output / "run.json")


def encode_all(encoder: AlignRecEncoder, items: pd.DataFrame, raw: Path, output: Path, shards: Path) -> Encoded:
    trained = encoder.model_copy(update={"weights": str(output / "encoder.pt")})
    return encode(trained, items, raw, Shards(shards, "unified", "code", {}))


def stored_bits(output: Path) -> list[torch.Tensor]:
    return list(torch.load(output / "encoder.pt", weights_only=True)["state"].values())


def history(output: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_catalogue(tmp_path_factory.mktemp("catalogue"))


@pytest.fixture(scope="module")
def trained(catalogue: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained")
    align(ENCODER, *catalogue, output)
    return output


def test_held_out_prediction_beats_the_baselines_and_retrieval_rises_far_above_chance(trained: Path) -> None:
    record = read_object(trained / "run.json")
    for name, source in record["sources"].items():
        assert source["trained"] < 0.5 * source["baseline"], name
        assert source["trained"] < 0.5 * source["untrained"], name
    found = record["retrieval"]
    assert found["queries"] > 15
    assert found["trained"]["recall_at_10"] > 4 * found["chance"]["recall_at_10"]
    assert found["trained"]["mean_reciprocal_rank"] > 2 * found["untrained"]["mean_reciprocal_rank"]


def test_the_record_says_what_was_done(trained: Path) -> None:
    record = read_object(trained / "run.json")
    assert list(record) == [
        "status", "purpose", "dataset", "features", "modality", "configuration", "seed", "device", "device_name",
        "versions", "git", "code", "data", "n_parameters", "items", "absent", "epochs", "sources", "retrieval",
        "peak_gpu_memory_mb", "wall_seconds", "cpu_seconds", "peak_memory_mb", "energy_joules",
    ]  # fmt: skip
    assert [record[key] for key in ("status", "purpose", "dataset", "features", "modality")] == [
        "finished", "alignment", "hand-made", "tiny", "unified",
    ]  # fmt: skip
    assert record["items"] == {"total": 96, "trained": record["items"]["trained"], "held_out": 24, "without_any": 1}
    assert record["items"]["trained"] == 71
    assert record["absent"] == {"image": 2, "text": 2}
    assert list(record["sources"]["text"]) == ["target", "measure", "baseline", "untrained", "trained"]
    assert [source["measure"] for source in record["sources"].values()] == ["mean squared error", "nats a token"]
    assert len(history(trained)) == record["epochs"] == 25
    assert sorted(path.name for path in trained.iterdir()) == [".lock", "encoder.pt", "history.jsonl", "run.json"]


def test_a_finished_run_is_not_done_again_until_something_changes(
    catalogue: tuple[Path, Path], trained: Path, tmp_path: Path
) -> None:
    output = tmp_path / "copy"
    shutil.copytree(trained, output)
    epochs: list[dict[str, Any]] = []
    align(ENCODER, *catalogue, output, epochs.append)
    assert epochs == []
    align(ENCODER.model_copy(update={"epochs": 1}), *catalogue, output, epochs.append)
    assert len(epochs) == read_object(output / "run.json")["epochs"] == 1


def test_encoding_gives_every_item_a_vector_and_says_what_it_lacks(
    catalogue: tuple[Path, Path], trained: Path, tmp_path: Path
) -> None:
    prepared, raw = catalogue
    found = encode_all(ENCODER, load_items(prepared), raw, trained, tmp_path)
    assert found.matrix.shape == (96, 32) and found.matrix.dtype == np.float32
    assert found.reasons == {7: "image: no image; text: no text"}
    assert found.description["weights"] == "pre-trained on this catalogue, from scratch"
    absent = {
        name: [(entry["item"], entry["reason"]) for entry in lacking]
        for name, lacking in found.description["absent"].items()
    }
    assert absent == {"image": [(3, "no image"), (7, "no image")], "text": [(5, "no text"), (7, "no text")]}
    assert len(list(tmp_path.glob(".unified-*/*.npz"))) == 1
    again = encode_all(ENCODER, load_items(prepared), raw, trained, tmp_path)
    np.testing.assert_array_equal(found.matrix, again.matrix)
    assert again.description == found.description and again.reasons == found.reasons


def test_a_source_masked_at_encoding_counts_as_absent(
    catalogue: tuple[Path, Path], trained: Path, tmp_path: Path
) -> None:
    prepared, raw = catalogue
    items = load_items(prepared)
    masked = items.assign(masked=[{2: "image", 4: "text", 5: "image"}.get(item) for item in items.index])
    found = encode_all(ENCODER, masked, raw, trained, tmp_path / "a")
    lacking = items.copy()
    lacking.loc[2, "image"] = lacking.loc[5, "image"] = None
    lacking.loc[4, "title"] = None
    expected = encode_all(ENCODER, lacking, raw, trained, tmp_path / "b")
    np.testing.assert_array_equal(found.matrix, expected.matrix)
    assert {"item": 2, "key": "2", "reason": "masked"} in found.description["absent"]["image"]
    assert found.reasons == {5: "image: masked; text: no text", 7: "image: no image; text: no text"}
    whole = encode_all(ENCODER, items, raw, trained, tmp_path / "c")
    changed = np.abs(found.matrix - whole.matrix).max(axis=1) > 0
    assert np.flatnonzero(changed).tolist() == [2, 4, 5]


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_and_ends_with_the_same_bits(catalogue: tuple[Path, Path], tmp_path: Path) -> None:
    def kill(record: dict[str, Any]) -> None:
        if record["epoch"] == 6:
            raise Killed

    align(QUICK, *catalogue, tmp_path / "whole")
    with pytest.raises(Killed):
        align(QUICK, *catalogue, tmp_path / "killed", kill)
    assert not (tmp_path / "killed/run.json").exists()
    epochs: list[dict[str, Any]] = []
    align(QUICK, *catalogue, tmp_path / "killed", epochs.append)
    assert [record["epoch"] for record in epochs] == [6, 7]
    assert history(tmp_path / "killed") == history(tmp_path / "whole")
    bits = zip(stored_bits(tmp_path / "killed"), stored_bits(tmp_path / "whole"), strict=True)
    assert all(torch.equal(a, b) for a, b in bits)
    left_out = ("git", "wall_seconds", "cpu_seconds", "peak_memory_mb")
    killed, whole = (read_object(tmp_path / name / "run.json") for name in ("killed", "whole"))
    assert {k: v for k, v in killed.items() if k not in left_out} == {
        k: v for k, v in whole.items() if k not in left_out
    }


def test_accumulated_batches_take_one_step(catalogue: tuple[Path, Path], tmp_path: Path) -> None:
    rates = []
    for accumulate in (1, 5):
        epochs: list[dict[str, Any]] = []
        align(
            QUICK.model_copy(update={"accumulate": accumulate, "epochs": 4}),
            *catalogue,
            tmp_path / str(accumulate),
            epochs.append,
        )
        rates.append([round(record["learning_rate"] / QUICK.learning_rate, 6) for record in epochs])
    steps = 5 * 4  # five batches an epoch; two steps of warm-up
    assert rates[0] == [round(0.5 + np.cos(np.pi * (5 * e - 1 - 2) / (steps - 2)) / 2, 6) for e in (1, 2, 3, 4)]
    assert rates[1] == [round(0.5 + np.cos(np.pi * x / 3) / 2, 6) for x in (0, 0, 1, 2)]


def write_vectors(root: Path, first: np.ndarray, second: np.ndarray) -> tuple[Path, Path]:
    prepared = make_items(root / "prepared", [None] * len(first), [None] * len(first), published=len(first))
    (root / "raw").mkdir()
    np.save(root / "raw/one_feat.npy", first)
    np.save(root / "raw/two_feat.npy", second)
    return prepared, root / "raw"


VECTORS = {"one": {"kind": "vector", "file": "one_*.npy"}, "two": {"kind": "vector", "file": "two_feat.npy"}}


def test_a_vector_that_is_a_linear_map_of_another_is_learnt(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    first = generator.normal(size=(300, 3)).astype(np.float16)
    second = (first.astype(np.float64) @ generator.normal(size=(3, 4)) * 5 + 2).astype(np.float32)
    first[9], second[10] = np.nan, np.nan
    paths = write_vectors(tmp_path, first, second)
    encoder = settings(VECTORS, epochs=12, dim=32, layers=1, batch_size=64, learning_rate=2e-2)
    record = align(encoder, *paths, tmp_path / "out")
    for source in record["sources"].values():
        assert source["baseline"] == pytest.approx(1, abs=0.5)
        assert source["trained"] < 0.1, source
    assert record["absent"] == {"one": 1, "two": 1}
    found = encode_all(encoder, load_items(paths[0]), paths[1], tmp_path / "out", tmp_path)
    assert found.reasons == {} and np.isfinite(found.matrix).all()
    assert found.description["absent"]["one"] == [{"item": 9, "key": "9", "reason": "NaN in its vector"}]


@pytest.mark.parametrize(
    ("sources", "changes", "message"),
    [
        (VECTORS, {}, r"raw: one file 'one_\*.npy' is expected, found one_a.npy, one_b.npy"),
        ({**VECTORS, "one": {"kind": "vector", "file": "a.npy"}}, {}, "one file 'a.npy' is expected, found none"),
        ({"image": IMAGE, "text": TITLE}, {"held_out": 0.01}, "4 items to train on and 0 held out"),
        ({"image": IMAGE, "text": TITLE}, {"heads": 5}, "heads 5 do not divide dim 16"),
        ({"image": IMAGE, "text": TITLE}, {}, "source 'image': no training item has it"),
        ({"one": VECTORS["two"], "text": TITLE}, {}, "source 'text': no word occurs in two training items"),
    ],
)
def test_what_cannot_be_aligned_is_named(sources: dict, changes: dict, message: str, tmp_path: Path) -> None:
    prepared, raw = write_vectors(tmp_path, np.ones((4, 2)), np.ones((4, 2)))
    make_items(prepared, ["a", "b", "c", "d"], [None] * 4, published=4)
    shutil.copy(raw / "one_feat.npy", raw / "one_b.npy")
    (raw / "one_feat.npy").rename(raw / "one_a.npy")
    with pytest.raises(MmreproError, match=message):
        align(settings(sources, **changes), prepared, raw, tmp_path / "out")
    assert not (tmp_path / "out/run.json").exists()


def test_a_row_with_infinity_is_named(tmp_path: Path) -> None:
    matrix = np.ones((5, 2))
    matrix[3, 1] = np.inf
    paths = write_vectors(tmp_path, np.ones((5, 2)), matrix)
    with pytest.raises(MmreproError, match=r"two_feat.npy: the vector of item '3' holds infinity"):
        align(settings(VECTORS), *paths, tmp_path / "out")


def test_a_folder_in_use_is_refused(catalogue: tuple[Path, Path], tmp_path: Path) -> None:
    with filelock.FileLock(tmp_path / ".lock"), pytest.raises(MmreproError, match="another process writes to this run"):
        align(QUICK, *catalogue, tmp_path)


def test_encoding_refuses_what_pre_training_did_not_write(
    catalogue: tuple[Path, Path], trained: Path, tmp_path: Path
) -> None:
    prepared, raw = catalogue
    items = load_items(prepared)
    with pytest.raises(MmreproError, match=r"weights '.*gone/encoder.pt' are no encoder.pt of `mmrepro align-content`"):
        encode_all(ENCODER, items, raw, tmp_path / "gone", tmp_path)
    (tmp_path / "encoder.pt").write_bytes(b"something else")
    with pytest.raises(MmreproError, match=r"are no encoder\.pt"):
        encode_all(ENCODER, items, raw, tmp_path, tmp_path)
    with pytest.raises(MmreproError, match="pre-trained with another `layers`; run `mmrepro align-content` again"):
        encode_all(ENCODER.model_copy(update={"layers": 2}), items, raw, trained, tmp_path)


def test_all_kinds_of_sources_go_together(catalogue: tuple[Path, Path], tmp_path: Path) -> None:
    prepared, raw = catalogue
    np.save(raw / "feat.npy", np.random.default_rng(0).normal(size=(96, 3)))
    encoder = settings(ALL, epochs=1)
    record = align(encoder, prepared, raw, tmp_path / "out")
    assert list(record["sources"]) == list(record["data"]["sources"]) == ["image", "text", "sound"]
    assert (record["retrieval"]["query"], record["retrieval"]["candidates_from"]) == ("image", "text")
    assert encode_all(encoder, load_items(prepared), raw, tmp_path / "out", tmp_path).reasons == {}


def test_bfloat16_trains_to_about_the_same(
    catalogue: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = QUICK.model_copy(update={"epochs": 3})
    align(encoder, *catalogue, tmp_path / "float32")
    monkeypatch.setattr(
        "mmrepro.features.alignment.pretrain.encoding_device", lambda wanted: Device("cpu", "bfloat16", "cpu")
    )
    align(encoder, *catalogue, tmp_path / "bfloat16")
    losses = [[line["loss"] for line in history(tmp_path / name)] for name in ("float32", "bfloat16")]
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.05)
