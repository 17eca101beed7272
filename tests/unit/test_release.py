import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hand_made import STUDY_FILE, make_root
from hypothesis import given
from hypothesis import strategies as st
from snakemake.persistence.file import FilePersistence

from mmrepro.errors import MmreproError
from mmrepro.housekeeping.release import RECORD, _read_record, restore, track_raw
from mmrepro.housekeeping.workflow_records import METADATA
from mmrepro.housekeeping.workflow_records import _file as _record_file
from mmrepro.records.files import file_sha256
from mmrepro.study.resolve import plan_of_file

URL = "https://example.org/shop.inter"


def write_raw(root: Path, source: str) -> Path:
    """Raw files of the data set toy-a: one of them a file from `source`."""
    raw = root / "data/raw/toy-a"
    raw.mkdir(parents=True, exist_ok=True)
    entries = []
    for name, origin in (("notes.txt", "mirror"), ("shop.inter", source)):
        (raw / name).write_text(f"{name} from {origin}")
        size = (raw / name).stat().st_size
        entries.append({"name": name, "bytes": size, "sha256": file_sha256(raw / name), "source": origin})
    (raw / "MANIFEST.json").write_text(json.dumps({"dataset": "toy-a", "files": entries}))
    return raw


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").touch()
    return tmp_path


@pytest.fixture
def pulled(tmp_path: Path) -> Path:
    """A repository with a release whose only product is the raw files of toy-a."""
    make_root(tmp_path)
    manifest = write_raw(tmp_path, URL) / "MANIFEST.json"
    product = {"sha256": file_sha256(manifest), "record": {}}
    (tmp_path / "data/releases").mkdir()
    released = {"study": "hand", "outputs": {manifest.relative_to(tmp_path).as_posix(): product}}
    (tmp_path / "data/releases/hand.json").write_text(json.dumps(released))
    return tmp_path


@given(st.text("aé/-.", min_size=1, max_size=600))
def test_records_lie_where_snakemake_looks_for_them(path: str) -> None:
    limits = SimpleNamespace(_fetch_max_len=lambda folder: 255)
    assert str(_record_file(path)) == FilePersistence._record_path(limits, str(METADATA), path)


def test_a_product_without_a_record_or_made_from_a_file_outside_is_not_released(tmp_path: Path) -> None:
    path = "data/features/toy-a/large/image.npy"
    with pytest.raises(MmreproError, match=rf"^{path}: Snakemake has no record of its making"):
        _read_record(tmp_path, path)
    file = tmp_path / _record_file(path)
    file.parent.mkdir(parents=True)
    record = dict.fromkeys(RECORD) | {"input": ["config/features/large.yaml", "/elsewhere/weights.pt"]}
    file.write_text(json.dumps(record))
    with pytest.raises(MmreproError, match=rf"^{path}: made from /elsewhere/weights\.pt, which no clone has"):
        _read_record(tmp_path, path)
    file.write_text(json.dumps(record | {"input": ["config/features/large.yaml"], "starttime": 1.0, "job_hash": 2}))
    assert set(_read_record(tmp_path, path)) == set(RECORD)


def test_raw_files_are_versioned_with_the_urls_they_came_from(repository: Path) -> None:
    raw = write_raw(repository, URL)
    assert "git add data/raw/toy-a.dvc" in track_raw(["toy-a"], repository)
    tracked = yaml.safe_load((repository / "data/raw/toy-a.dvc").read_text())
    content = raw / "shop.inter"
    known = {"url": URL, "sha256": file_sha256(content), "bytes": content.stat().st_size}
    assert tracked["meta"] == {"sources": {"shop.inter": known}}
    assert tracked["outs"][0]["nfiles"] == 3

    write_raw(repository, "mirror")
    track_raw(["toy-a"], repository)
    again = yaml.safe_load((repository / "data/raw/toy-a.dvc").read_text())
    assert "meta" not in again
    assert again["outs"][0]["md5"] != tracked["outs"][0]["md5"]


def test_a_data_set_that_is_not_fetched_is_not_versioned(tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match=r"^data/raw/toy-a/MANIFEST\.json: no such file; fetch the data set first$"):
        track_raw(["toy-a"], tmp_path)


def test_what_dvc_refuses_is_one_line(tmp_path: Path) -> None:
    write_raw(tmp_path, URL)
    with pytest.raises(MmreproError, match=r"^`dvc add` failed: .*DVC repository") as error:
        track_raw(["toy-a"], tmp_path)
    assert "\n" not in str(error.value)


def test_a_study_without_a_release_is_not_restored(tmp_path: Path) -> None:
    make_root(tmp_path)
    with pytest.raises(MmreproError, match=r"^data/releases/hand\.json: no such file; check out a commit"):
        restore(plan_of_file(STUDY_FILE, tmp_path), STUDY_FILE, tmp_path)


def test_what_was_not_pulled_is_named(pulled: Path) -> None:
    (pulled / "data/raw/toy-a/MANIFEST.json").unlink()
    with pytest.raises(MmreproError, match=r"^data/raw/toy-a/MANIFEST\.json: not there; run `dvc pull` first$"):
        restore(plan_of_file(STUDY_FILE, pulled), STUDY_FILE, pulled)


def test_what_is_not_the_release_s_is_refused_and_leaves_no_record(pulled: Path) -> None:
    write_raw(pulled, "mirror")
    with pytest.raises(MmreproError, match=r"^data/raw/toy-a/MANIFEST\.json: not the file of the release; remove it"):
        restore(plan_of_file(STUDY_FILE, pulled), STUDY_FILE, pulled)
    assert not (pulled / ".snakemake").exists()


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_text("cut")], ids=["missing", "altered"])
def test_a_raw_file_that_is_not_as_listed_is_named(pulled: Path, change) -> None:
    change(pulled / "data/raw/toy-a/shop.inter")
    for command in (
        lambda: restore(plan_of_file(STUDY_FILE, pulled), STUDY_FILE, pulled),
        lambda: track_raw(["toy-a"], pulled),
    ):
        with pytest.raises(MmreproError, match=r"^data/raw/toy-a/shop\.inter: not there as MANIFEST\.json lists it"):
            command()
    assert not (pulled / ".snakemake").exists()


def test_an_image_that_is_listed_and_not_there_is_named(pulled: Path) -> None:
    image = {"status": "ok", "file": "images/one.jpg"}
    listed = {"dataset": "toy-a", "counts": {"ok": 1}, "images": {"one": image}}
    (pulled / "data/raw/toy-a/IMAGES.json").write_text(json.dumps(listed))
    with pytest.raises(MmreproError, match=r"^data/raw/toy-a/images/one\.jpg: not there as IMAGES\.json lists it"):
        track_raw(["toy-a"], pulled)
