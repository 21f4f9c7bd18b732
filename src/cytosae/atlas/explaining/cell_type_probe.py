"""A linear probe of the cell type: it reads the cell types of a data set off the end of the backbone, in two halves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from cytosae.common.errors import InputError

PER_TYPE, LEAST = 20, 8
"""Cells of a type that are looked at in each half at most, and those that a type must have there."""

Ends = Callable[[NDArray[np.integer]], NDArray[np.floating]]
"""Rows (n,) of cells -> what the probe reads of each, (n, D), such as CLS at the end of the backbone."""


@dataclass(frozen=True)
class Half:
    """The probe fitted on the cells of one half: weights (D, K) and bias (K,) of the logits."""

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def probabilities(self, ends: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probability of each type, (n, K), for ``ends`` (n, D)."""
        return softmax(ends @ self.weights + self.bias, axis=1)


@dataclass(frozen=True)
class CellTypeProbe:
    """A probe of the cell type, each cell asked of the half that it is not in.

    Attributes
    ----------
    types : tuple of str
        K types.
    halves : tuple of Half
        Fitted on the cells of half 0 and of half 1; those of one patient are in one half.
    half_of : ndarray of int, shape (n,)
        Half of every cell of the data set.
    accuracy : float
        Balanced accuracy on the cells of the other half; by chance it is 1 / K.
    cells : int
        Cells that were looked at.
    """

    types: tuple[str, ...]
    halves: tuple[Half, Half]
    half_of: NDArray[np.integer]
    accuracy: float
    cells: int

    def unseen(self, row: int | None) -> Half:
        """The half that was fitted without the cell ``row``, and without its patient; None: an image of no cell."""
        return self.halves[0 if row is None else 1 - int(self.half_of[row])]


def fit_probe(
    types: Sequence[str | None], ends: Ends, *, groups: Sequence[str] | None = None, seed: int = 0
) -> CellTypeProbe:
    """Fit a multinomial logistic regression of the type on each half of the cells; types weigh alike.

    Parameters
    ----------
    types : sequence of str or None
        Type of each of n cells, None where it is not known.
    ends : callable
        What the probe reads, asked for the cells that are looked at.
    groups : sequence of str or None
        What keeps cells in one half, such as their patient; None: every cell by itself.
    seed : int
        Of the halves and of the cells that are looked at.

    Raises
    ------
    InputError
        Fewer than two types have enough cells in both halves.
    """
    rng = np.random.default_rng(seed)
    names, group = np.unique(np.asarray(range(len(types)) if groups is None else groups), return_inverse=True)
    half_of = (rng.permutation(len(names)) % 2)[group]
    of_type: dict[str, list[NDArray[np.integer]]] = {}
    kinds = np.array([kind or "" for kind in types], dtype=object)
    for kind in sorted({kind for kind in types if kind}):
        found = [rng.permutation(np.flatnonzero((kinds == kind) & (half_of == half)))[:PER_TYPE] for half in (0, 1)]
        if min(map(len, found)) >= LEAST:
            of_type[kind] = found
    if len(of_type) < 2:
        known = sum(kind is not None for kind in types)
        raise InputError(
            f"There is no probe of the cell type: {len(of_type) or 'none'} of the types has {LEAST} cells in each of "
            f"two halves of the cells ({known} of {len(types)} have a label), and two are needed."
        )
    rows = [np.concatenate([found[half] for found in of_type.values()]) for half in (0, 1)]
    y = [np.repeat(range(len(of_type)), [len(found[half]) for found in of_type.values()]) for half in (0, 1)]
    read = [np.asarray(ends(np.sort(of)), dtype=np.float64)[np.argsort(np.argsort(of))] for of in rows]
    halves = (_fit(read[0], y[0]), _fit(read[1], y[1]))
    right = [halves[1 - half].probabilities(read[half]).argmax(1) == y[half] for half in (0, 1)]
    accuracy = np.mean([np.mean(right[half][y[half] == k]) for half in (0, 1) for k in range(len(of_type))])
    return CellTypeProbe(tuple(of_type), halves, half_of, float(accuracy), sum(map(len, rows)))


def _fit(ends: NDArray[np.float64], y: NDArray[np.integer]) -> Half:
    from sklearn.linear_model import LogisticRegression

    centre, scale = ends.mean(0), ends.std(0)
    scale = np.where(scale > 0, scale, 1)
    model = LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced").fit((ends - centre) / scale, y)
    coef, bias = model.coef_, model.intercept_
    if len(coef) == 1:  # of two classes, the logit of the second against the first
        coef, bias = np.concatenate([-coef, coef]) / 2, np.concatenate([-bias, bias]) / 2
    weights = coef.T / scale[:, None]
    return Half(weights, bias - centre @ weights)
