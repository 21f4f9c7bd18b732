"""An unfinished atlas that takes cells in batch by batch, in HDF5 or zarr (anndata's "On-disk format")."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
import scipy.sparse as sp
from anndata.io import write_elem
from numpy.typing import NDArray

from cytosae.atlas.stored.storage import ZARR, Hdf5File, ZarrFolder
from cytosae.common.memory import give_back

CHUNK = 1 << 16
"""Entries of a chunk."""
SHARD = 64
"""Chunks of a shard, which is one file of an atlas in zarr: an atlas of 2 x 10^9 entries has some thousand files."""
PACKED: dict[str, Any] = {"compression": "lzf", "shuffle": True}
"""Bytes of one significance together, then LZF: three quarters of the size of LZF alone, in the same time."""
KEPT = 1 << 25
"""Entries that are written before freed memory is handed back: seconds of work, beside which that takes nothing."""


class AtlasFile:
    """An unfinished atlas; a folder in zarr where its path ends with ``.zarr``, else a file in HDF5.

    Parameters
    ----------
    temporary : Path
        Where it is written.
    path : Path
        What it will be called, for messages.
    n_latents, width : int
        m, and D of the tokens.
    """

    n_latents: int
    mean_tokens: _Growing
    means: CsrWriter
    above: CsrWriter

    def __init__(self, temporary: Path, path: Path, n_latents: int, width: int) -> None:
        self._place = ZarrFolder(temporary, path) if path.suffix == ZARR else Hdf5File(temporary, path)
        self.n_latents = n_latents
        with self._place.writing():
            root = self._place.file
            root.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
            for name in ("obsm", "layers", "obsp", "varp"):
                write_elem(root, name, {})
            self.mean_tokens = growing(root["obsm"], "X_backbone", np.float32, width)
            self.mean_tokens.array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
            self.means = CsrWriter(root.create_group("X"), n_latents, np.float32)
            self.above = CsrWriter(root.create_group("layers/tokens_above"), n_latents, np.int32)

    def __enter__(self) -> Self:
        self._place.__enter__()
        return self

    def __exit__(self, *problem: Any) -> None:
        self._place.__exit__(*problem)

    def append(self, means: sp.csr_array, above: sp.csr_array, mean_tokens: np.ndarray) -> None:
        """Take in the next cells."""
        with self._place.writing():
            self.means.append(means)
            self.above.append(above)
            self.mean_tokens.extend(mean_tokens)

    def finish(self, slots: Mapping[str, Any]) -> None:
        """Write what is known at the end only."""
        with self._place.writing():
            self.means.finish()
            self.above.finish()
            self.mean_tokens.finish()
            root = self._place.file
            options = {"compression": "lzf"} if isinstance(root, h5py.Group) else {}
            for name, slot in slots.items():
                write_elem(root, name, slot, dataset_kwargs=options)


class CsrWriter:
    """A CSR matrix of unknown length in a group, as anndata stores it, written from the first row to the last.

    Parameters
    ----------
    group : h5py.Group or zarr.Group
        An empty group.
    width : int
        Number of columns.
    dtype : object
        Of the values.
    index_limit : int
        Most entries that are numbered by int32. As in scipy, offsets and columns have one type: with more, both become
        int64.
    """

    group: Any
    width: int
    index_limit: int
    data: _Growing
    indices: _Growing

    def __init__(self, group: Any, width: int, dtype: Any, *, index_limit: int = np.iinfo(np.int32).max) -> None:
        self.group, self.width, self.index_limit = group, width, index_limit
        self.data = growing(group, "data", dtype)
        self.indices = growing(group, "indices", np.int32)
        self.counts: list[np.ndarray] = []
        self._since = 0

    def append(self, rows: sp.csr_array) -> None:
        """Write further rows."""
        if len(self.data) + rows.nnz > self.index_limit and self.indices.array.dtype == np.int32:
            self.indices = self.indices.widened()
        self.counts.append(np.diff(rows.indptr).astype(np.int32))
        self.data.extend(rows.data)
        self.indices.extend(rows.indices)
        self._since += rows.nnz
        if self._since >= KEPT:
            give_back()
            self._since = 0

    def finish(self) -> None:
        """Write the offsets and the shape."""
        counts = np.concatenate([np.zeros(1, np.int32), *self.counts])
        offsets = growing(self.group, "indptr", self.indices.array.dtype)
        offsets.extend(np.cumsum(counts, dtype=np.int64))
        for array in (self.data, self.indices, offsets):
            array.finish()
        self.group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        self.group.attrs["shape"] = (len(counts) - 1, self.width)


class _Growing:
    """An array of a group to whose end rows are added, whole chunks at a time: each is packed and written once."""

    group: Any
    array: Any
    piece: int

    def __init__(self, group: Any, array: Any) -> None:
        self.group, self.array, self.piece = group, array, array.chunks[0]
        self._waiting: list[NDArray[Any]] = []
        self._held = 0

    def __len__(self) -> int:
        return self.array.shape[0] + self._held

    def extend(self, rows: NDArray[Any]) -> None:
        """Add rows."""
        self._waiting.append(rows)
        self._held += len(rows)
        if self._held >= self.piece:
            self._write(self._held - self._held % self.piece)

    def finish(self) -> None:
        """Write what is still held."""
        self._write(self._held)

    def widened(self) -> _Growing:
        """The same array in int64, in its place."""
        self.finish()
        wide = growing(self.group, "wide", np.int64)
        for start in range(0, len(self), SHARD * CHUNK):
            wide.extend(self.array[start : start + SHARD * CHUNK])
        wide.finish()
        name = self.array.name.rsplit("/", 1)[-1]
        del self.group[name]
        return self._renamed(wide, name)

    def _renamed(self, wide: _Growing, name: str) -> _Growing:
        self.group.move("wide", name)
        return type(self)(self.group, self.group[name])

    def _write(self, count: int) -> None:
        if not self._held:
            return
        rows = np.concatenate(self._waiting)
        start = self.array.shape[0]
        self.array.resize((start + count, *self.array.shape[1:]))
        self.array[start:] = rows[:count]
        self._waiting, self._held = [rows[count:].copy()], len(rows) - count  # a view would hold all of them


class _GrowingShards(_Growing):
    """An array in zarr, written in whole shards: each is one file, and is written once."""

    def __init__(self, group: Any, array: Any) -> None:
        super().__init__(group, array)
        self.piece = array.shards[0]

    def _renamed(self, wide: _Growing, name: str) -> _Growing:
        folder = Path(self.group.store.root) / self.group.path
        (folder / "wide").rename(folder / name)
        return type(self)(self.group, self.group[name])


def growing(group: Any, name: str, dtype: Any, width: int | None = None) -> _Growing:
    """An empty array of a group in HDF5 or zarr, of numbers, or of rows of ``width`` numbers."""
    row = () if width is None else (width,)
    chunks = (max(1, CHUNK // (width or 1)), *row)
    if isinstance(group, h5py.Group):
        shape = (0, *row)
        return _Growing(group, group.create_dataset(name, shape, dtype, maxshape=(None, *row), chunks=chunks, **PACKED))
    shards = (SHARD * chunks[0], *row)
    return _GrowingShards(group, group.create_array(name, shape=(0, *row), dtype=dtype, chunks=chunks, shards=shards))
