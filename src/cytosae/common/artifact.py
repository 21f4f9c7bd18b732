"""Artifacts: what one step leaves for the next, complete or not there at all.

An artifact is a directory with an ``artifact.json``, or a single file with a ``<file>.artifact.json`` beside it. The
record says what the artifact is, how and from what it was made, and the SHA-256 of every file in it.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

from cytosae.common.configuration import finite
from cytosae.common.errors import ArtifactError, NewerArtifactError
from cytosae.common.records import read_record, write_json
from cytosae.common.unfinished import displaced, remove, sweep, unfinished, written_whole

RECORD = "artifact.json"
SCHEMAS = {
    "cells": 2,
    "tokens": 1,
    "in_focus": 1,
    "sae": 1,
    "atlas": 1,
    "atlas_part": 1,
    "random_latents": 1,
    "looks": 1,
    "random_part": 1,
    "quality_part": 1,
    "localisation": 1,
    "pairs": 1,
    "sweep": 1,
    "colours": 1,
    "cohort": 1,
    "retest": 1,
    "focus": 1,
    "contrasts": 1,
    "ranking": 1,
    "classification": 1,
    "classifier": 1,
    "validation": 1,
    "approval": 1,
    "report": 1,
}


class FileEntry(TypedDict):
    """What a record says of one file."""

    sha256: str
    bytes: int


class _Version(TypedDict):
    kind: str
    schema: int


class Record(_Version):
    """What is written beside an artifact; see `Artifact`."""

    package: str
    config: Any
    inputs: dict[str, str]
    files: dict[str, FileEntry]
    created: str
    details: dict[str, Any]


@dataclass(frozen=True)
class Artifact:
    """The record of an artifact.

    Attributes
    ----------
    path : Path
        The directory or file that it describes.
    kind, schema : str, int
        What it is, and the version of its layout.
    package : str
        Version of cytosae that wrote it.
    config : object
        Plain configuration of the step.
    inputs : mapping of str to str
        Name -> fingerprint of what it was made from (artifacts, weights).
    files : mapping of str to FileEntry
        Relative name -> {"sha256", "bytes"}.
    created : str
        ISO 8601 time in UTC; no part of the fingerprint.
    details : mapping of str to object
        Plain facts worth keeping (counts, hashes); no part of `recipe`.
    """

    path: Path
    kind: str
    schema: int
    package: str
    config: Any
    inputs: Mapping[str, str]
    files: Mapping[str, FileEntry]
    created: str
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over kind, schema and the content of all files: equal content, equal fingerprint, on any machine."""
        return digest([self.kind, self.schema, {name: entry["sha256"] for name, entry in self.files.items()}])

    @property
    def recipe(self) -> str:
        """SHA-256 over what was asked for: kind, schema, configuration and the inputs' fingerprints."""
        return recipe_of(self.kind, self.config, self.inputs)


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of a plain value."""
    return hashlib.sha256(json.dumps(finite(value), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def recipe_of(kind: str, config: Any, inputs: Mapping[str, str]) -> str:
    """Fingerprint of a step before it runs; equals `Artifact.recipe` of what the step will write."""
    return digest([kind, SCHEMAS[kind], config, dict(inputs)])


def hash_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def write_artifact(
    path: Path,
    kind: str,
    *,
    config: Any = None,
    inputs: Mapping[str, str] | None = None,
    details: dict[str, Any] | None = None,
) -> Iterator[Path]:
    """Write an artifact directory beside ``path`` and rename it into place when the block ends without an error.

    Yields the directory to write into. An older artifact at ``path`` stays until the new one is complete. ``details``
    may be filled while the block runs. A block that fails leaves nothing behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    temporary = unfinished(path)
    temporary.mkdir()
    try:
        yield temporary
        publish_directory(temporary, path, kind, config=config, inputs=inputs, details=details)
    finally:
        remove(temporary)


def publish_directory(
    directory: Path,
    path: Path,
    kind: str,
    *,
    config: Any = None,
    inputs: Mapping[str, str] | None = None,
    details: Mapping[str, Any] | None = None,
    files: Mapping[str, FileEntry] | None = None,
) -> None:
    """Make a finished directory the artifact at ``path``: write its record, flush it, rename it into place.

    For steps that keep their work in a directory of their own to resume it; `write_artifact` does it for all others.
    ``files`` are the checksums where the writer knows them already. ``directory`` must lie on the file system of
    ``path``. An older artifact at ``path`` is removed once the new one stands there.
    """
    described = describe_files(directory) if files is None else files
    write_json(directory / RECORD, _record(kind, config, inputs, described, details))
    _sync(directory)
    _replace_directory(directory, path)


def renew_record(artifact: Artifact, *, config: Any, inputs: Mapping[str, str]) -> None:
    """Write down another request that the same, unchanged files answer (its recipe is then current)."""
    record = _record(artifact.kind, config, inputs, artifact.files, artifact.details)
    kept = {"schema": artifact.schema, "package": artifact.package, "created": artifact.created}
    write_json(record_path(artifact.path), {**record, **kept})


@contextmanager
def write_file_artifact(
    path: Path,
    kind: str,
    *,
    config: Any = None,
    inputs: Mapping[str, str] | None = None,
    details: dict[str, Any] | None = None,
) -> Iterator[Path]:
    """Like `write_artifact` for a single file: yields the temporary file's path (same suffix as ``path``)."""
    sweep(path)
    with written_whole(path) as temporary:
        yield temporary
        entry = {path.name: {"sha256": hash_file(temporary), "bytes": temporary.stat().st_size}}
        # Without its record the file does not count as done: an interruption between these lines costs a repetition.
        record_path(path).unlink(missing_ok=True)
    write_json(record_path(path), _record(kind, config, inputs, entry, details))


def read_artifact(path: Path | str, kind: str | None = None, *, verify: bool = True) -> Artifact:
    """Read and check the record of the artifact at ``path``.

    Raises
    ------
    ArtifactError
        in one sentence, where there is no artifact, it is of another kind, of a newer schema, or a file is missing or
        (with ``verify``, which reads every byte; otherwise by size only) differs from its checksum.
    """
    path = Path(path)
    record = record_path(path)
    if not record.is_file():
        raise ArtifactError(
            f"{path} is no finished cytosae artifact ({record.name} is missing); run the step that makes it."
        )
    artifact = _read(path, record)
    if kind is not None and artifact.kind != kind:
        raise ArtifactError(
            f"{path} holds {artifact.kind!r}, where {kind!r} is needed; give the path of a {kind} artifact."
        )
    _check_files(artifact, verify=verify)
    return artifact


def record_path(path: Path) -> Path:
    """Where the record of the artifact at ``path`` lies."""
    return path.with_name(path.name + "." + RECORD) if path.suffix and not path.is_dir() else path / RECORD


def is_current(path: Path, kind: str, recipe: str, *, verify: bool = True) -> bool:
    """Whether a complete, undamaged artifact of this recipe is at ``path`` (``verify`` as in `read_artifact`).

    One that a newer version has written is refused: this version would replace it without knowing what it is.
    """
    try:
        return read_artifact(path, kind, verify=verify).recipe == recipe
    except NewerArtifactError:
        raise
    except ArtifactError:
        return False


def describe_files(directory: Path) -> dict[str, FileEntry]:
    """Relative name -> {"sha256", "bytes"} of every file below ``directory``, the record itself excepted."""
    files = sorted(p for p in directory.rglob("*") if p.is_file() and p != directory / RECORD)
    return {p.relative_to(directory).as_posix(): {"sha256": hash_file(p), "bytes": p.stat().st_size} for p in files}


@cache
def package_version() -> str:
    """Installed version of cytosae ("0+unknown" when run from a bare source tree)."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("cytosae")
    except PackageNotFoundError:
        return "0+unknown"


def _record(
    kind: str,
    config: Any,
    inputs: Mapping[str, str] | None,
    files: Mapping[str, Any],
    details: Mapping[str, Any] | None,
) -> dict[str, Any]:
    return {
        "kind": kind,
        "schema": SCHEMAS[kind],
        "package": package_version(),
        "config": finite(config) or {},
        "inputs": dict(inputs or {}),
        "details": finite(details) or {},
        "files": dict(files),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _read(path: Path, file: Path) -> Artifact:
    mend = f"delete {path} and run its step again"
    known: Any = read_record(_Version, file, mend)
    newest = SCHEMAS.get(known["kind"], 0)
    if known["schema"] > newest:
        raise NewerArtifactError(
            f"{path} was written by cytosae {known.get('package')} in schema {known['schema']} of {known['kind']!r}, "
            f"newer than this version reads ({newest}); update cytosae."
        )
    record: Any = read_record(Record, file, mend)
    # What this version does not know, a newer one has added without changing the rest.
    fields = {name: value for name, value in record.items() if name in Artifact.__dataclass_fields__}
    return Artifact(**{**fields, "path": path})


def _check_files(artifact: Artifact, *, verify: bool) -> None:
    base = artifact.path if artifact.path.is_dir() else artifact.path.parent
    mend = "restore it or run the step again."
    for name, entry in artifact.files.items():
        file = base / name
        try:
            if not file.is_file():
                raise ArtifactError(f"{file} is missing from a finished artifact; {mend}")
            if file.stat().st_size != entry["bytes"] or (verify and hash_file(file) != entry["sha256"]):
                raise ArtifactError(f"{file} differs from its recorded checksum; {mend}")
        except OSError as problem:
            raise ArtifactError(f"{file} cannot be read ({problem.strerror or problem}); {mend}") from problem


def _replace_directory(new: Path, path: Path) -> None:
    old = displaced(path)
    if path.exists():
        path.rename(old)
    try:
        new.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sync(directory: Path) -> None:
    """Flush files to disk before the rename makes them count."""
    for file in directory.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
