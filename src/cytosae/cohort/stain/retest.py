"""Concepts tested again on the same cells in another stain: which of them stay, and which directions of barcodes do.

Colour that goes with a diagnosis cannot be told from a disease that changes colours by looking at patients. It can be
told by an intervention: the stain of the very same cells is changed (`change_stain`) and they are
encoded anew. No diagnosis is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.atlas.stored.matrix import dense
from cytosae.atlas.stored.storage import write_h5ad
from cytosae.cohort.patients.barcodes import cell_matrix
from cytosae.common.artifact import read_artifact, write_artifact
from cytosae.common.errors import InputError
from cytosae.common.records import reading

if TYPE_CHECKING:
    from cytosae.cohort.config import Kind

Array = NDArray[np.float64]
RARE = 0.01
"""Latents in fewer of the cells take no part in directions: their covariances cannot be known."""


@dataclass(frozen=True)
class Pairs:
    """What n cells show as they are, and in a changed stain.

    Attributes
    ----------
    patient : ndarray of int64, shape (n,)
        Row number of each cell's patient.
    original, changed : object
        [n, F], F latents (CSR) or dimensions of a token.
    width : int
        Dimensions of a token; a barcode is not looked at along more directions.
    """

    patient: NDArray[np.intp]
    original: Any
    changed: Any
    width: int

    def of(self, patients: NDArray[np.intp]) -> tuple[Any, Any]:
        """The pairs of the cells of these patients."""
        mine = np.flatnonzero(np.isin(self.patient, patients))
        return self.original[mine], self.changed[mine]


def retest_reliability(original: Any, changed: Any) -> Array:
    """Intraclass correlation ICC(1,1) of each column: 1 where a change of stain changes nothing, 0 by chance.

    With MS_B the mean square between cells and MS_W that between the two stains of a cell, (MS_B - MS_W) /
    (MS_B + MS_W). Below 0.5 a measurement is commonly called poor, from 0.75 on good (Koo and Li 2016).

    Parameters
    ----------
    original, changed : object
        [n, F] CSR or dense, the same cells in both, n >= 2.

    Returns
    -------
    ndarray of float64, shape (F,)
        In -1..1; NaN where nothing varies.

    References
    ----------
    Shrout and Fleiss 1979, Intraclass correlations, Psychological Bulletin 86. Koo and Li 2016, A guideline of
    selecting and reporting intraclass correlation coefficients, Journal of Chiropractic Medicine 15.
    """
    n = original.shape[0]
    if n < 2:
        raise InputError(f"retest_reliability needs two cells or more, not {n}.")
    middle, difference = original + changed, original - changed
    square_of_sums, squares = _column_sum(middle, 2), _column_sum(difference, 2)
    between = (square_of_sums - _column_sum(middle, 1) ** 2 / n) / (2 * (n - 1))
    within = squares / (2 * n)
    total = between + within
    varies = total > 1e-12 * np.maximum(square_of_sums / n, 1e-300)
    return np.divide(between - within, total, out=np.full(len(total), np.nan), where=varies)


def stable_directions(original: Any, changed: Any, *, width: int, least: float) -> Array:
    """Directions of barcodes along which cells differ and a change of stain changes little.

    Cells' values are scaled to variance 1 and reduced to their ``width`` first principal components. In these, the
    covariance S_W between the stains of a cell is made diagonal together with the covariance S_M of the cells (mean of
    both stains): S_W v = lambda S_M v. Along v the intraclass correlation is
    (1 - lambda / 2) / (1 + lambda / 2); directions below ``least`` are left out. Along those that stay, cells have
    variance 1, so that no direction counts more because many concepts share it: that is the metric in which the rest,
    and not only the stain, is noise.

    Parameters
    ----------
    original, changed : object
        [n, m] CSR or dense, the same cells in both.
    width : int
        Principal components at most; fewer cells than 4 ``width`` allow n / 4.
    least : float
        Intraclass correlation.

    Returns
    -------
    ndarray of float64, shape (m, r)
        r <= ``width``: values of a barcode along the directions are ``barcode @ result`` (sums of concepts still).

    References
    ----------
    Green et al. 1988, A transformation for ordering multispectral data in terms of image quality (minimum noise
    fraction), IEEE TGRS 26.
    """
    n = original.shape[0]
    kept = np.flatnonzero(_column_sum(original != 0, 1) >= max(2, RARE * n))
    A, B = dense(original[:, kept], np.float64), dense(changed[:, kept], np.float64)
    spread = A.std(0)
    varied = spread > 1e-9 * np.maximum(np.abs(A).max(0, initial=0), 1e-300)
    kept, spread = kept[varied], spread[varied]
    A, B = A[:, varied] / spread, B[:, varied] / spread
    middle = (A + B) / 2
    middle -= middle.mean(0)
    axes, variances = _components(middle, min(width, n // 4))
    within = (A - B) @ axes
    lambdas, vectors = scipy.linalg.eigh(within.T @ within / (2 * n), np.diag(variances))
    stable = (1 - lambdas / 2) / (1 + lambdas / 2) >= least
    directions = np.zeros((original.shape[1], int(stable.sum())))
    directions[kept] = axes @ vectors[:, stable] / spread[:, None]
    return directions


def retest_pairs(
    retest: ad.AnnData, patients: Sequence[str], kinds: Sequence[Kind], *, patient: str = "patient"
) -> dict[str, Pairs]:
    """Pairs by kind of barcode, and "token" for mean tokens, of the cells of these patients.

    Parameters
    ----------
    retest : AnnData
        As `open_retest` gives it.
    patients : sequence of str
        Names, in the order of the cohort.
    kinds : sequence of {"presence", "mean", "count"}
        Barcodes.
    patient : str
        Column of ``retest.obs``.
    """
    changed = np.asarray(retest.obs["changed"], bool)
    rows = pd.Index(patients).get_indexer(pd.Index(retest.obs[patient].astype(str)))
    if not np.array_equal(retest.obs["cell_id"].to_numpy()[changed], retest.obs["cell_id"].to_numpy()[~changed]):
        raise InputError("the cells as they are and in a changed stain are not the same ones; make the retest anew.")
    first, second = (np.flatnonzero(there & (rows >= 0)) for there in (~changed, changed))
    if not len(first):
        raise InputError("none of the cells in a changed stain are of these patients; make the retest anew.")

    tokens = np.asarray(retest.obsm["X_backbone"], dtype=np.float64)
    matrices = {kind: sp.csr_matrix(cell_matrix(retest, kind)) for kind in kinds} | {"token": tokens}
    return {
        name: Pairs(rows[first], matrix[first], matrix[second], tokens.shape[1]) for name, matrix in matrices.items()
    }


def save_retest(
    path: Path, retests: Mapping[str, ad.AnnData], *, config: Any = None, inputs: Mapping[str, str] | None = None
) -> Path:
    """Write an artifact of kind "retest": a ``<name>.h5ad`` for each SAE."""
    details = {"cells": min(retest.n_obs for retest in retests.values()) // 2}
    with write_artifact(path, "retest", config=config, inputs=inputs, details=details) as folder:
        for name, retest in retests.items():
            write_h5ad(retest, folder / f"{name}.h5ad", path)
    return path


def open_retest(path: Path | str, name: str = "concepts", *, verify: bool = True) -> ad.AnnData:
    """The cells of a retest, as they are and then in a changed stain: AnnData [2 n, m].

    ``X`` mean activation and ``layers["tokens_above"]`` as in an atlas; ``obs`` with cell_id, changed and the patient;
    ``obsm["X_backbone"]`` mean tokens.
    """
    path = read_artifact(path, "retest", verify=verify).path
    with reading(path, "run the step again"):
        return ad.read_h5ad(path / f"{name}.h5ad")


def _components(centred: Array, most: int) -> tuple[Array, Array]:
    """The first principal components [m, r] of rows [n, m] and their variances [r], by the smaller products."""
    n, m = centred.shape
    by_cells = n < m
    products = (centred @ centred.T if by_cells else centred.T @ centred) / n
    most = max(min(most, n - 1, m), 1)
    values, vectors = scipy.linalg.eigh(products, subset_by_index=(len(products) - most, len(products) - 1))
    good = values > 1e-9 * max(values.max(initial=0), 1e-300)
    values, vectors = values[good], vectors[:, good]
    return (centred.T @ (vectors / np.sqrt(n * values)) if by_cells else vectors), values


def _column_sum(matrix: Any, power: int) -> Array:
    powered = matrix.power(power) if sp.issparse(matrix) and power > 1 else matrix**power if power > 1 else matrix
    return np.asarray(powered.sum(axis=0), dtype=np.float64).ravel()
