"""Files in public folders of Google Drive, named by folder and path: `gdrive://<folder id>/<path in the folder>`.

gdown reads Drive's pages: the list of a folder with its subfolders, and the page that stands before a large file. The
file itself comes by the same download as any other, resumed and hashed as it arrives. Drive was out of reach of the
machines this was written on: the tests answer in the form that gdown 6.5 reads. That version reads the embedded view of
a folder and knows no limit of files; earlier ones stopped at 50 a folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import requests

from mmrepro.datasets.http import (
    GaveUp,
    Interrupted,
    Refused,
    Retry,
    blocks,
    check_status,
    follow,
    open_url,
    persist,
    start_of,
)
from mmrepro.errors import MmreproError

SCHEME = "gdrive://"
SHOWN = 20
LARGEST_PAGE = 4 * 1024**2
"""Bytes of a page that are read."""

MIRROR = "set MMREPRO_MIRROR to a folder that holds the file"


@dataclass(frozen=True)
class DriveFile:
    """A file in a folder of Google Drive: its id, and its path below the folder."""

    id: str
    path: str


class GoogleDrive:
    """Finds the https addresses of files; lists each folder once.

    Parameters
    ----------
    session
        Connections and cookies, used for the download as well.
    retry
        Patience of each request.
    """

    def __init__(self, session: requests.Session, retry: Retry) -> None:
        self.session = session
        self.retry = retry
        self._listings: dict[str, list[DriveFile]] = {}

    def address(self, url: str) -> str:
        """Return the https address that answers with the file.

        Parameters
        ----------
        url
            `gdrive://<folder id>/<path>`; the file whose path is, or ends with, this path.

        Raises
        ------
        MmreproError
            When the folder or the file is not public, holds no such file or several, or its quota is exceeded.
        """
        folder, _, wanted = url.removeprefix(SCHEME).partition("/")
        try:
            if folder not in self._listings:
                self._listings[folder] = persist(lambda: _list_folder(folder, self.retry.timeout), self.retry)
            file = _find(self._listings[folder], wanted, url)
            return persist(lambda: self._direct_address(file), self.retry)
        except Refused as refused:
            raise MmreproError(f"{url}: refused by Google Drive ({refused}); try again in a day or {MIRROR}") from None
        except GaveUp as problem:
            raise MmreproError(
                f"{url}: Google Drive cannot be reached ({problem}); run the same command again or {MIRROR}"
            ) from None

    def _direct_address(self, file: DriveFile) -> str:
        """The address behind the page that Drive shows before a file too large for its virus scan.

        The page leads no further than a redirect may.
        """
        from gdown.download import get_url_from_gdrive_confirmation
        from gdown.exceptions import FileURLRetrievalError

        url = f"https://drive.google.com/uc?id={file.id}&export=download"
        with open_url(self.session, url, self.retry.timeout) as response:
            check_status(response)
            if "Content-Disposition" in response.headers:
                return response.url
            page = start_of(blocks(response, self.retry.timeout, decode=True), LARGEST_PAGE)
            try:
                address = get_url_from_gdrive_confirmation(page.decode("utf-8", "replace"))
            except FileURLRetrievalError as error:
                raise Refused(_plain(error)) from None
        return follow(url, address, private=False)


def _list_folder(folder: str, timeout: float) -> list[DriveFile]:
    """All files of a folder and its subfolders."""
    import gdown
    from gdown.exceptions import DownloadError

    try:
        found = gdown.download_folder(id=folder, skip_download=True, quiet=True, use_cookies=False, timeout=timeout)
    except DownloadError as error:
        if re.search(r"status code (429|5\d\d)", str(error)):
            raise Interrupted(_plain(error)) from None
        raise Refused(_plain(error)) from None
    return [DriveFile(entry.id, entry.path) for entry in found if not isinstance(entry, str)]


def _find(files: list[DriveFile], wanted: str, url: str) -> DriveFile:
    ending = [file for file in files if f"/{file.path}".endswith(f"/{wanted}")]
    exact = [file for file in ending if file.path == wanted]
    matches = exact or ending
    if len(matches) == 1:
        return matches[0]
    shown = sorted(file.path for file in (matches or files))
    listed = ", ".join(shown[:SHOWN]) + f" and {len(shown) - SHOWN} more" * (len(shown) > SHOWN)
    if matches:
        raise MmreproError(f"{url}: several files of the folder end so: {listed}; write more of the path")
    raise MmreproError(
        f"{url}: no file of the folder ends so "
        f"(found: {listed or 'nothing; is it shared with anyone who has the link?'}"
        f"); correct the url or {MIRROR}"
    )


def _plain(error: Exception) -> str:
    """What gdown says, without mark-up and its hints to other pages."""
    text = re.sub(r"<[^>]+>", "", str(error)).split("Check FAQ")[0]
    return " ".join(text.split()).rstrip(".")
