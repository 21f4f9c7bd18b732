"""What a probability is worth: calibration, and the benefit of deciding by it; each in every resample of patients."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Array = NDArray[np.float64]
THRESHOLDS: Array = np.round(np.arange(0.05, 0.951, 0.05), 2)
"""Probabilities from which on one would act, at which net benefit is given."""


def calibration(decision: Array, positive: NDArray[np.bool_], weights: Array) -> tuple[Array, Array]:
    """Slope and intercept of the truth on a model's log odds, by logistic regression.

    The slope is 1 where the log odds are as far from 0 as they should be; below 1 they are too extreme. The intercept
    is that with the slope held at 1 (calibration in the large): 0 where probabilities are right on average, below 0
    where they are too high.

    Parameters
    ----------
    decision : ndarray of float64, shape (P,)
        Log odds.
    positive : ndarray of bool, shape (P,)
        The truth.
    weights : ndarray of float64, shape (B, P)
        Of the patients, in each of B resamples.

    Returns
    -------
    tuple of ndarray of float64, shape (B,)
        Slope: infinite where the log odds separate the classes, NaN where they are all equal or a class is missing.
        Intercept: NaN where a class is missing.

    References
    ----------
    Van Calster et al. 2019, Calibration: the Achilles heel of predictive analytics, BMC Medicine 17.
    """
    both = ((weights * positive).sum(1) > 0) & ((weights * ~positive).sum(1) > 0)
    intercept, slope = np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    if not both.any():
        return slope, intercept
    ones, none = np.ones((len(decision), 1)), np.zeros(len(decision))
    intercept[both] = _fit(ones, decision, positive, weights[both])[:, 0]
    apart = _separated(decision, positive, weights)
    slope[both] = apart[both]
    rest = both & (apart == 0)
    spread = float(np.std(decision))
    if rest.any() and spread > 0:
        terms = np.hstack([ones, ((decision - decision.mean()) / spread)[:, None]])
        slope[rest] = _fit(terms, none, positive, weights[rest])[:, 1] / spread
    return slope, intercept


def net_benefit(
    probability: Array, positive: NDArray[np.bool_], weights: Array, thresholds: Array = THRESHOLDS
) -> Array:
    """Share of true positives less that of false ones, these counted by the odds of the threshold.

    TP / n - FP / n * t / (1 - t): who acts from a probability t on takes 1 / t - 1 needless acts for one that helps.

    Parameters
    ----------
    probability : ndarray of float64, shape (P,)
        All 1 for acting on everybody (`treat all`).
    positive, weights : ndarray of bool, shape (P,), ndarray of float64, shape (B, P)
        As for `calibration`.
    thresholds : ndarray of float64, shape (T,)
        In (0, 1).

    Returns
    -------
    ndarray of float64, shape (T, B)

    References
    ----------
    Vickers and Elkin 2006, Decision curve analysis, Medical Decision Making 26.
    """
    share = weights / weights.sum(1, keepdims=True)
    worth = np.where(positive, 1.0, -(thresholds / (1 - thresholds))[:, None])
    return (worth * (probability >= thresholds[:, None])) @ share.T


def threshold_at(decision: Array, positive: NDArray[np.bool_], specificity: float) -> float:
    """The lowest threshold above which at most a share 1 - ``specificity`` of the negatives lie."""
    negatives = np.sort(decision[~positive])[::-1]
    allowed = int(np.floor((1 - specificity) * len(negatives) + 1e-9))
    return float(negatives[min(allowed, len(negatives) - 1)])


def at_threshold(decision: Array, positive: NDArray[np.bool_], weights: Array, threshold: float) -> tuple[Array, Array]:
    """Sensitivity and specificity [B] of calling who is above a threshold; NaN where a class is missing."""
    called = decision > threshold + 1e-9 * max(1.0, abs(threshold))  # a tie is none by the last digit
    return _share(weights, positive, called & positive), _share(weights, ~positive, ~called & ~positive)


def _share(weights: Array, of: NDArray[np.bool_], these: NDArray[np.bool_]) -> Array:
    total = weights @ of.astype(float)
    return np.divide(weights @ these.astype(float), total, out=np.full(len(weights), np.nan), where=total > 0)


def _separated(decision: Array, positive: NDArray[np.bool_], weights: Array) -> Array:
    """Infinity with its sign where one side's decisions all lie beyond the other's, NaN where all are equal, else 0."""
    drawn = weights > 0

    def end(of: NDArray[np.bool_], which: float) -> Array:
        """The largest (1) or smallest (-1) decision among those drawn of a class."""
        return which * np.where(drawn & of, which * decision, -np.inf).max(1)

    lowest, highest = end(positive, -1), end(positive, 1)
    least, most = end(~positive, -1), end(~positive, 1)
    apart = np.where(lowest >= most, np.inf, np.where(highest <= least, -np.inf, 0.0))
    return np.where(np.maximum(highest, most) == np.minimum(lowest, least), np.nan, apart)


def _fit(terms: Array, offset: Array, positive: NDArray[np.bool_], weights: Array) -> Array:
    """Logistic regression [B, r] on terms [P, r] in every resample, by Newton's method with halved steps."""
    B, y = np.zeros((len(weights), terms.shape[1])), positive.astype(np.float64)
    total = weights.sum(1)

    def loss(B: Array) -> Array:
        eta = offset + B @ terms.T
        return (weights * (np.logaddexp(0, eta) - y * eta)).sum(1) / total

    value = loss(B)
    for _ in range(100):
        p = expit(offset + B @ terms.T)
        gradient = (weights * (p - y)) @ terms / total[:, None]
        if np.abs(gradient).max() < 1e-10:
            break
        curve = np.einsum("bp,pi,pj->bij", weights * p * (1 - p) / total[:, None], terms, terms, optimize=True)
        curve += 1e-10 * np.eye(terms.shape[1])
        step, size = np.linalg.solve(curve, gradient[..., None])[..., 0], np.ones((len(B), 1))
        after = value
        for _ in range(30):
            after = loss(B - size * step)
            worse = after > value + 1e-15
            if not worse.any():
                break
            size[worse] /= 2
        B, value = B - size * step, after
    return B
