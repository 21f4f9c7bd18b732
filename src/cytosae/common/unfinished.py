"""Names under which files and directories grow beside their place until they are complete; removal of leftovers."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ABANDONED = 3600.0
"""Seconds after which something half-written, to which nobody has written since, is taken for a killed process's."""
_ANY = "[0-9a-f]" * 8


def unfinished(path: Path) -> Path:
    """A new name beside ``path``, of the same suffix, to write under before a rename into place."""
    return _named(path, uuid.uuid4().hex[:8], ".partial")


@contextmanager
def written_whole(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """Have a file (or a folder) appear at ``path`` when the block ends without an error, and not at all otherwise.

    Yields where to write: beside ``path``, of the same suffix. An older file is replaced, and so is an empty folder; a
    folder with something in it is an `OSError`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished(path)
    if folder:
        temporary.mkdir()
    try:
        yield temporary
        if not folder:
            temporary.replace(path)
            return
        with suppress(FileNotFoundError):
            path.rmdir()
        temporary.rename(path)
    finally:
        remove(temporary)


def displaced(path: Path) -> Path:
    """A new name beside ``path`` for what stands there while its successor is renamed into place."""
    return _named(path, uuid.uuid4().hex[:8], ".old")


def sweep(path: Path) -> None:
    """Remove what killed processes left beside ``path`` on the way to it: nobody has written to it for an hour."""
    for kind in (".partial", ".old"):
        for leftover in path.parent.glob(_named(path, _ANY, kind).name):
            written = [leftover, *leftover.rglob("*")] if leftover.is_dir() else [leftover]
            with suppress(FileNotFoundError):  # another process is just done with it
                if time.time() - max(entry.stat().st_mtime for entry in written) > ABANDONED:
                    remove(leftover)


def sweep_below(folder: Path) -> None:
    """Remove whatever is unfinished anywhere below ``folder``, whatever its age: for who holds the folder's lock."""
    for kind in (".partial", ".old"):
        for leftover in list(folder.rglob(f".*.{_ANY}{kind}*")):
            remove(leftover)


def remove_work(path: Path, *, but: Path | None = None) -> None:
    """Remove folders ``.<name>-<recipe>.partial``, in which work on ``path`` is kept to be resumed, except ``but``."""
    for folder in path.parent.glob(f".{path.name}-*.partial"):
        if folder != but:
            remove(folder)


def remove(path: Path) -> None:
    """Remove a file or a directory; none there is as well."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _named(path: Path, mark: str, kind: str) -> Path:
    return path.with_name(f".{path.name}.{mark}{kind}{path.suffix}")
