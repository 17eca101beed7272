import hashlib
import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hand_made import REPOSITORY, STUDY_FILE, make_root, write_yaml
from http_server import Answer, running_server

from mmrepro.config.files import load_dataset
from mmrepro.datasets.fetch import fetch
from mmrepro.housekeeping import raw_files as module
from mmrepro.housekeeping.doctor import doctor as examine
from mmrepro.study.resolve import plans_of_files

CONTENT = b"userID\titemID\n" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def doctor(studies: list[Path], root: Path, mirror: Path | None, verify: bool) -> tuple[str, bool]:
    plans, problems = plans_of_files(studies or sorted((root / "config/studies").glob("*.yaml")), root)
    return examine(plans, root, mirror, verify, problems)


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/gone":
            return self.send_error(404)
        ranged = self.path == "/ranged"
        self.send_response(206 if ranged else 200)
        if ranged:
            self.send_header("Content-Range", f"bytes 0-0/{len(CONTENT)}")
        self.send_header("Content-Length", str(1 if ranged else len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1] if ranged else CONTENT)


@pytest.fixture
def url() -> Iterator[str]:
    instance = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=instance.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{instance.server_address[1]}"
    instance.shutdown()
    instance.server_close()


def make_study(root: Path, *files: dict[str, object], **changes: object) -> None:
    make_root(root, datasets=["toy-a"], **changes)
    values = {"dataset": "toy-a", "title": "Toy", "reader": "mmrec", "folder": "toy-files", "licence": "none"}
    write_yaml(root / "config/datasets/toy-a.yaml", {**values, "files": list(files)})


def line_of(text: str, name: str) -> str:
    return " ".join(next(line for line in text.splitlines() if f"toy-a/{name}" in line).split())


def problems(text: str) -> list[str]:
    return [line.removeprefix("problem: ") for line in text.splitlines() if line.startswith("problem: ")]


def mirror_with(folder: Path, content: bytes) -> Path:
    (folder / "mirror/toy-files").mkdir(parents=True)
    (folder / "mirror/toy-files/a.inter").write_bytes(content)
    return folder / "mirror"


def test_generated_data_need_nothing(tmp_path: Path) -> None:
    make_root(tmp_path)
    text, healthy = doctor([STUDY_FILE], tmp_path, None, verify=False)
    assert healthy
    assert text.endswith("everything needed can be had")
    assert "toy-a" in text and "generated" in text
    runs = next(line.split() for line in text.splitlines() if line.startswith("  final runs"))
    assert runs[:5] == ["final", "runs", "10", "2000", "MB"]  # 2 data sets x (2 models x 2 seeds + popularity)


def test_urls_are_asked_for_status_and_size(tmp_path: Path, url: str) -> None:
    names = ("whole", "ranged", "gone")
    make_study(tmp_path, *({"name": f"{name}.csv", "url": f"{url}/{name}"} for name in names))
    text, healthy = doctor([STUDY_FILE], tmp_path, None, verify=False)
    assert not healthy
    assert line_of(text, "whole.csv").endswith("not fetched reachable, 0.0 MB")
    assert line_of(text, "ranged.csv").endswith("not fetched reachable, 0.0 MB")
    assert problems(text) == [
        "toy-a/gone.csv: HTTP status 404; correct the url, or set MMREPRO_MIRROR to a folder that holds toy-files/gone.csv"
    ]


def test_another_size_than_configured_is_a_problem(tmp_path: Path, url: str) -> None:
    make_study(tmp_path, {"name": "a.csv", "url": f"{url}/ranged", "bytes": 7})
    text, healthy = doctor([STUDY_FILE], tmp_path, None, verify=False)
    assert not healthy
    assert "a.csv: reachable, but 1400 bytes instead of 7; correct `bytes`" in problems(text)[0]


def test_servers_that_do_not_answer_are_waited_for_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    with running_server() as server:
        server.answers = {"/slow": [Answer(delay=1.0)]}
        make_study(tmp_path, *({"name": f"{number}.csv", "url": f"{server.url}/slow"} for number in range(12)))
        text, healthy = doctor([STUDY_FILE], tmp_path, None, verify=False)
    assert server.most_unanswered > 6  # one after another they would be four
    assert not healthy
    assert len(problems(text)) == 12
    assert all("no answer; connect to the network" in problem for problem in problems(text))


def test_a_drive_is_not_asked_and_a_file_without_address_needs_a_mirror(tmp_path: Path) -> None:
    drive = {"name": "a.inter", "url": "gdrive://folder/a.inter"}
    make_study(tmp_path, drive, {"name": "b.inter"}, {"name": "c.npy", "optional": True})
    text, healthy = doctor([STUDY_FILE], tmp_path, None, verify=False)
    assert not healthy
    assert line_of(text, "a.inter").endswith("Google Drive, not checked")
    assert problems(text) == [
        "toy-a/b.inter: needs MMREPRO_MIRROR; set MMREPRO_MIRROR to a folder that holds toy-files/b.inter"
    ]


def test_mirror_is_looked_into(tmp_path: Path) -> None:
    make_study(tmp_path, {"name": "a.inter", "bytes": len(CONTENT)}, {"name": "b.npy", "optional": True})
    mirror = mirror_with(tmp_path, CONTENT)
    text, healthy = doctor([STUDY_FILE], tmp_path, mirror, verify=False)
    assert healthy, text
    assert line_of(text, "a.inter").endswith("not fetched mirror, 0.0 MB")
    (mirror / "toy-files/a.inter").write_bytes(CONTENT[1:])
    text, healthy = doctor([STUDY_FILE], tmp_path, mirror, verify=False)
    assert not healthy
    assert "mirror, but 1399 bytes instead of 1400" in problems(text)[0]
    (mirror / "toy-files/a.inter").unlink()
    text, healthy = doctor([STUDY_FILE], tmp_path, mirror, verify=False)
    assert not healthy
    assert problems(text)[0].startswith("toy-a/a.inter: not in the mirror; put it at ")


def test_sizes_are_those_of_the_files_that_are_there(tmp_path: Path) -> None:
    """An optional file that is not to be had takes no room, and is said to be left out; unknown sizes are no guess."""
    files = (
        {"name": "a.inter"},
        {"name": "b.npy", "bytes": 10**9, "optional": True},
        {"name": "pictures", "folder": True},
    )
    make_study(tmp_path, *files)
    mirror = mirror_with(tmp_path, b"x" * 3_800_000)
    (mirror / "toy-files/pictures").mkdir()
    (mirror / "toy-files/pictures/1.jpg").write_bytes(b"y" * 37_000_000)
    text, healthy = doctor([STUDY_FILE], tmp_path, mirror, verify=False)
    assert healthy, text
    assert line_of(text, "b.npy").endswith("not fetched not in the mirror: optional, left out")
    assert re.search(r"raw files +1 +2000 MB +41 MB", text), text
    (mirror / "toy-files/b.npy").write_bytes(b"z" * 10**6)
    text, _ = doctor([STUDY_FILE], tmp_path, mirror, verify=False)
    assert "b.npy: mirror, but 1000000 bytes instead of 1000000000" in text or "1000000 bytes instead" in text


def test_a_copy_that_is_older_than_the_mirror_is_told(tmp_path: Path) -> None:
    make_study(tmp_path, {"name": "a.inter"})
    mirror = mirror_with(tmp_path, CONTENT)
    fetch(load_dataset(tmp_path / "config/datasets/toy-a.yaml"), tmp_path / "data/raw/toy-a", mirror)
    assert "here, size right" in line_of(doctor([STUDY_FILE], tmp_path, mirror, verify=False)[0], "a.inter")
    (mirror / "toy-files/a.inter").write_bytes(CONTENT + b"2\t3\n")
    text, healthy = doctor([STUDY_FILE], tmp_path, mirror, verify=False)
    assert healthy and "older than the mirror's files" in line_of(text, "a.inter")


def test_fetched_files_need_no_source_and_damage_is_told(tmp_path: Path) -> None:
    make_study(tmp_path, {"name": "a.inter", "sha256": SHA256})
    raw = tmp_path / "data/raw/toy-a"
    fetch(load_dataset(tmp_path / "config/datasets/toy-a.yaml"), raw, mirror_with(tmp_path, CONTENT))
    text, healthy = doctor([STUDY_FILE], tmp_path, None, verify=True)
    assert healthy, text
    assert "here, SHA-256 verified needs MMREPRO_MIRROR" in line_of(text, "a.inter")
    assert "  raw files  " not in text
    (raw / "a.inter").write_bytes(CONTENT[::-1])  # the same size
    assert doctor([STUDY_FILE], tmp_path, None, verify=False)[1]
    text, healthy = doctor([STUDY_FILE], tmp_path, None, verify=True)
    assert not healthy
    assert problems(text) == ["toy-a/a.inter: another SHA-256; run `mmrepro fetch toy-a`"]
    (raw / "a.inter").write_bytes(CONTENT[:5])
    assert "5 bytes instead of 1400" in problems(doctor([STUDY_FILE], tmp_path, None, verify=False)[0])[0]
    (raw / "a.inter").unlink()
    assert "a.inter: missing" in problems(doctor([STUDY_FILE], tmp_path, None, verify=False)[0])[0]
    (raw / "MANIFEST.json").write_text("{")
    assert "damaged manifest" in problems(doctor([STUDY_FILE], tmp_path, None, verify=False)[0])[0]


def test_files_fetched_for_an_older_configuration_are_told(tmp_path: Path) -> None:
    make_study(tmp_path, {"name": "a.inter"})
    raw = tmp_path / "data/raw/toy-a"
    config = tmp_path / "config/datasets/toy-a.yaml"
    fetch(load_dataset(config), raw, mirror_with(tmp_path, CONTENT))
    write_yaml(
        config,
        {**json.loads(load_dataset(config).model_dump_json()), "files": [{"name": "a.inter", "sha256": "0" * 64}]},
    )
    assert "a.inter: not the configured SHA-256" in problems(doctor([STUDY_FILE], tmp_path, None, verify=False)[0])[0]


def test_a_job_larger_than_the_machine_is_a_problem(tmp_path: Path) -> None:
    make_study(tmp_path, {"name": "a.inter"}, device="cuda")
    config = tmp_path / "config/datasets/toy-a.yaml"
    values = json.loads(load_dataset(config).model_dump_json())
    write_yaml(config, {**values, "files": [], "reader": "miniature", "expected": {"users": 10**9, "items": 10**8}})
    text, healthy = doctor([STUDY_FILE], tmp_path, None, verify=False)
    assert not healthy
    assert any(problem.startswith("memory: a job needs about ") for problem in problems(text))
    assert any(problem.startswith("disk: about ") for problem in problems(text))


def test_a_study_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    make_root(tmp_path)
    write_yaml(tmp_path / "config/studies/broken.yaml", {"study": "broken"})
    text, healthy = doctor([], tmp_path, None, verify=False)
    assert not healthy
    assert len(problems(text)) == 1 and "broken.yaml: key 'title' is missing" in problems(text)[0]
    assert "hand: Hand_made 100 %" in text


def test_jobs_that_studies_share_are_counted_once(tmp_path: Path) -> None:
    make_root(tmp_path)
    alone = doctor([STUDY_FILE], tmp_path, None, verify=False)[0]
    twice = doctor([STUDY_FILE, STUDY_FILE], tmp_path, None, verify=False)[0]
    total = [next(line for line in text.splitlines() if "left to do" in line) for text in (alone, twice)]
    assert total[0] == total[1]


def test_nothing_heavy_is_imported() -> None:
    script = "import sys, mmrepro.housekeeping.doctor; print([m for m in ('torch', 'pandas', 'numpy', 'mlflow') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"


def test_every_study_of_the_repository_can_be_examined() -> None:
    text, _ = doctor([REPOSITORY / "config/studies/miniature.yaml"], REPOSITORY, None, verify=False)
    assert "miniature: Embedded miniature study on planted data" in text


def test_an_optional_file_that_a_feature_set_reads_is_needed(tmp_path: Path) -> None:
    text, healthy = doctor([REPOSITORY / "config/studies/alignrec.yaml"], REPOSITORY, tmp_path, verify=False)
    problems = [line for line in text.splitlines() if line.startswith("problem")]
    assert not healthy
    for file in ("image_feat.npy", "text_feat.npy", "baby_beit3_128token_add_title_brand_to_text/image_feat.npy"):
        assert any(f"baby/{file}: not in the mirror" in line for line in problems)
    text, _ = doctor([REPOSITORY / "config/studies/baby-published.yaml"], REPOSITORY, tmp_path, verify=False)
    assert "problem: baby/baby.inter" in text and "problem: baby/image_feat.npy" not in text
