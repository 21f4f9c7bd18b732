"""What goes with a diagnosis without being it: colour above all. How much of a model is that, and what is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import expit, logit

from cytosae.cohort.classification.features import Array, Features, mean_by_patient, residuals_on, with_intercept
from cytosae.cohort.classification.linear import Standardise, l2_path
from cytosae.cohort.design import Design, Fold

if TYPE_CHECKING:
    from cytosae.cohort.classification.cohort_arrays import CohortArrays
    from cytosae.cohort.config import Kind

CALIPER = 0.2
"""Largest difference of matched patients, in standard deviations of the propensity's logit (Austin 2011)."""


def explained(decision: Array, covariates: Array) -> float:
    """Adjusted R^2 of decisions [P] on covariates [P, c]: the share that they explain, about 0 by chance."""
    n = len(decision)
    terms = with_intercept(covariates, np.arange(n))
    beta, _, rank, _ = np.linalg.lstsq(terms, decision, rcond=1e-8)
    total = ((decision - decision.mean()) ** 2).sum()
    if total <= 1e-20 or n - rank < 1:
        return float("nan")
    return float(1 - ((decision - terms @ beta) ** 2).sum() / total * (n - 1) / (n - rank))


def remove_from_decisions(decision: Array, covariates: Array, folds: Sequence[Fold]) -> Array:
    """Out-of-fold decisions [R, P] less what covariates explain of them, fitted without the fold it is used on."""
    rest = np.full_like(decision, np.nan)
    for fold in folds:
        values = decision[fold.repeat][:, None]
        rest[fold.repeat, fold.test] = residuals_on(covariates, values, fold.train)[fold.test, 0]
    return rest


def colour_splits(
    colour: Array, design: Design, *, components: int = 2
) -> list[tuple[str, NDArray[np.intp], NDArray[np.intp]]]:
    """Halves of the colour range to train on and to test on, both directions: they stand in for another stain.

    Patients are split at the median of the first, and of the second, principal component of their standardised colour
    statistics [P, 6], which knows nothing of diagnoses; those who belong together go by their mean. A half in which a
    class has fewer than two patients is not used.

    Returns
    -------
    list of tuple (str, ndarray of int64, ndarray of int64)
        (name, training rows, test rows) for each direction.
    """
    centred = colour - colour.mean(0)
    scaled = centred / np.where(centred.std(0) > 0, centred.std(0), 1)
    axes = np.linalg.svd(scaled, full_matrices=False)[2][:components]
    splits = []
    for number, axis in enumerate(axes, start=1):
        # The sign of a component is arbitrary: larger is lighter.
        score = design.group_means(scaled @ (axis * (1 if axis[:3].sum() >= 0 else -1)))
        low = score <= np.median(score)
        halves = [np.flatnonzero(low), np.flatnonzero(~low)]
        if all(np.bincount(design.y[half], minlength=len(design.classes)).min() >= 2 for half in halves):
            splits += [(f"{number}_up", *halves), (f"{number}_down", *halves[::-1])]
    return splits


def match_by_colour(colour: Array, y: NDArray[np.integer]) -> NDArray[np.intp]:
    """Patients of two classes matched one to one by colour, as sorted row numbers; empty where none can be.

    Pairs are those of the smallest total difference of the propensity's logit (`colour_propensity`), and a pair further
    apart than 0.2 standard deviations is left out.

    References
    ----------
    Austin 2011, Optimal caliper widths for propensity-score matching, Pharmaceutical Statistics 10.
    """
    score = logit(np.clip(colour_propensity(colour, y), 1e-6, 1 - 1e-6))
    first, second = np.flatnonzero(y == 0), np.flatnonzero(y == 1)
    limit = CALIPER * score.std()
    distance = np.abs(score[first][:, None] - score[second][None])
    # A pair beyond the caliper costs more than all allowed ones together, so that the most pairs are found.
    cost = np.where(distance <= limit, distance, limit * (len(y) + 1) + distance)
    rows, columns = linear_sum_assignment(cost)
    good = distance[rows, columns] <= limit
    return np.sort(np.concatenate([first[rows[good]], second[columns[good]]]))


def overlap_weights(colour: Array, y: NDArray[np.integer]) -> Array:
    """Weights [P] under which the colours of two classes are alike, so that colour does not tell them apart.

    A patient's weight is the probability of the class that it does not have, given its colour (`colour_propensity`):
    patients of a colour that both classes have count, those whose colour gives them away hardly do.

    References
    ----------
    Li, Morgan and Zaslavsky 2018, Balancing covariates via propensity score weighting, JASA 113.
    """
    propensity = colour_propensity(colour, y)
    return np.where(y == 1, 1 - propensity, propensity)


def colour_propensity(colour: Array, y: NDArray[np.integer]) -> Array:
    """Probability [P] of the second class given a patient's colour statistics [P, c].

    Logistic regression on standardised statistics with next to no penalty (C = 100): with none, overlap weights would
    make the means of the classes exactly equal.
    """
    Z = Standardise(min_share=0.0).fit(colour).transform(colour)
    Z = Z * np.sqrt(max(Z.shape[1], 1))
    ((w, b),) = l2_path(Z, y, (100.0,))
    return expit(Z @ w[0] + b[0])


def all_confounders(data: CohortArrays, *, without: Sequence[str] = ("image format",)) -> Array | None:
    """Confounders side by side [P, c]; the image format is left out, whose many shares would fit anything."""
    parts = [values for name, values in data.confounders.items() if name not in without]
    return np.hstack(parts) if parts else None


def cell_residual(data: CohortArrays, kind: Kind) -> Features:
    """Barcodes of cells from whose values their own colour is regressed out, by least squares on training patients.

    The mean over a patient's cells of the residuals is the barcode less the slope times the patient's mean colour, so
    that no dense matrix of cells x latents is made.
    """
    cells = data.cells
    if cells is None or cells.colours is None:
        raise ValueError("cell_residual needs the cells' colours")
    colours, patient, matrix = cells.colours, cells.patient, cells.matrices[kind]
    barcode = mean_by_patient(matrix, patient, len(data.patients))
    of_patient = mean_by_patient(colours, patient, len(data.patients))

    def features(train: NDArray[np.intp]) -> Array:
        mine = np.isin(patient, train)
        centre, scale = colours[mine].mean(0), np.maximum(colours[mine].std(0), 1e-9)
        terms = (colours - centre) / scale * mine[:, None]
        slope = np.linalg.pinv(terms.T @ terms) @ np.asarray((matrix.T @ terms).T)
        return barcode - (of_patient - centre) / scale @ slope

    return features
