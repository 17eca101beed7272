"""What lies in a mirror, what was copied from it, and what is read of the copy."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mmrepro.config.dataset import DatasetConfig
from mmrepro.datasets.fetch import MANIFEST, fetch
from mmrepro.datasets.mirror import SOURCE, is_out_of_date, source_stamp
from mmrepro.datasets.raw_folder import raw_file, require_inside
from mmrepro.errors import MmreproError


def shop(*files: dict[str, Any], **changes: Any) -> DatasetConfig:
    base = {"dataset": "shop", "title": "Shop", "reader": "tabular", "folder": "shop", "licence": "none"}
    return DatasetConfig.model_validate({**base, "files": list(files) or [{"name": "orders.csv"}], **changes})


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    (tmp_path / "mirror/shop/pictures/a").mkdir(parents=True)
    (tmp_path / "mirror/shop/orders.csv").write_text("user,item\na,1\n")
    (tmp_path / "mirror/shop/pictures/a/1.jpg").write_bytes(b"picture")
    return tmp_path / "mirror"


def test_rows_appended_in_the_mirror_are_another_state(tmp_path: Path, mirror: Path) -> None:
    config, raw = shop(), tmp_path / "raw"
    planned = source_stamp(config, raw, mirror)
    fetch(config, raw, mirror)
    assert planned == source_stamp(config, raw, mirror) and not is_out_of_date(config, raw, mirror)
    with (mirror / "shop/orders.csv").open("a") as handle:
        handle.write("b,2\n")
    assert is_out_of_date(config, raw, mirror)
    planned = source_stamp(config, raw, mirror)
    fetch(config, raw, mirror)
    assert planned == source_stamp(config, raw, mirror) and not is_out_of_date(config, raw, mirror)
    assert (raw / "orders.csv").read_text().endswith("b,2\n")


def test_a_file_that_was_only_touched_is_the_same_one(tmp_path: Path, mirror: Path) -> None:
    config, raw = shop({"name": "orders.csv"}, {"name": "pictures", "folder": True}), tmp_path / "raw"
    fetch(config, raw, mirror)
    before = source_stamp(config, raw, mirror)
    for name in ("orders.csv", "pictures/a/1.jpg"):
        os.utime(mirror / "shop" / name, (1, 1))
    assert source_stamp(config, raw, mirror) == before
    assert json.loads((raw / SOURCE).read_text())["files"]["orders.csv"][1] == 10**9  # not hashed again next time
    (mirror / "shop/pictures/a/1.jpg").write_bytes(b"PICTURE")  # as long as before
    assert source_stamp(config, raw, mirror) != before


@pytest.mark.parametrize("change", ["added", "removed", "optional"])
def test_pictures_that_come_and_go_are_another_state(tmp_path: Path, mirror: Path, change: str) -> None:
    optional = {"name": "extra.csv", "optional": True}
    config, raw = shop({"name": "orders.csv"}, {"name": "pictures", "folder": True}, optional), tmp_path / "raw"
    fetch(config, raw, mirror)
    if change == "added":
        (mirror / "shop/pictures/2.jpg").write_bytes(b"two")
    elif change == "removed":
        (mirror / "shop/pictures/a/1.jpg").unlink()
    else:
        (mirror / "shop/extra.csv").write_text("late")
    assert is_out_of_date(config, raw, mirror)


def test_without_a_mirror_nothing_is_known_to_have_changed(tmp_path: Path, mirror: Path) -> None:
    config, raw = shop(), tmp_path / "raw"
    fetch(config, raw, mirror)
    stamp = source_stamp(config, raw, mirror)
    assert stamp == source_stamp(config, raw, None) == source_stamp(config, raw, tmp_path / "another")
    assert source_stamp(config, tmp_path / "nowhere", None) is None


def test_what_was_changed_after_it_was_fetched_is_refused(tmp_path: Path, mirror: Path) -> None:
    raw = tmp_path / "shop"
    fetch(shop(), raw, mirror)
    assert raw_file(raw, "orders.csv") == raw / "orders.csv"
    (raw / "orders.csv").write_text("user,item\na,9\n")
    with pytest.raises(MmreproError, match=r"orders\.csv: changed since it was fetched; .* `mmrepro fetch shop`"):
        raw_file(raw, "orders.csv")
    fetch(shop(), raw, mirror)
    assert raw_file(raw, "orders.csv").read_text() == "user,item\na,1\n"
    (raw / "other.csv").write_text("x")
    with pytest.raises(MmreproError, match=r"other\.csv: not among the files that were fetched; list it under `files`"):
        raw_file(raw, "other.csv")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"files": 3}', '{"files": [{"name": "a"}]}', "\x00\x01"])
def test_a_damaged_manifest_is_one_line(tmp_path: Path, mirror: Path, content: str) -> None:
    raw = tmp_path / "shop"
    fetch(shop(), raw, mirror)
    (raw / MANIFEST).write_text(content)
    with pytest.raises(MmreproError, match=r"MANIFEST\.json: a damaged manifest; run `mmrepro fetch shop`"):
        raw_file(raw, "orders.csv")


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "", " ", "a\0b"])
def test_a_name_that_leaves_its_folder_is_refused(name: str) -> None:
    with pytest.raises(MmreproError, match="leaves the data set's folder"):
        require_inside(name, "here: file")


@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_link_out_of_the_mirror_is_not_followed(tmp_path: Path, mirror: Path, place: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("password")
    link = mirror / "shop" / ("orders.csv" if place == "file" else "pictures/a/link.jpg")
    link.unlink(missing_ok=True)
    link.symlink_to(secret)
    config = shop({"name": "orders.csv"} if place == "file" else {"name": "pictures", "folder": True})
    with pytest.raises(MmreproError, match=r"a link that leaves .*; put the file itself there"):
        fetch(config, tmp_path / "raw", mirror)


def test_a_link_within_the_mirror_is_the_users_own_arrangement(tmp_path: Path, mirror: Path) -> None:
    (mirror / "store").mkdir()
    (mirror / "shop/orders.csv").rename(mirror / "store/orders.csv")
    (mirror / "shop/orders.csv").symlink_to(mirror / "store/orders.csv")
    fetch(shop(), tmp_path / "raw", mirror)
    assert (tmp_path / "raw/orders.csv").read_text() == "user,item\na,1\n"


@pytest.mark.parametrize("folder", ["../shop", "/shop"])
def test_a_folder_outside_the_mirror_is_refused(tmp_path: Path, mirror: Path, folder: str) -> None:
    with pytest.raises(MmreproError, match=r"shop\.yaml: folder '.*' leaves the data set's folder"):
        fetch(shop(folder=folder), tmp_path / "raw", mirror)


@pytest.mark.parametrize("target", [".", "../../elsewhere", "a"])
def test_a_link_to_a_folder_within_a_folder_is_refused(tmp_path: Path, mirror: Path, target: str) -> None:
    """It may lead back without end, and what lies behind it would be left out by some and copied by others."""
    (mirror / "elsewhere").mkdir()
    (mirror / "shop/pictures/more").symlink_to(target)
    config = shop({"name": "pictures", "folder": True})
    for look in (
        lambda: fetch(config, tmp_path / "raw", mirror),
        lambda: source_stamp(config, tmp_path / "raw", mirror),
    ):
        with pytest.raises(MmreproError, match="pictures/more: a link to a folder; put the folder itself there"):
            look()
