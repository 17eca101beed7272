import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from features_hand_made import CLIP, feature_set, make_items
from hypothesis import given
from hypothesis import strategies as st

from mmrepro.config.features import FeatureSetConfig
from mmrepro.config.files import validate
from mmrepro.errors import MmreproError
from mmrepro.features.derived import derive_table, lost_sources
from mmrepro.features.extract import extract
from mmrepro.features.matrix import FeatureMatrix, present_items

N_ITEMS = 40
KEYS = [f"K{item}" for item in range(N_ITEMS)]
MISSING = {1: "no image", 7: "damaged"}


def toy(change: str, missing: str = "mean") -> FeatureSetConfig:
    modalities = {m: {"encoder": "published", "file": f"{m}.npy", "missing": missing} for m in ("image", "text")}
    config = validate(FeatureSetConfig, {"feature_set": "toy", "modalities": modalities}, "toy.yaml")
    return config.model_copy(update={"feature_set": f"toy--{change}"})


def whole_table(modality: str = "image", **record: Any) -> FeatureMatrix:
    """Two items have no row of their own and stand at the mean of the others."""
    matrix = np.random.default_rng(3).normal(size=(N_ITEMS, 5)).astype(np.float32)
    matrix[sorted(MISSING)] = np.delete(matrix, sorted(MISSING), axis=0).mean(axis=0)
    missing = [{"item": item, "key": KEYS[item], "reason": reason} for item, reason in MISSING.items()]
    known = {"feature_set": "toy", "modality": modality, "item_list_hash": "h", "treatment": "mean", "change": None}
    return FeatureMatrix(matrix, modality, {**known, "masked_share": 0.0, "n_missing": 2, "missing": missing, **record})


def reasons(table: FeatureMatrix) -> dict[int, str]:
    assert [entry["key"] for entry in table.record["missing"]] == [KEYS[e["item"]] for e in table.record["missing"]]
    assert table.record["n_missing"] == len(table.record["missing"])
    return {entry["item"]: entry["reason"] for entry in table.record["missing"]}


@given(st.integers(1, 60), st.floats(0, 1), st.floats(0, 1), st.integers(2, 4), st.integers(0, 9))
def test_a_larger_share_masks_the_same_items_alike_and_more(
    n: int, a: float, b: float, n_sources: int, seed: int
) -> None:
    sources = ["image", "text", "audio", "title"][:n_sources]
    small, large = (lost_sources(n, share, sources, seed=seed) for share in sorted((a, b)))
    assert (small != "").sum() == round(min(a, b) * n)
    np.testing.assert_array_equal(small[small != ""], large[small != ""])
    assert set(large) <= {"", *sources}


def test_each_source_is_lost_about_as_often_and_seeds_differ() -> None:
    lost = lost_sources(6000, 0.5, ["image", "text", "audio"])
    counts = [(lost == source).sum() for source in ("image", "text", "audio")]
    assert sum(counts) == 3000 and max(abs(count - 1000) for count in counts) < 5 * np.sqrt(3000 * 2 / 9)
    first, second = (lost[half] != "" for half in (slice(0, 3000), slice(3000, 6000)))
    assert abs(int(first.sum()) - int(second.sum())) < 5 * np.sqrt(6000 / 4)
    assert (lost != lost_sources(6000, 0.5, ["image", "text", "audio"], seed=1)).any()


def test_a_single_source_cannot_be_lost() -> None:
    with pytest.raises(MmreproError, match="source image alone would keep nothing to see; mask a feature set with at"):
        lost_sources(5, 0.5, ["image"])


@pytest.mark.parametrize("missing", ["mean", "zero"])
def test_masked_rows_are_treated_like_missing_ones(missing: str, tmp_path: Path) -> None:
    table, before = whole_table(), whole_table()
    masked = derive_table(table, toy("masked-50", missing), KEYS)
    lost = np.flatnonzero(lost_sources(N_ITEMS, 0.5, ["image", "text"]) == "image")
    assert 5 < len(lost) < 15
    without = sorted({*lost, *MISSING})
    kept = np.setdiff1d(np.arange(N_ITEMS), without)
    np.testing.assert_array_equal(masked.matrix[kept], table.matrix[kept])
    row = table.matrix[kept].mean(axis=0) if missing == "mean" else np.zeros(5)
    np.testing.assert_allclose(masked.matrix[without], [row] * len(without), rtol=1e-5, atol=1e-7)
    assert reasons(masked) == {**dict.fromkeys(lost.tolist(), "masked"), **MISSING}
    facts = {"feature_set": "toy--masked-50", "masked_share": 0.5, "treatment": missing}
    assert facts.items() <= masked.record.items()
    assert masked.record["change"] == "50 % of the items lose one modality (seed 0)"
    np.testing.assert_array_equal(table.matrix, before.matrix)
    assert table.record == before.record
    saved = masked.save(tmp_path)
    assert FeatureMatrix.load(tmp_path, "image", N_ITEMS, "h").record == saved.record
    assert np.flatnonzero(~present_items(saved.record, N_ITEMS)).tolist() == without


def test_masking_that_cannot_be_is_refused() -> None:
    with pytest.raises(MmreproError, match=r"toy--masked-50\.image: \d+ of 40 items have no features; mend"):
        derive_table(whole_table(), toy("masked-50", "error"), KEYS)
    everyone = [{"item": item, "key": KEYS[item], "reason": "gone"} for item in range(N_ITEMS)]
    with pytest.raises(MmreproError, match=r"toy--masked-50\.image: masked, no item keeps its row; choose a smaller"):
        derive_table(whole_table(missing=everyone), toy("masked-50"), KEYS)


def test_shuffled_rows_are_the_same_rows_elsewhere_and_missing_ones_move_along() -> None:
    table = whole_table()
    shuffled = derive_table(table, toy("shuffled"), KEYS)
    source = [int(np.flatnonzero((table.matrix == row).all(axis=1))[0]) for row in shuffled.matrix]
    own = [item for item, row in enumerate(source) if row not in MISSING]
    assert sorted(source[item] for item in own) == sorted(set(range(N_ITEMS)) - set(MISSING))
    assert sum(source[item] == item for item in own) < 5
    assert sorted(reasons(shuffled).values()) == sorted(MISSING.values())
    assert set(reasons(shuffled)) == set(range(N_ITEMS)) - set(own)
    text = derive_table(FeatureMatrix(table.matrix, "text", whole_table("text").record), toy("shuffled"), KEYS)
    np.testing.assert_array_equal(text.matrix, shuffled.matrix)  # an item's modalities stay together
    assert shuffled.record["change"] == "rows are permuted among the items (seed 0)"


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_noise_has_the_shape_and_the_mean_and_variance_of_every_column(dtype: type) -> None:
    n, scale, centre = 5000, np.array([0.5, 1, 4, 0]), np.array([0, 10, -3, 2])
    matrix = (centre + scale * np.random.default_rng(1).exponential(size=(n, 4))).astype(dtype)
    config, keys = toy("noise"), list(map(str, range(n)))
    image, text, again = (
        derive_table(FeatureMatrix(matrix, m, whole_table(m).record), config, keys) for m in ("image", "text", "image")
    )
    assert image.matrix.shape == matrix.shape and image.matrix.dtype == dtype
    np.testing.assert_array_equal(image.matrix, again.matrix)
    mean, std = matrix.mean(axis=0, dtype=np.float64), matrix.std(axis=0, dtype=np.float64)
    np.testing.assert_allclose(image.matrix.mean(axis=0, dtype=np.float64), mean, atol=5 * std.max() / n**0.5)
    np.testing.assert_allclose(image.matrix.std(axis=0, dtype=np.float64), std, rtol=0.05)
    for other in (text.matrix, matrix):  # modalities differ, and nothing is left of the content
        correlation = [np.corrcoef(image.matrix[:, c], other[:, c])[0, 1] for c in range(3)]
        assert np.abs(correlation).max() < 5 / n**0.5
    assert reasons(image) == {}
    assert image.record["change"] == "Gaussian noise with the mean and variance of each column (seed 0)"


def test_a_modality_alone_has_no_table_of_its_own() -> None:
    with pytest.raises(MmreproError, match=r"toy--only-image\.image: has no table of its own; read that of 'toy'"):
        derive_table(whole_table(), toy("only-image"), KEYS)


def test_extraction_of_a_derived_set_reads_the_table_beside_it_and_encodes_nothing(tmp_path: Path) -> None:
    prepared = make_items(tmp_path / "prepared", [f"title {i}" for i in range(N_ITEMS)], [None] * N_ITEMS)
    table = whole_table("text", item_list_hash="hash-of-40").save(tmp_path / "tiny")
    config = feature_set(source="title", **CLIP).model_copy(update={"feature_set": "tiny--shuffled"})
    extract(config, "text", prepared, tmp_path, tmp_path / "tiny--shuffled")
    shuffled = FeatureMatrix.load(tmp_path / "tiny--shuffled", "text", N_ITEMS, "hash-of-40")
    np.testing.assert_array_equal(np.sort(shuffled.matrix, axis=0), np.sort(table.matrix, axis=0))
    assert json.loads((tmp_path / "tiny--shuffled/text.json").read_text())["feature_set"] == "tiny--shuffled"
    with pytest.raises(MmreproError, match=r"image\.json: no such file; make the features of 'tiny' first"):
        config = config.model_copy(update={"modalities": {"image": config.modalities["text"]}})
        extract(config, "image", prepared, tmp_path, tmp_path / "tiny--shuffled")
