"""Files from elsewhere: gone on with where they broke off, there whole or not at all, and of the bytes that are meant.

The first download of a file of which no checksum is published pins it: its SHA-256 is kept in ``pins.json`` of the
cache, and every later download of the same address must have it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pooch
import requests
from filelock import FileLock
from pooch.hashes import hash_matches

from cytosae.common.cache import cache_folder
from cytosae.common.disk import disk_errors
from cytosae.common.errors import DownloadError
from cytosae.common.progress import progress
from cytosae.common.records import read_record, write_json
from cytosae.common.remote_files import RemoteFile, refuse_offline
from cytosae.common.responses import Patience, Temporary, total_bytes, trouble, wait_of

if TYPE_CHECKING:
    from cytosae.common.progress import Bar

PINS = "pins.json"
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Downloaded:
    """A file that is here now.

    Attributes
    ----------
    path : Path
        Where.
    sha256 : str
        Of its bytes, hexadecimal.
    pinned : bool
        Nobody publishes its checksum, and this was its first download: the checksum is now the one to expect.
    """

    path: Path
    sha256: str
    pinned: bool


def download(file: RemoteFile, folder: Path, *, patience: Patience | None = None) -> Downloaded:
    """Fetch a file into a folder, or find that it is there already.

    Parameters
    ----------
    file : RemoteFile
        What, from where, and what is known of it.
    folder : Path
        Made where it is missing; what has arrived of a file lies in it as ``<name>.part``.
    patience : Patience or None
        With the server.

    Raises
    ------
    DownloadError
        in one sentence, for whatever the network or the server does, and for other bytes than those meant.
    ArtifactError
        where the disk takes no more.
    """
    place = folder / file.name
    known = file.checksum or read_pins().get(file.url)
    if not (place.is_file() and hash_matches(place, known)):
        refuse_offline(file.name, place)
        _fetch(file, folder, known, patience or Patience())
    sha256 = pooch.file_hash(str(place), alg="sha256")
    if known is None:
        _pin(file.url, f"sha256:{sha256}")
    return Downloaded(place, sha256, known is None)


def _fetch(file: RemoteFile, folder: Path, known: str | None, patience: Patience) -> None:
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    pooch.get_logger().setLevel(logging.WARNING)  # what it says of its work, the bar says already
    resuming: Any = _Resuming(file, folder, patience, checked=known is not None)  # pooch's types ask for its own class
    try:
        pooch.retrieve(file.url, known, fname=file.name, path=folder, downloader=resuming)
    except ValueError as problem:  # pooch's word for another checksum
        whose = "published" if file.checksum else "pinned at its first download"
        raise DownloadError(
            f"{file.url} gave other bytes than those meant (their checksum is not {known}, {whose}), so they were not "
            "kept; try again, and ask whoever publishes the file if it happens twice."
        ) from problem


def read_pins() -> Mapping[str, str]:
    """Address -> checksum of the files that were pinned when they were first downloaded."""
    place = cache_folder() / PINS
    mend = "remove it to have files pinned anew at their next download"
    return read_record(dict[str, str], place, mend) if place.is_file() else {}


def _pin(url: str, checksum: str) -> None:
    place = cache_folder() / PINS
    with disk_errors(place, None):
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_suffix(".lock")):  # a cache may be shared
            write_json(place, {**read_pins(), url: checksum})


@dataclass
class _Resuming:
    """What pooch calls to fetch a file: it goes on after every break, as long as something arrives in between."""

    file: RemoteFile
    folder: Path
    patience: Patience
    checked: bool
    session: requests.Session = field(default_factory=requests.Session)

    def __call__(self, url: str, output: str, _pooch: Any, **_: Any) -> None:
        part, failures = self.folder / f"{self.file.name}.part", 0
        validator = part.with_suffix(".validator")
        while True:
            before = _size(part)
            try:
                self._receive(url, part, validator)
                break
            except Temporary as problem:
                failures = 0 if _size(part) > before else failures + 1
                if failures >= self.patience.attempts:
                    raise DownloadError(
                        f"{url} could not be fetched ({problem}; {failures} attempts brought nothing); run the same "
                        "command again later: what has arrived is kept."
                    ) from problem
                time.sleep(self.patience.pause_after(failures, problem.wait))
        part.replace(output)
        validator.unlink(missing_ok=True)

    def _receive(self, url: str, part: Path, validator: Path) -> None:
        """One request: from where the last one ended, if the file is still the same, or from the beginning."""
        # "identity": the bytes are counted, and must be those of the file
        have, headers = _size(part), {"Accept-Encoding": "identity"}
        same = validator.read_text() if validator.is_file() else ""
        if have and (same or self.checked):
            headers |= {"Range": f"bytes={have}-"} | ({"If-Range": same} if same else {})
        with trouble(url, self.patience), self._get(url, headers) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                if total_bytes(response) == have:
                    return
                part.unlink()
                raise Temporary("the file has become shorter")
            wait_of(response, url, self.patience)
            resumed = response.status_code == requests.codes.partial_content
            if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                part.unlink()
                raise Temporary("the server sent another piece than was asked for")
            have, total = (have if resumed else 0), total_bytes(response)
            self._check_size(url, total)
            _keep_validator(validator, response)
            with disk_errors(part), progress(f"Fetching {self.file.name}", total, "bytes", done=have) as bar:
                _write(part, response, bar, "ab" if resumed else "wb")
        if total is not None and _size(part) != total:
            raise Temporary("the connection broke off")
        self._check_size(url, _size(part), part)

    @contextmanager
    def _get(self, url: str, headers: Mapping[str, str]) -> Iterator[requests.Response]:
        self.session.max_redirects = self.patience.redirects
        with self.session.get(url, headers=headers, stream=True, timeout=self.patience.timeout) as response:
            if url.startswith("https:") and not response.url.startswith("https:"):
                raise DownloadError(f"{url} leads to {response.url}, which is not encrypted; nothing was fetched.")
            yield response

    def _check_size(self, url: str, found: int | None, part: Path | None = None) -> None:
        if found is None or self.file.size is None or found == self.file.size:
            return
        if part is not None:
            part.unlink()
        raise DownloadError(
            f"{url} is {found:,} bytes long instead of {self.file.size:,}, so it is not the file that is meant; see "
            "its page for what has changed."
        )


def _write(part: Path, response: requests.Response, bar: Bar, mode: str) -> None:
    with part.open(mode) as stream:
        for chunk in response.iter_content(_CHUNK):
            stream.write(chunk)
            bar.advance(len(chunk))


def _keep_validator(place: Path, response: requests.Response) -> None:
    """Keep what tells later whether the file is still the same; a weak ETag does not."""
    tag = response.headers.get("ETag", "")
    place.write_text(tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", ""))


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
