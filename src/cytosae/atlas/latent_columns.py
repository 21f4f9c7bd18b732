"""Columns of an atlas: the cells on which a latent is active, looked up without reading the others; and back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytosae.atlas.matrix import row_blocks, stored_entries
from cytosae.common.cache import cache_folder
from cytosae.common.disk import disk_errors
from cytosae.common.unfinished import remove, unfinished

INDEXED = 1 << 26
"""Stored entries above which a single search makes columns, too, and keeps them: rows would take more than seconds."""
NAMES = ("starts", "rows", "values", "row_starts", "row_latents")


class Columns:
    """A cells x latents matrix by latent (CSC), and which latents each cell has, in files that are mapped into memory.

    Parameters
    ----------
    folder : Path
        Where `write_columns` has put them.
    """

    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    values: NDArray[np.float32]
    row_starts: NDArray[np.int64]
    row_latents: NDArray[np.int32]

    def __init__(self, folder: Path) -> None:
        self.starts, self.rows, self.values, self.row_starts, self.row_latents = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in NAMES
        )

    def of(self, latent: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Rows of the cells on which ``latent`` is active, ascending, and its mean activation on each."""
        here = slice(int(self.starts[latent]), int(self.starts[latent + 1]))
        return np.asarray(self.rows[here]), np.asarray(self.values[here])

    def count_on(self, cells: NDArray[np.integer]) -> NDArray[np.int64]:
        """(m,) on how many of these cells, by row, each latent is active."""
        there = [self.row_latents[self.row_starts[cell] : self.row_starts[cell + 1]] for cell in cells]
        return np.bincount(np.concatenate([np.zeros(0, np.int32), *there]), minlength=len(self.starts) - 1)


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
    m = matrix.shape[1]
    counts = np.zeros(m + 1, np.int64)
    for _, block in row_blocks(matrix):
        counts[1:] += np.bincount(block.indices, minlength=m)
    starts, row_starts = np.cumsum(counts), np.concatenate([[0], np.cumsum(stored_entries(matrix))])
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished(folder)
    temporary.mkdir()
    try:
        np.save(temporary / "starts.npy", starts)
        np.save(temporary / "row_starts.npy", row_starts)
        made = {
            name: np.lib.format.open_memmap(temporary / f"{name}.npy", "w+", dtype, (int(starts[-1]),))
            for name, dtype in (("rows", np.int32), ("values", np.float32), ("row_latents", np.int32))
        }
        filled = starts[:-1].copy()
        for start, block in row_blocks(matrix):
            made["row_latents"][row_starts[start] :][: block.nnz] = block.indices
            columns = block.tocsc()
            length = np.diff(columns.indptr)
            place = np.repeat(filled - columns.indptr[:-1], length) + np.arange(columns.nnz)
            made["rows"][place] = columns.indices + start
            made["values"][place] = columns.data
            filled += length
        for array in made.values():
            array.flush()
        if not folder.is_dir():  # another process may have been quicker
            temporary.rename(folder)
    finally:
        remove(temporary)
    return Columns(folder)


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
    return cache_folder() / "by_latent" / fingerprint[:24]
