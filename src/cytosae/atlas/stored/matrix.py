"""Rows of a cells x latents matrix, in memory or in the file of an atlas that is opened with ``backed="r"``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anndata as ad
import h5py
import numpy as np
import scipy.sparse as sp
import zarr
from anndata.abc import CSRDataset
from numpy.typing import NDArray

BLOCK_ENTRIES = 1 << 22
"""Stored entries that are read at a time."""
GAP_ENTRIES = 1 << 15
"""Unwanted entries that are read rather than skipped; what is skipped is decompressed in any case."""


def layer_names(data: ad.AnnData) -> list[str]:
    """Names of the layers; anndata 0.13 counts ``X`` among them, as None."""
    return [name for name in data.layers if isinstance(name, str)]


def read_rows(matrix: Any, rows: NDArray[np.integer] | None = None) -> sp.csr_array:
    """Some rows of a matrix, in the order asked for.

    Parameters
    ----------
    matrix : object
        (n, m) scipy sparse matrix, dense array, or ``anndata.abc.CSRDataset``.
    rows : ndarray of int, shape (r,), or None
        Row numbers, any order; all where None.

    Returns
    -------
    csr_array, shape (r, m)
        CSR; of a matrix on disk only these rows are read, and the best order is that of the file.
    """
    if not _on_disk(matrix):
        return sp.csr_array(matrix[slice(None) if rows is None else rows])
    if rows is None:
        return _stretch(matrix, _offsets(matrix), 0, matrix.shape[0])
    wanted, places = np.unique(np.asarray(rows), return_inverse=True)
    if not len(wanted):
        return sp.csr_array((0, matrix.shape[1]), dtype=matrix.dtype)
    offsets = _offsets(matrix, wanted)
    parts = []
    for run in _runs(wanted, offsets[wanted], offsets[wanted + 1]):
        first, stop = int(run[0]), int(run[-1]) + 1
        part = _stretch(matrix, offsets, first, stop)
        parts.append(part if len(run) == stop - first else part[run - first])
    found = parts[0] if len(parts) == 1 else sp.csr_array(sp.vstack(parts, format="csr"))
    return found if np.array_equal(places, np.arange(len(wanted))) else sp.csr_array(found[places])


def row_blocks(matrix: Any, entries: int = BLOCK_ENTRIES) -> Iterator[tuple[int, sp.csr_array]]:
    """All rows in order, as (first row, CSR) with at most ``entries`` stored entries each (one row may have more)."""
    on_disk = _on_disk(matrix)
    offsets = _offsets(matrix) if on_disk else np.concatenate([[0], np.cumsum(stored_entries(matrix))])
    n, start = len(offsets) - 1, 0
    while start < n:
        stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + entries, side="right")) - 1)
        yield start, _stretch(matrix, offsets, start, stop) if on_disk else sp.csr_array(matrix[start:stop])
        start = stop


def stored_entries(matrix: Any) -> NDArray[np.int64]:
    """(n,) number of stored entries of each row; m for a dense array."""
    if _on_disk(matrix):
        return np.diff(_offsets(matrix))
    if sp.issparse(matrix):
        return np.diff(sp.csr_array(matrix).indptr).astype(np.int64)
    return np.full(matrix.shape[0], matrix.shape[1], np.int64)


def read_array_rows(array: Any, rows: NDArray[np.integer]) -> NDArray[Any]:
    """Rows of a dense array, in memory or in the file of an atlas, in the order asked for."""
    if not isinstance(array, h5py.Dataset | zarr.Array):
        return np.asarray(array)[rows]
    wanted, places = np.unique(np.asarray(rows), return_inverse=True)
    found = np.empty((len(wanted), *array.shape[1:]), array.dtype)
    width = int(np.prod(array.shape[1:]))
    at = 0
    for run in _runs(wanted, wanted * width, (wanted + 1) * width):
        stretch = np.asarray(array[run[0] : run[-1] + 1])
        found[at : at + len(run)] = stretch[run - run[0]]
        at += len(run)
    return found[places]


def _runs(
    rows: NDArray[np.integer], starts: NDArray[np.integer], stops: NDArray[np.integer]
) -> list[NDArray[np.integer]]:
    """Ascending rows cut into stretches to be read in one go; their entries are [start, stop)."""
    if not len(rows):
        return []
    apart = (starts[1:] - stops[:-1] > GAP_ENTRIES) | (np.diff(rows) > GAP_ENTRIES)
    enough = np.diff(starts // BLOCK_ENTRIES) > 0
    return np.split(rows, np.flatnonzero(apart | enough) + 1)


def _on_disk(matrix: Any) -> bool:
    return isinstance(matrix, CSRDataset)


def _offsets(matrix: Any, rows: NDArray[np.integer] | None = None) -> NDArray[np.int64]:
    """(n + 1,) where rows begin; with ascending ``rows`` only what is about these is read, the others have 0."""
    indptr = matrix.group["indptr"]
    if rows is None:
        return np.asarray(indptr[:], np.int64)
    offsets = np.zeros(indptr.shape[0], np.int64)  # of which pages without rows take no memory
    for run in np.split(rows, np.flatnonzero(np.diff(rows) > GAP_ENTRIES) + 1):
        offsets[run[0] : run[-1] + 2] = indptr[run[0] : run[-1] + 2]
    return offsets


def _stretch(matrix: Any, offsets: NDArray[np.int64], start: int, stop: int) -> sp.csr_array:
    """Rows [start, stop), read in one go."""
    first, last = int(offsets[start]), int(offsets[stop])
    group = matrix.group
    indices = group["indices"][first:last]
    inner = (offsets[start : stop + 1] - first).astype(index_type(last - first))
    return sp.csr_array((group["data"][first:last], indices, inner), shape=(stop - start, matrix.shape[1]))


def index_type(entries: int) -> type[np.int32] | type[np.int64]:
    """Type of the indices of a CSR with so many stored entries."""
    return np.int32 if entries <= np.iinfo(np.int32).max else np.int64


def dense(matrix: Any, dtype: Any = None) -> Any:
    """A layer, sparse or not, as an array; None stays None."""
    if matrix is None:
        return None
    return np.asarray(matrix.todense() if sp.issparse(matrix) else matrix, dtype=dtype)
