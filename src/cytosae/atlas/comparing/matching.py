"""Two different SAEs: which latent of one is which of the other, by what they do on the same cells or point at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from cytosae.atlas.comparing.carried_latents import PART
from cytosae.atlas.stored.matrix import read_rows
from cytosae.common.errors import UsageError

if TYPE_CHECKING:
    from anndata import AnnData

    from cytosae.sae import SparseAutoencoder

DENSE_PAIRS = 1 << 25
"""Up to so many pairs of latents, all of them are weighed; with more, the best `CANDIDATES` of each latent."""
CANDIDATES = 32
COMMON_CELLS = 10
"""Cells that two atlases must have in common for their latents to be matched by what they do."""
BLOCK = 1024


@dataclass(frozen=True)
class Matching:
    """Pairs of latents of two SAEs, each latent in one pair at most.

    Attributes
    ----------
    table : DataFrame
        Columns ``a``, ``b`` (latents) and ``likeness`` (correlation or cosine), most alike first.
    by_chance : float
        Mean likeness of the pairs that the same matching finds where nothing is to be found: cells dealt out anew, or
        random directions.
    """

    table: pd.DataFrame
    by_chance: float

    @property
    def mean(self) -> float:
        """Mean likeness of the pairs; NaN where there is none."""
        return float(self.table["likeness"].mean())


def match_profiles(a: AnnData, b: AnnData, *, seed: int = 0) -> Matching:
    """Match the live latents of two atlases by the correlation of their mean activations over the cells of both.

    The pairs are those of the largest sum of correlations (Hungarian method; Kuhn 1955). Cells are matched by content.

    Raises
    ------
    UsageError
        The atlases have fewer than 10 cells in common, or one knows the activations of some cells only.
    """
    for one in (a, b):
        if PART in one.uns["provenance"]:
            raise UsageError(
                f"the atlas of {one.uns['provenance']['dataset']} knows the activations of some cells only, so its "
                "latents cannot be matched by profile; make one from tokens."
            )
    common = a.obs_names.intersection(b.obs_names)
    if len(common) < COMMON_CELLS:
        raise UsageError(
            f"the atlases have {len(common)} cells in common, where {COMMON_CELLS} are needed to match latents by what "
            "they do on them; make atlases of the same images."
        )
    rows = [one.obs_names.get_indexer(common) for one in (a, b)]
    left, right = (read_rows(one.X, at) for one, at in zip((a, b), rows, strict=True))
    live = [np.flatnonzero(np.diff(sp.csc_array(x).indptr) > 0) for x in (left, right)]
    units = [_standardised(sp.csc_array(x)[:, of]) for x, of in zip((left, right), live, strict=True)]
    table = _pairs(*_assign(_Correlations(*units)), *live)
    dealt = np.random.default_rng(seed).permutation(len(common))
    chance = _assign(_Correlations(units[0], units[1].dealt(dealt)))
    return Matching(table, float(chance[2].mean()) if len(chance[2]) else float("nan"))


def match_directions(a: SparseAutoencoder, b: SparseAutoencoder, *, seed: int = 0) -> Matching:
    """Match the latents of two SAEs for the same tokens by the cosine of their decoder rows.

    Raises
    ------
    UsageError
        The SAEs are for tokens of different width.
    """
    if a.d_in != b.d_in:
        raise UsageError(f"the SAEs are for tokens of width {a.d_in} and {b.d_in}; their directions share no space.")
    left, right = (_rows_of_norm_1(one.W_dec.detach().cpu().float().numpy()) for one in (a, b))
    random = _rows_of_norm_1(np.random.default_rng(seed).standard_normal(right.shape).astype(np.float32))
    table = _pairs(*_assign(_Products(left, right)), np.arange(len(left)), np.arange(len(right)))
    return Matching(table, float(_assign(_Products(left, random))[2].mean()))


@dataclass(frozen=True)
class _Standardised:
    """Columns of a sparse matrix with what turns products of them into correlations."""

    matrix: Any
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def dealt(self, rows: NDArray[np.integer]) -> _Standardised:
        """The same columns, their rows in another order."""
        return _Standardised(sp.csc_array(sp.csr_array(self.matrix)[rows]), self.mean, self.deviation)


def _standardised(matrix: Any) -> _Standardised:
    matrix = matrix.astype(np.float64)
    mean = np.asarray(matrix.mean(0)).ravel()
    square = np.asarray(matrix.multiply(matrix).mean(0)).ravel()
    return _Standardised(matrix, mean, np.sqrt(np.maximum(square - mean**2, 0)))


class _Products:
    """Likeness of rows [start, stop) of one side with all of the other."""

    def __init__(self, left: Any, right: Any) -> None:
        self.left, self.right = left, right
        self.shape = (len(left), len(right))

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        return np.asarray(self.left[start:stop] @ self.right.T, np.float32)


class _Correlations(_Products):
    """The same for correlations of sparse columns."""

    def __init__(self, left: _Standardised, right: _Standardised) -> None:
        self.left, self.right = left, right
        self.shape = (left.matrix.shape[1], right.matrix.shape[1])

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        n = self.left.matrix.shape[0]
        here = slice(start, stop)
        product = np.asarray((self.left.matrix[:, here].T @ self.right.matrix).toarray()) / n
        covariance = product - np.outer(self.left.mean[here], self.right.mean)
        size = np.outer(self.left.deviation[here], self.right.deviation)
        return np.divide(covariance, size, out=np.zeros_like(covariance), where=size > 1e-12).astype(np.float32)


def _assign(likeness: _Products) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Rows, columns and likeness of the pairs with the largest sum."""
    from scipy.optimize import linear_sum_assignment

    n, m = likeness.shape
    blocks = range(0, n, BLOCK)
    if n * m <= DENSE_PAIRS:
        table = np.concatenate([likeness.block(i, min(i + BLOCK, n)) for i in blocks]) if n else np.zeros((0, m))
        rows, columns = linear_sum_assignment(table, maximize=True)
        return rows, columns, table[rows, columns].astype(np.float32)
    return _assign_candidates(likeness, blocks)


def _assign_candidates(
    likeness: _Products, blocks: range
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """As `_assign`, over the best candidates of each row; a row whose candidates are all taken stays alone."""
    n, m = likeness.shape
    rows, columns, values = [], [], []
    for i in blocks:
        table = likeness.block(i, min(i + BLOCK, n))
        best = np.argpartition(-table, min(CANDIDATES, m) - 1, axis=1)[:, :CANDIDATES]
        rows.append(np.repeat(np.arange(i, i + len(table)), best.shape[1]))
        columns.append(best.ravel())
        values.append(np.take_along_axis(table, best, axis=1).ravel())
    r, c, v = np.concatenate(rows), np.concatenate(columns), np.concatenate(values)
    # a column of its own for each row, worth nothing, makes a matching of all rows possible
    costs = sp.csr_array((np.r_[2.0 - v, np.full(n, 2.0)], (np.r_[r, np.arange(n)], np.r_[c, m + np.arange(n)])))
    matched, chosen = min_weight_full_bipartite_matching(costs)
    real = chosen < m
    matched, chosen = matched[real], chosen[real]
    of = sp.csr_array((v, (r, c)), shape=(n, m))
    return matched, chosen, np.asarray(of[matched, chosen], np.float32).ravel()


def _pairs(
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    values: NDArray[np.float32],
    left: NDArray[np.intp],
    right: NDArray[np.intp],
) -> pd.DataFrame:
    table = pd.DataFrame({"a": left[rows], "b": right[columns], "likeness": values.astype(np.float64)})
    return table.sort_values("likeness", ascending=False, kind="stable", ignore_index=True)


def _rows_of_norm_1(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    size = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, size, out=np.zeros_like(rows), where=size > 0)
