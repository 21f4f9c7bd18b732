"""Published weights of backbones: where they are fetched from, and where they lie when they are here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cytosae.backbones.registry import BackboneEntry
from cytosae.common.cache import cache_folder
from cytosae.common.errors import DownloadError, UsageError
from cytosae.common.listings import list_record
from cytosae.common.remote_files import RemoteFile
from cytosae.common.responses import Patience


def weights_folder() -> Path:
    """``weights`` in the cache (``CYTOSAE_CACHE``)."""
    return cache_folder() / "weights"


def find_weights(entry: BackboneEntry) -> Path | None:
    """The weights of a backbone in the cache, under any of the names that they are published by; None without."""
    return next((place for name in entry.files if (place := weights_folder() / name).is_file()), None)


def remote_weights(entry: BackboneEntry, *, patience: Patience | None = None) -> RemoteFile:
    """What to fetch: size and MD5 as Zenodo's record has them, and the SHA-256 of the registry where that has one.

    Raises
    ------
    UsageError
        for a backbone whose weights come with cytosae.
    DownloadError
        where the record cannot be asked, or no longer lists the file.
    """
    if not entry.record:
        raise UsageError(f"The weights of {entry.name} come with cytosae; there is nothing to fetch.")
    name = entry.files[0]
    listed = {file.name: file for file in list_record(entry.record, patience=patience)}
    if name not in listed:
        raise DownloadError(f"{entry.record} lists no {name}, only {', '.join(listed)}; see {entry.origin}.")
    known = entry.sha256.get(name)
    return replace(listed[name], checksum=f"sha256:{known}") if known else listed[name]
