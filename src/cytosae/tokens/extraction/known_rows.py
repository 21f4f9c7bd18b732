"""Rows that an earlier extraction of the same recipe has left: a cell that is known is copied, not computed again."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cytosae.common.artifact import Record, hash_file, record_path
from cytosae.common.errors import ArtifactError
from cytosae.common.records import read_record
from cytosae.tokens.extraction.work import Shard, Work
from cytosae.tokens.store.encoding import Planes, memory_of
from cytosae.tokens.store.token_store import CELL_IDS, MANIFEST, Manifest, ShardFile


@dataclass(frozen=True)
class _Place:
    file: Path
    row: int


class KnownRows:
    """Where the stored rows of cells lie that an older store at the same place, or an interrupted one, has.

    Only files whose checksum holds are used.
    """

    def __init__(self, work: Work, wanted: set[str]) -> None:
        self._places: dict[str, _Place] = {}
        self._files: dict[Path, ShardFile] = {}
        candidates = [(file, note["sha256"], note["cell_ids"]) for file, note in work.set_aside()]
        for file, sha256, cell_ids in candidates + _published(work.out, work.recipe.fingerprint):
            useful = wanted.intersection(cell_ids) - self._places.keys()
            if useful and file.is_file() and hash_file(file) == sha256:
                self._places |= {cell: _Place(file, row) for row, cell in enumerate(cell_ids) if cell in useful}

    def __len__(self) -> int:
        return len(self._places)

    def missing(self, shard: Shard) -> list[int]:
        """Rows of ``shard``, counted from its first, that have to be computed."""
        return [row for row, cell in enumerate(shard.cell_ids) if cell not in self._places]

    def copy(self, shard: Shard, n_tokens: int, into: Planes) -> None:
        """Copy all known rows of ``shard`` into its stored tensors [rows * T, ...]."""
        memory = memory_of(into)
        for row, cell in enumerate(shard.cell_ids):
            place = self._places.get(cell)
            if place is None:
                continue
            if place.file not in self._files:
                self._files.clear()  # one open file is enough: neighbours mostly come from the same shard
                self._files[place.file] = ShardFile(place.file)
            tokens = place.row * n_tokens + np.arange(n_tokens)
            self._files[place.file].read(tokens, memory, at=row * n_tokens)


def _published(out: Path, recipe: str) -> list[tuple[Path, str, list[str]]]:
    with suppress(ArtifactError, OSError, ValueError):
        described = read_record(Record, record_path(out), "")["files"]
        if any(described.get(name, {}).get("sha256") != hash_file(out / name) for name in (MANIFEST, CELL_IDS)):
            return []  # nobody knows which row is which cell's
        manifest = read_record(Manifest, out / MANIFEST, "")
        if manifest["recipe"] == recipe:
            cells = (out / CELL_IDS).read_text(encoding="ascii").split()
            return [
                (out / s["file"], s["sha256"], cells[s["first_row"] : s["first_row"] + s["rows"]])
                for s in manifest["shards"]
            ]
    return []
