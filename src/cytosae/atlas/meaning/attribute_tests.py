"""Do latents go with what people see? Every latent against every value of every attribute, corrected for all tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, norm

from cytosae.atlas.making.column_ranks import stored_ranks
from cytosae.common.errors import UsageError

Array = NDArray[np.float64]
FEWEST = 10
"""Cells that must have a value, and that must have another, for it to be tested."""
Z = 1.96


def associate(values: Any, facts: pd.DataFrame, types: pd.Series | None = None) -> pd.DataFrame:
    """AUC of every latent for every value of every attribute, with interval and false discovery rate.

    AUC = P(a > b) + P(a = b) / 2, a the latent on a cell with the value, b on one with another. Its 95 % interval is
    A ± 1.96 s, s² = [A (1 - A) + (n1 - 1) (Q1 - A²) + (n0 - 1) (Q2 - A²)] / (n1 n0), with Q1 = A / (2 - A) and
    Q2 = 2 A² / (1 + A).
    p: Mann and Whitney's test, normal approximation with ties; q: Benjamini and Hochberg over all rows. Within types:
    the same AUC with pairs of cells of one type only, so that an attribute that merely tells the type has 0.5.

    Parameters
    ----------
    values : sparse array, shape (n, m)
        Mean activations, >= 0.
    facts : DataFrame, n rows
        Attributes; missing values take no part.
    types : Series or None, n rows
        Cell types; missing ones take no part in pairs within types.

    Returns
    -------
    DataFrame
        One row for each active latent, attribute and value: ``latent`` (column of values), ``attribute``, ``value``,
        ``cells`` (that have it), ``of`` (that are annotated), ``auc``, ``auc_low``, ``auc_high``, ``q``,
        ``auc_within`` (NaN without types, and with fewer than `FEWEST`² pairs), ``pairs_within``.

    Raises
    ------
    UsageError
        No value of any attribute has enough cells.

    References
    ----------
    Hanley and McNeil 1982, Radiology 143, 29-36; Mann and Whitney 1947; Benjamini and Hochberg 1995.
    """
    X = sp.csr_array(values)
    live = np.unique(X.indices[X.data > 0])
    tables = []
    for name in facts:
        column: Any = facts[name]
        rows = np.flatnonzero(column.notna().to_numpy())
        said = column.iloc[rows].astype(str).to_numpy()
        found, counts = np.unique(said, return_counts=True)
        tested = found[(counts >= FEWEST) & (len(rows) - counts >= FEWEST)]
        if not len(tested):
            continue
        has = said[:, None] == tested
        part = sp.csc_array(X[rows][:, live])
        auc, p = rank_tests(part, has)
        within = np.full((2, *auc.shape), np.nan)
        if types is not None:
            within = _within(part, has, pd.Categorical(types.iloc[rows].astype(object)).codes)
        low, high = _interval(auc, has.sum(0), len(rows))
        table: dict[str, Any] = {"latent": np.repeat(live, len(tested)), "attribute": str(name)}
        table |= {"value": np.tile(tested, len(live)), "cells": np.tile(has.sum(0), len(live)), "of": len(rows)}
        named = {"auc": auc, "auc_low": low, "auc_high": high, "q": p, "auc_within": within[0]}
        table |= {key: array.ravel() for key, array in (named | {"pairs_within": within[1]}).items()}
        tables.append(pd.DataFrame(table))
    if not tables:
        raise UsageError(f"no value of {', '.join(map(str, facts)) or 'any attribute'} has {FEWEST} cells, and others.")
    result = pd.concat(tables, ignore_index=True)
    return result.assign(q=false_discovery_control(result["q"].to_numpy()))


def rank_tests(matrix: sp.csc_array, has: NDArray[np.bool_]) -> tuple[Array, Array]:
    """AUC and two-sided p of every column for every group of rows against the others; both (m, V).

    Parameters
    ----------
    matrix : csc_array, shape (n, m)
        Values >= 0; what is not stored is 0.
    has : ndarray of bool, shape (n, V)
        The groups; none of them empty or of all rows.
    """
    n, m = has.shape[0], len(matrix.indptr) - 1
    n1 = has.sum(0).astype(float)
    weights, sums, ties = has.astype(float), np.zeros((m, has.shape[1])), np.zeros(m)
    for j in range(m):
        here = slice(matrix.indptr[j], matrix.indptr[j + 1])
        positive = matrix.data[here] > 0
        rows, data = matrix.indices[here][positive], matrix.data[here][positive]
        zeros = n - len(data)
        ranks, rank_of_zero = stored_ranks(data, n)
        sums[j] = (ranks - rank_of_zero) @ weights[rows] + n1 * rank_of_zero
        alike = np.unique(data, return_counts=True)[1].astype(float)
        ties[j] = (alike**3 - alike).sum() + float(zeros) ** 3 - zeros
    pairs = n1 * (n - n1)
    auc = (sums - n1 * (n1 + 1) / 2) / pairs
    spread = np.sqrt((n + 1 - ties / (n * (n - 1)))[:, None].clip(0) / (12 * pairs))
    z = np.divide(np.abs(auc - 0.5), spread, out=np.zeros_like(auc), where=spread > 0)
    return auc, 2 * norm.sf(z)


def best_values(table: pd.DataFrame, level: float = 0.01) -> pd.DataFrame:
    """Of each latent the value with the largest AUC above 0.5 whose q is at most ``level``; index latent."""
    found: Any = table[(table["q"] <= level) & (table["auc"] > 0.5)]
    return found.sort_values("auc", ascending=False, kind="stable").drop_duplicates("latent").set_index("latent")


def _within(matrix: sp.csc_array, has: NDArray[np.bool_], codes: NDArray[np.integer]) -> Array:
    """AUC over pairs of cells of one type, and the number of these pairs; (2, m, V)."""
    rows = sp.csr_array(matrix)
    hits = np.zeros((len(matrix.indptr) - 1, has.shape[1]))
    pairs = np.zeros(has.shape[1])
    for code in np.unique(codes[codes >= 0]):
        here = np.flatnonzero(codes == code)
        n1 = has[here].sum(0)
        both = np.flatnonzero((n1 > 0) & (n1 < len(here)))
        if len(both):
            own = (n1 * (len(here) - n1))[both].astype(float)
            hits[:, both] += own * rank_tests(sp.csc_array(rows[here]), has[here][:, both])[0]
            pairs[both] += own
    auc = np.divide(hits, pairs, out=np.full(hits.shape, np.nan), where=pairs >= FEWEST**2)
    return np.stack([auc, np.broadcast_to(pairs, hits.shape)])


def _interval(auc: Array, n1: NDArray[np.integer], n: int) -> tuple[Array, Array]:
    """Ends of Hanley and McNeil's interval, within 0 and 1."""
    n0 = n - n1
    above, below = auc / (2 - auc) - auc**2, 2 * auc**2 / (1 + auc) - auc**2
    s = np.sqrt((auc * (1 - auc) + (n1 - 1) * above + (n0 - 1) * below).clip(0) / (n1 * n0))
    return (auc - Z * s).clip(0), (auc + Z * s).clip(max=1)
