"""How single-minded units are, and whether what they mark in an image hangs together; pure arrays in and out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cytosae.cells.focus.patch_grid import Grid

Array = NDArray[np.float64]


def monosemanticity(values: NDArray[np.floating], embeddings: NDArray[np.floating]) -> Array:
    """Mean likeness of the cells of a unit, pairs weighed by how active the unit is on both.

    MS_j = sum_{a < b} w_aj w_bj cos(e_a, e_b) / sum_{a < b} w_aj w_bj, w the unit's values scaled to [0, 1], e the
    cells' embeddings less their mean, so that a unit that is equally active on all cells has about 0.

    Parameters
    ----------
    values : ndarray of float, shape (n, U)
        Mean activation of each cell.
    embeddings : ndarray of float, shape (n, D)
        Of the cells.

    Returns
    -------
    ndarray of float64, shape (U,)
        In [-1, 1]; NaN for a unit with fewer than two active cells.

    References
    ----------
    Pach et al. 2025 (arXiv 2504.02821), monosemanticity score; embeddings are centred here.
    """
    low = values.min(0)
    spread = values.max(0) - low
    w = np.divide(values - low, spread, out=np.zeros_like(values, float), where=spread > 0)
    e = embeddings - embeddings.mean(0)
    size = np.linalg.norm(e, axis=1, keepdims=True)
    e = np.divide(e, size, out=np.zeros_like(e), where=size > 0)
    # sum over pairs = (square of the sum - sum of squares) / 2, and e has norm 1 (or 0, and then adds nothing)
    own = (w**2).T @ (size[:, 0] > 0)
    alike = ((w.T @ e) ** 2).sum(1) - own
    pairs = w.sum(0) ** 2 - (w**2).sum(0)
    return np.divide(alike, pairs, out=np.full(w.shape[1], np.nan), where=pairs > 1e-12)


def morans_i(maps: NDArray[np.floating], *, corners: bool = False) -> Array:
    """Moran's I of maps: how alike neighbouring patches are, those that share an edge.

    I = (P / W) sum_{p, q neighbours} z_p z_q / sum_p z_p^2, z the values less the map's mean, W the number of ordered
    pairs of neighbours. Without structure -1 / (P - 1).

    Parameters
    ----------
    maps : ndarray of float, shape (..., rows, columns)
    corners : bool
        Patches that share a corner are neighbours, too.

    Returns
    -------
    ndarray of float64, shape (...,)
        NaN for constant maps.

    References
    ----------
    Moran 1950, Biometrika 37, 17-23.
    """
    rows, columns = maps.shape[-2:]
    z = maps - maps.mean((-2, -1), keepdims=True)
    pairs = (z[..., 1:, :] * z[..., :-1, :]).sum((-2, -1)) + (z[..., 1:] * z[..., :-1]).sum((-2, -1))
    count = rows * (columns - 1) + columns * (rows - 1)
    if corners:
        pairs += (z[..., 1:, 1:] * z[..., :-1, :-1]).sum((-2, -1)) + (z[..., 1:, :-1] * z[..., :-1, 1:]).sum((-2, -1))
        count += 2 * (rows - 1) * (columns - 1)
    square = (z**2).sum((-2, -1))
    return np.divide(rows * columns * pairs / count, square, out=np.full(square.shape, np.nan), where=square > 1e-12)


def structure_beyond(maps: NDArray[np.floating], shuffled: NDArray[np.floating], grid: Grid) -> float:
    """Mean over maps (n, P) of Moran's I less that of the same patches shuffled; NaN where all are constant."""
    own, control = (morans_i(m.reshape(-1, *grid).astype(np.float64)) for m in (maps, shuffled))
    return float("nan") if np.isnan(own).all() else float(np.nanmean(own - control))
