"""Google Drive itself cannot be reached from here: a local server answers in its place, in the form gdown reads."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from http_server import Answer, Server, running_server

from mmrepro.config.dataset import DatasetConfig
from mmrepro.datasets.download import Retry
from mmrepro.datasets.fetch import MANIFEST, fetch
from mmrepro.errors import MmreproError

ROOT, BABY, SPORTS = "r" * 33, "b" * 33, "s" * 33
INTER, VECTORS, OTHER = "i" * 33, "v" * 33, "o" * 33
RETRY = Retry(attempts=3, base_delay=0.01, timeout=2.0)
CONTENT = bytes(range(256)) * 1200
HOSTS = ("drive.google.com", "drive.usercontent.google.com")


def folder_page(name: str, files: dict[str, str], folders: dict[str, str]) -> Answer:
    links = [f'<a href="https://drive.google.com/drive/folders/{i}">{n}</a>' for n, i in folders.items()]
    links += [f'<a href="https://drive.google.com/file/d/{i}/view?usp=drive_web">{n}</a>' for n, i in files.items()]
    return page(f"<html><head><title>{name}</title></head><body>{''.join(links)}</body></html>")


def page(text: str, status: int = 200) -> Answer:
    return Answer(text.encode(), status, {"Content-Type": "text/html; charset=utf-8"})


def attachment(body: bytes, **changes: Any) -> Answer:
    headers = {"Content-Type": "application/octet-stream", "Content-Disposition": 'attachment; filename="file"'}
    return Answer(body, headers={**headers, "Last-Modified": "Mon, 04 Mar 2024 10:00:00 GMT"}, **changes)


SCAN_PAGE = page(
    '<html><head><title>Google Drive - Virus scan warning</title></head><body><form id="download-form" '
    'action="https://drive.usercontent.google.com/download" method="get"><input type="hidden" name="id" '
    f'value="{VECTORS}"><input type="hidden" name="export" value="download"><input type="hidden" name="confirm" '
    'value="t"></form></body></html>'
)
QUOTA_PAGE = page(
    '<html><head><title>Google Drive - Quota exceeded</title></head><body><p class="uc-error-caption">Sorry, you '
    'can&#39;t view or download this file at this time.</p><p class="uc-error-subcaption">Too many users have viewed '
    "or downloaded this file recently. Please try accessing the file again later.</p></body></html>"
)


def listing(folder: str) -> str:
    return f"/drive.google.com/embeddedfolderview?id={folder}"


def entrance(file: str) -> str:
    return f"/drive.google.com/uc?id={file}&export=download"


BEHIND = f"/drive.usercontent.google.com/download?id={VECTORS}&export=download&confirm=t"


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A folder with `baby/` and `sports/`; requests to Drive's hosts are sent to this machine."""
    with running_server() as server:
        send = requests.adapters.HTTPAdapter.send

        def rerouted(
            adapter: requests.adapters.HTTPAdapter, request: requests.PreparedRequest, **options: Any
        ) -> requests.Response:
            address = urllib.parse.urlsplit(str(request.url))
            assert address.scheme == "https" and address.hostname in HOSTS
            local = request.copy()
            local.url = f"{server.url}/{address.hostname}{address.path}?{address.query}"
            response = send(adapter, local, **options)
            response.url, response.request = str(request.url), request
            return response

        monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", rerouted)
        server.answers = {
            listing(ROOT): [folder_page("data", {"read me.txt": OTHER}, {"baby": BABY, "sports": SPORTS})],
            listing(BABY): [folder_page("baby", {"baby.inter": INTER, "image_feat.npy": VECTORS}, {})],
            listing(SPORTS): [folder_page("sports", {"image_feat.npy": OTHER}, {})],
            entrance(INTER): [attachment(b"userID\titemID\n")],
            entrance(VECTORS): [SCAN_PAGE],
            BEHIND: [attachment(CONTENT)],
        }
        yield server


def dataset(*names: str, folder: str = ROOT) -> DatasetConfig:
    files = [{"name": Path(name).name, "url": f"gdrive://{folder}/{name}"} for name in names]
    return DatasetConfig.model_validate(
        {"dataset": "toy", "title": "Toy", "reader": "mmrec", "folder": "toy", "licence": "none", "files": files}
    )


def test_small_and_large_files_arrive_and_the_folder_is_listed_once(drive: Server, tmp_path: Path) -> None:
    fetch(dataset("baby/baby.inter", "baby/image_feat.npy"), tmp_path, None, RETRY)
    assert (tmp_path / "baby.inter").read_bytes() == b"userID\titemID\n"
    assert (tmp_path / "image_feat.npy").read_bytes() == CONTENT
    assert sorted(path for path in drive.asked if "embedded" in path) == sorted(map(listing, (ROOT, BABY, SPORTS)))
    sources = [entry["source"] for entry in json.loads((tmp_path / MANIFEST).read_text())["files"]]
    assert sources == [f"gdrive://{ROOT}/baby/baby.inter", f"gdrive://{ROOT}/baby/image_feat.npy"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [MANIFEST, "baby.inter", "image_feat.npy"]


def test_file_is_found_by_the_end_of_its_path(drive: Server, tmp_path: Path) -> None:
    fetch(dataset("baby.inter"), tmp_path, None, RETRY)
    assert (tmp_path / "baby.inter").read_bytes() == b"userID\titemID\n"


def test_ambiguous_path_lists_the_files(drive: Server, tmp_path: Path) -> None:
    with pytest.raises(
        MmreproError, match=r"several files .*: baby/image_feat\.npy, sports/image_feat\.npy; write more"
    ):
        fetch(dataset("image_feat.npy"), tmp_path, None, RETRY)


def test_part_of_a_name_is_no_match(drive: Server, tmp_path: Path) -> None:
    with pytest.raises(MmreproError) as error:
        fetch(dataset("baby/feat.npy"), tmp_path, None, RETRY)
    assert "no file of the folder ends so (found: baby/baby.inter, baby/image_feat.npy, read me.txt" in str(error.value)
    assert "set MMREPRO_MIRROR" in str(error.value)


def test_folder_that_shows_nothing_may_not_be_shared(drive: Server, tmp_path: Path) -> None:
    drive.answers[listing(ROOT)] = [page("<html><title>Sign in</title><body></body></html>")]
    with pytest.raises(MmreproError, match=r"found: nothing; is it shared with anyone who has the link\?"):
        fetch(dataset("baby/baby.inter"), tmp_path, None, RETRY)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_folder_that_is_not_shared_is_refused_at_once(drive: Server, tmp_path: Path, status: int) -> None:
    drive.answers[listing(ROOT)] = [page("no", status)]
    with pytest.raises(MmreproError, match=rf"status code {status}.*MMREPRO_MIRROR"):
        fetch(dataset("baby/baby.inter"), tmp_path, None, RETRY)
    assert len(drive.asked) == 1


def test_file_that_is_not_shared_is_refused(drive: Server, tmp_path: Path) -> None:
    drive.answers[entrance(INTER)] = [page("<html><title>You need access</title></html>")]
    with pytest.raises(MmreproError, match=r"baby\.inter: refused .*Anyone with the link.*MMREPRO_MIRROR"):
        fetch(dataset("baby/baby.inter"), tmp_path, None, RETRY)


def test_exceeded_quota_says_what_drive_says(drive: Server, tmp_path: Path) -> None:
    drive.answers[entrance(VECTORS)] = [QUOTA_PAGE]
    with pytest.raises(MmreproError, match=r"Too many users have viewed.*try again in a day or set MMREPRO_MIRROR"):
        fetch(dataset("baby/image_feat.npy"), tmp_path, None, RETRY)
    assert list(tmp_path.iterdir()) == []


def test_quota_page_behind_the_scan_page_is_not_taken_for_the_file(drive: Server, tmp_path: Path) -> None:
    drive.answers[BEHIND] = [QUOTA_PAGE]
    with pytest.raises(MmreproError, match=r"instead of the file: Google Drive - Quota exceeded\).*MMREPRO_MIRROR"):
        fetch(dataset("baby/image_feat.npy"), tmp_path, None, RETRY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("http://drive.usercontent.google.com/download", "redirected from https down to http"),
        ("https://169.254.169.254/download", r"redirected to '169\.254\.169\.254', a private address"),
        ("file:///download", "redirected to 'file:', which is neither http nor https"),
    ],
)
def test_page_leads_no_further_than_a_redirect_may(drive: Server, tmp_path: Path, address: str, problem: str) -> None:
    form = SCAN_PAGE.body.decode().replace("https://drive.usercontent.google.com/download", address)
    drive.answers[entrance(VECTORS)] = [page(form)]
    with pytest.raises(MmreproError, match=rf"image_feat\.npy: refused by Google Drive \({problem}"):
        fetch(dataset("baby/image_feat.npy"), tmp_path, None, RETRY)


def test_passing_faults_of_every_step_are_retried(drive: Server, tmp_path: Path) -> None:
    for path in (listing(ROOT), entrance(VECTORS), BEHIND):
        drive.answers[path].insert(0, page("busy", 503))
    fetch(dataset("baby/image_feat.npy"), tmp_path, None, RETRY)
    assert (tmp_path / "image_feat.npy").read_bytes() == CONTENT


def test_truncated_answer_is_continued_where_it_stopped(drive: Server, tmp_path: Path) -> None:
    drive.answers[BEHIND].insert(0, attachment(CONTENT, cut_after=200_000))
    fetch(dataset("baby/image_feat.npy"), tmp_path, None, RETRY)
    assert (tmp_path / "image_feat.npy").read_bytes() == CONTENT
    assert drive.ranges[-1] is not None


def test_next_call_resumes_by_the_time_of_modification(drive: Server, tmp_path: Path) -> None:
    drive.answers[BEHIND] = [attachment(CONTENT, cut_after=200_000)]
    with pytest.raises(MmreproError, match="gave up after 1 attempt"):
        fetch(dataset("baby/image_feat.npy"), tmp_path, None, Retry(attempts=1, timeout=2.0))
    arrived = (tmp_path / "image_feat.npy.part").stat().st_size
    drive.answers[BEHIND] = [attachment(CONTENT)]
    fetch(dataset("baby/image_feat.npy"), tmp_path, None, RETRY)
    assert arrived > 0 and drive.ranges[-1] == f"bytes={arrived}-"
    assert (tmp_path / "image_feat.npy").read_bytes() == CONTENT


def test_unreachable_drive_is_named(drive: Server, tmp_path: Path) -> None:
    drive.answers[listing(ROOT)] = [page("busy", 500)]
    with pytest.raises(MmreproError, match=r"Google Drive cannot be reached .*status code 500.*or set MMREPRO_MIRROR"):
        fetch(dataset("baby/baby.inter"), tmp_path, None, RETRY)
