"""Scores of units against a truth, and their bootstrap over cells; pure arrays in and out."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

Array = NDArray[np.float64]
BLOCK = 256
"""Units worked on at a time."""


def average_precisions(values: Any, positive: NDArray[np.bool_]) -> Array:
    """Average precision of every unit for every structure.

    AP = sum_i (R_i - R_(i-1)) P_i over the distinct values of a unit, from the largest down, P_i and R_i precision and
    recall of the patches at or above the i-th; patches of equal value count together, so a constant unit has the base
    rate.

    Parameters
    ----------
    values : object
        [N, U] dense, or sparse with values > 0 (what is not stored is 0).
    positive : ndarray of bool, shape (N, S)
        Which patches show each structure.

    Returns
    -------
    ndarray of float64, shape (U, S)
        NaN for a structure without a positive patch.
    """
    N, U = values.shape
    sparse = sp.csc_array(values) if sp.issparse(values) else None
    total = positive.sum(0).astype(np.float64)
    found = np.empty((U, positive.shape[1]))
    for first in range(0, U, BLOCK):
        last = min(first + BLOCK, U)
        unit, row, value = _entries(values if sparse is None else sparse, first, last)
        order = np.lexsort((-value, unit))
        unit, row, value = unit[order], row[order], value[order]
        starts = np.searchsorted(unit, np.arange(last - first))
        # the last entry of each run of equal values of one unit
        ends = np.flatnonzero(np.r_[(np.diff(value) != 0) | (np.diff(unit) != 0), True]) if len(unit) else unit
        of_end = unit[ends]
        rank = ends - starts[of_end] + 1
        opens = np.r_[True, np.diff(of_end) != 0] if len(of_end) else of_end.astype(bool)
        for s in range(positive.shape[1]):
            hits = np.r_[0, np.cumsum(positive[row, s])]
            reached = (hits[ends + 1] - hits[starts[of_end]]).astype(np.float64)
            gained = np.where(opens, reached, np.diff(reached, prepend=0.0))
            area = np.bincount(of_end, gained * reached / rank, minlength=last - first)
            seen = np.bincount(of_end, gained, minlength=last - first)
            # what is not stored is one last run, down to which everything is found
            area += (total[s] - seen) * total[s] / N
            found[first:last, s] = area / total[s] if total[s] else np.nan
    return found


def average_precision_draws(values: NDArray[Any], positive: NDArray[np.bool_], weights: Array) -> Array:
    """Average precision of one unit under weights of the cells.

    Parameters
    ----------
    values : ndarray, shape (n, P)
    positive : ndarray of bool, shape (n, P)
    weights : ndarray of float64, shape (B, n)
        See `cell_weights`.

    Returns
    -------
    ndarray of float64, shape (B,)
        NaN where no positive patch has a weight.
    """
    n, P = values.shape
    order = np.argsort(-values.ravel(), kind="stable")
    ordered, hit = values.ravel()[order], positive.ravel()[order]
    starts = np.flatnonzero(np.r_[True, np.diff(ordered) != 0])
    cell = order // P
    result = np.empty(len(weights))
    size = max(1, (1 << 22) // (n * P))
    for first in range(0, len(weights), size):
        w = weights[first : first + size][:, cell]
        selected = np.cumsum(np.add.reduceat(w, starts, axis=1), axis=1)
        gained = np.add.reduceat(w * hit, starts, axis=1)
        reached = np.cumsum(gained, axis=1)
        precision = np.divide(reached, selected, out=np.zeros_like(reached), where=selected > 0)
        total = reached[:, -1]
        area = (gained * precision).sum(1)
        result[first : first + size] = np.divide(area, total, out=np.full(len(total), np.nan), where=total > 0)
    return result


def best_threshold(values: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Threshold t at which the patches with value >= t have the largest IoU with the positive ones; both [N]."""
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    ends = np.flatnonzero(np.r_[np.diff(ordered) != 0, True])
    hits = np.cumsum(positive[order])[ends]
    return float(ordered[ends[np.argmax(hits / (ends + 1 + positive.sum() - hits))]])


def overlap_draws(selected: NDArray[np.bool_], positive: NDArray[np.bool_], weights: Array) -> tuple[Array, Array]:
    """IoU and precision of selected patches [n, P], summed over the cells, under weights [B, n] of them; [B] each.

    0 where nothing is selected.
    """
    both = weights @ (selected & positive).sum(1)
    either = weights @ (selected | positive).sum(1)
    chosen = weights @ selected.sum(1)
    return (
        np.divide(both, either, out=np.zeros(len(both)), where=either > 0),
        np.divide(both, chosen, out=np.zeros(len(both)), where=chosen > 0),
    )


def aucs(values: NDArray[Any], positive: NDArray[np.bool_]) -> Array:
    """Area under the ROC curve of each column of [n, U], ties counted half."""
    return aucs_of_ranks(np.asarray(rankdata(values, axis=0), float), positive)


def aucs_of_ranks(ranks: NDArray[Any], positive: NDArray[np.bool_]) -> Array:
    """`aucs` of values whose ranks [n, U] are known."""
    n, p = len(positive), int(positive.sum())
    return (ranks[positive].sum(0) - p * (p + 1) / 2) / (p * (n - p))


def auc_draws(score: NDArray[Any], positive: NDArray[np.bool_], weights: Array) -> Array:
    """AUC of a score [n] under weights [B, n]; [B], NaN where a class has no weight."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) != 0])
    w, hit = weights[:, order], positive[order]
    ours = np.add.reduceat(w * hit, starts, axis=1)
    theirs = np.add.reduceat(w * ~hit, starts, axis=1)
    below = np.cumsum(theirs, axis=1) - theirs / 2
    pairs = ours.sum(1) * theirs.sum(1)
    return np.divide((ours * below).sum(1), pairs, out=np.full(len(w), np.nan), where=pairs > 0)


def rank_correlations(values: NDArray[Any], truth: NDArray[Any]) -> Array:
    """Spearman's correlation of each column of [n, U] with ``truth`` [n]; 0 for constant columns."""
    return _correlations(np.asarray(rankdata(values, axis=0), float), np.asarray(rankdata(truth), float))


def rank_correlation_draws(value: NDArray[Any], truth: NDArray[Any], draws: NDArray[np.integer]) -> Array:
    """Spearman's correlation of two [n] in resamples of cells, ``draws`` [B, n] their numbers; [B]."""
    a, b = (np.asarray(rankdata(x[draws], axis=1)) for x in (value, truth))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    size = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.divide((a * b).sum(1), size, out=np.zeros(len(draws)), where=size > 0)


def cohen_kappa(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Agreement of two annotators beyond chance (Cohen 1960); NaN where both gave one and the same value only."""
    by_chance = sum(float((a == k).mean() * (b == k).mean()) for k in np.unique(np.r_[a, b]))
    return float(((a == b).mean() - by_chance) / (1 - by_chance)) if by_chance < 1 else float("nan")


def pursue(X: NDArray[np.floating], y: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    """Columns of X chosen one after another by orthogonal matching pursuit of y, best first.

    Parameters
    ----------
    X : ndarray of float, shape (n, U)
        Columns are centred and scaled here, constant ones are never chosen.
    y : ndarray of float, shape (n,)
    count : int
        At most so many.

    References
    ----------
    Pati, Rezaiifar and Krishnaprasad 1993.
    """
    centred = X - X.mean(0)
    size = np.sqrt((centred**2).sum(0))
    scaled = np.divide(centred, size, out=np.zeros_like(centred), where=size > 1e-6 * max(float(size.max()), 1e-30))
    rest = (y - y.mean()).astype(np.float64)
    target, chosen = rest.copy(), list[int]()
    for _ in range(min(count, X.shape[1])):
        fit = np.abs(rest @ scaled)
        fit[chosen] = -1
        if fit.max() <= 1e-9:
            break
        chosen.append(int(fit.argmax()))
        basis = np.linalg.qr(scaled[:, chosen].astype(np.float64))[0]
        rest = target - basis @ (basis.T @ target)
    return np.array(chosen, np.intp)


def linear_probe() -> Pipeline:
    """Logistic regression on standardised numbers with an L2 penalty (C = 0.1), classes weighed alike; not fitted."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced"))


def cell_weights(n: int, resamples: int, seed: int) -> Array:
    """How often each of n cells is drawn, [1 + resamples, n]; row 0 is all ones."""
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), resamples)
    return np.vstack([np.ones(n), drawn]).astype(np.float64)


def interval(draws: Array, confidence: float) -> tuple[float, float, float]:
    """Value (the first draw) and the percentile interval of the others; NaN are left out."""
    if len(draws) < 2 or np.isnan(draws[1:]).all():
        return float(draws[0]), float("nan"), float("nan")
    low, high = np.nanquantile(draws[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(draws[0]), float(low), float(high)


def with_interval(name: str, draws: Array, confidence: float) -> dict[str, float]:
    """``name``, ``name_low``, ``name_high`` of a table's row."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), interval(draws, confidence), strict=True))


def _correlations(ranks: Array, truth: Array) -> Array:
    a, b = ranks - ranks.mean(0), truth - truth.mean()
    size = np.sqrt((a**2).sum(0) * (b**2).sum())
    return np.divide(b @ a, size, out=np.zeros(a.shape[1]), where=size > 0)


def _entries(values: Any, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """Unit within the block, row and value of each entry of columns [first, last)."""
    if sp.issparse(values):
        bounds = values.indptr[first : last + 1].astype(np.int64)
        here = slice(bounds[0], bounds[-1])
        unit = np.repeat(np.arange(last - first), np.diff(bounds))
        return unit, values.indices[here].astype(np.int64), values.data[here]
    block = np.asarray(values[:, first:last])
    unit = np.repeat(np.arange(last - first), len(block))
    return unit, np.tile(np.arange(len(block)), last - first), block.T.ravel()
