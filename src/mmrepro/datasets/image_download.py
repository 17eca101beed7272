"""Images of items: downloaded with patience, checked, and listed with what became of each."""

from __future__ import annotations

import hashlib
import json
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import requests
from tqdm import tqdm

from mmrepro.columns import IMAGE_URL, Columns
from mmrepro.config.dataset import DatasetConfig, Images
from mmrepro.datasets.download import download_small
from mmrepro.datasets.filters import PAIR, k_core
from mmrepro.datasets.http import GaveUp, PrivateAddress, Refused, Retry
from mmrepro.datasets.image_files import MISSING, OK, STATUSES, UnusableImage, check_image, decode_image, open_image
from mmrepro.datasets.raw import RawDataset
from mmrepro.datasets.readers import load_reader
from mmrepro.errors import MmreproError
from mmrepro.records.files import flush_to_disk, read_json, write_json, write_text

__all__ = ["OK", "ImageEntry", "UnusableImage", "check_image", "download_images", "load_images", "open_image"]

IMAGES = "IMAGES.json"
FOLDER = "images"
JOURNAL = ".images.jsonl"
LARGEST_BYTES = 32 * 1024 * 1024
TIMEOUT = 20.0
GAVE_UP = "gave up: "
"""Begins the reason of a failure that another time may not have: such an image is asked for again."""

NO_ADDRESS = "no address"
PRIVATE_ADDRESS = "a private address (images: private_addresses)"
NOT_ASKED = (NO_ADDRESS, PRIVATE_ADDRESS)
"""Reasons that the data set or its configuration takes away; the image itself was never asked for."""

FAILURES_IN_A_ROW = 100
"""After so many the network is to blame, not the images."""


@dataclass(frozen=True)
class ImageEntry:
    """What became of an item's image.

    Attributes
    ----------
    status
        One of `STATUSES`.
    file
        Path relative to the raw folder; None unless the status is `ok`.
    reason
        Why there is none; None where the status is `ok`.
    """

    status: str
    file: str | None = None
    reason: str | None = None

    @property
    def gave_up(self) -> bool:
        """Whether another time may bring the image."""
        return (self.reason or "").startswith(GAVE_UP)

    @property
    def is_final(self) -> bool:
        """Whether the image need not be asked for again."""
        return self.status != OK and self.reason not in NOT_ASKED and not self.gave_up

    def to_json(self) -> dict[str, str]:
        """Return the fields that are not None."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def load_images(raw: Path) -> dict[str, ImageEntry]:
    """Read what became of the images of a raw data set.

    Parameters
    ----------
    raw
        Folder of the raw files.

    Returns
    -------
    dict
        Item key -> entry; empty where no image was ever asked for.
    """
    path = raw / IMAGES
    if not path.is_file():
        return {}
    return {key: ImageEntry(**entry) for key, entry in read_json(path)["images"].items()}


def download_images(config: DatasetConfig, raw: Path, retry: Retry | None = None) -> None:
    """Download the images of the items that survive duplicates and k-core, and list what became of each.

    Images that are there already (of an earlier call, or of a mirror) are checked and not asked for again; nor is what
    an earlier call found refused or unusable. `IMAGES.json` is written last and does not depend on the order of
    answers.

    Parameters
    ----------
    config
        Reader, filters and `images`.
    raw
        Folder that `fetch` filled; images go to `images/<item key>.<extension>` below it.
    retry
        Patience of downloads; the attempts of `config.images` unless given.

    Raises
    ------
    MmreproError
        For an unreadable raw file, or when so many images in a row fail that the network must be the reason.
    """
    settings = config.images or Images()
    addresses = _addresses(config, load_reader(config).read(raw, config))
    known = _known_failures(raw, settings)
    collector = _Collector(raw, settings, retry or Retry(settings.attempts, timeout=TIMEOUT), known)
    entries: dict[str, ImageEntry] = {}
    lasting = 0
    journal = raw / JOURNAL
    write_text(journal, "".join(_journal_line(key, known[key], settings) for key in sorted(known)))
    with journal.open("a", buffering=1, encoding="utf-8") as handle:
        found = _in_threads(collector.obtain, addresses, settings.connections)
        for key, entry in tqdm(found, desc="images", total=len(addresses), unit="image", disable=None):
            entries[key] = entry
            if entry.is_final and key not in known:
                handle.write(_journal_line(key, entry, settings))
            lasting = lasting + 1 if entry.gave_up else 0
            if lasting == FAILURES_IN_A_ROW:
                raise MmreproError(
                    f"data set '{config.dataset}': {lasting} images in a row failed, the last: {entry.reason}; "
                    "check the network and run the same command again, it goes on where it stopped"
                )
    _write_list(config, raw, settings, entries)
    journal.unlink()


def _addresses(config: DatasetConfig, data: RawDataset) -> dict[str, str | None]:
    """Key -> url of the surviving items that the reader has no image of, sorted by key."""
    rows = data.interactions[PAIR]
    if config.drop_duplicates:
        rows = rows.drop_duplicates()
    if config.k_core > 0:
        rows = k_core(rows, config.k_core)
    survivors = pd.Index(rows[Columns.ITEM].unique()).sort_values()
    items = data.items.set_index(Columns.KEY).reindex(index=survivors, columns=[Columns.IMAGE, IMAGE_URL])
    urls = items.loc[items[Columns.IMAGE].isna(), IMAGE_URL]
    return {key: url if isinstance(url, str) and url else None for key, url in zip(urls.index, urls, strict=True)}


class _Collector:
    """Obtains one image; any number of threads may ask it."""

    def __init__(self, raw: Path, settings: Images, retry: Retry, known: dict[str, ImageEntry]) -> None:
        self.folder = raw / FOLDER
        self.settings, self.retry, self.known = settings, retry, known
        self.sessions = threading.local()
        self.present: dict[str, list[Path]] = {}
        self.folder.mkdir(exist_ok=True)
        for path in sorted(self.folder.iterdir()):
            if path.suffix == ".part":  # of a killed call
                path.unlink()
            else:
                self.present.setdefault(path.stem, []).append(path)

    def obtain(self, key: str, url: str | None) -> ImageEntry:
        """Find the image among the files, or download it."""
        name = _safe_name(key)
        entry = ImageEntry(MISSING, reason=NO_ADDRESS)
        for path in self.present.get(name, []):
            status, reason = check_image(path, self.settings.smallest_side)
            if status == OK:
                return ImageEntry(OK, file=f"{FOLDER}/{path.name}")
            entry = ImageEntry(status, reason=reason)
        if key in self.known:
            return self.known[key]
        return entry if url is None else self._download(name, url)

    def _download(self, name: str, url: str) -> ImageEntry:
        part = self.folder / f"{name}.part"
        if not hasattr(self.sessions, "session"):
            self.sessions.session = requests.Session()
        try:
            private = self.settings.private_addresses
            download_small(self.sessions.session, url, part, LARGEST_BYTES, self.retry, private=private)
            final = self.folder / (name + decode_image(part, self.settings.smallest_side)[1])
            flush_to_disk(part)
            part.replace(final)
        except PrivateAddress:
            return ImageEntry(MISSING, reason=PRIVATE_ADDRESS)
        except Refused as refused:
            return ImageEntry(MISSING, reason=str(refused))
        except GaveUp as problem:
            return ImageEntry(MISSING, reason=f"{GAVE_UP}{problem.kind}")
        except UnusableImage as unusable:
            return ImageEntry(unusable.status, reason=unusable.reason)
        finally:
            part.unlink(missing_ok=True)
        return ImageEntry(OK, file=f"{FOLDER}/{final.name}")


def _safe_name(key: str) -> str:
    quoted = urllib.parse.quote(key, safe="")
    return quoted if len(quoted) <= 200 else hashlib.sha256(key.encode()).hexdigest()  # file systems allow 255


Obtain = Callable[[str, str | None], ImageEntry]


def _in_threads(obtain: Obtain, wanted: dict[str, str | None], connections: int) -> Iterator[tuple[str, ImageEntry]]:
    """Results as they come; few wait in the queue, however many are wanted."""
    waiting: dict[Future[ImageEntry], str] = {}
    with ThreadPoolExecutor(connections) as pool:
        try:
            for key, url in wanted.items():
                waiting[pool.submit(obtain, key, url)] = key
                if len(waiting) == 2 * connections:
                    yield from _finished(waiting)
            while waiting:
                yield from _finished(waiting)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _finished(waiting: dict[Future[ImageEntry], str]) -> Iterator[tuple[str, ImageEntry]]:
    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
        yield waiting.pop(future), future.result()


def _known_failures(raw: Path, settings: Images) -> dict[str, ImageEntry]:
    """What earlier calls found final under the same smallest side: in their list or, if killed, their journal."""
    entries: dict[str, ImageEntry] = {}
    listed = raw / IMAGES
    if listed.is_file() and read_json(listed)["smallest_side"] == settings.smallest_side:
        entries = load_images(raw)
    journal = raw / JOURNAL
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.is_file() else []:
        try:
            values = json.loads(line)
        except ValueError:  # cut when the process was killed
            continue
        key, smallest_side = values.pop("key"), values.pop("smallest_side")
        if smallest_side == settings.smallest_side:
            entries[key] = ImageEntry(**values)
    return {key: entry for key, entry in entries.items() if entry.is_final}


def _journal_line(key: str, entry: ImageEntry, settings: Images) -> str:
    return json.dumps({"key": key, "smallest_side": settings.smallest_side, **entry.to_json()}) + "\n"


def _write_list(config: DatasetConfig, raw: Path, settings: Images, entries: dict[str, ImageEntry]) -> None:
    counts = Counter(entry.status for entry in entries.values())
    listed = {
        "dataset": config.raw_name,
        "smallest_side": settings.smallest_side,
        "counts": {status: counts[status] for status in STATUSES},
        "images": {key: entries[key].to_json() for key in sorted(entries)},
    }
    write_json(raw / IMAGES, listed)
