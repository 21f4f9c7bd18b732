"""The token store: one directory of shards, a manifest and the cells' names; written once, then only read.

Its format is specified in docs/token_store.md.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from cytosae.cells.focus.patch_grid import Grid, grid_of
from cytosae.common.artifact import Artifact, read_artifact
from cytosae.common.configuration import from_plain
from cytosae.common.errors import ArtifactError, NewerArtifactError
from cytosae.common.records import parse_record, read_record
from cytosae.tokens.config import Focus, StoredType
from cytosae.tokens.store.encoding import (
    Encoding,
    Memory,
    Planes,
    allocate,
    bytes_per_token,
    decoded,
    encoding_of,
    memory_of,
)
from cytosae.tokens.store.shuffle import extents

FORMAT = "cytosae-tokens"
VERSION = 1
MANIFEST = "manifest.json"
CELL_IDS = "cell_ids.txt"
_OPEN_SHARDS = 64  # a million cells have thousands of shards, more than a process may open files
_MEND = "extract the tokens again"


class ShardEntry(TypedDict):
    """One shard in a manifest."""

    file: str
    first_row: int
    rows: int
    bytes: int
    sha256: str


class _Format(TypedDict):
    format: str
    version: int


class Manifest(_Format):
    """What a token store says of itself; docs/token_store.md tells the meaning of each field."""

    dataset: str
    n_cells: int
    n_tokens: int
    width: int
    side: int | list[int]
    dtype: StoredType
    precision: str
    backbone: dict[str, Any]
    weights_hash: str
    recipe: str
    shard_cells: int
    cell_ids: str
    shards: list[ShardEntry]


def open_tokens(path: Path | str, *, verify: bool = True) -> TokenStore:
    """Open the finished token store at ``path``.

    Parameters
    ----------
    path : str or Path
        Its directory.
    verify : bool
        Compare every byte with the checksums; otherwise sizes only.

    Raises
    ------
    ArtifactError
        no finished store, another kind of artifact, a newer version, a damaged or missing file; it names the file.
    """
    path = Path(path)
    artifact = read_artifact(path, "tokens", verify=verify)
    return TokenStore(path, artifact, _read_manifest(path / MANIFEST, artifact))


class TokenStore:
    """Tokens of n cells, read from disk piece by piece; memory does not grow with n. Safe to share between threads.

    Attributes
    ----------
    path : Path
        Directory.
    manifest : Manifest
        Plain facts: backbone, block, preprocessing, dtype, shards, ...
    n_tokens : int
        T, tokens of a cell, CLS first.
    width : int
        D, numbers of a token.
    grid : tuple of int
        Rows and columns of the patches.
    dtype : str
        "float16", "bfloat16" or "uint8".
    fingerprint : str
        Equal content, equal fingerprint, on any machine.
    focus : {"all", "cell", "nucleus"}
        Which tokens count (`cytosae.tokens.FocusedStore`).
    counted : ndarray of bool, shape (n, T), or None
        These tokens; None for all.
    """

    focus: Focus = "all"
    counted: NDArray[np.bool_] | None = None
    path: Path
    manifest: Manifest
    n_tokens: int
    width: int
    grid: Grid
    dtype: str
    encoding: Encoding
    fingerprint: str

    def __init__(self, path: Path, artifact: Artifact, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.fingerprint = artifact.fingerprint
        self.n_tokens = manifest["n_tokens"]
        self.width = manifest["width"]
        self.grid = grid_of(manifest["side"])
        self.dtype = manifest["dtype"]
        self.encoding = encoding_of(self.dtype)
        self._cell_ids: list[str] | None = None
        self._rows: int = manifest["n_cells"]
        self._shard_rows: int = manifest["shard_cells"]
        self._files: OrderedDict[int, ShardFile] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._rows

    def __repr__(self) -> str:
        return (
            f"TokenStore({str(self.path)!r}: {len(self):,} cells x {self.n_tokens} tokens x {self.width}, {self.dtype})"
        )

    @property
    def cell_ids(self) -> list[str]:
        """SHA-256 of every cell's file, in the order of the rows."""
        if self._cell_ids is None:
            file = self.path / CELL_IDS
            try:
                names = file.read_text(encoding="ascii").split()
            except (OSError, UnicodeDecodeError) as problem:
                raise ArtifactError(f"{file} cannot be read ({problem}); {_MEND}.") from problem
            if len(names) != len(self):
                raise ArtifactError(f"{file} names {len(names):,} cells for {len(self):,} rows; {_MEND}.")
            self._cell_ids = names
        return self._cell_ids

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Tokens of rows [start, stop): float32 [stop - start, T, D]."""
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"rows {start} to {stop} of a store with {len(self)} cells")
        planes = self.allocate((stop - start) * self.n_tokens)
        tokens = np.arange(start * self.n_tokens, stop * self.n_tokens)
        self.read_stored(tokens, memory_of(planes), at=0)
        return decoded(self.encoding, planes).view(stop - start, self.n_tokens, self.width)

    def batches(self, batch_cells: int) -> Iterator[tuple[int, torch.Tensor]]:
        """All rows in order: (first row, float32 [b, T, D]) with b = ``batch_cells``, the last one smaller."""
        for start in range(0, len(self), batch_cells):
            yield start, self.read(start, min(start + batch_cells, len(self)))

    def counted_by(self, batches: Sequence[Sequence[int]]) -> Iterator[NDArray[np.bool_] | None]:
        """Which tokens [b, T] of the rows of each batch count; None for all."""
        for rows in batches:
            yield None if self.counted is None else self.counted[rows]

    def allocate(self, n: int) -> Planes:
        """Room for ``n`` tokens as they are stored."""
        return allocate(self.encoding, (n,), self.width)

    def read_stored(self, tokens: np.ndarray, into: Memory, *, at: int) -> None:
        """Read ``tokens``, ascending numbers, as stored into rows ``at``, ... of tensors whose memory is ``into``.

        Tokens are counted through the store: token ``t`` of row ``r`` is ``r * T + t``.
        """
        per_shard = self._shard_rows * self.n_tokens
        done = 0
        while done < len(tokens):
            index = int(tokens[done]) // per_shard
            end = int(np.searchsorted(tokens, (index + 1) * per_shard))
            self._shard(index).read(tokens[done:end] - index * per_shard, into, at=at + done)
            done = end

    def open_shard(self, index: int) -> ShardFile:
        """A shard, open for reading; `ArtifactError` where it does not hold what the manifest says."""
        entry = self.manifest["shards"][index]
        shard = ShardFile(self.path / entry["file"])
        shape = (entry["rows"], self.n_tokens, self.width)
        if (shard.rows, shard.n_tokens, shard.width) != shape:
            raise ArtifactError(
                f"{shard.path} holds {shard.rows} cells x {shard.n_tokens} x {shard.width}, not {shape}; {_MEND}."
            )
        sizes = {
            name: kind.itemsize * math.prod(tail) for name, (kind, tail) in self.encoding.layout(self.width).items()
        }
        if shard.token_bytes != sizes:
            raise ArtifactError(f"{shard.path} holds no tokens in {self.dtype}; {_MEND}.")
        return shard

    def _shard(self, index: int) -> ShardFile:
        with self._lock:
            if index in self._files:
                self._files.move_to_end(index)
                return self._files[index]
            shard = self._files[index] = self.open_shard(index)
            if len(self._files) > _OPEN_SHARDS:
                self._files.popitem(last=False)
            return shard


def _read_manifest(file: Path, artifact: Artifact) -> Manifest:
    """The manifest, checked whole before any memory is asked for by its numbers."""
    known = read_record(_Format, file, _MEND)
    if known["format"] != FORMAT:
        raise ArtifactError(f"{file} is no manifest of a token store; {_MEND}.")
    if known["version"] > VERSION:
        raise NewerArtifactError(
            f"{file.parent} is in version {known['version']} of the token format, newer than this cytosae reads "
            f"({VERSION}); update cytosae."
        )
    manifest = read_record(Manifest, file, _MEND)
    n, T, D, shard_cells = (manifest[name] for name in ("n_cells", "n_tokens", "width", "shard_cells"))
    held = sum(entry["bytes"] for entry in artifact.files.values())
    if (
        np.size(manifest["side"]) not in (1, 2)
        or min(n, T, D, shard_cells, *grid_of(manifest["side"])) < 1
        or n * T * bytes_per_token(encoding_of(manifest["dtype"]), D) > held
        or len(manifest["shards"]) != -(-n // shard_cells)
        or not all(shard["file"] in artifact.files for shard in manifest["shards"])
    ):
        raise ArtifactError(f"{file} does not describe the {held:,} bytes of the store that it belongs to; {_MEND}.")
    return manifest


@dataclass(frozen=True)
class _Plane:
    offset: int  # of its first byte in the file
    token_bytes: int


class _Tensor(TypedDict):
    shape: list[int]
    data_offsets: list[int]


class ShardFile:
    """One shard, open for reading at any place.

    It reads with ``pread`` where the safetensors library would map the file: pages of a map count as memory of the
    process, and many small reads of a cold map wait for one page each.
    """

    rows: int
    n_tokens: int
    width: int

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            self._read_header(os.fstat(self._descriptor).st_size)
        except (OSError, ValueError) as problem:
            raise ArtifactError(f"{path} cannot be read ({problem}); restore it or {_MEND}.") from problem

    @property
    def token_bytes(self) -> dict[str, int]:
        """Bytes of one token in each stored tensor."""
        return {name: plane.token_bytes for name, plane in self._planes.items()}

    def _read_header(self, size: int) -> None:
        length = int.from_bytes(os.pread(self._descriptor, 8, 0), "little")
        if not 0 < length < size:
            raise ValueError("it is cut short, or no shard")
        header = parse_record(dict, os.pread(self._descriptor, length, 8), where="header")
        header.pop("__metadata__", None)
        tensors = from_plain(dict[str, _Tensor], header, where="header")
        shape = tensors["tokens"]["shape"] if "tokens" in tensors else []
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"its tokens have the shape {shape}")
        self.rows, self.n_tokens, self.width = shape
        self._planes = {}
        for name, tensor in tensors.items():
            first, last = tensor["data_offsets"] if len(tensor["data_offsets"]) == 2 else (-1, -1)
            if not 0 <= first <= last <= size - 8 - length:
                raise ValueError(f"it ends too early for its {name}")
            self._planes[name] = _Plane(8 + length + first, (last - first) // (self.rows * self.n_tokens))

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read(self, tokens: np.ndarray, into: Memory, *, at: int) -> None:
        """Read ``tokens`` (row * T + position, ascending) of this shard as stored into rows ``at``, ... of ``into``."""
        pieces = extents(tokens)
        for name, plane in self._planes.items():
            if len(pieces) > 1:
                self._announce(pieces, plane)
            self._fill(into[name], at, pieces, plane)

    def _announce(self, pieces: list[tuple[int, int]], plane: _Plane) -> None:
        """Let the disk begin with all pieces at once: many small requests one after the other take it far longer."""
        if sys.platform != "linux":
            return
        for start, stop in pieces:
            offset, size = plane.offset + start * plane.token_bytes, (stop - start) * plane.token_bytes
            os.posix_fadvise(self._descriptor, offset, size, os.POSIX_FADV_WILLNEED)

    def _fill(self, memory: memoryview, at: int, pieces: list[tuple[int, int]], plane: _Plane) -> None:
        # As little as possible for each piece: a pool of tokens has ten thousand.
        preadv, descriptor, size = os.preadv, self._descriptor, plane.token_bytes
        begin = at * size
        for start, stop in pieces:
            end = begin + (stop - start) * size
            place = plane.offset + start * size
            got = preadv(descriptor, [memory[begin:end]], place)
            while got < end - begin:
                more = preadv(descriptor, [memory[begin + got : end]], place + got)
                if more == 0:
                    raise ArtifactError(f"{self.path} ends too early; restore it or {_MEND}.")
                got += more
            begin = end
