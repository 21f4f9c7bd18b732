"""Columns of an atlas: the cells on which a latent is active, looked up without reading the others; and back."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.atlas.stored.matrix import row_blocks, stored_entries
from cytosae.common.cache import cache_folder
from cytosae.common.disk import disk_errors
from cytosae.common.memory import give_back
from cytosae.common.unfinished import written_whole

INDEXED = 1 << 26
"""Stored entries above which a single search makes columns, too, and keeps them: rows would take more than seconds."""
AT_ONCE = 1 << 23
"""Entries that are sorted by latent at a time: with fewer, the same pages of the disk are written again and again."""
ENTRY: np.dtype[np.void] = np.dtype([("row", np.int32), ("value", np.float32)])


class Columns:
    """A cells x latents matrix by latent (CSC), and which latents each cell has, in files.

    A look-up reads where its entries begin, then these in one go.

    Parameters
    ----------
    folder : Path
        Where `write_columns` has put them.
    """

    folder: Path
    n_latents: int

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._starts = _Mapped(folder / "starts", np.dtype(np.int64))
        self._row_starts = _Mapped(folder / "row_starts", np.dtype(np.int64))
        self.n_latents = len(self._starts.items) - 1
        self._entries = _Mapped(folder / "entries", ENTRY)
        self._row_latents = _Mapped(folder / "row_latents", _latent_type(self.n_latents))

    def of(self, latent: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Rows of the cells on which ``latent`` is active, ascending, and its mean activation on each."""
        (found,) = self._entries.read([self._starts.items[latent : latent + 2]])
        return np.ascontiguousarray(found["row"]), np.ascontiguousarray(found["value"])

    def count_on(self, cells: NDArray[np.integer]) -> NDArray[np.int64]:
        """(m,) on how many of these cells, by row, each latent is active; a cold disk is asked for all at once."""
        edges = self._row_starts.read([(cell, cell + 2) for cell in cells.tolist()])
        there = [np.zeros(0, _latent_type(self.n_latents)), *self._row_latents.read(edges)]
        return np.bincount(np.concatenate(there), minlength=self.n_latents)


class _Mapped:
    """A file of items of one type, mapped into memory: read without giving up Python's lock.

    Who reads a file gives it up, and beside threads that compute waits each time until one of them does. The system is
    told which stretches are needed before the first is read, for it would fetch a map from a cold disk page by page;
    afterwards they no longer count as memory of the process.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        with path.open("rb") as file:
            empty = path.stat().st_size == 0  # which cannot be mapped
            self._map: Any = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.items: NDArray[Any] = np.frombuffer(self._map, dtype)

    def read(self, stretches: Sequence[Sequence[int] | NDArray[np.int64]]) -> list[NDArray[Any]]:
        """Items [start, stop) of each stretch; no others are read."""
        edges = [(int(start), int(stop)) for start, stop in stretches]
        self._advise("MADV_WILLNEED", edges)
        found = [self.items[start:stop].copy() for start, stop in edges]
        self._advise("MADV_DONTNEED", edges)
        return found

    def _advise(self, advice: str, edges: Sequence[tuple[int, int]]) -> None:
        option = getattr(mmap, advice, None)  # Windows knows none
        for start, stop in edges if option is not None else ():
            if stop > start:
                begin = start * self.items.itemsize // mmap.PAGESIZE * mmap.PAGESIZE
                self._map.madvise(option, begin, stop * self.items.itemsize - begin)


def _latent_type(n_latents: int) -> np.dtype[Any]:
    return np.dtype(np.uint16 if n_latents <= 1 << 16 else np.int32)


def column_of_rows(matrix: Any, latent: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """What `Columns.of` says of a latent, from the rows (n, m) themselves: all are read, and nothing is written."""
    rows, values = [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    for start, block in row_blocks(matrix):
        places = np.flatnonzero(block.indices == latent)
        above = np.searchsorted(block.indptr, places, side="right")
        rows.append(np.asarray(start - 1 + above, np.int32))
        values.append(np.asarray(block.data[places], np.float32))
    return np.concatenate(rows), np.concatenate(values)


def write_columns(matrix: Any, folder: Path) -> Columns:
    """Turn a matrix (n, m) of rows into columns at ``folder``, whole or not at all, unless they are there.

    Twice the stored entries are read, a block at a time, so that memory does not grow with the number of cells.
    """
    if folder.is_dir():
        return Columns(folder)
    try:
        with written_whole(folder, folder=True) as temporary:
            _turn_round(matrix, temporary)
    except OSError:
        if not folder.is_dir():  # unless another process was quicker
            raise
    return Columns(folder)


def _turn_round(matrix: Any, folder: Path) -> None:
    m = matrix.shape[1]
    counts = np.zeros(m + 1, np.int64)
    for _, block in row_blocks(matrix):
        counts[1:] += np.bincount(block.indices, minlength=m)
    starts, row_starts = np.cumsum(counts), np.concatenate([[0], np.cumsum(stored_entries(matrix))])
    starts.tofile(folder / "starts")
    row_starts.tofile(folder / "row_starts")
    entries = np.memmap(folder / "entries", ENTRY, "w+", shape=(max(1, int(starts[-1])),))
    filled = starts[:-1].copy()
    with (folder / "row_latents").open("wb") as row_latents:
        for start, block in row_blocks(matrix, AT_ONCE):
            block.indices.astype(_latent_type(m)).tofile(row_latents)
            _enter(entries, filled, start, block.tocsc())
            give_back()
    entries.flush()
    del entries  # Windows renames no folder with a file that is mapped


def _enter(entries: NDArray[np.void], filled: NDArray[np.int64], start: int, columns: sp.csc_array) -> None:
    """Write the entries of rows from ``start`` on, latent by latent, behind those that are ``filled``."""
    length = np.diff(columns.indptr)
    place = np.arange(columns.nnz)
    place += np.repeat(filled - columns.indptr[:-1], length)
    own = np.empty(columns.nnz, ENTRY)
    own["row"], own["value"] = columns.indices + start, columns.data
    entries[place] = own
    filled += length


def kept_columns(matrix: Any, fingerprint: str) -> Columns:
    """`write_columns` of an atlas of this fingerprint, kept in the cache: then a look-up waits for the disk only."""
    folder = _kept(fingerprint)
    with disk_errors(folder, None):
        return write_columns(matrix, folder)


def column_lookup(matrix: Any, fingerprint: str) -> Callable[[int], tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """`Columns.of` for a few look-ups: from the rows themselves, unless columns are kept or the rows are many."""
    if _kept(fingerprint).is_dir() or int(stored_entries(matrix).sum()) > INDEXED:
        return kept_columns(matrix, fingerprint).of
    return partial(column_of_rows, matrix)


def _kept(fingerprint: str) -> Path:
    return cache_folder() / "columns" / fingerprint[:24]
