"""What every command that fetches says before it starts, and the question whether it may."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cytosae.cli.output import Output
from cytosae.common.errors import InputError, UsageError

if TYPE_CHECKING:
    from cytosae.common.remote_files import RemoteFile

Yes = Annotated[bool, Parameter(name="--yes", negative="", help="Start without being asked.")]
"""Type of the option of every command that fetches."""


def file_rows(files: Sequence[RemoteFile]) -> list[tuple[str, str, str]]:
    """Name, size and checksum of files, in words."""
    return [(file.name, size_words(file.size), file.checksum or "none published: pinned now") for file in files]


def confirm(output: Output, size: int | None, free: int, place: Path, *, yes: bool) -> None:
    """Say what is to be fetched and where to, and go on only when a person says so, on a terminal or by ``--yes``.

    Raises
    ------
    InputError
        where the disk is too small, or the person says no.
    UsageError
        where there is nobody to ask.
    """
    output.line(f"{size_words(size)} to fetch into {place}, where {size_words(free)} are free.")
    if size is not None and size > free:
        raise InputError(
            f"{size_words(size)} do not fit into {place} ({size_words(free)} free); make space, name another folder, "
            "or set CYTOSAE_CACHE."
        )
    if yes:
        return
    if output.as_json or not sys.stdin.isatty():
        raise UsageError("Nothing was fetched, since there is nobody to ask; say --yes to start.")
    sys.stderr.write("Fetch it? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InputError("Nothing was fetched; say yes to start, or call with --yes.")


def pinned_line(names: Sequence[str]) -> str:
    """What is to be known of files whose checksum nobody publishes; "" where there are none."""
    if not names:
        return "Every file has its published checksum."
    return (
        f"No checksum is published of {', '.join(names)}: what came is pinned by its SHA-256, and a later download "
        "must have the same."
    )


def size_words(size: int | None) -> str:
    """A size in words."""
    if size is None:
        return "unknown size"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"
