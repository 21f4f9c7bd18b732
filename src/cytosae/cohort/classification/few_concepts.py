"""A decision of few concepts: which, and how many, are chosen among the training patients alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from cytosae.cohort.classification.families import families_of, representatives
from cytosae.cohort.classification.linear import Array, Linear, LinearFit, Standardise, l2_path
from cytosae.cohort.classification.selection import METHODS
from cytosae.cohort.config import Method
from cytosae.cohort.design import Design

STRENGTH = 10.0
"""C of the model on those chosen, whose variances sum to 1. It is not searched for: its choice costs more than it earns
with so few features (benchmarks/few_concepts.py)."""
WIDEST = 4096
"""Features among which families are looked for; of more, those whose classes differ most, by F statistic."""


@dataclass(frozen=True)
class Order:
    """Features in the order in which they were chosen, each standing for its family.

    Attributes
    ----------
    features : ndarray of int, shape (k,)
        Columns.
    families : tuple of ndarray of int
        The columns of each one's family, itself among them.
    """

    features: NDArray[np.intp]
    families: tuple[NDArray[np.intp], ...]


@dataclass(frozen=True)
class Few(Linear):
    """Logistic regression on at most so many features, chosen, near-twins joined, from the training patients.

    Attributes
    ----------
    most : int
        Features at most.
    likeness : float
        Spearman correlation from which on features are of one family (`families_of`).
    method : {"lasso", "forward", "pursuit"}
        How they are chosen (`METHODS`).
    inner_folds, min_share : int, float
        As in `L2`; without inner folds one feature is taken.
    """

    most: int = 12
    likeness: float = 0.8
    method: Method = "lasso"
    inner_folds: int = 5
    min_share: float = 0.05

    def fit(self, X: Array, design: Design, seed: int) -> LinearFit:
        """Fit features X [n, F] of the patients of ``design`` on as many of them as `number` says."""
        chosen = self.choose(X, design, seed)
        return fit_on(X, design.y, chosen.features)

    def choose(self, X: Array, design: Design, seed: int, joined: Order | None = None) -> Order:
        """Those that the model is made of, the first chosen first; of families that are ``joined`` where they are."""
        joined = joined or self.join(X, design.y)
        number = self._number(X[:, joined.features], design, seed)
        return self.order(X, design.y, joined, number)

    def join(self, X: Array, y: NDArray[np.integer]) -> Order:
        """Families of the features that are common enough, each with the one that stands for it; in no order."""
        scale = Standardise(self.min_share).fit(X)
        Z, kept = scale.transform(X), scale.keep_
        if len(kept) > WIDEST:
            between = sum((y == k).sum() * Z[y == k].mean(0) ** 2 for k in np.unique(y))
            some = np.sort(np.argsort(-between / (Z**2).sum(0), kind="stable")[:WIDEST])
            Z, kept = Z[:, some], kept[some]
        family = families_of(Z, self.likeness)
        standing = representatives(Z, family)
        members = np.split(kept[np.argsort(family, kind="stable")], np.cumsum(np.bincount(family))[:-1])
        return Order(kept[standing], tuple(members) if len(kept) else ())

    def order(self, X: Array, y: NDArray[np.integer], joined: Order, most: int) -> Order:
        """The first ``most`` of them, the best set of one, of two, ... that the method finds."""
        taken = _ordered(X[:, joined.features], y, most, self.method)
        return Order(joined.features[taken], tuple(joined.families[i] for i in taken))

    def _number(self, X: Array, design: Design, seed: int) -> int:
        """The smallest number whose log loss in inner folds is within one standard error of the smallest.

        The error is that of the difference between both, patient by patient: they are losses of the same patients.

        References
        ----------
        Breiman, Friedman, Olshen and Stone 1984, Classification and Regression Trees, section 3.4.3.
        """
        losses = []
        for train, test in design.inner_folds(self.inner_folds, seed):
            y, order = design.y[train], _ordered(X[train], design.y[train], self.most, self.method)
            fits = [fit_on(X[train], y, order[:k]) for k in range(1, len(order) + 1)]
            held = [-log_softmax(fit.logits(X[test]), axis=1)[np.arange(len(test)), design.y[test]] for fit in fits]
            losses.append(np.array(held).reshape(len(order), len(test)))
        least = min((len(part) for part in losses), default=0)
        if not least:
            return 1
        held = np.hstack([part[:least] for part in losses])
        more = held - held[held.mean(1).argmin()]
        return 1 + int(np.argmax(more.mean(1) <= more.std(1) / np.sqrt(more.shape[1])))


def fit_on(X: Array, y: NDArray[np.integer], features: NDArray[np.intp]) -> LinearFit:
    """L2-penalised logistic regression of the classes on these columns of X [n, F], all others without a weight."""
    scale = Standardise(0.0).fit(X[:, features])
    ((w, b),) = l2_path(scale.transform(X[:, features]), y, (STRENGTH,))
    coef = np.zeros((len(w), X.shape[1]))
    coef[:, features[scale.keep_]] = w / scale.scale_
    means = np.nan_to_num(np.nanmean(X, axis=0)) if np.isnan(X).any() else X.mean(0)
    return LinearFit(coef, b - coef @ means, means, STRENGTH)


def _ordered(X: Array, y: NDArray[np.integer], most: int, method: Method) -> NDArray[np.intp]:
    scale = Standardise(0.0).fit(X)
    Z = scale.transform(X) * np.sqrt(max(len(scale.keep_), 1))
    if not Z.shape[1]:
        return np.zeros(0, dtype=np.intp)
    return scale.keep_[METHODS[method](Z, y, most)]
