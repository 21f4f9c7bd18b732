"""Where things lie that can be made, or fetched, again."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_dir


def cache_folder() -> Path:
    """The folder ``CYTOSAE_CACHE``, or the usual place of the system."""
    named = os.environ.get("CYTOSAE_CACHE")
    return Path(named) if named else Path(user_cache_dir("cytosae", appauthor=False))


def is_offline() -> bool:
    """Whether ``CYTOSAE_OFFLINE`` forbids to ask any other machine for anything."""
    return os.environ.get("CYTOSAE_OFFLINE", "").lower() not in ("", "0", "false", "no")
