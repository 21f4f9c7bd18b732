"""What servers and networks do instead of sending a file, as one sentence or as a reason to try again."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import requests

from cytosae.common.errors import CytosaeError, DownloadError

PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""States of a server that may be over in a moment."""


@dataclass(frozen=True)
class Patience:
    """How long a server is borne with.

    Attributes
    ----------
    timeout : float
        Seconds in which not one byte arrives.
    attempts : int
        In a row that bring nothing.
    pause : float
        Seconds before the second attempt; doubled before each further one.
    longest_wait : float
        Seconds that a server may ask to be left alone.
    redirects : int
        Most of them.
    """

    timeout: float = 60.0
    attempts: int = 5
    pause: float = 1.0
    longest_wait: float = 120.0
    redirects: int = 10

    def pause_after(self, failures: int, asked: float | None) -> float:
        """Seconds to the next attempt: what the server asks for, or ever longer."""
        return self.pause * 2 ** max(failures - 1, 0) if asked is None else asked


class Temporary(Exception):  # noqa: N818, never shown: a reason to try again
    """What may be over at the next attempt, and when the server says so."""

    wait: float | None

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@contextmanager
def trouble(url: str, patience: Patience) -> Iterator[None]:
    """Turn what the client raises into `Temporary`, or a `DownloadError` where another attempt would change nothing."""
    try:
        yield
    except (CytosaeError, Temporary):
        raise
    except requests.TooManyRedirects as problem:
        raise DownloadError(f"{url} leads on and on ({patience.redirects} redirects); see its page.") from problem
    except (requests.Timeout, requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as problem:
        reason = f"no connection, or it broke off, or nothing came for {patience.timeout:g} s: {type(problem).__name__}"
        raise Temporary(reason) from problem
    except requests.RequestException as problem:
        raise DownloadError(f"{url} is no address of a file ({type(problem).__name__}); correct it.") from problem


def wait_of(response: requests.Response, url: str, patience: Patience) -> None:
    """Pass a good answer; else `Temporary`, with the time that the server asks for, or a `DownloadError`."""
    if response.ok:
        return
    said = f"{response.status_code} {response.reason}".strip()
    if response.status_code not in PASSING:
        raise DownloadError(f"{url} answers {said}; see its page for where the file is now, or fetch it by hand.")
    wait = _retry_after(response)
    if wait is not None and wait > patience.longest_wait:
        raise DownloadError(f"{url} answers {said} and asks to wait {wait:,.0f} s; run the same command after that.")
    raise Temporary(f"the server answers {said}", wait)


def total_bytes(response: requests.Response) -> int | None:
    """Length of the whole file, where the server tells."""
    found = re.search(r"/(\d+)$", response.headers.get("Content-Range", ""))
    if found or response.status_code in (206, 416):
        return int(found[1]) if found else None
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _retry_after(response: requests.Response) -> float | None:
    said = response.headers.get("Retry-After", "")
    if said.isdigit():
        return float(said)
    with suppress(ValueError, TypeError):
        return max(parsedate_to_datetime(said).timestamp() - time.time(), 0.0)
    return None
