"""Whether the numbers of a study follow from what lies beside them: every metric measured again, every table and figure
built again, every hash compared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrepro.columns import Columns
from mmrepro.errors import MmreproError
from mmrepro.evaluation.measure import measure_study, write_measures
from mmrepro.evaluation.places import measure_places, sizes_of_places
from mmrepro.housekeeping.bands import bands_of, verdict_counts
from mmrepro.housekeeping.comparison import CLOSE, LISTS, PLACES, Verification, compare_files, compare_metrics
from mmrepro.housekeeping.consistency import contradictions, left_beside, watched_values
from mmrepro.records.files import file_sha256, read_json, read_lines, read_object, read_table, write_record
from mmrepro.reporting.build import build_tables
from mmrepro.reporting.origins import REFERENCE
from mmrepro.reporting.page.build import build_page
from mmrepro.study.layout import Layout
from mmrepro.study.plan import Job, Plan
from mmrepro.study.products import SUMMARY, table_files

FOLDER = "folder"
"""Key of a line of a publication's records: where the file lay."""
METRICS = "metrics"
PAGE = Path("report/index.html")
EVIDENCE = "evidence"
CHECKSUMS = "SHA256SUMS"


def verify_published(plan: Plan, folder: Path, root: Path = Path()) -> Verification:
    """Verify a folder of published results from what is published: no data set, run or graphics card is needed.

    Parameters
    ----------
    plan
        The resolved study.
    folder
        Such as `results/reference/tiktok`.
    root
        Folder that holds `config/` and `data/published`.

    Raises
    ------
    MmreproError
        When the folder is no publication, or was made before evidence was kept.
    """
    if not (folder / EVIDENCE).is_dir():
        raise MmreproError(
            f"{folder / EVIDENCE}: no such folder; publish the study again, or name a folder that has it"
        )
    found = Verification()
    _check_files(folder, found)
    with tempfile.TemporaryDirectory() as name:
        build_published(plan, folder, Path(name), root, found)
        if not found.stopped:
            _compare_built(plan, folder, Path(name) / Layout.study(plan.name), found)
            found.checked += verdict_counts(folder)
    return found


def build_published(plan: Plan, folder: Path, scratch: Path, root: Path, found: Verification) -> None:
    """Build the tables of a publication from its records and evidence alone.

    Parameters
    ----------
    plan
        The resolved study.
    folder
        With records and evidence.
    scratch
        An empty folder: receives what the jobs left, and below it `results/<study>` with the tables.
    root
        Folder that holds `config/` and `data/published`.
    found
        Receives what was compared on the way.
    """
    for part in ("config", "data/published"):
        (scratch / part).parent.mkdir(parents=True, exist_ok=True)
        (scratch / part).symlink_to((root / part).absolute())
    with _noted(found, scratch):
        lines = _put_back(plan, folder, scratch, found)
        found.differences += contradictions(plan, scratch)
        _measure_again(plan, folder, scratch, lines, found)
        code = {str(line.get(Columns.MODEL)): str(line.get("code")) for line in lines.values()}
        build_tables(plan, scratch / Layout.study(plan.name), scratch, code)


@contextmanager
def _noted(found: Verification, scratch: Path) -> Iterator[None]:
    """What cannot be read is a difference, after which nothing can be compared."""
    try:
        yield
    except MmreproError as error:
        found.differences.append(str(error).replace(f"{scratch}/", ""))
        found.stopped = True
    except (LookupError, TypeError, ValueError, AttributeError) as error:  # a record that lacks what tables read of it
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:99]}"
        found.differences.append(f"a record or table lacks something, or holds something else ({reason})")
        found.stopped = True


def verify_local(plan: Plan, file: Path, root: Path = Path()) -> Verification:
    """Verify a study's results from the lists, records and data that lie here.

    Parameters
    ----------
    plan
        The resolved study.
    file
        Its file, which its page names.
    root
        Folder that holds `config/`, `data/` and `results/`.

    Raises
    ------
    MmreproError
        When the study has no tables here.
    """
    found, folder = Verification(), root / Layout.study(plan.name)
    if not (folder / SUMMARY).is_file():
        raise MmreproError(f"{folder}: no tables there; run the study first")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (scratch / "results").mkdir()
        for part in (root / "config", root / "data", *(root / "results").iterdir()):
            if part != folder:
                (scratch / part.relative_to(root)).symlink_to(part.absolute())
        with _noted(found, scratch):
            _check_left(plan, root, found)
            found.differences += [*contradictions(plan, root), *left_beside(plan, root)]
            for job in plan.jobs_of("measure"):
                dataset = job.labels["dataset"]
                measure_study(dataset, job.settings, scratch / job.product, scratch)
                again = (read_object(scratch / job.product) or {})["runs"]
                compare_metrics(
                    job.product.as_posix(), _written(root / job.product), again, LISTS, plan.study.cutoffs, found
                )
                users = job.product.with_suffix(".parquet")
                found.differences += _other_users(root / users, scratch / users)
                found.differences += watched_values(plan, again, root)
            built = scratch / Layout.study(plan.name)
            build_tables(plan, built, scratch)
            _compare_built(plan, folder, built, found)
            _compare_page(plan, file, folder, built, scratch, found)
            found.checked += [*verdict_counts(folder), *bands_of(plan, folder, root / REFERENCE / plan.name)]
    return found


def _written(path: Path) -> dict[str, Any]:
    """The metrics in a file of measures, also where its checksum is not theirs: what differs is named cell by cell."""
    found = read_json(path) if path.is_file() else {}
    return dict(found.get("runs", {})) if isinstance(found, dict) else {}


def _other_users(there: Path, again: Path) -> Iterator[str]:
    """The values of users that are not those measured again, a line a metric."""
    one, other = read_table(there), read_table(again)
    if [*one.columns] != [*other.columns] or len(one) != len(other):
        sizes = [f"{len(frame)} rows of {len(frame.columns)} columns" for frame in (one, other)]
        yield f"{there}: {sizes[0]}, measured again {sizes[1]}"
        return
    for name in other.columns:
        numbers = pd.api.types.is_float_dtype(other[name])
        same = (
            np.isclose(one[name], other[name], rtol=0, atol=CLOSE, equal_nan=True)
            if numbers
            else one[name] == other[name]
        )
        if not same.all():
            row = other.iloc[int((~same).argmax())]
            where = f"{row['run']} {row[Columns.SPLIT]} user {row[Columns.USER]}"
            yield f"{there}: {name} of {int((~same).sum())} rows, such as {where}, measured again {row[name]}"


def _check_left(plan: Plan, root: Path, found: Verification) -> None:
    """Compare what final runs left with the hashes in their records."""
    count = 0
    for job in plan.jobs_of("train"):
        record = read_object(root / job.product) or {}
        for name, sha256 in record.get("files", {}).items():
            path, count = (root / job.product).with_name(name), count + 1
            if not path.is_file() or file_sha256(path) != sha256:
                found.differences.append(f"{path}: not the file that its run left")
    found.checked.append(f"{count} files of final runs are compared with the SHA-256 in their records")


def checksums(folder: Path) -> str:
    """Return the SHA-256 of every file below a folder, as `sha256sum` prints and checks it."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return "".join(f"{file_sha256(folder / name)}  {name}\n" for name in names if name != CHECKSUMS)


def _check_files(folder: Path, found: Verification) -> None:
    """Compare the files that are there with the list of their hashes."""
    path = folder / CHECKSUMS
    listed = _by_name(path.read_text(encoding="utf-8", errors="replace") if path.is_file() else "")
    there = _by_name(checksums(folder))
    for name in sorted({*listed, *there}):
        if listed.get(name) != there.get(name):
            what = "not listed" if name not in listed else "not there" if name not in there else "another file"
            found.differences.append(f"{folder / name}: {what} in {CHECKSUMS}")
    found.checked.append(f"{len(listed)} files are compared with their SHA-256")


def _by_name(sums: str) -> dict[str, str]:
    """Name -> SHA-256."""
    return {name: sha256 for sha256, _, name in (line.partition("  ") for line in sums.splitlines())}


def _put_back(plan: Plan, folder: Path, scratch: Path, found: Verification) -> dict[str, dict[str, Any]]:
    """Lay records and evidence where their jobs left them; return the lines of final runs by folder."""
    expected: dict[str, Job] = {}
    for job in plan.jobs:
        if job.of_kind.records:
            expected[job.product.as_posix()] = job
        if job.evidence is not None:
            expected[job.evidence[1].as_posix()] = job
    runs, laid = {}, set()
    for file in sorted(folder.glob("*.jsonl")):
        for number, values in enumerate(read_lines(file), start=1):
            place = str(values.pop(FOLDER, ""))
            target = place if place.endswith(".json") else f"{place}/run.json"
            if target not in expected:
                found.differences.append(
                    f"{file}: line {number} is of no job of the study as it is configured: {place}"
                )
                continue
            if target in laid:
                found.differences.append(f"{file}: line {number} is a second one of {place}")
            if expected[target].kind == "train":
                runs[place] = values
            laid.add(target)
            write_record(scratch / target, {key: value for key, value in values.items() if key != METRICS})
    found.checked.append(f"{len(laid)} records are laid where their jobs left them, {len(runs)} of them of final runs")
    return runs


def _measure_again(
    plan: Plan, folder: Path, scratch: Path, runs: Mapping[str, Mapping[str, Any]], found: Verification
) -> None:
    """Measure the runs of each data set from the places of their hits, and compare with what is recorded."""
    for name in plan.study.datasets:
        recorded = {run: line.get(METRICS) or {} for run, line in runs.items() if line.get("dataset") == name}
        if not recorded:
            continue
        places = folder / EVIDENCE / name
        statistics = read_object(scratch / Layout.prepared(name) / "statistics.json")
        if statistics is None:
            raise MmreproError(f"{folder / 'datasets.jsonl'}: no line of {name}; restore the file from git")
        output = scratch / Layout.measures(plan.name, name)
        write_measures(
            output, name, statistics["content_hash"], plan.study.cutoffs, sizes_of_places(places),
            measure_places(places, statistics["n_users"], recorded, plan.study.cutoffs),
        )  # fmt: skip
        again = (read_object(output) or {})["runs"]
        compare_metrics(f"{name}: runs.jsonl", recorded, again, PLACES, plan.study.cutoffs, found)
        found.differences += watched_values(plan, again, scratch)


def _compare_page(plan: Plan, file: Path, folder: Path, built: Path, scratch: Path, found: Verification) -> None:
    """Compare the page, where there is one, with the one that is built of what was built again."""
    page = folder / PAGE
    if page.is_file():
        build_page(plan, file, built / PAGE, scratch)
        for name in (PAGE, PAGE.with_name("main.html")):
            found.differences += compare_files(folder / name, built / name)
        found.checked.append(f"{page} is built again")


def _compare_built(plan: Plan, folder: Path, built: Path, found: Verification) -> None:
    """Compare each table and figure that was built again with the one that is there."""
    names = table_files(plan)
    for name in names:
        found.differences += compare_files(folder / name, built / name)
    found.checked.append(f"{len(names)} tables and figures are built again")
    stray = {p.relative_to(folder) for part in ("tables", "figures") for p in (folder / part).rglob("*") if p.is_file()}
    found.differences += [f"{folder / name}: a file that the study does not make" for name in sorted(stray - {*names})]
