"""Ways to choose few features of many: each gives an order, whose first k are the best set of k that it finds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from cytosae.cohort.classification.linear import Array, l2_path
from cytosae.cohort.config import Method

Choose = Callable[[Array, NDArray[np.integer], int], NDArray[np.intp]]
"""(features [n, F] of mean 0 and variance 1, classes [n], most) -> at most so many columns, the first chosen first."""
FORWARD_STRENGTH = 10.0
"""C of the fits between two steps of the forward selection, whose residuals would vanish without any penalty."""


def pursue(Z: Array, y: NDArray[np.integer], most: int) -> NDArray[np.intp]:
    """Orthogonal matching pursuit of the classes.

    The feature most correlated with what is left of the classes is taken, and the classes are projected anew on all
    that were taken. With several classes the squares of their correlations are summed.

    References
    ----------
    Pati et al. 1993; Tropp et al. 2006, Simultaneous sparse approximation, Signal Processing 86 (several responses).
    """
    left, basis, taken = _indicators(y), np.zeros((len(Z), 0)), []
    while len(taken) < _at_most(Z, most):
        gain = ((Z.T @ left) ** 2).sum(1)
        gain[taken] = -1.0
        best = int(gain.argmax())
        new = Z[:, best] - basis @ (basis.T @ Z[:, best])
        length = np.linalg.norm(new)
        if gain[best] < 1e-12 * len(y) or length < 1e-8 * np.linalg.norm(Z[:, best]):
            break
        taken.append(best)
        basis = np.hstack([basis, (new / length)[:, None]])
        left -= basis[:, -1:] @ (basis[:, -1:].T @ left)
    return np.array(taken, dtype=np.intp)


def step_forward(Z: Array, y: NDArray[np.integer], most: int) -> NDArray[np.intp]:
    """Forward selection for logistic regression by the score statistic of each feature beside those taken.

    With residuals r = y - p and W = p (1 - p) of a fit on those taken, the statistic of z is (z'r)^2 / z'W(I - H)z, H
    the W-projection on them and the intercept; with several classes, the sum over classes against the rest.
    """
    taken: list[int] = []
    K = int(y.max()) + 1
    truth = np.eye(K)[y]
    while len(taken) < _at_most(Z, most):
        own = Z[:, taken]
        p = np.tile(truth.mean(0), (len(y), 1)) if not taken else _probabilities(own, y)
        score = np.zeros(Z.shape[1])
        for k in range(1, 2) if K == 2 else range(K):
            score += _score(Z, np.hstack([np.ones((len(y), 1)), own]), truth[:, k] - p[:, k], p[:, k] * (1 - p[:, k]))
        score[taken] = -1.0
        taken.append(int(score.argmax()))
    return np.array(taken, dtype=np.intp)


def relax(Z: Array, y: NDArray[np.integer], most: int) -> NDArray[np.intp]:
    """In the order in which an L1-penalised logistic regression lets them in while its penalty is made weaker."""
    strengths = np.geomspace(1, 100, 24) * _first_strength(Z, y)
    taken: list[int] = []
    for weights in _lasso_path(Z, y, strengths) if y.max() > 1 else _two_class_lasso_path(Z, y, strengths):
        size = np.abs(weights).sum(0)
        new = [int(j) for j in np.argsort(-size, kind="stable") if size[j] > 0 and j not in taken]
        taken += new
        if len(taken) >= most:
            break
    return np.array(taken[: _at_most(Z, most)], dtype=np.intp)


def _two_class_lasso_path(Z: Array, y: NDArray[np.integer], strengths: Array) -> Iterator[Array]:
    """Weights [1, F] for each C, ascending."""
    from sklearn.linear_model import LogisticRegression

    model: Any = LogisticRegression(
        l1_ratio=1.0, solver="liblinear", intercept_scaling=100, max_iter=300, tol=1e-3, random_state=0
    )
    for strength in strengths:
        yield _fit(model.set_params(C=strength), Z, y).coef_


def _lasso_path(Z: Array, y: NDArray[np.integer], strengths: Array) -> Iterator[Array]:
    """Weights [K, F] of K classes for each C, ascending; each fit sees the features alone that may have a weight.

    Those are the ones that the strong rule keeps, and any others at which the optimality conditions do not hold after
    the fit.

    References
    ----------
    Tibshirani et al. 2012, Strong rules for discarding predictors in lasso-type problems, JRSS B 74.
    """
    from sklearn.linear_model import LogisticRegression

    truth = np.eye(int(y.max()) + 1)[y]
    slope, before = np.abs(Z.T @ _indicators(y)).max(1), 1 / strengths[0]
    weights = np.zeros((truth.shape[1], Z.shape[1]))
    for strength in strengths:
        model: Any = LogisticRegression(C=strength, l1_ratio=1.0, solver="saga", max_iter=300, tol=1e-3, random_state=0)
        kept = weights.any(0) | (slope >= 2 / strength - before)
        missed = kept
        while missed.any():
            kept = kept | missed
            _fit(model, Z[:, kept], y)
            slope = np.abs(Z.T @ (truth - model.predict_proba(Z[:, kept]))).max(1)
            missed = ~kept & (slope > 1.01 / strength)
        weights, before = np.zeros_like(weights), 1 / strength
        if kept.any():
            weights[:, kept] = model.coef_
        yield weights


def _fit(model: Any, Z: Array, y: NDArray[np.integer]) -> Any:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(Z, y)


METHODS: dict[Method, Choose] = {"lasso": relax, "forward": step_forward, "pursuit": pursue}
"""Name -> how an order is found."""


def _at_most(Z: Array, most: int) -> int:
    return min(most, Z.shape[1], len(Z) - 2)


def _indicators(y: NDArray[np.integer]) -> Array:
    indicators = np.eye(int(y.max()) + 1)[y]
    return indicators - indicators.mean(0)


def _probabilities(Z: Array, y: NDArray[np.integer]) -> Array:
    ((w, b),) = l2_path(Z, y, (FORWARD_STRENGTH,))
    values = Z @ w.T + b
    return softmax(np.hstack([np.zeros_like(values), values]) if values.shape[1] == 1 else values, axis=1)


def _score(Z: Array, taken: Array, residual: Array, weight: Array) -> Array:
    root = np.sqrt(weight)[:, None]
    q, _ = np.linalg.qr(root * taken)
    free = ((root * Z) ** 2).sum(0) - ((q.T @ (root * Z)) ** 2).sum(0)
    return (Z.T @ residual) ** 2 / np.maximum(free, 1e-6 * len(Z))


def _first_strength(Z: Array, y: NDArray[np.integer]) -> float:
    """C at which the first feature comes in (Koh, Kim and Boyd 2007); a large one where none says anything."""
    return 1 / max(float(np.abs(Z.T @ _indicators(y)).max()), 1e-9)
