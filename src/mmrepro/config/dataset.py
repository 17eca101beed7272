"""What a data set is: where its files come from, how they are read, filtered and split."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mmrepro.config.base import Name, Strict


class PublishedFile(Strict):
    """Size and hash of a file at its publisher's."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class RawFile(Strict):
    """One raw file of a data set: where it comes from and how it is recognised."""

    name: str = Field(description="path inside the data set's folder; a folder when `folder` is true")
    url: str | None = Field(
        None,
        pattern=r"^(https?|gdrive)://",
        description="where it is downloaded from (http, https, or gdrive://<folder id>/<path in that folder>); none: "
        "only to be had from a mirror folder",
    )
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    bytes: int | None = Field(None, ge=0)
    published: PublishedFile | None = Field(
        None,
        description="what the url gave when somebody looked; a mirror may hold another copy, which the counts check",
    )
    folder: bool = Field(False, description="a folder of files, copied whole; only from a mirror")
    optional: bool = Field(
        False,
        description="left out in silence where the mirror does not have it (without a mirror: where it has no url); "
        "what needs it will say so",
    )


class Expected(Strict):
    """Counts that the prepared data set must have; a mismatch stops the workflow."""

    users: int | None = None
    items: int | None = None
    train: int | None = None
    valid: int | None = None
    test: int | None = None


class Images(Strict):
    """How the images that item records name by url are downloaded."""

    connections: int = Field(8, ge=1, le=64, description="open at the same time")
    attempts: int = Field(4, ge=1, description="requests for one image before it counts as missing")
    smallest_side: int = Field(16, ge=1, description="pixels; a smaller image is a placeholder and counts as too small")
    private_addresses: bool = Field(
        False,
        description="urls may name addresses of this machine and of private networks; false: such an image is missing",
    )


SplitKind = Literal["published", "random-per-user", "time-per-user", "global-time", "leave-one-out"]


class Split(Strict):
    """How interactions are divided into train, valid and test."""

    kind: SplitKind = "random-per-user"
    seed: int = Field(0, ge=0, lt=2**32)
    holdout: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of a user's interactions (global-time: of all) held out, half valid, half test",
    )
    few: int = Field(10, ge=3, description="users with fewer interactions give one to valid and one to test")


class RawSection(Strict):
    """Where a data set's raw files come from."""

    folder: str = Field(description="name of its folder below MMREPRO_MIRROR")
    own_files: bool = Field(False, description="that folder lies in data/mirror of the project, as `mmrepro init` does")
    files: tuple[RawFile, ...] = ()


class ReaderSection(Strict):
    """How raw files are read."""

    reader: str
    options: dict[str, Any] = Field(default_factory=dict, description="settings of the reader")


class ImageSection(Strict):
    """Which images are downloaded."""

    images: Images | None = Field(None, description="download the images that item records name by url")


class FilterSection(Strict):
    """Which interactions and items stay."""

    k_core: int = Field(0, ge=0, description="every user and item keeps at least this many interactions; 0: no filter")
    drop_duplicates: bool = True
    drop_items_without: tuple[Literal["image", "text"], ...] = Field(
        (), description="items without a usable image or text leave the data set before the k-core"
    )
    catalogue: Literal["interacted", "described"] = Field(
        "interacted",
        description="described: items that the files describe keep a place also where no interaction is left of them; "
        "models that read content can offer them, and every list is ranked among them",
    )


class SplitSection(Strict):
    """How interactions are split, and what must come out."""

    split: Split = Split()
    cold_users: Literal["drop", "keep"] = Field(
        "drop", description="valid and test rows of users without training item"
    )
    cold_items: Literal["drop", "keep"] = Field(
        "keep", description="valid and test rows of items without training user"
    )
    expected: Expected = Expected()


class DatasetConfig(SplitSection, FilterSection, ImageSection, ReaderSection, RawSection):
    """A data set id: it fixes source, filters and split.

    An id `<data set>--<split kind>` is the data set of that file with another split; both share their raw files. The
    sections are what stages are given, each as a whole.
    """

    dataset: Name
    title: str
    licence: str
    raw: Name | None = Field(None, description="data set whose raw files this one shares; none: it has its own")
    literature_split: str | None = Field(
        None, description="data set name in published tables, where the split is theirs"
    )

    @property
    def raw_name(self) -> str:
        """Name of the data set whose raw files are read."""
        return self.raw or self.dataset
