"""Two samples of cells compared column by column within cell types, patients as units where there are any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
FEWEST_CELLS = 5
"""Cells of a type that both samples need for it to be compared."""
FEWEST_PATIENTS = 5
"""Patients that both samples need for patients to be the units."""


@dataclass(frozen=True)
class Sample:
    """Cells of one side.

    Attributes
    ----------
    types : ndarray of int, shape (n,)
        Type of each cell, the same numbers on both sides; -1 where unknown.
    patients : ndarray of int, shape (n,)
        Patient of each, -1 where unknown.
    """

    types: NDArray[np.int64]
    patients: NDArray[np.int64]


@dataclass(frozen=True)
class Shift:
    """New less old, for each of m columns.

    Attributes
    ----------
    difference : ndarray, shape (m,)
        Mean over types, in the new sample's mixture, of the differences within a type.
    size : ndarray, shape (m,)
        ``difference`` in standard deviations of old units about their type's mean; 0 where these do not vary.
    p : ndarray, shape (m,)
        Two-sided.
    units : str
        "patients" or "cells".
    """

    difference: Array
    size: Array
    p: Array
    units: str


def within_types(new: Any, old: Any, of_new: Sample, of_old: Sample) -> Shift:
    """Compare columns of ``new`` (n, m) with those of ``old`` (n', m), sparse or dense, within types.

    With patients (`FEWEST_PATIENTS` or more on both sides): each patient's mean of value less the old mean of the
    cell's type; Welch's t-test over patients, its variance enlarged by that of the old type means. Without: the
    stratified difference of means and its z-test over cells. Cells of types that one side lacks take no part.
    """
    kept = shared_types(of_new, of_old)
    sides = [_Sums(x, of, kept) for x, of in ((new, of_new), (old, of_old))]
    ours, theirs = sides
    weights = ours.counts / ours.counts.sum()
    spread = np.sqrt((theirs.counts[:, None] * theirs.variance).sum(0) / theirs.counts.sum())
    mean_error = (weights[:, None] ** 2 * theirs.variance / theirs.counts[:, None]).sum(0)
    if min(side.n_patients for side in sides) >= FEWEST_PATIENTS:
        a, b = (side.deviations(theirs.mean) for side in sides)
        difference = a.mean(0) - b.mean(0)
        va, vb = a.var(0, ddof=1) / len(a), b.var(0, ddof=1) / len(b)
        variance = va + vb + mean_error
        freedom = np.divide(
            variance**2, va**2 / (len(a) - 1) + vb**2 / (len(b) - 1), out=np.ones_like(variance), where=variance > 0
        )
        freedom = np.clip(freedom, 1, len(a) + len(b) - 2)
        p = 2 * stats.t.sf(np.abs(_ratio(difference, np.sqrt(variance))), freedom)
        return Shift(difference, _ratio(difference, b.std(0, ddof=1)), p, "patients")
    difference = (weights[:, None] * (ours.mean - theirs.mean)).sum(0)
    variance = mean_error + (weights[:, None] ** 2 * ours.variance / ours.counts[:, None]).sum(0)
    p = 2 * stats.norm.sf(np.abs(_ratio(difference, np.sqrt(variance))))
    return Shift(difference, _ratio(difference, spread), p, "cells")


def shares(of_new: Sample, of_old: Sample, n_types: int) -> Shift:
    """Compare the shares of types: Welch's t-test over patients' shares, or a two-proportion z-test over cells."""
    counts = [_type_counts(of, n_types) for of in (of_new, of_old)]
    if all(len(table) >= FEWEST_PATIENTS for table in counts):
        a, b = (table / table.sum(1, keepdims=True) for table in counts)
        difference = a.mean(0) - b.mean(0)
        variance = a.var(0, ddof=1) / len(a) + b.var(0, ddof=1) / len(b)
        freedom = min(len(a), len(b)) - 1  # the least that Welch's formula can give
        p = 2 * stats.t.sf(np.abs(_ratio(difference, np.sqrt(variance))), freedom)
        return Shift(difference, _ratio(difference, b.std(0, ddof=1)), p, "patients")
    k = [np.bincount(of.types[of.types >= 0], minlength=n_types).astype(float) for of in (of_new, of_old)]
    n = [max(float(one.sum()), 1.0) for one in k]
    difference = k[0] / n[0] - k[1] / n[1]
    pooled = (k[0] + k[1]) / (n[0] + n[1])
    spread = np.sqrt(pooled * (1 - pooled))
    p = 2 * stats.norm.sf(np.abs(_ratio(difference, spread * np.sqrt(1 / n[0] + 1 / n[1]))))
    return Shift(difference, _ratio(difference, spread), p, "cells")


def shared_types(a: Sample, b: Sample) -> NDArray[np.int64]:
    """Types with `FEWEST_CELLS` on both sides."""
    known = np.intersect1d(a.types[a.types >= 0], b.types[b.types >= 0])
    enough = [c for c in known if min((a.types == c).sum(), (b.types == c).sum()) >= FEWEST_CELLS]
    return np.array(enough, np.int64)


class _Sums:
    """Counts, means and variances of columns by type, and sums by patient, over the cells of shared types."""

    def __init__(self, x: Any, of: Sample, kept: NDArray[np.int64]) -> None:
        take = np.flatnonzero(np.isin(of.types, kept))
        self.matrix: Any = sp.csr_array(x[take]).astype(np.float64)
        self.codes = np.searchsorted(kept, of.types[take])
        self.counts = np.bincount(self.codes, minlength=len(kept)).astype(np.float64)
        indicator: Any = _indicator(self.codes, len(kept))
        self.mean = (indicator @ self.matrix).toarray() / self.counts[:, None]
        square = (indicator @ self.matrix.multiply(self.matrix)).toarray() / self.counts[:, None]
        self.variance = np.maximum(square - self.mean**2, 0) * (self.counts / np.maximum(self.counts - 1, 1))[:, None]
        patients = of.patients[take]
        self.patients = np.unique(patients[patients >= 0])
        self.of_patient = patients
        self.n_patients = len(self.patients)

    def deviations(self, mean: Array) -> Array:
        """(patients, m) mean of value less the ``mean`` of the cell's type, over each patient's cells."""
        known = np.flatnonzero(self.of_patient >= 0)
        who = np.searchsorted(self.patients, self.of_patient[known])
        sums = (_indicator(who, self.n_patients) @ self.matrix[known]).toarray()
        cells = np.zeros((self.n_patients, len(mean)))
        np.add.at(cells, (who, self.codes[known]), 1)
        return (sums - cells @ mean) / cells.sum(1, keepdims=True)


def _type_counts(of: Sample, n_types: int) -> Array:
    """(patients, types) cells."""
    known = (of.patients >= 0) & (of.types >= 0)
    patients = np.unique(of.patients[known])
    table = np.zeros((len(patients), n_types))
    np.add.at(table, (np.searchsorted(patients, of.patients[known]), of.types[known]), 1)
    return table


def _indicator(codes: NDArray[np.integer], groups: int) -> Any:
    n = len(codes)
    return sp.csr_array((np.ones(n), (codes, np.arange(n))), shape=(groups, n))


def _ratio(a: Array, b: Array) -> Array:
    return np.divide(a, b, out=np.zeros_like(a), where=b > 1e-12)
