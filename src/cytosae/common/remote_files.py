"""What is known of a file before it is fetched: where it lies, how large it is, and which bytes are meant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cytosae.common.cache import is_offline
from cytosae.common.errors import DownloadError


@dataclass(frozen=True)
class RemoteFile:
    """One file that can be fetched.

    Attributes
    ----------
    name : str
        Under which it is kept.
    url : str
        Where it lies.
    size : int or None
        Bytes, None where nobody says.
    checksum : str or None
        ``sha256:...`` or ``md5:...`` as published; None where nobody publishes one.
    """

    name: str
    url: str
    size: int | None = None
    checksum: str | None = None


def refuse_offline(what: str, place: Path) -> None:
    """Say where a file would have to lie, instead of asking the network for it, where that is forbidden."""
    if is_offline():
        raise DownloadError(
            f"CYTOSAE_OFFLINE forbids downloads, and {what} is not at {place}; fetch it on a machine that may, and "
            "copy it there, or unset CYTOSAE_OFFLINE."
        )
