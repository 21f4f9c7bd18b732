"""Latent statistics as mergeable pieces: any split of the cells over shards, ranks or machines gives the same numbers.

Counts, maxima and reference cells merge exactly; sums are float64, so that their order changes them by rounding only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.cells.focus.patch_grid import Grid

if TYPE_CHECKING:
    from cytosae.atlas.making.cell_sums import CellSums


@dataclass
class LatentStatistics:
    """Running statistics of m latents over cells; `update` with a batch of cells, `merge` with another piece.

    Attributes
    ----------
    n_latents, n_tokens, n_classes, n_reference : int
        m latents, T tokens a cell (CLS first), C classes, k reference cells.
    n_cells : int
        Cells seen.
    cells_active : ndarray of int64, shape (m,)
        Cells whose mean activation is > 0.
    tokens_active : ndarray of int64, shape (T, m)
        Tokens with activation > 0 at each position (0 = CLS).
    mean_sum : ndarray of float64, shape (m,)
        Sum over cells of the cell's mean activation.
    token_max : ndarray of float32, shape (m,)
        Largest activation on a single token.
    class_cells : ndarray of int64, shape (C,)
        Cells of each class.
    class_sum : ndarray of float64, shape (C, m)
        Sum of cell means over the cells of a class.
    tokens_counted : ndarray of int64, shape (T,)
        Tokens that count at each position: all cells, unless only those in focus count.
    reference_rows : ndarray of int64, shape (m, k)
        Rows of the cells with the largest means, descending; -1 where fewer are active.
    reference_values : ndarray of float32, shape (m, k)
        Their means; 0 where fewer are active.
    """

    n_latents: int
    grid: Grid
    n_classes: int
    n_reference: int = 10
    n_cells: int = 0
    cells_active: NDArray[np.int64] = field(init=False)
    tokens_active: NDArray[np.int64] = field(init=False)
    mean_sum: NDArray[np.float64] = field(init=False)
    token_max: NDArray[np.float32] = field(init=False)
    class_cells: NDArray[np.int64] = field(init=False)
    class_sum: NDArray[np.float64] = field(init=False)
    tokens_counted: NDArray[np.int64] = field(init=False)
    reference_rows: NDArray[np.int64] = field(init=False)
    reference_values: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        m, k = self.n_latents, self.n_reference
        self.cells_active = np.zeros(m, np.int64)
        self.tokens_active = np.zeros((self.n_tokens, m), np.int64)
        self.mean_sum = np.zeros(m, np.float64)
        self.token_max = np.zeros(m, np.float32)
        self.tokens_counted = np.zeros(self.n_tokens, np.int64)
        self.class_cells = np.zeros(self.n_classes, np.int64)
        self.class_sum = np.zeros((self.n_classes, m), np.float64)
        self.reference_rows = np.full((m, k), -1, np.int64)
        self.reference_values = np.zeros((m, k), np.float32)

    def update(
        self,
        activations: sp.csr_array,
        rows: NDArray[np.int64],
        classes: NDArray[np.int64],
        counted: NDArray[np.bool_] | None = None,
        *,
        tau: float = 0.0,
    ) -> CellSums:
        """Take in a batch of whole cells.

        Parameters
        ----------
        activations : csr_array, shape (b * T, m)
            CSR, non-negative; tokens in order, T of each cell.
        rows : ndarray of int64, shape (b,)
            Rows of the cells in the table.
        classes : ndarray of int64, shape (b,)
            In [0, C), -1 where unlabelled.
        counted : ndarray of bool, shape (b, T), or None
            Tokens that count, None for all; others have no activations.
        tau : float
            Threshold of ``above``; no statistic depends on it.

        Returns
        -------
        CellSums
            Of each cell the mean activation over its T tokens, CLS included (paper, feature data), or over those that
            count, and the number of tokens > tau.
        """
        from cytosae.atlas.making.cell_sums import (  # Numba, which whoever reads needs not
            count_tokens,
            entries_of,
            sum_cells,
        )

        sums = sum_cells(activations, self.n_tokens, tau, counted)
        self.tokens_counted += len(rows) if counted is None else counted.sum(0)
        count_tokens(*entries_of(activations), self.tokens_active, self.token_max)
        self.update_cells(sums.means, rows, classes)
        return sums

    def update_cells(self, means: sp.csr_array, rows: NDArray[np.int64], classes: NDArray[np.int64]) -> None:
        """Take in what `update` makes of the means (b, m) of cells; what it makes of single tokens stays as it is."""
        from cytosae.atlas.making.cell_sums import count_cells, entries_of

        self.n_cells += len(rows)
        np.add.at(self.class_cells, classes[classes >= 0], 1)
        values, latents, offsets = entries_of(means)
        sums = (self.cells_active, self.mean_sum, self.class_sum)
        count_cells(values, latents, offsets, classes.astype(np.int64), *sums)
        self._take_references(latents, values, np.repeat(rows, np.diff(offsets)))

    def merge(self, other: LatentStatistics) -> LatentStatistics:
        """Statistics of both pieces' cells together, as a new object; associative and commutative."""
        mine = (self.n_latents, self.grid, self.n_classes, self.n_reference)
        if mine != (other.n_latents, other.grid, other.n_classes, other.n_reference):
            raise ValueError("statistics of different latents, grids, classes or numbers of reference cells")
        both = LatentStatistics(*mine)
        both.n_cells = self.n_cells + other.n_cells
        for name in ("cells_active", "tokens_active", "tokens_counted", "mean_sum", "class_cells", "class_sum"):
            setattr(both, name, getattr(self, name) + getattr(other, name))
        both.token_max = np.maximum(self.token_max, other.token_max)
        both.reference_rows, both.reference_values = self.reference_rows.copy(), self.reference_values.copy()
        latents, places = np.nonzero(other.reference_rows >= 0)
        both._take_references(latents, other.reference_values[latents, places], other.reference_rows[latents, places])
        return both

    @property
    def n_tokens(self) -> int:
        """T, CLS included."""
        return 1 + math.prod(self.grid)

    def activation_frequency(self) -> NDArray[np.float64]:
        """(m,) share of cells with mean activation > 0."""
        return self.cells_active / max(self.n_cells, 1)

    def token_frequency(self) -> NDArray[np.float64]:
        """(m,) share of the tokens that count (CLS included) with activation > 0."""
        return self.tokens_active.sum(0) / max(int(self.tokens_counted.sum()), 1)

    def mean_activation(self) -> NDArray[np.float64]:
        """(m,) mean over the cells on which the mean activation is > 0; NaN where there is none."""
        return _ratio(self.mean_sum, self.cells_active)

    def class_means(self) -> NDArray[np.float64]:
        """(m, C) mean activation over all cells of each class, active or not; NaN for a class without cells."""
        return _ratio(self.class_sum, self.class_cells[:, None]).T

    def position_dependence(self) -> NDArray[np.float64]:
        """(m,) share of the variance of "is active" that the token's position alone explains; NaN for dead latents.

        With p_t the share of the counted tokens at position t that are active and p their mean: Var_t(p_t) / (p (1 -
        p)), the correlation ratio, positions weighted by their tokens. 1 for a latent that says nothing but where a
        token lies, or whether it is CLS.
        """
        counted = self.tokens_counted
        p_t = self.tokens_active / np.maximum(counted, 1)[:, None]
        if (counted == counted[0]).all():
            p, spread = p_t.mean(0), p_t.var(0)
        else:
            weights = counted / max(int(counted.sum()), 1)
            p = weights @ p_t
            spread = weights @ (p_t - p) ** 2
        return np.where(p > 0, _ratio(spread, p * (1 - p), otherwise=1.0), np.nan)

    def central_share(self) -> NDArray[np.float64]:
        """(m,) share of the active patch tokens that lie in the central disc; NaN where no patch is active.

        The disc has the radius 0.4 of the image's sides, half of its area: 0.5 where a latent ignores the place, near 1
        where it keeps to the cell (single cells are centred), near 0 for background and neighbours.
        """
        rows, columns = ((np.arange(n) + 0.5) / n - 0.5 for n in self.grid)
        inside = (np.hypot(rows[:, None], columns[None, :]) <= 0.4).ravel()
        patches = self.tokens_active[1:]
        return _ratio(patches[inside].sum(0), patches.sum(0))

    def _take_references(self, latents: NDArray[np.integer], values: NDArray[Any], rows: NDArray[np.int64]) -> None:
        from cytosae.atlas.making.cell_sums import keep_best

        entries = (latents.astype(np.int32), values.astype(np.float32), rows.astype(np.int64))
        keep_best(*entries, self.reference_rows, self.reference_values)


def label_entropy(values: NDArray[np.floating], labels: NDArray[np.integer], n_labels: int) -> NDArray[np.float64]:
    """Entropy of the cell types among a latent's reference cells.

    p(label) is the sum of the values of the reference cells with that label over the sum of all; H = -sum p ln p.

    Parameters
    ----------
    values : ndarray of float, shape (m, k)
        Mean activation of each reference cell, >= 0.
    labels : ndarray of int, shape (m, k)
        In [0, n_labels), -1 where unlabelled or where there is no such cell.

    Returns
    -------
    ndarray of float64, shape (m,)
        In nats; NaN for latents without an active, labelled reference cell. Unlabelled cells count in neither sum.

    References
    ----------
    Dasdelen et al. 2025 (arXiv 2507.12464), latent statistics.

    Examples
    --------
    >>> import numpy as np
    >>> from cytosae.atlas import label_entropy
    >>> label_entropy(np.array([[2.0, 2.0], [3.0, 0.0]]), np.array([[0, 1], [1, 1]]), n_labels=2)
    array([0.69314718, 0.        ])
    """
    weights = np.where(labels >= 0, values, 0).astype(np.float64)
    latents = np.broadcast_to(np.arange(len(values))[:, None], labels.shape)
    keys = (latents * n_labels + np.maximum(labels, 0)).ravel()
    sums = np.bincount(keys, weights.ravel(), minlength=len(values) * n_labels).reshape(len(values), n_labels)
    total = sums.sum(1, keepdims=True)
    p = _ratio(sums, total)
    return np.where(total[:, 0] > 0, -(p * np.log(np.where(p > 0, p, 1.0))).sum(1) + 0.0, np.nan)


def class_selectivity(class_means: NDArray[np.floating]) -> NDArray[np.float64]:
    """(a - b) / (a + b), a the largest class mean and b the mean of the other class means, in [0, 1].

    Parameters
    ----------
    class_means : ndarray of float, shape (m, C)
        Mean activation per class, >= 0; classes without cells are NaN and left out.

    Returns
    -------
    ndarray of float64, shape (m,)
        NaN where no class mean is > 0 or fewer than two classes have cells.

    References
    ----------
    Morcos et al. 2018 (arXiv 1803.06959), class selectivity index.
    """
    means = class_means[:, ~np.isnan(class_means).all(0)].astype(np.float64)
    if means.shape[1] < 2:
        return np.full(len(class_means), np.nan)
    largest = means.max(1)
    others = (means.sum(1) - largest) / (means.shape[1] - 1)
    return _ratio(largest - others, largest + others)


def class_indices(labels: Sequence[object], classes: Sequence[str]) -> NDArray[np.int64]:
    """(n,) index of each label in ``classes``; -1 for a missing label."""
    index = {name: i for i, name in enumerate(classes)}
    return np.array([index.get(label, -1) if isinstance(label, str) else -1 for label in labels], np.int64)


def _ratio(a: NDArray, b: NDArray, *, otherwise: float = np.nan) -> NDArray[np.float64]:
    a, b = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    return np.divide(a, b, out=np.full(a.shape, otherwise), where=b != 0)
