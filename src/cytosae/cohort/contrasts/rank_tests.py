"""Rank statistics of two groups, for many latents at once: AUC with interval, and Mann-Whitney p."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cytosae.cohort.patients.barcodes import BLOCK_LATENTS

EXACT_SPLITS = 20_000
"""Up to so many ways of splitting the patients, p comes from all of them."""


def mann_whitney(
    a: NDArray[np.floating], b: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    """AUC and two-sided p of each latent.

    AUC = P(x_a > x_b) + P(x_a = x_b) / 2. Where the patients can be split in at most `EXACT_SPLITS` ways, p is the
    share of splits whose AUC is at least as far from 1/2, ties as they are (exact, conditional on the values); else it
    is the normal approximation with correction for ties and continuity (`scipy.stats.mannwhitneyu`).

    Parameters
    ----------
    a, b : ndarray of float, shape (n_a, m)
        (n_b, m) values of the patients of each group.

    Returns
    -------
    auc : ndarray of float64, shape (m,)
        In [0, 1].
    p : ndarray of float64, shape (m,)
        In (0, 1]; 1 where all values are equal.
    method : str
        "exact" or "asymptotic".
    """
    n_a, n_b = len(a), len(b)
    exact = comb(n_a + n_b, n_a) <= EXACT_SPLITS
    auc, p = np.empty(a.shape[1]), np.empty(a.shape[1])
    for start in range(0, a.shape[1], BLOCK_LATENTS):
        here = slice(start, start + BLOCK_LATENTS)
        x, y = (values[:, here].astype(np.float64) for values in (a, b))
        found = stats.mannwhitneyu(x, y, axis=0, method="asymptotic")
        auc[here] = found.statistic / (n_a * n_b)
        both = np.concatenate([x, y])
        equal = (both == both[0]).all(0)  # of these scipy 1.18 gives no p, versions before 1
        p[here] = _exact(both, n_a) if exact else np.where(equal, 1.0, found.pvalue)
    return auc, p, "exact" if exact else "asymptotic"


def auc_interval(
    auc: NDArray[np.float64], n_a: int, n_b: int, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score interval of an AUC: all theta with (auc - theta)^2 <= z^2 V(theta), method 5 of Newcombe.

    V(theta) = theta (1 - theta) / (n_a n_b) [1 + k (1 - theta) / (2 - theta) + k theta / (1 + theta)],
    k = (n_a + n_b) / 2 - 1. Unlike DeLong's and the bootstrap's it has a width at 0 and 1, where small groups often
    are.

    References
    ----------
    Newcombe 2006, Statistics in Medicine 25, 559-573.
    """
    z, k = stats.norm.ppf((1 + confidence) / 2), (n_a + n_b) / 2 - 1
    values, place = np.unique(auc, return_inverse=True)

    def outside(theta: NDArray[np.float64]) -> NDArray[np.bool_]:
        spread = 1 + k * (1 - theta) / (2 - theta) + k * theta / (1 + theta)
        return (values - theta) ** 2 > z**2 * theta * (1 - theta) / (n_a * n_b) * spread

    bounds = []
    for end in (0.0, 1.0):
        far, near = np.full(len(values), end), values.copy()
        for _ in range(60):
            middle = (far + near) / 2
            beyond = outside(middle)
            far, near = np.where(beyond, middle, far), np.where(beyond, near, middle)
        bounds.append(near[place])
    return bounds[0], bounds[1]


def smallest_p(n_a: int, n_b: int) -> float:
    """Smallest two-sided p that a rank test of two groups can give: 2 of all the splits are the most extreme."""
    return 2 / comb(n_a + n_b, n_a) if n_a and n_b else 1.0


def fewest_patients(n_a: int, n_b: int, alpha: float) -> int:
    """How many patients must have a concept for it to have a chance of p <= ``alpha``.

    If k patients have it (all others are tied at 0), the best case puts all k in one group, which happens with the
    probability C(n, k) / C(n_a + n_b, k); the smallest k with this <= alpha, but no more than the smaller group. It
    depends on no diagnosis, so leaving out what is rarer biases nothing.

    References
    ----------
    Tarone 1990, Biometrics 46, 515-522.
    """
    most = min(n_a, n_b)
    for k in range(1, most):
        if min(comb(n, k) for n in (n_a, n_b)) <= alpha * comb(n_a + n_b, k):
            return k
    return most


@lru_cache(maxsize=8)
def _splits(n: int, n_a: int) -> NDArray[np.float32]:
    """(splits, n) indicator of the first group."""
    chosen = np.array(list(combinations(range(n), n_a)))
    table = np.zeros((len(chosen), n), np.float32)
    np.put_along_axis(table, chosen, 1, axis=1)
    return table


def _exact(values: NDArray[np.floating], n_a: int) -> NDArray[np.float64]:
    n = len(values)
    # Twice the ranks are whole numbers below 2^24: sums in float32 are exact.
    twice = (2 * stats.rankdata(values, axis=0)).astype(np.float32)
    centre = np.float32(n_a * (n + 1))
    observed = np.abs(twice[:n_a].sum(0) - centre)
    table = _splits(n, n_a)
    p = np.empty(values.shape[1])
    for start in range(0, len(p), 256):
        here = slice(start, start + 256)
        p[here] = (np.abs(table @ twice[:, here] - centre) >= observed[here]).mean(0)
    return p
