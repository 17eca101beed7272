from __future__ import annotations

import hashlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from http_server import Answer, running_server
from pydantic import ValidationError

from mmrepro.config.dataset import DatasetConfig
from mmrepro.datasets.download import Retry
from mmrepro.datasets.fetch import MANIFEST, fetch
from mmrepro.datasets.mirror import SOURCE
from mmrepro.errors import MmreproError

CONTENT = bytes(range(256)) * 1200  # 300 KiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
RETRY = Retry(attempts=4, base_delay=0.01, timeout=5.0)  # a busy machine stalls, too


@dataclass
class Server:
    url: str
    content: bytes = CONTENT
    etag: str | None = '"one"'
    failures: int = 0
    cut_after: int | None = None
    ignore_range: bool = False
    stall: int = 0
    status: int = 200
    ranges: list[str | None] = field(default_factory=list)


def _handler(server: Server) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            server.ranges.append(self.headers["Range"])
            if server.failures:
                server.failures -= 1
                return self.send_error(500)
            if server.status != 200:
                return self.send_error(server.status)
            if server.stall:
                server.stall -= 1
                time.sleep(0.8)
            first = self._first_byte()
            if first >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206 if first else 200)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(server.content) - 1}/{len(server.content)}")
            if server.etag:
                self.send_header("ETag", server.etag)
            body = server.content[first:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            cut, server.cut_after = server.cut_after, None
            self.wfile.write(body[:cut])

        def _first_byte(self) -> int:
            wanted = self.headers["Range"]
            condition = self.headers["If-Range"]
            if wanted is None or server.ignore_range or (condition and condition != server.etag):
                return 0
            return int(wanted.removeprefix("bytes=").removesuffix("-"))

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server("")
    instance = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    state.url = f"http://127.0.0.1:{instance.server_address[1]}/ratings.csv"
    thread = threading.Thread(target=instance.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield state
    instance.shutdown()
    instance.server_close()


def dataset(**file: object) -> DatasetConfig:
    return DatasetConfig.model_validate(
        {
            "dataset": "toy",
            "title": "Toy",
            "reader": "mmrec",
            "folder": "toy-files",
            "licence": "none",
            "files": [{"name": "ratings.csv", **file}],
        }
    )


def contents(folder: Path) -> set[str]:
    """Files, but for the note of what the mirror held."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {SOURCE}


def arrived_whole(output: Path, content: bytes = CONTENT) -> bool:
    """Whether the file is right and the manifest, whose hash was taken while it arrived, agrees."""
    entry = json.loads((output / MANIFEST).read_text())["files"][0]
    recorded = (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    return recorded and (output / "ratings.csv").read_bytes() == content


def interrupt(server: Server, output: Path, config: DatasetConfig, after: int) -> None:
    server.cut_after = after
    with pytest.raises(MmreproError, match="gave up after 1 attempt"):
        fetch(config, output, None, Retry(attempts=1, timeout=5.0))


def test_download_is_recorded_in_the_manifest(server: Server, tmp_path: Path) -> None:
    fetch(dataset(url=server.url), tmp_path, None, RETRY)
    assert arrived_whole(tmp_path)
    entry = {"name": "ratings.csv", "bytes": len(CONTENT), "sha256": SHA256, "source": server.url}
    assert json.loads((tmp_path / MANIFEST).read_text()) == {"dataset": "toy", "files": [entry]}
    assert contents(tmp_path) == {"ratings.csv", MANIFEST}


def test_two_server_errors_are_retried(server: Server, tmp_path: Path) -> None:
    server.failures = 2
    fetch(dataset(url=server.url, sha256=SHA256), tmp_path, None, RETRY)
    assert len(server.ranges) == 3
    assert arrived_whole(tmp_path)


def test_lasting_server_errors_end_with_the_address(server: Server, tmp_path: Path) -> None:
    server.failures = 100
    with pytest.raises(MmreproError, match=r"ratings\.csv: gave up after 4 attempts \(HTTP status 500\)"):
        fetch(dataset(url=server.url), tmp_path, None, RETRY)
    assert contents(tmp_path) == set()


def test_refusal_is_not_retried(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(MmreproError, match=r"refused \(HTTP status 404\); correct the url or set MMREPRO_MIRROR"):
        fetch(dataset(url=server.url), tmp_path, None, RETRY)
    assert len(server.ranges) == 1


def test_stalled_answer_is_retried(server: Server, tmp_path: Path) -> None:
    server.stall = 1
    fetch(dataset(url=server.url), tmp_path, None, Retry(attempts=4, base_delay=0.01, timeout=0.4))
    assert arrived_whole(tmp_path)
    assert len(server.ranges) > 1


def test_truncated_answer_is_continued_in_the_same_call(server: Server, tmp_path: Path) -> None:
    server.cut_after = 200_000
    fetch(dataset(url=server.url), tmp_path, None, RETRY)
    assert arrived_whole(tmp_path)
    assert server.ranges[0] is None and server.ranges[1] is not None


def test_truncated_answer_leaves_no_final_file(server: Server, tmp_path: Path) -> None:
    interrupt(server, tmp_path, dataset(url=server.url), after=200_000)
    assert not (tmp_path / "ratings.csv").exists()
    assert not (tmp_path / MANIFEST).exists()


@pytest.mark.parametrize("known", [{"sha256": SHA256}, {}])
def test_next_call_resumes(server: Server, tmp_path: Path, known: dict[str, str]) -> None:
    config = dataset(url=server.url, **known)
    interrupt(server, tmp_path, config, after=200_000)
    arrived = (tmp_path / "ratings.csv.part").stat().st_size
    assert arrived > 0
    fetch(config, tmp_path, None, RETRY)
    assert server.ranges[-1] == f"bytes={arrived}-"
    assert arrived_whole(tmp_path)
    assert contents(tmp_path) == {"ratings.csv", MANIFEST}


def test_changed_file_is_not_glued_to_the_old_part(server: Server, tmp_path: Path) -> None:
    config = dataset(url=server.url)
    interrupt(server, tmp_path, config, after=200_000)
    server.content, server.etag = CONTENT[::-1], '"two"'
    fetch(config, tmp_path, None, RETRY)
    assert arrived_whole(tmp_path, CONTENT[::-1])


def test_part_that_nothing_can_verify_is_not_resumed(server: Server, tmp_path: Path) -> None:
    server.etag = None
    config = dataset(url=server.url)
    interrupt(server, tmp_path, config, after=200_000)
    server.content = CONTENT[::-1]
    fetch(config, tmp_path, None, RETRY)
    assert server.ranges[-1] is None
    assert arrived_whole(tmp_path, CONTENT[::-1])


def test_changed_file_is_not_glued_within_one_call(tmp_path: Path) -> None:
    with running_server() as other:
        first = Answer(CONTENT, headers={"ETag": '"one"'}, cut_after=200_000)
        other.answers["/ratings.csv"] = [first, Answer(CONTENT[::-1], headers={"ETag": '"two"'})]
        fetch(dataset(url=f"{other.url}/ratings.csv"), tmp_path, None, RETRY)
    assert arrived_whole(tmp_path, CONTENT[::-1])


def test_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    config = dataset(url=server.url, sha256=SHA256)
    interrupt(server, tmp_path, config, after=200_000)
    server.ignore_range = True
    fetch(config, tmp_path, None, RETRY)
    assert arrived_whole(tmp_path)


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"too long"])
def test_range_beyond_the_end_is_mended(server: Server, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "ratings.csv.part").write_bytes(part)
    fetch(dataset(url=server.url, sha256=SHA256), tmp_path, None, RETRY)
    assert arrived_whole(tmp_path)


@pytest.mark.parametrize(
    ("source", "known", "message"),
    [
        ("network", {"sha256": "0" * 64}, f"has SHA-256 {SHA256}, expected {'0' * 64}; get the file again"),
        ("mirror", {"sha256": "0" * 64}, f"has SHA-256 {SHA256}, expected {'0' * 64}; get the file again"),
        ("network", {"bytes": 400_000}, f"has {len(CONTENT)} bytes, expected 400000; get the file again"),
        ("mirror", {"bytes": 7}, f"has {len(CONTENT)} bytes, expected 7; get the file again"),
    ],
)
def test_wrong_content_is_removed(
    server: Server, tmp_path: Path, known: dict[str, object], message: str, source: str
) -> None:
    mirror = tmp_path / "mirror"
    (mirror / "toy-files").mkdir(parents=True)
    (mirror / "toy-files" / "ratings.csv").write_bytes(CONTENT)
    output = tmp_path / "raw"
    with pytest.raises(MmreproError) as error:
        fetch(dataset(url=server.url, **known), output, mirror if source == "mirror" else None, RETRY)
    assert message in str(error.value) and "'ratings.csv'" in str(error.value)
    assert contents(output) == set()


def test_verified_file_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    config = dataset(url=server.url, sha256=SHA256)
    fetch(config, tmp_path, None, RETRY)
    first = (tmp_path / MANIFEST).read_bytes()
    fetch(config, tmp_path, None, RETRY)
    assert len(server.ranges) == 1
    assert (tmp_path / MANIFEST).read_bytes() == first


def test_a_published_hash_binds_downloads_and_no_mirror(server: Server, tmp_path: Path) -> None:
    (tmp_path / "mirror/toy-files").mkdir(parents=True)
    (tmp_path / "mirror/toy-files/ratings.csv").write_bytes(b"fewer columns")
    right, wrong = {"bytes": len(CONTENT), "sha256": SHA256}, {"bytes": len(CONTENT), "sha256": "0" * 64}
    fetch(dataset(url=server.url, published=wrong), tmp_path / "copied", tmp_path / "mirror", RETRY)
    fetch(dataset(url=server.url, published=right), tmp_path / "raw", None, RETRY)
    assert arrived_whole(tmp_path / "raw")
    with pytest.raises(MmreproError, match=f"has SHA-256 {SHA256}, expected {'0' * 64}"):
        fetch(dataset(url=server.url, published=wrong), tmp_path / "other", None, RETRY)


def test_no_url_and_no_mirror_names_file_and_variable(tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match=r"'ratings\.csv'; set MMREPRO_MIRROR .* holds toy-files/ratings\.csv"):
        fetch(dataset(), tmp_path, None)


def test_file_missing_in_mirror_is_named(tmp_path: Path) -> None:
    with pytest.raises(MmreproError, match=r"mirror/toy-files/ratings\.csv: no such file"):
        fetch(dataset(url="http://127.0.0.1:9/ratings.csv"), tmp_path / "raw", tmp_path / "mirror")
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("name", ["../ratings.csv", "/ratings.csv"])
def test_file_name_stays_in_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(MmreproError, match="leaves the data set's folder"):
        fetch(dataset(name=name), tmp_path, tmp_path)


def test_other_schemes_are_refused() -> None:
    with pytest.raises(ValidationError, match="url"):
        dataset(url="ftp://example.org/ratings.csv")


def test_data_set_without_files_is_refused(tmp_path: Path) -> None:
    config = dataset().model_copy(update={"files": ()})
    with pytest.raises(MmreproError, match="'files' is empty and nothing generates them"):
        fetch(config, tmp_path, None)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror" / "toy-files" / "pictures"
    (folder / "inner").mkdir(parents=True)
    (folder / "b.png").write_bytes(b"bb")
    (folder / "inner" / "a.png").write_bytes(b"a")
    return folder


def test_folder_is_copied_whole_and_listed_file_by_file(tmp_path: Path, pictures: Path) -> None:
    output = tmp_path / "raw"
    (output / "pictures").mkdir(parents=True)
    (output / "pictures" / "stale.png").write_bytes(b"old")
    fetch(dataset(name="pictures", folder=True), output, tmp_path / "mirror")
    assert contents(output) == {"pictures/b.png", "pictures/inner/a.png", MANIFEST}
    manifest = (output / MANIFEST).read_text()
    assert [entry["name"] for entry in json.loads(manifest)["files"]] == ["pictures/b.png", "pictures/inner/a.png"]
    assert {entry["source"] for entry in json.loads(manifest)["files"]} == {"mirror"}
    assert str(tmp_path) not in manifest


def test_folder_content_is_checked(tmp_path: Path, pictures: Path) -> None:
    listing = "".join(
        f"{hashlib.sha256(pictures.joinpath(n).read_bytes()).hexdigest()}  {n}\n" for n in contents(pictures)
    )
    good = hashlib.sha256("".join(sorted(listing.splitlines(True), key=lambda line: line[66:])).encode()).hexdigest()
    fetch(dataset(name="pictures", folder=True, sha256=good, bytes=3), tmp_path / "raw", tmp_path / "mirror")
    (pictures / "b.png").write_bytes(b"xx")
    with pytest.raises(MmreproError, match=f"expected {good}"):
        fetch(dataset(name="pictures", folder=True, sha256=good), tmp_path / "other", tmp_path / "mirror")
    assert contents(tmp_path / "other") == set()


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: [path.unlink() for path in folder.rglob("*.png")], "the folder is empty"),
        (lambda folder: folder.rename(folder.with_name("moved")), "no such folder"),
    ],
)
def test_unusable_folder_is_named(
    tmp_path: Path, pictures: Path, break_it: Callable[[Path], object], message: str
) -> None:
    break_it(pictures)
    with pytest.raises(MmreproError, match=f"pictures: {message}"):
        fetch(dataset(name="pictures", folder=True), tmp_path / "raw", tmp_path / "mirror")


def test_redirected_file_is_recorded_under_its_own_address(server: Server, tmp_path: Path) -> None:
    with running_server() as other:
        other.answers["/moved"] = [Answer(status=302, headers={"Location": server.url})]
        fetch(dataset(url=f"{other.url}/moved", sha256=SHA256), tmp_path, None, RETRY)
        source = json.loads((tmp_path / MANIFEST).read_text())["files"][0]["source"]
        assert source == f"{other.url}/moved"
    assert arrived_whole(tmp_path)


def test_web_page_is_not_taken_for_the_file(tmp_path: Path) -> None:
    page = Answer(b"<html><TITLE>Log in\n here</TITLE></html>", headers={"Content-Type": "text/html; charset=utf-8"})
    with running_server() as server:
        server.answers["/ratings.csv"] = [page]
        with pytest.raises(MmreproError, match=r"a web page instead of the file: Log in here\); correct the url"):
            fetch(dataset(url=f"{server.url}/ratings.csv"), tmp_path, None, RETRY)
        assert len(server.asked) == 1
    assert contents(tmp_path) == set()


def test_optional_file_is_copied_where_the_mirror_has_it_and_left_out_where_not(tmp_path: Path) -> None:
    config = dataset(optional=True, url="http://127.0.0.1:9/ratings.csv")
    (tmp_path / "mirror" / "toy-files").mkdir(parents=True)
    file = tmp_path / "mirror" / "toy-files" / "ratings.csv"
    file.write_bytes(CONTENT)
    fetch(config, tmp_path / "raw", tmp_path / "mirror")
    assert contents(tmp_path / "raw") == {"ratings.csv", MANIFEST}
    file.unlink()
    fetch(config, tmp_path / "raw", tmp_path / "mirror")
    assert contents(tmp_path / "raw") == {MANIFEST}
    assert json.loads((tmp_path / "raw" / MANIFEST).read_text())["files"] == []


def test_optional_file_with_an_address_is_needed_from_the_network(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(MmreproError, match="HTTP status 404"):
        fetch(dataset(optional=True, url=server.url), tmp_path, None, RETRY)
    fetch(dataset(optional=True), tmp_path, None, RETRY)
    assert contents(tmp_path) == {MANIFEST}


def test_optional_folder_keeps_what_others_put_into_it(tmp_path: Path) -> None:
    (tmp_path / "raw" / "pictures").mkdir(parents=True)
    (tmp_path / "raw" / "pictures" / "downloaded.jpg").write_bytes(b"image")
    fetch(dataset(name="pictures", folder=True, optional=True), tmp_path / "raw", tmp_path / "mirror")
    assert contents(tmp_path / "raw") == {"pictures/downloaded.jpg", MANIFEST}
