"""Penalised logistic regression for few patients and many concepts; every choice is made on training patients."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, logsumexp, softmax

from cytosae.cohort.config import STRENGTHS
from cytosae.cohort.design import Design, Fold

Array = NDArray[np.float64]
NARROW = 256
"""Weights up to which a multinomial fit is made by Newton's method."""
RIDGE = 1e-10
"""Added to a Hessian's diagonal; what all intercepts share has no curvature."""


@dataclass(frozen=True)
class LinearFit:
    """A fitted linear model in the units of its features.

    Attributes
    ----------
    coef : ndarray of float64, shape (K, F)
        K = 1 for two classes (the log odds of the second), else one row a class.
    intercept : ndarray of float64, shape (K,)
    means : ndarray of float64, shape (F,)
        Training means; they stand in for features that are missing (NaN).
    strength : float
        The inverse penalty C that was chosen.
    l1_ratio : float
        Share of the absolute penalty, 0 for L2.
    """

    coef: Array
    intercept: Array
    means: Array
    strength: float
    l1_ratio: float = 0.0

    def logits(self, features: Array) -> Array:
        """Logits [P, K] of features [P, F]; for two classes K = 2 and the first column is 0."""
        known = np.where(np.isnan(features), self.means, features)
        values = known @ self.coef.T + self.intercept
        return np.hstack([np.zeros_like(values), values]) if values.shape[1] == 1 else values


class Standardise:
    """Features to mean 0 and variance 1 / F over the training patients; rare and constant ones are left out.

    A feature is kept where at least ``min_share`` of the training patients (and at least two) have it different from
    zero and it is not constant. Dividing by sqrt(F), F the features kept, gives a patient the mean squared norm 1
    whatever their number, so that a penalty means the same for one feature and for thousands.
    """

    mean_: Array
    keep_: NDArray[np.intp]
    scale_: Array

    def __init__(self, min_share: float = 0.05) -> None:
        self.min_share = min_share

    def fit(self, X: Array) -> Standardise:
        """Learn which features to keep, their means and scales from X [n, F]; NaN counts as missing."""
        there = ~np.isnan(X)
        seen = (np.where(there, X, 0) != 0).sum(0)
        n = np.maximum(there.sum(0), 1)
        self.mean_ = np.where(there, X, 0).sum(0) / n
        centred = np.where(there, X - self.mean_, 0)
        sd = np.sqrt((centred**2).sum(0) / n)
        enough = seen >= max(2, self.min_share * len(X))
        self.keep_ = np.flatnonzero(enough & (sd > 1e-10 * np.maximum(1e-30, np.abs(self.mean_))) & (sd > 0))
        self.scale_ = sd[self.keep_] * np.sqrt(max(len(self.keep_), 1))
        return self

    def transform(self, X: Array) -> Array:
        """Kept features of X [n, F], scaled; missing ones at their mean."""
        kept = (X[:, self.keep_] - self.mean_[self.keep_]) / self.scale_
        return np.where(np.isnan(kept), 0.0, kept)


def row_space(X: Array) -> Array | None:
    """Orthonormal basis [F, r] of the rows of X [n, F]; None where rows outnumber features.

    The solution of an L2-penalised problem lies in that space (representer theorem), and the coordinates X @ basis, n
    numbers a patient instead of F, keep all inner products, so the fit on them is the fit on the features.
    """
    if len(X) >= X.shape[1]:
        return None
    values, vectors = np.linalg.eigh(X @ X.T)
    good = values > 1e-10 * max(values.max(), 1e-300)
    return X.T @ (vectors[:, good] / np.sqrt(values[good]))


def fit_l2(
    X: Array,
    y: NDArray[np.integer],
    *,
    strengths: tuple[float, ...] = STRENGTHS,
    inner_folds: int = 5,
    min_share: float = 0.05,
    seed: int = 0,
    groups: NDArray[np.generic] | None = None,
) -> LinearFit:
    """L2-penalised (multinomial) logistic regression, its penalty chosen by log loss in inner folds.

    Parameters
    ----------
    X : ndarray of float, shape (n, F)
        Features of training patients; NaN is missing.
    y : ndarray of int, shape (n,)
        Classes 0..K-1, each present.
    strengths, inner_folds, min_share : tuple of float, int, float
        As in `L2`.
    seed : int
        Of the inner folds.
    groups : ndarray, shape (n,), or None
        Patients of one group are on one side of every inner fold.
    """
    return L2(strengths, inner_folds, min_share).fit(X, Design(y, groups), seed)


class Linear:
    """What linear learners share: from a fit on training patients to the evidence for test patients."""

    def fit(self, X: Array, design: Design, seed: int) -> LinearFit:
        """Fit features X [n, F] of the patients of ``design``; every choice is made in its inner folds."""
        raise NotImplementedError

    def evidence(self, features: Array, design: Design, fold: Fold) -> Array:
        """Log odds of each class against its share of the training patients, for the test patients, shape (n, K)."""
        train = design.take(fold.train)
        return against_shares(self.fit(features[fold.train], train, fold.seed).logits(features[fold.test]), train)


@dataclass(frozen=True)
class L2(Linear):
    """Logistic regression with an L2 penalty.

    Attributes
    ----------
    strengths : tuple of float
        Candidates of C, the inverse penalty; of equal losses the smaller C (stronger penalty) is taken.
    inner_folds : int
        At most so many; fewer where the rarest class has fewer patients. Without any, the first candidate is taken.
    min_share : float
        See `Standardise`.
    """

    strengths: tuple[float, ...] = STRENGTHS
    inner_folds: int = 5
    min_share: float = 0.05

    def fit(self, X: Array, design: Design, seed: int) -> LinearFit:
        """See `fit_l2`."""
        y, losses = design.y, np.zeros(len(self.strengths))
        for train, test in design.inner_folds(self.inner_folds, seed):
            scale, fits = self._path(X[train], y[train], self.strengths)
            held = scale.transform(X[test])
            for index, (w, b) in enumerate(fits):
                losses[index] += _log_loss(held @ w.T + b, y[test])
        strength = float(self.strengths[int(losses.argmin())])
        scale, ((w, b),) = self._path(X, y, (strength,))
        return _unscale(scale, w, b, strength, 0.0)

    def _path(
        self, X: Array, y: NDArray[np.integer], strengths: tuple[float, ...]
    ) -> tuple[Standardise, list[tuple[Array, Array]]]:
        """Fits for each strength, in units of the scaled features."""
        scale = Standardise(self.min_share).fit(X)
        Z = scale.transform(X)
        basis = row_space(Z)
        if basis is None:
            return scale, l2_path(Z, y, strengths)
        return scale, [(w @ basis.T, b) for w, b in l2_path(Z @ basis, y, strengths)]


@dataclass(frozen=True)
class ElasticNet(Linear):
    """Logistic regression with an elastic net, on the features with the largest F statistic on the training patients.

    Filter, scaling and both choices are made anew in each inner fold.

    Attributes
    ----------
    inner_folds, min_share : int, float
        As in `L2`.
    strengths, l1_ratios : tuple of float
        Candidates of C and of the share of the absolute penalty.
    most : int
        Features at most.
    """

    inner_folds: int = 5
    min_share: float = 0.05
    strengths: tuple[float, ...] = (0.3, 3.0, 30.0, 300.0)
    l1_ratios: tuple[float, ...] = (0.2, 0.8)
    most: int = 128

    def fit(self, X: Array, design: Design, seed: int) -> LinearFit:
        """Fit features X [n, F] of the patients of ``design``."""
        y, grid = design.y, [(ratio, strength) for ratio in self.l1_ratios for strength in self.strengths]
        losses = np.zeros(len(grid))
        for train, test in design.inner_folds(self.inner_folds, seed):
            scale, kept = self._filtered(X[train], y[train])
            Z, held = scale.transform(X[train][:, kept]), scale.transform(X[test][:, kept])
            for index, (ratio, strength) in enumerate(grid):
                w, b = _elastic_net(Z, y[train], strength, ratio, seed)
                losses[index] += _log_loss(held @ w.T + b, y[test])
        ratio, strength = grid[int(losses.argmin())]
        scale, kept = self._filtered(X, y)
        w, b = _elastic_net(scale.transform(X[:, kept]), y, strength, ratio, seed)
        inner = _unscale(scale, w, b, strength, ratio)
        coef = np.zeros((len(inner.coef), X.shape[1]))
        coef[:, kept] = inner.coef
        return LinearFit(coef, inner.intercept, _means(X), strength, ratio)

    def _filtered(self, X: Array, y: NDArray[np.integer]) -> tuple[Standardise, NDArray[np.intp]]:
        scale = Standardise(self.min_share).fit(X)
        kept = scale.keep_
        if len(kept) > self.most:
            Z = scale.transform(X)
            between = sum((y == k).sum() * Z[y == k].mean(0) ** 2 for k in np.unique(y))
            # ordered as by the F statistic, which has no value where a feature does not vary within the classes
            kept = kept[np.sort(np.argsort(-between / (Z**2).sum(0), kind="stable")[: self.most])]
        return Standardise(self.min_share).fit(X[:, kept]), kept


def against_shares(logits: Array, train: Design) -> Array:
    """Logits [n, K] of classes less the log odds that their shares among the training patients give: the evidence."""
    return log_softmax(logits, axis=1) - np.log(train.shares())


def l2_path(Z: Array, y: NDArray[np.integer], strengths: tuple[float, ...]) -> list[tuple[Array, Array]]:
    """Minimise C * sum of log losses + |w|^2 / 2 for each C in ``strengths``; the intercept is free.

    Newton's method for all C at once on float64 Z [n, r]; of several classes with many weights scikit-learn's solver
    (agreement is tested).

    Returns
    -------
    list of tuple of ndarray of float64
        (w [K, r], b [K]) for each C; K = 1 for two classes.
    """
    K = 1 if y.max() < 2 else int(y.max()) + 1
    if K > 1 and Z.shape[1] * K > NARROW:
        from sklearn.linear_model import LogisticRegression  # half a second that who reads results need not wait for

        fits = [LogisticRegression(C=C, max_iter=10_000, tol=1e-8).fit(Z, y) for C in strengths]
        return [(fit.coef_, fit.intercept_) for fit in fits]
    A = np.hstack([Z, np.ones((len(Z), 1))])
    penalty = (1 / np.asarray(strengths, dtype=np.float64))[:, None] * np.tile(np.append(np.ones(Z.shape[1]), 0.0), K)
    B = np.zeros((len(strengths), K, A.shape[1]))
    share = np.bincount(y) / len(y)
    B[:, :, -1] = np.log(share[1] / share[0]) if K == 1 else np.log(share) - np.log(share).mean()
    loss = _TwoClasses(A, y) if K == 1 else _Classes(A, y)
    B = _newton(B.reshape(len(strengths), -1), loss, penalty).reshape(B.shape)
    B[:, :, -1] -= B[:, :, -1].mean(1, keepdims=True) if K > 1 else 0.0
    return [(b[:, :-1], b[:, -1]) for b in B]


class _TwoClasses:
    """Log loss of weights B [S, D] of A [n, D], one problem a row."""

    def __init__(self, A: Array, y: NDArray[np.integer]) -> None:
        self.A, self.y = A, y

    def value(self, B: Array) -> Array:
        eta = B @ self.A.T
        return (np.logaddexp(0, eta) - self.y * eta).sum(1)

    def slopes(self, B: Array) -> tuple[Array, Array]:
        """Gradient [S, D] and Hessian [S, D, D]."""
        p = expit(B @ self.A.T)
        return (p - self.y) @ self.A, self.A.T @ ((p * (1 - p))[:, :, None] * self.A)


class _Classes:
    """Log loss of the softmax over K classes, weights B [S, K * D]."""

    def __init__(self, A: Array, y: NDArray[np.integer]) -> None:
        self.A, self.truth = A, np.eye(int(y.max()) + 1)[y].T

    def value(self, B: Array) -> Array:
        eta = self._eta(B)
        return (logsumexp(eta, axis=1) - (self.truth * eta).sum(1)).sum(1)

    def slopes(self, B: Array) -> tuple[Array, Array]:
        """Gradient [S, K * D] and Hessian [S, K * D, K * D]."""
        p, D = softmax(self._eta(B), axis=1), self.A.shape[1]
        S, K = p.shape[:2]
        between = p[:, :, None] * (np.eye(K)[:, :, None] - p[:, None])
        H = self.A.T @ (between[..., None] * self.A)
        return ((p - self.truth) @ self.A).reshape(S, -1), H.transpose(0, 1, 3, 2, 4).reshape(S, K * D, K * D)

    def _eta(self, B: Array) -> Array:
        return B.reshape(len(B), len(self.truth), -1) @ self.A.T


def _newton(B: Array, loss: _TwoClasses | _Classes, penalty: Array) -> Array:
    """Minimise loss + penalty * B^2 / 2 for each row from B [S, D]; a step is halved until its objective falls."""

    def objective(B: Array) -> Array:
        return loss.value(B) + (penalty * B**2).sum(1) / 2

    value, diagonal = objective(B), np.arange(B.shape[1])
    for _ in range(100):
        gradient, H = loss.slopes(B)
        gradient += penalty * B
        if np.abs(gradient).max() < 1e-9 * len(loss.A):
            break
        H[:, diagonal, diagonal] += penalty + RIDGE
        step = np.linalg.solve(H, gradient[..., None])[..., 0]
        size = np.ones((len(B), 1))
        for _ in range(30):
            after = objective(B - size * step)
            worse = after > value + 1e-12 * np.abs(value)
            if not worse.any():
                break
            size[worse] /= 2
        else:
            break
        B, value = B - size * step, after
    return B


def _elastic_net(Z: Array, y: NDArray[np.integer], strength: float, ratio: float, seed: int) -> tuple[Array, Array]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model: Any = LogisticRegression(
        C=strength, l1_ratio=ratio, solver="saga", max_iter=200, tol=1e-3, random_state=seed
    )
    with warnings.catch_warnings():
        # A weak penalty need not converge to the last digit; the inner folds judge what it predicts.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(_padded(Z), y)
    return model.coef_[:, : Z.shape[1]], model.intercept_


def _unscale(scale: Standardise, w: Array, b: Array, strength: float, ratio: float) -> LinearFit:
    coef = np.zeros((len(w), len(scale.mean_)))
    coef[:, scale.keep_] = w / scale.scale_
    return LinearFit(coef, b - coef @ scale.mean_, scale.mean_.copy(), strength, ratio)


def _log_loss(values: Array, y: NDArray[np.integer]) -> float:
    logits = np.hstack([np.zeros_like(values), values]) if values.shape[1] == 1 else values
    return float(-log_softmax(logits, axis=1)[np.arange(len(y)), y].sum())


def _means(X: Array) -> Array:
    there = ~np.isnan(X)
    return np.where(there, X, 0).sum(0) / np.maximum(there.sum(0), 1)


def _padded(Z: Array) -> Array:
    return Z if Z.shape[1] else np.zeros((len(Z), 1))
