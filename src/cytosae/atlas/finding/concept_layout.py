"""Concepts laid out in a plane: those with alike decoder directions, or on the same cells, lie near each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cytosae.atlas.stored.matrix import read_rows

DIMENSIONS = 50
"""Components to which directions and cells are reduced first."""
LANDMARKS = 1500
"""Concepts that are laid out themselves; any further ones go to where the nearest of these lie."""
NEAREST, PERPLEXITY = 3, 30
CELLS = 4000
"""Cells, evenly over the atlas, by which it is told which concepts go together."""


def layout_by_direction(decoder: NDArray[np.floating], *, seed: int = 0) -> NDArray[np.float32]:
    """Places (n, 2) of latents whose decoder rows are ``decoder`` (n, d): t-SNE of their cosines.

    References
    ----------
    van der Maaten & Hinton 2008, t-SNE, begun at the first two principal components, so that it is the same at every
    run. Distances between far groups mean little.
    """
    rows = decoder / np.maximum(np.linalg.norm(decoder, axis=1, keepdims=True), 1e-12)
    return _plane(_reduced(rows.astype(np.float32)), seed)


def layout_by_cells(matrix: Any, latents: NDArray[np.integer], *, seed: int = 0) -> NDArray[np.float32]:
    """Places (n, 2) of ``latents`` by the cells they are on: t-SNE of the correlations over cells of sqrt(activation).

    Parameters
    ----------
    matrix : array of rows, (cells, m)
        Mean activations, in memory or on disk.
    latents : ndarray of int, shape (n,)
        Columns that are laid out, all of them active on some cell.
    seed : int
        Of the layout.
    """
    from sklearn.decomposition import PCA

    cells = np.unique(np.linspace(0, matrix.shape[0] - 1, min(CELLS, matrix.shape[0])).round().astype(int))
    rows: Any = read_rows(matrix, cells)
    X: Any = sp.csr_array(rows.astype(np.float64)[:, latents])
    X.data = np.sqrt(X.data)
    n = X.shape[0]
    spread = np.sqrt(np.maximum(X.multiply(X).sum(0) / n - (X.sum(0) / n) ** 2, 1e-12))
    scaled: Any = sp.csr_array(X @ sp.diags_array(1 / spread))
    few = min(DIMENSIONS, min(scaled.shape) - 1)
    # its loadings times their lengths give the correlations; centring is implicit, so that nothing becomes dense
    found: Any = PCA(few, svd_solver="arpack", random_state=seed).fit(scaled)
    return _plane((found.components_.T * found.singular_values_ / n**0.5).astype(np.float32), seed)


def _reduced(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    from sklearn.decomposition import PCA

    few = min(DIMENSIONS, *rows.shape)
    return PCA(few, svd_solver="full").fit_transform(rows) if len(rows) > few else rows


def _plane(rows: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """t-SNE of unit vectors; beyond `LANDMARKS` rows, the others go to the mean of the landmarks nearest to them.

    They are strewn there by half the usual distance between landmarks, so that they do not hide each other.
    """
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    if len(unit) <= LANDMARKS:
        return _tsne(unit, seed)
    chosen = np.sort(np.random.default_rng(seed).choice(len(unit), LANDMARKS, replace=False))
    placed = _tsne(unit[chosen], seed)
    apart = np.median(KDTree(placed).query(placed, 2)[0][:, 1])
    made = np.random.default_rng(seed).normal(0, apart / 2, (len(unit), 2)).astype(np.float32)
    for at in range(0, len(unit), LANDMARKS):
        cosine = unit[at : at + LANDMARKS] @ unit[chosen].T
        near = np.argpartition(-cosine, NEAREST, axis=1)[:, :NEAREST]
        weight = np.maximum(np.take_along_axis(cosine, near, 1), 1e-6)
        made[at : at + LANDMARKS] += (placed[near] * weight[:, :, None]).sum(1) / weight.sum(1, keepdims=True)
    made[chosen] = placed
    return made


def _tsne(unit: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    from sklearn.manifold import TSNE

    if len(unit) < 5:
        return np.column_stack([np.arange(len(unit)), np.zeros(len(unit))]).astype(np.float32)
    perplexity = min(PERPLEXITY, (len(unit) - 1) / 3)
    # for unit vectors the square of the Euclidean distance is 2 - 2 cos
    return TSNE(
        2, perplexity=perplexity, init="pca", max_iter=500, angle=0.7, random_state=seed, n_jobs=1
    ).fit_transform(unit)
