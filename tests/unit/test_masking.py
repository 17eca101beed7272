from pathlib import Path

import numpy as np
import pytest
from features_hand_made import feature_set
from hypothesis import given
from hypothesis import strategies as st

from mmrepro.config_features import FeatureSetConfig
from mmrepro.errors import MmreproError
from mmrepro.features.masking import lost_sources, mask_table
from mmrepro.features.table import FeatureTable, present_items

KEYS = ["a", "b", "c", "d"]
MATRIX = np.array([[1, 2], [5, 6], [5, 6], [9, 10]], dtype=np.float32)
LOST = np.array(["image", "", "text", ""])


def masked_set(missing: str = "mean") -> FeatureSetConfig:
    config = feature_set("image", encoder="published", file="image.npy", missing=missing)
    return config.model_copy(update={"feature_set": "toy--masked-50", "masked_share": 0.5})


def whole_table(shuffle: int | None = None) -> FeatureTable:
    """Item 1 has no image and stands at the mean of the other three."""
    missing = [{"item": 1, "key": "b", "reason": "no image"}]
    record = {
        "feature_set": "toy", "modality": "image", "item_list_hash": "h", "shuffle_items": shuffle, "treatment": "mean",
        "n_missing": 1, "missing": missing,
    }  # fmt: skip
    return FeatureTable(MATRIX.copy(), "image", record)


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


@given(st.integers(0, 1000))
def test_items_lose_only_what_they_have_and_keep_something(seed: int) -> None:
    has = np.random.default_rng(seed).random((40, 3)) < 0.6
    sources = ["image", "text", "audio"]
    lost = lost_sources(40, 1.0, sources, {s: has[:, i] for i, s in enumerate(sources)}, seed)
    for item, source in enumerate(lost):
        assert (source == "") if has[item].sum() < 2 else has[item, sources.index(source)]


def test_known_and_complete_presence_changes_nothing() -> None:
    everyone = {source: np.ones(50, dtype=bool) for source in ("image", "text")}
    np.testing.assert_array_equal(
        lost_sources(50, 0.8, ["image", "text"], everyone), lost_sources(50, 0.8, ["image", "text"])
    )


def test_a_single_source_cannot_be_lost() -> None:
    with pytest.raises(MmreproError, match="source image alone would keep nothing to see; mask a feature set with at"):
        lost_sources(5, 0.5, ["image"])


@pytest.mark.parametrize(("missing", "row"), [("mean", [7, 8]), ("zero", [0, 0])])
def test_masked_rows_are_treated_like_missing_ones(missing: str, row: list[float], tmp_path: Path) -> None:
    table = whole_table()
    masked = mask_table(table, LOST, masked_set(missing), KEYS)
    np.testing.assert_array_equal(masked.matrix, np.array([row, row, [5, 6], [9, 10]], dtype=np.float32))
    assert masked.record == {
        **table.record,
        "feature_set": "toy--masked-50",
        "masked_share": 0.5,
        "treatment": missing,
        "n_missing": 2,
        "missing": [{"item": 0, "key": "a", "reason": "masked"}, {"item": 1, "key": "b", "reason": "no image"}],
    }
    np.testing.assert_array_equal(table.matrix, MATRIX)
    assert table.record["n_missing"] == 1
    saved = masked.save(tmp_path)
    assert FeatureTable.load(tmp_path, "image", 4, "h").record == saved.record
    assert present_items(saved.record, 4).tolist() == [False, False, True, True]


def test_an_item_that_was_missing_before_keeps_its_reason() -> None:
    masked = mask_table(whole_table(), np.array(["", "image", "", ""]), masked_set(), KEYS)
    assert masked.record["missing"] == [{"item": 1, "key": "b", "reason": "no image"}]
    np.testing.assert_array_equal(masked.matrix, [[1, 2], [5, 6], [5, 6], [9, 10]])


def test_masking_that_cannot_be_is_refused() -> None:
    with pytest.raises(
        MmreproError, match=r"toy--masked-50\.image: 2 of 4 items have no features, the first is item 0"
    ):
        mask_table(whole_table(), LOST, masked_set("error"), KEYS)
    with pytest.raises(
        MmreproError, match=r"toy--masked-50\.image: masked, no item keeps its row; choose a smaller share"
    ):
        mask_table(whole_table(), np.array(["image", "", "image", "image"]), masked_set(), KEYS)
    with pytest.raises(MmreproError, match="shuffled among items cannot be masked"):
        mask_table(whole_table(shuffle=3), LOST, masked_set(), KEYS)
