"""Cells that speak for a disease: each patient's cells ranked by concepts that are specific in other patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy import stats

from cytosae.cohort.config import Kind
from cytosae.cohort.contrasts.contrast import LARGE_DELTA
from cytosae.cohort.patients.barcodes import BLOCK_LATENTS, barcodes, cell_matrix
from cytosae.cohort.patients.diagnoses import REST, group_rows
from cytosae.common.errors import InputError, UsageError

LEADING = 3


def pathognomonic_cells(
    atlas: ad.AnnData,
    disease: str,
    against: str = REST,
    *,
    kind: Kind = "presence",
    concepts: int = 50,
    patients: Sequence[str] | None = None,
    patient: str = "patient",
    diagnosis: str = "diagnosis",
) -> pd.DataFrame:
    """Rank all cells of each patient by the concepts specific for ``disease``.

    For a patient, everything comes from the *other* patients: the concepts are the (at most) ``concepts`` latents with
    the largest Cliff's delta between the groups' barcodes, if it is large (>= 0.474); the weight of a concept is the
    logarithm of how much more of it the patients with the disease have, w_j = ln((a_j + e_j) / (b_j + e_j)), a_j and
    b_j the mean barcodes of the groups and e_j half of what one cell of a typical patient would add to its group. A
    cell's score is sum_j w_j x_ij / s_j, with x_ij its part of the barcode (`cell_matrix`) and s_j the mean of x over
    the other patients' cells that have the concept (1 for presence): with presence, the log likelihood ratio of naive
    Bayes over the concepts that the cell shows. A patient left out changes AUC and means exactly, by subtraction.

    Parameters
    ----------
    atlas : AnnData
        Cells x latents; ``atlas[immature]``, for instance, to choose and rank among some of the cells.
    disease, against : str
        Diagnoses; ``rest``: all others.
    kind : {"presence", "mean", "count"}
        Barcode that concepts are chosen by and cells are scored with.
    concepts : int
        At most so many.
    patients : sequence of str or None
        Whose cells to rank; those with the disease where None.
    patient, diagnosis : str
        Columns of ``obs``.

    Returns
    -------
    DataFrame
        One row a cell, patients in order, best cell first: ``cell_id``, ``patient``, ``label`` (where the atlas has
        it), ``score``, ``rank`` (1 is best; ties in the order of cell_id, which says nothing about the cell),
        ``leading`` (up to 3 latents that add most to the score, largest first, joined by blanks).
        ``attrs["concepts"]``: a table of the concepts used: ``latent``, ``patients`` (for how many of the ranked it was
        used), ``weight`` (mean over these).

    Raises
    ------
    InputError
        as `barcodes` and `contrast`; a group of fewer than 2 patients; an unknown patient.
    """
    cohort = barcodes(atlas, kinds=[kind], patient=patient, diagnosis=diagnosis)
    rows_a, rows_b = group_rows(cohort, disease, against, "diagnosis")
    weights = SpecificConcepts(cohort, kind, rows_a, rows_b)
    names = [str(name) for name in (cohort.obs_names[rows_a] if patients is None else patients)]
    place = cohort.obs_names.get_indexer(names)
    if (place < 0).any():
        raise InputError(f"There is no patient {names[int(np.argmin(place))]!r} with cells; choose another.")
    of_cell = atlas.obs[patient].astype(object).map(str, na_action="ignore").to_numpy()
    scale = typical_strength(atlas, kind, of_cell, cohort)
    tables, used = [], []
    for name, row in zip(names, place, strict=True):
        latents, weight = weights.without(int(row), concepts)
        used.append(pd.DataFrame({"latent": cohort.var_names[latents], "weight": weight}))
        own = np.flatnonzero(of_cell == name)
        parts = sp.csr_array(cell_matrix(atlas, kind, own)[:, latents]) * (weight / scale.without(int(row), latents))
        tables.append(_ranked(atlas, own, sp.csr_array(parts), cohort.var_names[latents], name))
    result = pd.concat(tables, ignore_index=True)
    concept_table = pd.concat(used).groupby("latent", sort=False)["weight"].agg(["size", "mean"]).reset_index()
    concept_table.columns = ["latent", "patients", "weight"]
    order = ["patients", "weight"]
    result.attrs = {"disease": disease, "against": against, "kind": kind}
    result.attrs["concepts"] = concept_table.sort_values(order, ascending=False, ignore_index=True).to_dict("list")
    return result


class SpecificConcepts:
    """Concepts and weights of a disease, with any one patient left out.

    Parameters
    ----------
    cohort : AnnData
        Barcodes with ``kind``.
    kind : {"presence", "mean", "count"}
        Barcode.
    rows_a, rows_b : ndarray of int64
        Patients with the disease and without.
    """

    kind: Kind
    typical_cells: float

    def __init__(self, cohort: ad.AnnData, kind: Kind, rows_a: NDArray[np.int64], rows_b: NDArray[np.int64]) -> None:
        if min(len(rows_a), len(rows_b)) < 2:
            raise InputError(
                "Weights from other patients need at least 2 patients in each group, but there are "
                f"{len(rows_a)} and {len(rows_b)}."
            )
        self.kind, self.typical_cells = kind, float(np.median(cohort.obs["n_cells"]))
        groups = [np.asarray(cohort.layers[kind])[rows] for rows in (rows_a, rows_b)]
        # of each group: rows, barcodes, their sum, wins and their sum
        self._groups = [
            (rows, values, values.sum(0, dtype=np.float64), wins, wins.sum(0))
            for rows, values, wins in zip((rows_a, rows_b), groups, _wins(*groups), strict=True)
        ]

    def delta(self, row: int) -> NDArray[np.float64]:
        """(m,) Cliff's delta without the patient in ``row`` of the cohort (all, where it is in neither group)."""
        wins, pairs = self._groups[0][4], 1
        for rows, _, _, own, _ in self._groups:
            wins = wins - own[rows == row].sum(0)
            pairs *= (rows != row).sum()
        return 2 * wins / pairs - 1

    def without(self, row: int, concepts: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Latents, strongest first, and their weights (> 0), from all patients but the one in ``row``."""
        delta = self.delta(row)
        latents = np.argsort(-delta, kind="stable")[:concepts]
        latents = latents[delta[latents] >= LARGE_DELTA]
        numbers = [(rows != row).sum() for rows, *_ in self._groups]
        means = [
            np.clip(total[latents] - values[rows == row][:, latents].sum(0), 0, None) / n
            for n, (rows, values, total, _, _) in zip(numbers, self._groups, strict=True)
        ]
        # One cell of a typical patient adds a share 1 / cells of a cell's worth of the concept to its patient.
        worth = 1.0 if self.kind == "presence" else np.maximum(*means)
        a_cell = 0.5 * worth / self.typical_cells
        weight = np.log((means[0] + a_cell / numbers[0]) / (means[1] + a_cell / numbers[1]))
        return latents[weight > 0], weight[weight > 0]


@dataclass(frozen=True)
class TypicalStrength:
    """Mean part of a barcode over the cells that have a concept, with any one patient left out.

    Attributes
    ----------
    sums, cells : ndarray of float64 or None, ndarray of int64 or None
        (P, m) sum over each patient's cells and number of cells with the concept; None for presence.
    """

    sums: NDArray[np.float64] | None
    cells: NDArray[np.int64] | None

    def without(self, row: int, latents: NDArray[np.int64]) -> NDArray[np.float64]:
        """(L,) strengths from all patients but the one in ``row``; 1 for presence."""
        if self.sums is None or self.cells is None:
            return np.ones(len(latents))
        total = self.sums[:, latents].sum(0) - self.sums[row, latents]
        count = self.cells[:, latents].sum(0) - self.cells[row, latents]
        return np.divide(total, count, out=np.ones(len(latents)), where=count > 0)


def typical_strength(atlas: ad.AnnData, kind: Kind, of_cell: NDArray[Any], cohort: ad.AnnData) -> TypicalStrength:
    """Strengths over the patients of ``cohort``."""
    if kind == "presence":
        return TypicalStrength(None, None)
    shape = (cohort.n_obs, cohort.n_vars)
    sums, cells = np.zeros(shape), np.zeros(shape, np.int64)
    for row, name in enumerate(cohort.obs_names):
        own = cell_matrix(atlas, kind, np.flatnonzero(of_cell == name))
        sums[row] = np.asarray(own.sum(axis=0)).ravel()
        cells[row] = np.bincount(own.indices, minlength=cohort.n_vars)
    return TypicalStrength(sums, cells)


def _wins(a: NDArray[np.floating], b: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How many of the other group each patient beats or is beaten by, ties half; (n_a, m) and (n_b, m).

    Both sum over their rows to n_a n_b times the AUC, so taking a patient out is a subtraction.
    """
    wins_a, wins_b = np.empty(a.shape), np.empty(b.shape)
    for start in range(0, a.shape[1], BLOCK_LATENTS):
        here = slice(start, start + BLOCK_LATENTS)
        x, y = a[:, here], b[:, here]
        pooled = _ranks(np.concatenate([x, y]))
        wins_a[:, here] = pooled[: len(x)] - _ranks(x)
        wins_b[:, here] = len(x) - (pooled[len(x) :] - _ranks(y))
    return wins_a, wins_b


def _ranks(x: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(stats.rankdata(x, axis=0), dtype=np.float64)


def _ranked(
    atlas: ad.AnnData, rows: NDArray[np.int64], parts: sp.csr_array, names: pd.Index, patient: str
) -> pd.DataFrame:
    score = np.asarray(parts.sum(axis=1)).ravel()
    ids = atlas.obs_names[rows].astype(str).to_numpy()
    order = np.lexsort((ids, -score))
    table = pd.DataFrame({"cell_id": ids[order], "patient": patient})
    if "label" in atlas.obs:
        labels = atlas.obs["label"].iloc[rows[order]].astype(object)
        table["label"] = [None if pd.isna(label) else str(label) for label in labels]
    table["score"] = score[order]
    table["rank"] = np.arange(1, len(order) + 1)
    table["leading"] = [_leading(parts, row, names) for row in order]
    return table


def _leading(parts: sp.csr_array, row: int, names: pd.Index) -> str:
    here = slice(parts.indptr[row], parts.indptr[row + 1])
    strongest = np.argsort(np.negative(parts.data[here]), kind="stable")[:LEADING]
    return " ".join(str(names[latent]) for latent in parts.indices[here][strongest])


def neighbour_scores(
    atlas: ad.AnnData,
    disease: str,
    *,
    k: int = 20,
    patient: str = "patient",
    diagnosis: str = "diagnosis",
    reference_cells: int = 50_000,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Share of the disease among the k nearest cells of other patients, by mean token; what concepts are compared with.

    Parameters
    ----------
    atlas : AnnData
        With ``obsm["X_backbone"]``.
    disease : str
        Diagnosis.
    k : int
        Neighbours, by Euclidean distance.
    reference_cells : int
        A larger data set is represented by so many random cells.
    seed : int
        Of that choice.

    Returns
    -------
    ndarray of float64, shape (n,)
        In [0, 1]; NaN for cells of patients without the disease.

    Raises
    ------
    InputError
        no mean tokens, a missing column, or nobody with the disease.
    """
    from sklearn.neighbors import NearestNeighbors

    for place, name in ((atlas.obs, patient), (atlas.obs, diagnosis), (atlas.obsm, "X_backbone")):
        if name not in place:
            raise InputError(
                f"The atlas has no {name!r}, which nearest neighbours need; build the atlas again with it."
            )
    if k < 1:
        raise UsageError(f"k is {k}; nearest neighbours need at least 1.")
    tokens = np.asarray(atlas.obsm["X_backbone"], np.float32)
    names = atlas.obs[patient].astype(object).map(str, na_action="ignore").to_numpy()
    has = (atlas.obs[diagnosis].astype(object).map(str, na_action="ignore") == disease).to_numpy()
    known = atlas.obs[patient].notna().to_numpy() & atlas.obs[diagnosis].notna().to_numpy()
    if not (has & known).any():
        raise InputError(f"No patient has the diagnosis {disease!r}; choose another.")
    pool = np.flatnonzero(known)
    if len(pool) > reference_cells:
        pool = np.sort(np.random.default_rng(seed).choice(pool, reference_cells, replace=False))
    scores = np.full(atlas.n_obs, np.nan)
    for name in sorted(set(names[has & known])):
        others = pool[names[pool] != name]
        if not len(others):
            raise InputError(f"Patient {name!r} is the only one; nearest cells of others need others.")
        own = np.flatnonzero((names == name) & known)
        index = NearestNeighbors(n_neighbors=min(k, len(others)), algorithm="brute").fit(tokens[others])
        near = index.kneighbors(tokens[own], return_distance=False)
        scores[own] = has[others][near].mean(1)
    return scores
