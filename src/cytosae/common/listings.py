"""What a server says of files before one is fetched: a Zenodo record's own list, and lengths."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import requests

from cytosae.common.errors import DownloadError
from cytosae.common.remote_files import RemoteFile, refuse_offline
from cytosae.common.responses import Patience, Temporary, total_bytes, trouble, wait_of


def list_record(url: str, *, patience: Patience | None = None) -> list[RemoteFile]:
    """Files of a Zenodo record with their sizes and MD5, by its address in Zenodo's interface.

    Parameters
    ----------
    url : str
        ``https://zenodo.org/api/records/<number>``.
    patience : Patience or None
        With the server.

    Raises
    ------
    DownloadError
        where the server cannot be reached, or what it says is no list of files.
    """
    answer = _ask("GET", url, patience or Patience())
    try:
        return [_file_of(entry) for entry in answer.json()["files"]]
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise DownloadError(f"{url} is no list of files ({problem!r}); fetch the files by hand.") from problem


def with_sizes(files: Sequence[RemoteFile], *, patience: Patience | None = None) -> list[RemoteFile]:
    """The same files; the server is asked for the sizes that are not known, and may not tell."""
    return [file if file.size is not None else _asked(file, patience or Patience()) for file in files]


def _asked(file: RemoteFile, patience: Patience) -> RemoteFile:
    answer = _ask("HEAD", file.url, patience)
    return replace(file, size=total_bytes(answer))


def _file_of(entry: dict[str, Any]) -> RemoteFile:
    # names come from elsewhere and become files here
    name = Path(str(entry["key"]).replace("\\", "/")).name
    return RemoteFile(name, str(entry["links"]["self"]), int(entry["size"]), str(entry["checksum"]))


def _ask(method: str, url: str, patience: Patience) -> requests.Response:
    refuse_offline(url, Path("any place here"))
    problem: Temporary | None = None
    for attempt in range(patience.attempts):
        try:
            with trouble(url, patience), requests.Session() as session:
                session.max_redirects = patience.redirects
                headers = {"Accept-Encoding": "identity"}
                answer = session.request(method, url, timeout=patience.timeout, headers=headers, allow_redirects=True)
                wait_of(answer, url, patience)
                return answer
        except Temporary as met:
            problem = met
            time.sleep(patience.pause_after(attempt + 1, met.wait))
    raise DownloadError(f"{url} could not be asked ({problem}); run the same command again later.")
