"""Walk through a folder: which files are images, which are tables, what is litter."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cytosae.cells.decoding.decode import SUFFIXES
from cytosae.common.artifact import digest
from cytosae.common.errors import InputError

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
    litter : what file managers and archivers leave behind, hidden files included; a folder (whose content is not
        looked at) ends with a slash
    others : all other files: tables, texts, archives
    """

    root: Path
    images: tuple[str, ...]
    masks: frozenset[str]
    litter: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def scan_folder(root: Path) -> Scan:
    """List ``root``; links to folders and files are followed, a cycle of links is cut."""
    images: list[str] = []
    masks: list[str] = []
    litter: list[str] = []
    others: list[str] = []
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        base = Path(folder).relative_to(root)
        litter += [(base / name).as_posix() + "/" for name in subfolders if _is_litter(name, LITTER_FOLDERS)]
        subfolders[:] = sorted(name for name in subfolders if not _is_litter(name, LITTER_FOLDERS))
        chosen = masks if any(part.lower() in MASK_FOLDERS for part in base.parts) else images
        for name in files:
            image = Path(name).suffix.lower() in SUFFIXES
            target = litter if _is_litter(name, LITTER_FILES) else chosen if image else others
            target.append((base / name).as_posix())
    return Scan(root, tuple(sorted(images)), frozenset(masks), tuple(sorted(litter)), tuple(sorted(others)))


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


def listing_fingerprint(path: Path) -> str:
    """SHA-256 over name, size and time of change of every file at or below ``path``: equal if nothing changed."""
    if not path.exists():
        raise InputError(f"{path} does not exist; give a folder of images or a manifest.")
    if path.suffix.lower() == ".npz":  # whatever lies beside it, such as the study itself, is no part of it
        return digest([str(path), path.stat().st_size, path.stat().st_mtime_ns])
    root = path.parent if path.is_file() else path
    stats = ((file, file.stat()) for file in sorted(root.rglob("*")) if file.is_file())
    return digest([str(path), [[f.relative_to(root).as_posix(), s.st_size, s.st_mtime_ns] for f, s in stats]])
