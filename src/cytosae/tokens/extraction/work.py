"""An extraction under way: which shards are to be made, which are there, and how one is written and published.

The unfinished store lies in ``.<dataset>.partial/store``. A shard counts once its note ``../notes/shard-00000.json`` is
there; both are written under another name, flushed and renamed.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

import filelock
import safetensors.torch

from cytosae.common.artifact import FileEntry, digest, hash_file, publish_directory
from cytosae.common.disk import disk_errors, write_durably
from cytosae.common.errors import ArtifactError
from cytosae.common.records import read_record, write_json
from cytosae.tokens.config import StoredType
from cytosae.tokens.store.encoding import Planes, bytes_per_token, encoding_of
from cytosae.tokens.store.token_store import CELL_IDS, FORMAT, MANIFEST, VERSION, Manifest, ShardEntry

_MARGIN = 8 << 20  # bytes kept free for manifest, notes and the file system itself
LOCK_SECONDS = 10.0
"""How long to wait for another process: decoding workers of a killed one live, and hold its lock, for five more."""


@dataclass(frozen=True)
class Recipe:
    """What decides the stored numbers of a cell, beyond rounding.

    Attributes
    ----------
    backbone : mapping of str to object
        ``describe()`` of the backbone: name, block, preprocessing, ...
    weights_hash : str
        SHA-256 of its weights.
    n_tokens, width, side : int, int, int or list of int
        T, D, and the grid of patches (`side_of`).
    dtype : {"float16", "bfloat16", "uint8"}
        How tokens are stored.
    precision : str
        Of the forward pass.
    """

    backbone: Mapping[str, Any]
    weights_hash: str
    n_tokens: int
    width: int
    side: int | list[int]
    dtype: StoredType
    precision: str

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all of it and the version of the format."""
        return digest([VERSION, self])

    @property
    def cell_bytes(self) -> int:
        """Bytes of one cell in a shard."""
        return self.n_tokens * bytes_per_token(encoding_of(self.dtype), self.width)


@dataclass(frozen=True)
class Shard:
    """A shard to be made.

    Attributes
    ----------
    index : int
        Its number.
    start : int
        Row of its first cell in the table.
    cell_ids : tuple of str
        Its cells, in order.
    key : str
        What its content depends on.
    """

    index: int
    start: int
    cell_ids: tuple[str, ...]
    key: str

    @property
    def file(self) -> str:
        """Its name in the store."""
        return f"shard-{self.index:05d}.safetensors"


def plan_shards(cell_ids: Sequence[str], shard_cells: int, recipe: Recipe) -> list[Shard]:
    """Cut the table into shards of ``shard_cells`` cells, the last one smaller."""
    shards = []
    for index, start in enumerate(range(0, len(cell_ids), shard_cells)):
        part = tuple(cell_ids[start : start + shard_cells])
        shards.append(Shard(index, start, part, digest([recipe.fingerprint, part])))
    return shards


@contextmanager
def only_process(out: Path) -> Iterator[None]:
    """Hold the lock of the store at ``out``; the kernel releases it however this process ends."""
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(out.with_name(f".{out.name}.lock"))
    try:
        lock.acquire(timeout=LOCK_SECONDS, poll_interval=0.1)
    except filelock.Timeout as problem:
        raise ArtifactError(
            f"Another process is writing {out} (it holds {lock.lock_file}); wait until it has finished or end it."
        ) from problem
    try:
        yield
    finally:
        lock.release()


class Note(TypedDict):
    """What makes a shard count: its content, and the cells in it."""

    key: str
    recipe: str
    sha256: str
    bytes: int
    cell_ids: list[str]


class Work:
    """The directory of an unfinished store.

    Attributes
    ----------
    out : Path
        Where the store will stand.
    directory, notes : Path
        Where it grows, and what says which of its shards count.
    recipe : Recipe
        What is asked for.
    shards : list of Shard
        All shards that are to be made.
    """

    partial: Path
    directory: Path
    notes: Path
    shards: list[Shard]

    def __init__(self, out: Path, recipe: Recipe, shards: Sequence[Shard]) -> None:
        self.out = out
        self.partial = out.with_name(f".{out.name}.partial")
        self.directory = self.partial / "store"
        self.notes = self.partial / "notes"
        self.recipe = recipe
        self.shards = list(shards)

    def tidy(self) -> None:
        """Drop torn files and shards of other recipes; set shards of other cells aside, since their rows may serve."""
        with disk_errors(self.out, None):
            self.directory.mkdir(parents=True, exist_ok=True)
            self.notes.mkdir(exist_ok=True)
            keys = {shard.file: shard.key for shard in self.shards}
            kept = set()
            for note in sorted(self.notes.glob("*.json")):
                entry = _read_note(note)
                shard = self.directory / note.with_suffix(".safetensors").name
                if entry is None or entry["recipe"] != self.recipe.fingerprint or not shard.is_file():
                    continue
                if keys.get(shard.name) != entry["key"]:
                    # The note moves first: a shard without one is dropped, a note without its shard never counts.
                    note = note.rename(self.notes / f"old-{entry['key'][:16]}.json")
                    shard = shard.rename(self.directory / note.with_suffix(".safetensors").name)
                kept |= {note, shard}
            for leftover in {*self.directory.iterdir(), *self.notes.iterdir()} - kept:
                leftover.unlink()
            for leftover in self.out.parent.glob(f".{self.out.name}.*.old"):
                shutil.rmtree(leftover, ignore_errors=True)

    def set_aside(self) -> list[tuple[Path, Note]]:
        """Shards of other cells in the same recipe, each with its note."""
        notes = [(note, _read_note(note)) for note in sorted(self.notes.glob("old-*.json"))]
        return [
            (self.directory / note.with_suffix(".safetensors").name, entry)
            for note, entry in notes
            if entry is not None
        ]

    def clear(self) -> None:
        """Remove what is left of the work."""
        shutil.rmtree(self.partial, ignore_errors=True)

    def finished(self, shards: Sequence[Shard], *, verify: bool) -> set[int]:
        """Numbers of those of ``shards`` that are there, with ``verify`` byte for byte."""
        done = set()
        for shard in shards:
            file = self.directory / shard.file
            entry = _read_note(self._note(shard))
            if entry is None or entry["key"] != shard.key or not file.is_file():
                continue
            if file.stat().st_size == entry["bytes"] and (not verify or hash_file(file) == entry["sha256"]):
                done.add(shard.index)
        return done

    def check_space(self, cells: int) -> None:
        """Refuse to begin where the file system cannot hold ``cells`` more cells."""
        needed = cells * self.recipe.cell_bytes + _MARGIN
        free = shutil.disk_usage(self.directory).free
        if needed > free:
            raise ArtifactError(
                f"{self.out} needs {needed / 1e9:,.2f} GB more for {cells:,} cells x {self.recipe.n_tokens} tokens x "
                f"{self.recipe.width} in {self.recipe.dtype}, but its file system has {free / 1e9:,.2f} GB free; make "
                "space there, choose another place, or store as uint8."
            )

    def write(self, shard: Shard, planes: Planes) -> None:
        """Write one shard, then the note that makes it count."""
        file = self.directory / shard.file
        # One entry of metadata only: the library writes several in a random order, and bytes must be reproducible.
        content = safetensors.torch.save(planes, {"key": shard.key})
        sha256 = hashlib.sha256(content).hexdigest()
        note = Note(
            key=shard.key,
            recipe=self.recipe.fingerprint,
            sha256=sha256,
            bytes=len(content),
            cell_ids=list(shard.cell_ids),
        )
        with disk_errors(self.out, None):
            write_durably(file, content)
            write_json(self._note(shard), note)

    def publish(self, dataset: str, shard_cells: int, *, config: Any, inputs: Mapping[str, str]) -> None:
        """Turn the directory with all its shards into the store at `out`."""
        entries = [self._entry(shard) for shard in self.shards]
        cell_ids = [cell for shard in self.shards for cell in shard.cell_ids]
        manifest = Manifest(
            format=FORMAT,
            version=VERSION,
            dataset=dataset,
            n_cells=len(cell_ids),
            n_tokens=self.recipe.n_tokens,
            width=self.recipe.width,
            side=self.recipe.side,
            dtype=self.recipe.dtype,
            precision=self.recipe.precision,
            backbone=dict(self.recipe.backbone),
            weights_hash=self.recipe.weights_hash,
            recipe=self.recipe.fingerprint,
            shard_cells=shard_cells,
            cell_ids=CELL_IDS,
            shards=entries,
        )
        with disk_errors(self.out, None):
            write_durably(self.directory / CELL_IDS, "".join(f"{cell}\n" for cell in cell_ids).encode("ascii"))
            write_json(self.directory / MANIFEST, manifest)
            files = {name: _described(self.directory / name) for name in (CELL_IDS, MANIFEST)}
            files |= {e["file"]: FileEntry(sha256=e["sha256"], bytes=e["bytes"]) for e in entries}
            details = {"n_cells": len(cell_ids), "shards": len(entries), "bytes": sum(e["bytes"] for e in entries)}
            for leftover in self.directory.glob("old-*"):
                leftover.unlink()
            publish_directory(
                self.directory, self.out, "tokens", config=config, inputs=inputs, details=details, files=files
            )
        self.clear()

    def _note(self, shard: Shard) -> Path:
        return self.notes / f"shard-{shard.index:05d}.json"

    def _entry(self, shard: Shard) -> ShardEntry:
        note = _read_note(self._note(shard))
        if note is None or note["key"] != shard.key:
            raise ArtifactError(f"{self.directory / shard.file} vanished while {self.out} was written; run it again.")
        return ShardEntry(
            file=shard.file,
            first_row=shard.start,
            rows=len(shard.cell_ids),
            bytes=note["bytes"],
            sha256=note["sha256"],
        )


def _described(file: Path) -> FileEntry:
    return FileEntry(sha256=hash_file(file), bytes=file.stat().st_size)


def _read_note(note: Path) -> Note | None:
    with suppress(ArtifactError):
        return read_record(Note, note, "make the shard again")
    return None
