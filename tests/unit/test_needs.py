import json
from pathlib import Path
from typing import get_args

import pytest

from mmrepro.config.dataset import DatasetConfig
from mmrepro.config.features import PublishedEncoder
from mmrepro.study.needs import Stage, disk_mb, memory_mb, minutes, size_of, width

REPOSITORY = Path(__file__).parents[2]
WIDTHS = {
    "posters": [384, 384], "alignrec-posters": [128], "published-tiktok": [128, 128], "alignrec-tiktok": [128], None: [],
}  # fmt: skip


def dataset(**expected: int) -> DatasetConfig:
    values = {"dataset": "toy", "title": "Toy", "reader": "mmrec", "folder": "toy", "licence": "none"}
    return DatasetConfig.model_validate({**values, "expected": expected})


BABY = dataset(users=19_445, items=7_050, train=118_551, valid=20_559, test=21_682)
SIZES = {
    "baby": BABY,
    "tiktok": dataset(users=9_308, items=6_710, train=59_541, valid=3_051, test=6_130),
    "ml-100k": dataset(users=943, items=1_349, train=79_619, valid=9_619, test=10_049),
}
ELECTRONICS = dataset(users=192_403, items=63_001, train=1_254_441, valid=211_296, test=223_451)


def widths(run: dict) -> list[int]:
    return WIDTHS[run["features"] and run["features"].partition("--")[0]]


def committed_runs() -> list[dict]:
    files = sorted((REPOSITORY / "results/reference").glob("*/runs.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_a_width_that_an_encoder_states_is_taken() -> None:
    class Wide:
        dim = 2000

    assert width(Wide(), "text") == 2000  # type: ignore[arg-type]


def test_memory_covers_every_committed_run_and_is_not_absurd() -> None:
    runs = [run for run in committed_runs() if run["dataset"] in SIZES]
    assert len(runs) > 30
    for run in runs:
        granted = memory_mb("train", SIZES[run["dataset"]], widths(run), model=run["model"])
        assert run["peak_memory_mb"] * 1.048576 <= granted <= max(2000, 2.5 * run["peak_memory_mb"])


def test_time_is_about_that_of_committed_runs() -> None:
    for run in committed_runs():
        if run["dataset"] in SIZES and run["epochs"] > 0:
            size = SIZES[run["dataset"]]
            estimate = minutes("train", size, widths(run), model=run["model"], epochs=run["epochs"])
            with_start = run["wall_seconds"] + 10  # records begin after the imports, estimates with the process
            assert run["cpu_seconds"] / 60 / 2 <= estimate <= 5 * with_start / 60


def test_electronics_with_wide_features_fits_in_24_gb() -> None:
    columns = {"train": [4096, 384], "align_content": [768]}
    needs = {stage: memory_mb(stage, ELECTRONICS, columns.get(stage, [4096])) for stage in get_args(Stage)}
    assert max(needs.values()) == needs["train"] < 24_000
    matrix = 63_001 * 4096 * 4 / 1e6
    assert needs["item_graph"] < matrix + 1500


def test_memory_grows_with_every_count_and_width() -> None:
    small = memory_mb("train", ELECTRONICS, [384])
    assert memory_mb("train", ELECTRONICS, [4096]) > small
    assert memory_mb("train", ELECTRONICS, [384], embedding_size=128) > small
    assert memory_mb("train", BABY, [384]) < small


@pytest.mark.parametrize("stage", get_args(Stage))
def test_unknown_counts_need_the_least(stage: str) -> None:
    unknown = dataset()
    assert size_of(unknown) is None
    assert memory_mb(stage, unknown, [64]) == 2000
    assert disk_mb(stage, unknown, [512]) == 1
    assert 0 < minutes(stage, unknown, [512]) < 2


def test_missing_split_counts_are_estimated_from_the_users() -> None:
    size = size_of(dataset(users=1000, items=50))
    assert size is not None
    assert (size.interactions, size.train) == (10_000, 8_000)


def test_disk_counts_known_sizes_and_the_features_as_they_are_stored() -> None:
    files = [{"name": "a.csv", "bytes": 3_000_000}, {"name": "b.csv", "bytes": 4_000_000}]
    known = DatasetConfig.model_validate({**BABY.model_dump(), "files": files})
    assert disk_mb("fetch", known) == 7
    assert disk_mb("extract", BABY, [4096]) == 116  # 7,050 x 4,096 x 4 bytes
    assert disk_mb("fetch", DatasetConfig.model_validate({**BABY.model_dump(), "files": [{"name": "c.npy"}]})) == 116


def test_published_text_is_taken_for_narrower_than_images() -> None:
    encoder = PublishedEncoder(encoder="published", file="x.npy")
    assert width(encoder, "text") < width(encoder, "image") == 4096
