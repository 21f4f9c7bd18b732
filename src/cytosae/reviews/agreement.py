"""How far raters agree, with intervals: each function takes ratings (raters, panels), NaN where there is none."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ratings = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval by the bootstrap over ``n`` panels; None where it cannot be computed."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0


def krippendorff_alpha(ratings: Ratings, level: Literal["nominal", "ordinal"] = "ordinal") -> float:
    """Krippendorff's alpha: 1 perfect, 0 as by chance; NaN where nobody's ratings vary.

    Parameters
    ----------
    ratings : ndarray of float, shape (raters, panels)
        NaN where a rater gave none.
    level : "nominal" or "ordinal"
        How far apart two ratings are.

    References
    ----------
    Krippendorff 2011, Computing Krippendorff's alpha-reliability; computed by the package ``krippendorff``.
    """
    import krippendorff

    paired = ratings[:, (~np.isnan(ratings)).sum(0) >= 2]
    if len(np.unique(paired[~np.isnan(paired)])) < 2:
        return float("nan")
    return float(krippendorff.alpha(reliability_data=paired, level_of_measurement=level))


def intraclass_correlation(ratings: Ratings) -> float:
    """ICC(2,1): one rater's ratings, raters taken as drawn at random; panels that all have rated; NaN below two.

    References
    ----------
    Shrout & Fleiss 1979, Psychological Bulletin 86:420-428.
    """
    whole = ratings[:, ~np.isnan(ratings).any(0)].T
    n, k = whole.shape
    if n < 2 or k < 2:
        return float("nan")
    mean = whole.mean()
    between = k * ((whole.mean(1) - mean) ** 2).sum() / (n - 1)
    raters = n * ((whole.mean(0) - mean) ** 2).sum() / (k - 1)
    rest = ((whole - whole.mean(1, keepdims=True) - whole.mean(0) + mean) ** 2).sum() / ((n - 1) * (k - 1))
    below = between + (k - 1) * rest + k * (raters - rest) / n
    return float((between - rest) / below) if below > 0 else float("nan")


def percent_agreement(ratings: Ratings) -> float:
    """Share of pairs of ratings of the same panel that are equal; NaN where there is no pair."""
    equal = [(a == b)[~np.isnan(a) & ~np.isnan(b)] for a, b in combinations(ratings, 2)]
    pairs = np.concatenate(equal) if equal else np.zeros(0)
    return float(pairs.mean()) if len(pairs) else float("nan")


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Size of the intersection over that of the union; NaN where both are empty (Jaccard 1912)."""
    return len(a & b) / len(a | b) if a | b else float("nan")


def mean_jaccard(panels: Sequence[Sequence[frozenset[str]]]) -> float:
    """Mean over panels of the mean over pairs of raters; ``panels`` holds each panel's sets, one a rater."""
    means = []
    for sets in panels:
        pairs = np.array([jaccard(a, b) for a, b in combinations(sets, 2)])
        if (~np.isnan(pairs)).any():
            means.append(np.nanmean(pairs))
    return float(np.mean(means)) if means else float("nan")


def bootstrap(
    statistic: Callable[[NDArray[np.intp]], float], n: int, rng: np.random.Generator, repeats: int = 1000
) -> Estimate:
    """A statistic of panels with its percentile interval (Efron & Tibshirani 1993, chapter 13).

    Parameters
    ----------
    statistic : callable
        From the numbers of the panels that are taken, with repetition, to the statistic.
    n : int
        How many panels there are.
    rng : Generator
        Draws them.
    repeats : int
        How often.
    """
    if n == 0:
        return Estimate(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        value = statistic(np.arange(n))
        drawn = np.array([statistic(rng.integers(0, n, n)) for _ in range(repeats)])
    drawn = drawn[~np.isnan(drawn)]
    if np.isnan(value):
        return Estimate(None, n=n)
    if len(drawn) < repeats / 2:
        return Estimate(value, n=n)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(float(value), float(low), float(high), n)


def difference(
    a: NDArray[np.float64], b: NDArray[np.float64], rng: np.random.Generator, repeats: int = 1000
) -> Estimate:
    """Mean of ``a`` less that of ``b`` with its percentile interval; each is drawn anew by itself."""
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    n = len(a) + len(b)
    if len(a) == 0 or len(b) == 0:
        return Estimate(None, n=n)
    drawn = [rng.choice(a, len(a)).mean() - rng.choice(b, len(b)).mean() for _ in range(repeats)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(float(a.mean() - b.mean()), float(low), float(high), n)
