"""Names of files for what users have named: safe on every system, and never one file for two names."""

from __future__ import annotations

import re

from cytosae.common.artifact import digest

LONGEST = 100
"""Characters of a file's name at most: two of them with what stands around them stay below 255 bytes."""


def file_name(text: str) -> str:
    """Name of a file for ``text``, another one for every other text.

    ASCII letters, digits, `.`, `_` and `-` stay; a text that would lose anything gets a digest of the whole after `~`,
    which no plain name holds.
    """
    plain = _plain(text)
    return (
        text if plain == text and 0 < len(text) <= LONGEST else f"{plain[: LONGEST - 9] or 'name'}~{digest(text)[:8]}"
    )


def short_name(text: str) -> str:
    """Readable name, safe in a path, that two texts may share; `file_name` where nothing readable is left."""
    plain = _plain(text, keep="~")
    return plain if 0 < len(plain) <= LONGEST else file_name(text)


def _plain(text: str, keep: str = "") -> str:
    return re.sub(rf"[^\w.{keep}-]+", "_", text, flags=re.ASCII).strip("._~-")


def spreadsheet_text(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
