"""Near-twins joined into families: concepts that say the same of patients are one before anything is chosen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

Array = NDArray[np.float64]


def families_of(X: Array, likeness: float) -> NDArray[np.intp]:
    """Which family each feature is in.

    Any two of a family have a Spearman correlation of at least ``likeness`` over the patients (complete linkage).
    Single linkage would chain hundreds of concepts together of which the first and the last have nothing in common.

    Parameters
    ----------
    X : ndarray of float64, shape (n, F)
        Barcodes of patients, none constant. Diagnoses are not looked at.
    likeness : float
        In (0, 1].

    Returns
    -------
    ndarray of int, shape (F,)
        Numbers from 0.
    """
    from scipy.cluster.hierarchy import fcluster, linkage  # who only reads results need not wait for these
    from scipy.spatial.distance import squareform

    ranks = _ranks(X)
    alike = ranks.T @ ranks
    # A family lies within one connected component of what is alike, so that only components are taken apart.
    _, family = connected_components(csr_array(alike >= likeness - 1e-6), directed=False)
    family = family.astype(np.intp)
    found = int(family.max(initial=-1)) + 1
    for component in np.flatnonzero(np.bincount(family) > 2):
        members = np.flatnonzero(family == component)
        apart = np.clip(1 - alike[np.ix_(members, members)].astype(np.float64), 0, 2)
        np.fill_diagonal(apart, 0)
        parts = fcluster(linkage(squareform(apart, checks=False), "complete"), 1 - likeness + 1e-6, "distance")
        for part in range(2, int(parts.max()) + 1):
            family[members[parts == part]] = found
            found += 1
    return family


def representatives(X: Array, family: NDArray[np.intp]) -> NDArray[np.intp]:
    """Of each family the feature that is most correlated with its mean (over ranks); the first of equal ones."""
    ranks = _ranks(X)
    total = np.zeros((int(family.max(initial=-1)) + 1, len(X)), dtype=ranks.dtype)
    np.add.at(total, family, ranks.T)
    typical = (ranks * total[family].T).sum(0)
    order = np.lexsort((np.arange(len(family)), -np.round(typical, 4), family))
    return order[np.unique(family[order], return_index=True)[1]]


def _ranks(X: Array) -> NDArray[np.float32]:
    """Ranks [n, F] over patients as vectors of mean 0 and length 1, whose products are Spearman correlations."""
    from scipy.stats import rankdata

    ranks = rankdata(X, axis=0) if X.size else np.zeros(X.shape)
    ranks -= ranks.mean(0)
    return (ranks / np.maximum(np.linalg.norm(ranks, axis=0), 1e-300)).astype(np.float32)
