"""Files by the names that a table gives them: of this machine or another, in any case and Unicode form."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cache
from itertools import takewhile
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from cytosae.cells.decoding.decode import SUFFIXES
from cytosae.cells.scan import plain_form

OUTSIDE = "outside the manifest's folder"
_DRIVE = re.compile("[A-Za-z]:/")
_SAMPLE = 1000
"""Paths by which the place of moved images is found."""


class NamedFiles:
    """Finds what a manifest names below a folder.

    Parameters
    ----------
    root : Path
        Folder that relative paths are relative to, and that no path may leave.
    texts : sequence of str
        The paths as they are written, to see what those of another machine have in common.
    moved : bool
        Whether ``root`` was named as the place where the images are now: paths of another machine are then looked for
        below it, by what their common folder may have lost or kept of its name.
    """

    root: str
    real: str
    respelled: dict[str, str]
    """Paths that were found under another spelling: as written -> as the file is called."""

    def __init__(self, root: Path, texts: Sequence[str], *, moved: bool) -> None:
        self.root = os.path.normpath(root.absolute())
        self.real = os.path.realpath(root)
        self.moved = moved
        self.respelled = {}
        self._listing = cache(_Listing)
        self._real_folder = cache(os.path.realpath)
        self._start: tuple[str, ...] | None = None
        if moved:
            self._start = self._shared_start([self._parts(text) for text in texts[:_SAMPLE]])

    def find(self, text: str) -> tuple[str, str | None]:
        """Path relative to the root (posix), and what is wrong with it where nothing can be there."""
        parts = self._parts(text)
        path = self._below_root(parts)
        if path is None and self._start is not None and parts[: len(self._start)] == self._start:
            path = "/".join(parts[len(self._start) :])
        if path is None:
            return text, self._elsewhere(parts)
        actual = self._actual(path)
        if actual is not None and (actual != path or text.startswith("file:")):
            self.respelled[text] = actual
        return actual or path, None

    @property
    def notes(self) -> list[str]:
        """Sentences about paths that were not taken as they are written."""
        notes: list[str] = []
        if self._start:
            there = os.path.join(*self._start)  # noqa: PTH118
            notes.append(f"Images that the table has below {there} are looked for below {self.root}.")
        for given, there in list(self.respelled.items())[:1]:
            n = len(self.respelled)
            notes.append(f"{n:,} files are found under another spelling than the table's ({given} is {there}).")
        return notes

    def _parts(self, text: str) -> tuple[str, ...]:
        """Parts of a path of any system, with those that lead up taken out as far as possible."""
        if "\\" in text and not os.path.exists(os.path.join(self.root, text)):  # noqa: PTH110, PTH118
            text = text.replace("\\", "/")
        if text.startswith("file:"):
            text = re.sub(r"^file:(//[^/]*)?", "", unquote(text))
        return PurePosixPath(os.path.normpath(text)).parts

    def _below_root(self, parts: tuple[str, ...]) -> str | None:
        """Path below the root, as it is written or by where links lead; None where it is not below it."""
        path = os.path.join(*parts) if parts else ""  # noqa: PTH118 - a million rows
        if not path.startswith("/"):
            # Moved images that lie otherwise below the root are looked for by `_shared_start`.
            outside = not parts or parts[0] == ".." or _DRIVE.match(path) or self._start
            return None if outside else path
        for full in (path, self._resolved(path)):
            for root in (self.root, self.real):
                if full.startswith(root.rstrip(os.sep) + os.sep):
                    return full[len(root.rstrip(os.sep)) + 1 :]
        return None

    def _resolved(self, path: str) -> str:
        folder, name = os.path.split(path)
        return os.path.join(self._real_folder(folder), name)  # noqa: PTH118

    def _shared_start(self, paths: Sequence[tuple[str, ...]]) -> tuple[str, ...] | None:
        """What all paths lose for most of them to be below the root, as little as possible; None where none is there.

        It is no more than they have in common: two files never become one.
        """
        foreign = [path for path in paths if path[:1] != ("/",) or self._below_root(path) is None]
        columns = zip(*(path[:-1] for path in foreign), strict=False)
        shared = tuple(parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, columns))
        found = [
            sum(self._actual("/".join(path[cut:])) is not None for path in foreign) for cut in range(len(shared) + 1)
        ]
        return shared[: found.index(max(found))] if any(found) else None

    def _elsewhere(self, parts: tuple[str, ...]) -> str:
        if self.moved:
            return f"not below {self.root} (name the folder where the images are now)"
        if parts[:1] in {(), ("..",)} or os.path.exists(os.path.join("", *parts)):  # noqa: PTH110, PTH118
            return f"{OUTSIDE} (put the manifest into a folder above the images, or name one with --images-root)"
        return "a path of another machine (name the folder where the images are now with --images-root)"

    def _actual(self, path: str) -> str | None:
        """The path as the file is called, None where no file, or more than one, can be meant."""
        actual = ""
        for part in path.split("/"):
            found = self._listing(os.path.join(self.root, actual)).find(part)  # noqa: PTH118
            if found is None:
                return None
            actual = f"{actual}/{found}" if actual else found
        return actual


class _Listing:
    """The names in one folder."""

    def __init__(self, folder: str) -> None:
        self.path = folder
        try:
            self.names: set[str] | None = set(os.listdir(folder))  # noqa: PTH208
        except PermissionError:  # it may be entered all the same
            self.names = None
        except OSError:
            self.names = set()
        self._alike: dict[str, list[str]] | None = None

    def find(self, name: str) -> str | None:
        """The one name that is meant: this one, or in the other Unicode form, in another case, without its suffix."""
        if self.names is None or name in self.names:
            return name
        if self._alike is None:
            self._alike = {}
            for there in self.names:
                path = PurePosixPath(there)
                for key in (there, path.stem) if path.suffix.lower() in SUFFIXES else (there,):
                    self._alike.setdefault(plain_form(key).casefold(), []).append(there)
        alike = self._alike.get(plain_form(name).casefold(), [])
        found = [there for there in alike if plain_form(there) == plain_form(name)] or alike
        return found[0] if len(found) == 1 else None
