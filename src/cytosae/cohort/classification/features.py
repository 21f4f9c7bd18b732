"""What a model sees of the patients; what is learnt of it is learnt from training patients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

if TYPE_CHECKING:
    pass

Array = NDArray[np.float64]
Features = Callable[[NDArray[np.intp]], Any]
"""Training patients (row numbers) -> the features of all patients: [P, F], or a bag of cells each."""


def mean_by_patient(matrix: Any, patient: NDArray[np.intp], n_patients: int, keep: Any = None) -> Array:
    """Mean of cells' rows [n, m] for each patient, [P, m]; NaN for a patient without (kept) cells."""
    keep = np.ones(len(patient), dtype=bool) if keep is None else keep
    rows = np.flatnonzero(keep)
    counts = np.bincount(patient[rows], minlength=n_patients)
    weights = 1 / counts[patient[rows]]
    selector = sp.csr_matrix((weights, (patient[rows], rows)), shape=(n_patients, len(patient)))
    product = selector @ matrix
    means = np.asarray(product.todense() if sp.issparse(product) else product, dtype=np.float64)
    means[counts == 0] = np.nan
    return means


def fixed(matrix: Array) -> Features:
    """Features that need no fitting."""
    return lambda train: matrix


def residual(matrix: Array, covariates: Array) -> Features:
    """Features less what the covariates explain of them by least squares among the training patients."""

    def features(train: NDArray[np.intp]) -> Array:
        return residuals_on(covariates, matrix, train)

    return features


def residuals_on(covariates: Array, values: Array, train: NDArray[np.intp]) -> Array:
    """``values`` [P, F] less a linear fit on ``covariates`` [P, c] that was made on the rows ``train``.

    Missing covariates stand at the training mean; collinear ones are handled by the pseudo-inverse.
    """
    terms = with_intercept(covariates, train)
    known = np.where(np.isnan(values), np.nanmean(values[train], axis=0), values)
    beta = np.linalg.lstsq(terms[train], known[train], rcond=1e-8)[0]
    return known - terms @ beta


def with_intercept(covariates: Array, train: NDArray[np.intp]) -> Array:
    """A column of ones beside covariates [P, c] of mean 0 and variance 1 in ``train``; constant ones are left out."""
    centre = np.nan_to_num(np.nanmean(covariates[train], axis=0)) if covariates.shape[1] else np.zeros(0)
    filled = np.where(np.isnan(covariates), centre, covariates) - centre
    scale = filled[train].std(0)
    return np.hstack([np.ones((len(covariates), 1)), filled[:, scale > 0] / scale[scale > 0]])


def remembered(function: Callable[[NDArray[np.intp]], Any]) -> Callable[[NDArray[np.intp]], Any]:
    """The function with its answers kept, by training patients."""
    known: dict[bytes, Any] = {}

    def asked(train: NDArray[np.intp]) -> Any:
        key = train.tobytes()
        if key not in known:
            known[key] = function(train)
        return known[key]

    return asked
