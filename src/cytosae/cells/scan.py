"""Walk through a folder: which files are images, which are tables, what is litter."""

from __future__ import annotations

import heapq
import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from cytosae.cells.decoding.decode import SUFFIXES
from cytosae.common.artifact import RECORD, digest
from cytosae.common.errors import InputError

LITTER = frozenset(
    "__macosx @eadir $recycle.bin lost+found __pycache__ thumbs.db desktop.ini ehthumbs.db".split()  # noqa: SIM905
)
MASK_FOLDERS = frozenset({"masks", "mask"})
_MASK_NAME = re.compile(r"(.*[^/])[ _.-]masks?", re.IGNORECASE | re.DOTALL)
TABLES = frozenset({".csv", ".tsv", ".txt", ".dat", ".parquet", ".xlsx"})
"""Suffixes of tables that a layout may read besides its images."""
STUDY = "study.toml"


@dataclass(frozen=True)
class Scan:
    """The files below a folder, by their paths relative to it (posix), sorted.

    Attributes
    ----------
    root : Path
        The folder.
    images : tuple of str
        Files with an image suffix that are no litter and no masks.
    masks : frozenset of str
        The same inside `masks` folders, and `x_mask` beside an image `x`.
    litter : tuple of str
        What file managers and archivers leave behind, hidden files included; a folder (whose content is not looked at)
        ends with a slash.
    others : tuple of str
        All other files: tables, texts, archives.
    unreadable : tuple of (str, str)
        Folders that cannot be listed, ending with a slash, and why.
    own : tuple of str
        Studies and artifacts of cytosae, whose pictures are no cells: folders, ending with a slash.
    """

    root: Path
    images: tuple[str, ...]
    masks: frozenset[str]
    litter: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    own: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over every file that reading looks at, and every folder that it cannot look into."""
        tables = [name for name in self.others if PurePosixPath(name).suffix.lower() in TABLES]
        return fingerprint_files(
            self.root, [*self.images, *self.masks, *tables, *(name for name, _ in self.unreadable)]
        )

    def mask_of(self, image: str) -> str | None:
        """Mask of an image: the same path with one folder turned into (or given) `masks`, whatever the suffix.

        Its name may end with `_mask`, and then it may lie beside the image, too. Of several the one called exactly as
        the image is taken, else a `.png`; None where neither settles it.
        """
        *folders, name = image.split("/")
        stem = PurePosixPath(name).stem
        beside = self._masks.get(plain_form("/".join([*folders, stem])), [])
        if len(beside) == 1:
            return beside[0]
        for position in reversed(range(len(folders) + 1 if self.masks else 0)):
            for rest in [folders[position + 1 :], folders[position:]][position == len(folders) :]:
                found = self._masks.get(plain_form("/".join([*folders[:position], "masks", *rest, stem])), [])
                exact = [mask for other in (name, f"{stem}.png") for mask in found if mask.endswith(f"/{other}")]
                if exact or len(found) == 1:
                    return (exact or found)[0]
        return None

    @cached_property
    def _masks(self) -> dict[str, list[str]]:
        by_key: dict[str, list[str]] = {}
        for name in sorted(self.masks):
            path = PurePosixPath(name)
            folders = ["masks" if part.lower() in MASK_FOLDERS else part for part in path.parent.parts]
            by_key.setdefault(plain_form("/".join([*folders, _masked(path.stem) or path.stem])), []).append(name)
        return by_key


def scan_folder(root: Path) -> Scan:
    """List ``root``.

    Links to files and folders are followed, but no folder is entered twice, by its own name rather than by a link to
    it, nor one that holds ``root``. Studies and artifacts of cytosae are passed over.

    Raises
    ------
    InputError
        ``root`` cannot be listed, or a name in it is not UTF-8.
    """
    found = _Found(root, os.path.realpath(root))
    folders, links = [""], list[str]()
    while folders or links:
        base = folders.pop() if folders else heapq.heappop(links)
        for entry in found.enter(base):
            child = f"{base}/{entry.name}" if base else entry.name
            folder = _is_folder(entry)
            if entry.name.startswith((".", "~$")) or entry.name.lower() in LITTER:
                found.litter.append(f"{child}/" if folder else child)
                continue
            _check_name(root, child)
            if not folder:
                found.sort_in(child)
            elif entry.is_symlink():
                heapq.heappush(links, child)
            else:
                folders.append(child)
    if "" in dict(found.unreadable):
        raise InputError(f"{root} cannot be listed ({dict(found.unreadable)['']}); check its permissions.")
    return found.scan()


def fingerprint_files(root: Path, names: Iterable[str]) -> str:
    """SHA-256 over path, size and time of change of files below ``root``; what is not there counts as such."""
    facts = []
    for name in sorted(set(names), key=lambda name: name.split("/")):
        try:
            stat = (root / name).stat()
            facts.append([name, stat.st_size, stat.st_mtime_ns])
        except OSError:
            facts.append([name, None, None])
    return digest([str(root), facts])


def plain_form(text: str) -> str:
    """``text`` in the composed Unicode form (NFC), whichever of the two forms a file system wrote it in."""
    return unicodedata.normalize("NFC", text)


@dataclass
class _Found:
    """What a walk has found so far."""

    root: Path
    real: str
    entered: set[str] = field(default_factory=set)
    images: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    litter: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    own: list[str] = field(default_factory=list)

    def enter(self, base: str) -> list[os.DirEntry[str]]:
        """Entries of a folder; none of one that is not to be entered."""
        real = os.path.realpath(self.root / base)
        if real in self.entered or (base and self.real.startswith(real.rstrip(os.sep) + os.sep)):
            return []
        self.entered.add(real)
        try:
            with os.scandir(self.root / base) as listing:
                entries = {entry.name: entry for entry in listing}
        except OSError as problem:
            self.unreadable.append((f"{base}/" if base else "", problem.strerror or str(problem)))
            return []
        if base and (STUDY in entries or RECORD in entries):
            self.own.append(f"{base}/")
            return []
        return [
            entries[name]
            for name in sorted(entries)
            if f"{name}.{RECORD}" not in entries and not name.endswith(f".{RECORD}")
        ]

    def sort_in(self, name: str) -> None:
        """Take a file for what its name says."""
        path = PurePosixPath(name)
        in_masks = any(part.lower() in MASK_FOLDERS for part in path.parent.parts)
        image = path.suffix.lower() in SUFFIXES
        (self.others if not image else self.masks if in_masks else self.images).append(name)

    def scan(self) -> Scan:
        there = {name.rpartition(".")[0] for name in self.images}
        beside = {name for name in self.images if _masked(name.rpartition(".")[0]) in there}
        return Scan(
            self.root,
            tuple(sorted(set(self.images) - beside)),
            frozenset({*self.masks, *beside}),
            tuple(sorted(self.litter)),
            tuple(sorted(self.others)),
            tuple(sorted(self.unreadable)),
            tuple(sorted(self.own)),
        )


def _masked(stem: str) -> str | None:
    """What a file is the mask of, by its name."""
    found = _MASK_NAME.fullmatch(stem)
    return found[1] if found else None


def _check_name(root: Path, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as problem:
        raw = os.fsencode(name)
        shown, guess = raw.decode("utf-8", "backslashreplace"), raw.decode("cp1252", "replace")
        raise InputError(
            f"{root} holds {shown}, a name that is not UTF-8 (perhaps {guess!r} in an old encoding); rename it."
        ) from problem


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in circles, or to where we may not look
        return False
