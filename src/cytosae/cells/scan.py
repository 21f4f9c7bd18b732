"""Walk through a folder: which files are images, which are tables, what is litter."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cytosae.cells.decode import SUFFIXES

LITTER_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "lost+found", "__pycache__"})
LITTER_FILES = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db"})
MASK_FOLDERS = frozenset({"masks", "mask"})


@dataclass(frozen=True)
class Scan:
    """The files below a folder, by their paths relative to it (posix), sorted.

    Attributes
    ----------
    root : the folder
    images : files with an image suffix that are no litter and in no `masks` folder
    masks : the same inside `masks` folders
    """

    root: Path
    images: tuple[str, ...]
    masks: frozenset[str]


def scan_folder(root: Path) -> Scan:
    """List ``root``; links to folders and files are followed, a cycle of links is cut."""
    images: list[str] = []
    masks: list[str] = []
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not _is_litter(name, LITTER_FOLDERS))
        base = Path(folder).relative_to(root)
        chosen = masks if any(part.lower() in MASK_FOLDERS for part in base.parts) else images
        for name in files:
            if not _is_litter(name, LITTER_FILES) and Path(name).suffix.lower() in SUFFIXES:
                chosen.append((base / name).as_posix())
    return Scan(root, tuple(sorted(images)), frozenset(masks))


def find_mask(image: str, masks: frozenset[str]) -> str | None:
    """Mask of an image: the same path with one folder turned into (or given) `masks`, same name or as `.png`."""
    parts = Path(image).parts
    if not masks:
        return None
    for position in range(len(parts) - 1, -1, -1):
        for rest in (parts[position + 1 :], parts[position:]):
            if not rest:
                continue
            candidate = Path(*parts[:position], "masks", *rest)
            for name in (candidate, candidate.with_suffix(".png")):
                if name.as_posix() in masks:
                    return name.as_posix()
    return None


def _is_litter(name: str, known: frozenset[str]) -> bool:
    return name.startswith(".") or name.lower() in known
