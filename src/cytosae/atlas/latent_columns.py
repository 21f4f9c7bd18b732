"""Columns of an atlas: the cells on which a latent is active, looked up without reading the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytosae.atlas.matrix import row_blocks
from cytosae.common.unfinished import remove, unfinished

NAMES = ("starts", "rows", "values")


class Columns:
    """A cells x latents matrix by latent, kept in three files (CSC) that are mapped into memory.

    Parameters
    ----------
    folder : Path
        Where `write_columns` has put them.
    """

    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    values: NDArray[np.float32]

    def __init__(self, folder: Path) -> None:
        self.starts, self.rows, self.values = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in NAMES)

    def of(self, latent: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Rows of the cells on which ``latent`` is active, ascending, and its mean activation on each."""
        here = slice(int(self.starts[latent]), int(self.starts[latent + 1]))
        return np.asarray(self.rows[here]), np.asarray(self.values[here])


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
    starts = np.cumsum(counts)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished(folder)
    temporary.mkdir()
    try:
        np.save(temporary / "starts.npy", starts)
        made = {
            name: np.lib.format.open_memmap(temporary / f"{name}.npy", "w+", dtype, (int(starts[-1]),))
            for name, dtype in (("rows", np.int32), ("values", np.float32))
        }
        filled = starts[:-1].copy()
        for start, block in row_blocks(matrix):
            columns = block.tocsc()
            length = np.diff(columns.indptr)
            place = np.repeat(filled - columns.indptr[:-1], length) + np.arange(columns.nnz)
            made["rows"][place] = columns.indices + start
            made["values"][place] = columns.data
            filled += length
        for array in made.values():
            array.flush()
        temporary.rename(folder)
    finally:
        remove(temporary)
    return Columns(folder)
