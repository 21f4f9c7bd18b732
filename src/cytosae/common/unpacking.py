"""Zip archives from elsewhere: examined whole before a byte is written, and never written outside of their folder."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from cytosae.common.disk import disk_errors
from cytosae.common.errors import InputError
from cytosae.common.progress import progress

_LITTER = ("__MACOSX", ".DS_Store", "Thumbs.db")


def unpack_zip(archive: Path, folder: Path) -> int:
    """Unpack an archive and return the number of files; what systems leave in archives (``__MACOSX``) is left out.

    Parameters
    ----------
    archive : Path
        A zip file.
    folder : Path
        Where its names begin; files of the same names are replaced.

    Raises
    ------
    InputError
        for a name that leads out of the folder, a link, an encrypted or damaged archive; nothing was written then,
        unless the damage is inside of a file.
    ArtifactError
        where the disk does not hold what is in it.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir() and not _is_litter(member)]
            targets = [_target(archive, member) for member in members]
            _check_room(archive, members, folder)
            with progress(f"Unpacking {archive.name}", len(members), "files") as bar:
                for member, target in zip(members, targets, strict=True):
                    _write_member(opened, member, folder / target)
                    bar.advance()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as problem:
        raise InputError(f"{archive} is a damaged or encrypted archive ({problem}); fetch it again.") from problem
    return len(members)


def _write_member(opened: zipfile.ZipFile, member: zipfile.ZipInfo, place: Path) -> None:
    with disk_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(member) as source, place.open("wb") as stream:
            shutil.copyfileobj(source, stream, 1 << 20)


def _target(archive: Path, member: zipfile.ZipInfo) -> PurePosixPath:
    """Where a member goes below the folder; archives are made by others, and their names and kinds are not trusted."""
    name = PurePosixPath(member.filename.replace("\\", "/"))
    outside = name.is_absolute() or ".." in name.parts or any(":" in part for part in name.parts)
    if outside or not name.parts or stat.S_ISLNK(member.external_attr >> 16):
        raise InputError(
            f"{archive} holds {member.filename!r}, which leads out of the folder, so nothing of it was unpacked; get "
            "the archive from those who publish it."
        )
    return name


def _check_room(archive: Path, members: Sequence[zipfile.ZipInfo], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = sum(member.file_size for member in members), shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{archive} unpacks to {needed / 1e9:,.1f} GB, and {folder} has {free / 1e9:,.1f} GB free; make space, or "
            "name another folder."
        )


def _is_litter(member: zipfile.ZipInfo) -> bool:
    return any(part in _LITTER for part in PurePosixPath(member.filename).parts)
