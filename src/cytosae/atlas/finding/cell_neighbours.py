"""Cells nearest to a mean token by cosine: exactly, or of many cells through an index that is kept on disk."""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cytosae.atlas.stored.matrix import read_array_rows
from cytosae.common.cache import cache_folder
from cytosae.common.disk import disk_errors
from cytosae.common.unfinished import written_whole

INDEXED = 1 << 24
"""Numbers (cells x width) above which an index is made: fewer lie in memory, where all are compared in a moment."""
BLOCK = 1 << 14
"""Cells that are compared at a time."""
ADDED = 256
"""Cells that the index takes in at a time, between which other threads have their turn."""
GRAPH: dict[str, Any] = {"metric": "cos", "dtype": "i8", "connectivity": 16, "expansion_add": 64}
SEARCHED, CANDIDATES = 256, 2
"""Cells that a search keeps in sight; cells for each one asked for whose cosine is then computed exactly."""


class Nearest(NamedTuple):
    """Cells by row, the nearest first, and their cosines; ``approximate`` where an index named those compared."""

    rows: NDArray[np.intp]
    cosines: NDArray[np.float32]
    approximate: bool


def nearest_cells(
    means: Any, centre: NDArray[np.float32], mean: NDArray[np.float32], n: int, *, fingerprint: str | None = None
) -> Nearest:
    """The ``n`` cells with the largest cosine of their mean tokens to ``mean`` (D,), all less ``centre`` (D,).

    Parameters
    ----------
    means : object
        Mean tokens (cells, D), an array or its place in the file of an atlas.
    centre, mean : ndarray of float32
        What is taken from all; what is to be found.
    n : int
        How many cells.
    fingerprint : str or None
        Of the atlas whose index is asked where one is kept (`keep_index`); None for none.
    """
    query = mean - centre
    index = None if fingerprint is None else _kept_index(_place(fingerprint))
    rows = _all_rows(means) if index is None else np.sort(index.named(query, n * CANDIDATES))
    cosines = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), BLOCK):
        some = rows[start : start + BLOCK]
        cosines[start : start + BLOCK] = _cosines(read_array_rows(means, some) - centre, query)
    best = np.argsort(-cosines, kind="stable")[:n]
    return Nearest(rows[best], cosines[best], index is not None)


def keep_index(means: Any, centre: NDArray[np.float32], fingerprint: str) -> None:
    """Make the index of the mean tokens of an atlas in the cache, unless it is there and whole, or the cells are few.

    Without `usearch` none is made, and all cells are compared at each search.
    """
    path = _place(fingerprint)
    if means.shape[0] * means.shape[1] > INDEXED and _kept_index(path) is None:
        with suppress(ModuleNotFoundError), disk_errors(path, None):
            write_index(means, centre, path)
            _opened.cache_clear()


def write_index(means: Any, centre: NDArray[np.float32], path: Path) -> None:
    """Write the index of mean tokens (cells, D) less their centre to ``path``, whole or not at all.

    A graph of small worlds, in numbers of 8 bits. One thread makes it, so that equal cells have an equal index.

    References
    ----------
    Malkov, Yashunin 2018, "Efficient and robust approximate nearest neighbor search using hierarchical navigable small
    world graphs".
    """
    from usearch.index import Index

    index = Index(ndim=means.shape[1], **GRAPH)
    rows = _all_rows(means)
    for start in range(0, len(rows), BLOCK):
        block = read_array_rows(means, rows[start : start + BLOCK]) - centre
        for at in range(0, len(block), ADDED):
            some = block[at : at + ADDED]
            index.add(np.arange(start + at, start + at + len(some)), some, threads=1)
    try:
        with written_whole(path) as temporary:
            index.save(str(temporary))
    except RuntimeError as problem:  # which is what usearch makes of the system's refusal
        raise OSError(str(problem)) from problem


class _Index:
    """An index that stays on disk; one thread asks at a time."""

    def __init__(self, path: Path) -> None:
        from usearch.index import Index

        self._lock = threading.Lock()
        self._index: Any = Index.restore(str(path), view=True, expansion_search=SEARCHED)

    def named(self, query: NDArray[np.float32], n: int) -> NDArray[np.intp]:
        """Rows of about the ``n`` cells nearest to ``query``."""
        with self._lock:
            return np.asarray(self._index.search(query, n, threads=1).keys, np.intp)


@lru_cache(maxsize=8)
def _opened(path: Path) -> _Index | None:
    """None where the file is damaged, or of a version that is not read: all cells are compared then."""
    with suppress(RuntimeError, ValueError):
        return _Index(path)
    return None


def _kept_index(path: Path) -> _Index | None:
    if not path.is_file():
        return None
    with suppress(ModuleNotFoundError):
        return _opened(path)
    return None


def _place(fingerprint: str) -> Path:
    return cache_folder() / "neighbours" / f"{fingerprint[:24]}.usearch"


def _all_rows(means: Any) -> NDArray[np.intp]:
    return np.arange(means.shape[0])


def _cosines(vectors: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
    return vectors @ query / np.maximum(lengths, 1e-12)
