"""From the activations of tokens to sums of cells and of latents: loops over stored entries, compiled by Numba.

Each loop takes the entries in their order, so sums do not depend on how cells are put into batches.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import scipy.sparse as sp
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]
Longs = NDArray[np.int64]
Doubles = NDArray[np.float64]


class CellSums(NamedTuple):
    """What `sum_cells` gives.

    Attributes
    ----------
    means : csr_array, shape (b, m)
        CSR float32, the mean over the tokens of each cell that count.
    above : csr_array, shape (b, m)
        CSR int32, how many of each cell's tokens are > tau.
    """

    means: sp.csr_array
    above: sp.csr_array


def sum_cells(
    activations: sp.csr_array, n_tokens: int, tau: float, counted: NDArray[np.bool_] | None = None
) -> CellSums:
    """Mean activation of each cell, and its tokens above a threshold.

    Parameters
    ----------
    activations : csr_array, shape (b * n_tokens, m)
        CSR, the tokens of whole cells in order.
    n_tokens : int
        T, tokens of a cell, CLS included.
    tau : float
        >= 0, in the units of the activations.
    counted : ndarray of bool, shape (b, n_tokens), or None
        Tokens over which the mean is taken, all where None; the rows of others are to be empty.

    Returns
    -------
    CellSums
        Columns ascending; what is 0 is not stored. Means are summed in float64, token by token: they do not depend on
        the batch in which a cell came.
    """
    rows, width = cast("tuple[int, int]", activations.shape)
    shape = (rows // n_tokens, width)
    n = np.full(shape[0], n_tokens) if counted is None else counted.sum(1)
    values, latents, offsets = entries_of(activations)
    means, above = _sum_cells(values, latents, offsets[::n_tokens].copy(), n.astype(np.float64), np.float32(tau), shape)
    return CellSums(sp.csr_array(means, shape=shape), sp.csr_array(above, shape=shape))


def entries_of(matrix: sp.csr_array) -> tuple[Floats, Integers, Longs]:
    """Values float32, columns int32 and offsets int64 of a CSR, as the loops of this module take them."""
    return (
        matrix.data.astype(np.float32, copy=False),
        matrix.indices.astype(np.int32, copy=False),
        matrix.indptr.astype(np.int64, copy=False),
    )


@njit(cache=True, error_model="numpy", nogil=True)
def _sum_cells(
    values: Floats, latents: Integers, first: Longs, n: Doubles, tau: Any, shape: tuple[int, int]
) -> tuple[tuple[Floats, Integers, Integers], tuple[Integers, Integers, Integers]]:
    """Data, columns and offsets of `CellSums`; the entries of cell c are ``first[c]`` to ``first[c + 1] - 1``."""
    cells, m = shape
    total, many = np.zeros(m, np.float64), np.zeros(m, np.int32)
    means, mean_latents, mean_offsets = _room(values.size, cells, np.float32(0))
    above, above_latents, above_offsets = _room(values.size, cells, np.int32(0))
    p = q = 0
    for c in range(cells):
        for e in range(first[c], first[c + 1]):
            total[latents[e]] += values[e]
            many[latents[e]] += values[e] > tau
        for j in range(m):
            mean = np.float32(total[j] / n[c]) if total[j] != 0 else np.float32(0)
            if mean != 0:
                means[p], mean_latents[p] = mean, j
                p += 1
            if many[j]:
                above[q], above_latents[q] = many[j], j
                q += 1
            total[j], many[j] = 0, 0
        mean_offsets[c + 1], above_offsets[c + 1] = p, q
    return (
        (means[:p].copy(), mean_latents[:p].copy(), mean_offsets),
        (above[:q].copy(), above_latents[:q].copy(), above_offsets),
    )


@njit(cache=True, error_model="numpy", nogil=True)
def _room(most: int, cells: int, zero: Any) -> tuple[NDArray[Any], Integers, Integers]:
    return np.full(most, zero), np.empty(most, np.int32), np.zeros(cells + 1, np.int32)


@njit(cache=True, error_model="numpy", nogil=True)
def count_tokens(values: Floats, latents: Integers, offsets: Longs, tokens_active: Longs, token_max: Floats) -> None:
    """Count at its position every token that is active, in ``tokens_active`` (T, m), and raise ``token_max`` (m,)."""
    T = len(tokens_active)
    for t in range(T):  # position by position: its counts stay in the processor's cache
        active = tokens_active[t]
        for i in range(t, offsets.size - 1, T):
            for e in range(offsets[i], offsets[i + 1]):
                value, j = values[e], latents[e]
                active[j] += value != 0
                if value > token_max[j] or np.isnan(value):
                    token_max[j] = value


@njit(cache=True, error_model="numpy", nogil=True)
def count_cells(
    values: Floats,
    latents: Integers,
    offsets: Longs,
    classes: Longs,
    cells_active: Longs,
    mean_sum: Doubles,
    class_sum: Doubles,
) -> None:
    """Add the means (b, m) of cells to sums over cells (m,) and over those of each class (C, m); class -1 is none."""
    for c in range(offsets.size - 1):
        for e in range(offsets[c], offsets[c + 1]):
            j = latents[e]
            cells_active[j] += 1
            mean_sum[j] += values[e]
            if classes[c] >= 0:
                class_sum[classes[c], j] += values[e]


@njit(cache=True, error_model="numpy", nogil=True)
def keep_best(latents: Integers, values: Floats, rows: Longs, best_rows: Longs, best_values: Floats) -> None:
    """Keep the k largest values of each latent among the best (m, k), descending, and the given (latent, value, row).

    Of equal values the lower row comes first; where there is none the row is -1 and the value 0.
    """
    k = best_rows.shape[1]
    for e in range(values.size):
        own_rows, own = best_rows[latents[e]], best_values[latents[e]]
        p = k
        while (
            p and values[e] > 0 and (values[e] > own[p - 1] or (values[e] == own[p - 1] and rows[e] < own_rows[p - 1]))
        ):
            p -= 1
        for q in range(k - 1, p, -1):
            own[q], own_rows[q] = own[q - 1], own_rows[q - 1]
        if p < k:
            own[p], own_rows[p] = values[e], rows[e]
