from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmrepro.config.features import AmazonImageEncoder
from mmrepro.errors import MmreproError
from mmrepro.features.encoders import amazon_image
from mmrepro.features.encoders.amazon_image import encode_amazon_image
from mmrepro.records.files import file_sha256

NAME = "image_features_Toys.b"
ENCODER = AmazonImageEncoder(encoder="amazon_image", file="image_features_*.b", dim=3)


def items_of(*keys: str) -> pd.DataFrame:
    return pd.DataFrame({"key": pd.Series(keys, dtype="string")})


def write_records(raw: Path, keys: list[str], name: str = NAME) -> np.ndarray:
    """The format by hand: ten ASCII characters, then little-endian float32."""
    rows = np.random.default_rng(len(keys)).normal(size=(len(keys), 3)).astype("<f4")
    (raw / name).write_bytes(b"".join(key.encode("ascii") + row.tobytes() for key, row in zip(keys, rows, strict=True)))
    return rows


def test_rows_follow_the_items_whatever_the_order_of_the_file(tmp_path: Path) -> None:
    rows = write_records(tmp_path, ["B000000003", "0000000001", "B000000009", "B000000002"])
    encoded = encode_amazon_image(ENCODER, items_of("0000000001", "B000000002", "B000000003"), tmp_path)
    np.testing.assert_array_equal(encoded.matrix, rows[[1, 3, 0]])
    assert encoded.matrix.dtype == np.float32 and encoded.reasons == {}
    assert encoded.description["weights_hash"] == file_sha256(tmp_path / NAME)


def test_items_without_a_record_are_missing_and_others_keys_are_no_prefix_of_theirs(tmp_path: Path) -> None:
    rows = write_records(tmp_path, ["B000000001"])
    encoded = encode_amazon_image(ENCODER, items_of("B00000000", "B000000001", "B0000000011", "é00000000"), tmp_path)
    np.testing.assert_array_equal(encoded.matrix[1], rows[0])
    assert encoded.reasons == dict.fromkeys((0, 2, 3), "no record")
    assert not encoded.matrix[[0, 2, 3]].any()


@pytest.mark.parametrize("records_a_block", [1, 2, 3, 100])
def test_the_first_record_of_a_key_counts_within_a_block_and_across_blocks(
    records_a_block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amazon_image, "BLOCK_BYTES", records_a_block * 22)
    keys = ["B000000002", "B000000001", "B000000001", "B000000002", "B000000003", "B000000001"]
    rows = write_records(tmp_path, keys)
    encoded = encode_amazon_image(ENCODER, items_of("B000000001", "B000000002", "B000000003"), tmp_path)
    np.testing.assert_array_equal(encoded.matrix, rows[[1, 0, 4]])


def test_a_truncated_last_record_names_file_size_and_record_length(tmp_path: Path) -> None:
    write_records(tmp_path, ["B000000001", "B000000002"])
    whole = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(whole[:-1])
    with pytest.raises(
        MmreproError, match=rf"{NAME}: 43 bytes are no whole number of records of 22 bytes \(10 \+ 4 \* 3\)"
    ):
        encode_amazon_image(ENCODER, items_of("B000000001"), tmp_path)


@pytest.mark.parametrize(
    ("names", "found"), [([], "none"), (["image_features_A.b", "image_features_B.b"], "A.b, image")]
)
def test_the_pattern_must_match_one_file(names: list[str], found: str, tmp_path: Path) -> None:
    for name in names:
        write_records(tmp_path, ["B000000001"], name)
    with pytest.raises(MmreproError, match=rf"one file 'image_features_\*\.b' is expected, found .*{found}"):
        encode_amazon_image(ENCODER, items_of("B000000001"), tmp_path)


def test_a_file_of_other_items_is_an_error(tmp_path: Path) -> None:
    write_records(tmp_path, ["B000000001"])
    with pytest.raises(MmreproError, match=r"none of 2 items has a usable record in image_features_Toys\.b"):
        encode_amazon_image(ENCODER, items_of("B000000008", "B000000009"), tmp_path)
