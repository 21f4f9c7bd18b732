"""A data set, or some of its files, fetched into a folder: planned, fetched, unpacked, and written down."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

from filelock import FileLock, Timeout

from cytosae.cells.datasets import PublishedDataset
from cytosae.common.cache import cache_folder
from cytosae.common.download import Downloaded, download
from cytosae.common.errors import ConflictError, UsageError
from cytosae.common.listings import list_record, with_sizes
from cytosae.common.records import read_record, write_json
from cytosae.common.remote_files import RemoteFile
from cytosae.common.responses import Patience
from cytosae.common.unpacking import unpack_zip

RECORD = "fetched.json"
"""In the folder of a data set: what was fetched, when, from where, with which checksum and under which licence."""


class FetchedFile(TypedDict):
    """A file of the record."""

    url: str
    sha256: str
    bytes: int
    pinned: bool
    fetched: str
    unpacked: NotRequired[int]


class Fetched(TypedDict):
    """The record: names of all files of the data set, and those that were fetched."""

    of: list[str]
    files: dict[str, FetchedFile]


@dataclass(frozen=True)
class FetchPlan:
    """What is to be fetched.

    Attributes
    ----------
    dataset : PublishedDataset
        Of which.
    place : Path
        Folder that it goes to.
    files : tuple of RemoteFile
        Those that are not there yet, with their sizes where a server tells them.
    there : tuple of str
        Names of those that are.
    of : tuple of str
        Names of all files of the data set.
    free : int
        Bytes free on the disk of the folder.
    """

    dataset: PublishedDataset
    place: Path
    files: tuple[RemoteFile, ...]
    there: tuple[str, ...]
    of: tuple[str, ...]
    free: int

    @property
    def size(self) -> int | None:
        """Bytes to fetch, None where a server does not tell."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


def plan_fetch(
    dataset: PublishedDataset, place: Path | None = None, *, only: Sequence[str] = (), patience: Patience | None = None
) -> FetchPlan:
    """Find out what is to be fetched, how large it is and whether it fits; nothing is fetched yet.

    Parameters
    ----------
    dataset : PublishedDataset
        One that is `fetchable`.
    place : Path or None
        Folder; by default ``data/<name>`` in the cache (``CYTOSAE_CACHE``).
    only : sequence of str
        Names of files, without which all are meant.
    patience : Patience or None
        With the servers.

    Raises
    ------
    UsageError
        for a data set that no program can fetch, or a name that is none of its files.
    DownloadError
        where the servers cannot be asked.
    """
    if not dataset.fetchable:
        raise UsageError(f"{dataset.title} cannot be fetched by program; {dataset.how}.")
    place = place or cache_folder() / "data" / dataset.name
    record = read_fetched(place)
    done = {name for name, entry in record["files"].items() if "unpacked" in entry or (place / name).is_file()}
    files = {file.name: file for file in dataset.files}
    if not files and not set(only or record["of"] or ("",)) <= done:  # else nothing is missing: no server is asked
        files = {file.name: file for file in list_record(dataset.record, patience=patience)}
    of = tuple(files) or tuple(record["of"])
    if unknown := [name for name in only if name not in of]:
        raise UsageError(f"{dataset.title} has no file {unknown[0]!r}; its files are {', '.join(of)}.")
    wanted = tuple(only) or of
    missing = with_sizes([files[name] for name in wanted if name not in done], patience=patience)
    there = tuple(name for name in wanted if name in done)
    return FetchPlan(dataset, place, tuple(missing), there, of, _free(place))


def fetch_dataset(plan: FetchPlan, *, patience: Patience | None = None) -> Fetched:
    """Fetch what is planned, unpack archives and remove them; what is finished is kept when it is interrupted.

    Returns
    -------
    Fetched
        What is there now; the same lies in ``fetched.json``.

    Raises
    ------
    ConflictError
        while another process fetches into the same folder.
    DownloadError, InputError, ArtifactError
        for what servers send, what archives hold, and a disk that takes no more.
    """
    plan.place.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(plan.place / ".fetching.lock", timeout=0):
            for file in plan.files:
                got = download(file, plan.place, patience=patience)
                _note(plan, file, got)
    except Timeout as problem:
        raise ConflictError(
            f"Another process fetches into {plan.place}; wait for it, or name another folder."
        ) from problem
    return read_fetched(plan.place)


def read_fetched(place: Path) -> Fetched:
    """What was fetched into a folder."""
    record = place / RECORD
    if not record.is_file():
        return Fetched(of=[], files={})
    return read_record(Fetched, record, "remove it to have the files fetched anew")


def _note(plan: FetchPlan, file: RemoteFile, got: Downloaded) -> None:
    entry = FetchedFile(
        url=file.url,
        sha256=got.sha256,
        bytes=got.path.stat().st_size,
        pinned=got.pinned,
        fetched=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    if got.path.suffix == ".zip":
        entry["unpacked"] = unpack_zip(got.path, plan.place)
        got.path.unlink()
    files = {**read_fetched(plan.place)["files"], file.name: entry}
    write_json(plan.place / RECORD, Fetched(of=list(plan.of), files=files))


def _free(place: Path) -> int:
    there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free
