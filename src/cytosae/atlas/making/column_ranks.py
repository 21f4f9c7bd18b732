"""Rank statistics of the columns of a sparse matrix, whose many zeros are never written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray


def column_aucs(matrix: sp.csc_array, codes: NDArray[np.integer], wanted: NDArray[np.integer]) -> NDArray[np.float64]:
    """AUC of each column for one class against the other labelled rows, ties counted half.

    Parameters
    ----------
    matrix : csc_array, shape (n, m)
        Values >= 0; what is not stored is 0.
    codes : ndarray of int, shape (n,)
        Class of each row, -1 where it has none: such rows are left out.
    wanted : ndarray of int, shape (m,)
        Class of each column, -1 for none.

    Returns
    -------
    ndarray of float64, shape (m,)
        In [0, 1]; NaN where no class is wanted, or it has no row or all of them.
    """
    sizes = np.bincount(codes[codes >= 0], minlength=int(max(wanted.max(initial=-1), 0)) + 1)
    labelled = int(sizes.sum())
    found = np.full(len(wanted), np.nan)
    for j in np.flatnonzero(wanted >= 0):
        n1 = int(sizes[wanted[j]])
        n0 = labelled - n1
        if not n1 or not n0:
            continue
        here = slice(matrix.indptr[j], matrix.indptr[j + 1])
        of, values = codes[matrix.indices[here]], matrix.data[here]
        values, of = values[(of >= 0) & (values > 0)], of[(of >= 0) & (values > 0)]
        ranks, rank_of_zero = stored_ranks(values, labelled)
        own = of == wanted[j]
        total = ranks[own].sum() + (n1 - own.sum()) * rank_of_zero
        found[j] = (total - n1 * (n1 + 1) / 2) / (n1 * n0)
    return found


def stored_ranks(values: NDArray[Any], n: int) -> tuple[NDArray[np.float64], float]:
    """Ranks of values > 0 among n of which all others are 0, and the mean rank of these: one tie below all others."""
    from scipy.stats import rankdata  # half a second that what only reads results need not wait for

    zeros = n - len(values)
    return zeros + np.asarray(rankdata(values), np.float64), (zeros + 1) / 2
