"""Patient-specific concepts: where a patient is an outlier against the others of the own group."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.cohort.config import Kind
from cytosae.cohort.patients.barcodes import BLOCK_LATENTS, layer
from cytosae.common.errors import InputError

THRESHOLD = 3.5
"""Robust z from which a value is an outlier (Iglewicz and Hoaglin 1993)."""
FEWEST = 5
"""Smallest group in which outliers are looked for."""


def patient_specific(
    barcodes: ad.AnnData,
    *,
    kind: Kind = "presence",
    diagnosis: str = "diagnosis",
    threshold: float = THRESHOLD,
    top: int | None = 20,
) -> pd.DataFrame:
    """Concepts in which a patient differs from the other patients with the same diagnosis.

    z = (x - median of the others) / s with s^2 = s_others^2 + se^2: s_others is 1.4826 times the median absolute
    deviation of the others from their median (1.2533 times the mean one where the median one is 0, which it is where
    most lack the concept), se the patient's own standard error from few cells. The patient is never among the others.
    This orders concepts to look at; over so many latents it is no test.

    Parameters
    ----------
    kind : {"presence", "mean", "count"}
        Barcode.
    threshold : float
        Rows have |z| >= this.
    top : int or None
        At most so many concepts of each patient, None for all.

    Returns
    -------
    DataFrame
        One row a patient and concept, patients in order, largest |z| first: ``patient``, ``diagnosis``, ``latent``
        (name in ``var``), ``value``, ``others`` (median of the others), ``z`` (infinite where neither the others nor
        the patient's own cells vary). ``attrs["skipped"]``: diagnoses with fewer than 5 patients, in which nobody is an
        outlier.

    Raises
    ------
    InputError
        no column of this name, or no group of 5 patients.
    """
    if diagnosis not in barcodes.obs:
        raise InputError(f"The barcodes have no column {diagnosis!r}; make them with the column of the diagnosis.")
    values, errors = layer(barcodes, kind), np.asarray(barcodes.layers[f"{kind}_se"])
    groups = barcodes.obs[diagnosis].astype(object).map(str, na_action="ignore").to_numpy()
    names = sorted({name for name in groups if isinstance(name, str)})
    large = [name for name in names if (groups == name).sum() >= FEWEST]
    if not large:
        raise InputError(f"No diagnosis has {FEWEST} patients; outliers within a group need that many.")
    tables = [_of_group(barcodes, np.flatnonzero(groups == name), values, errors, threshold) for name in large]
    table = pd.concat(tables, ignore_index=True)
    table.insert(1, "diagnosis", groups[barcodes.obs_names.get_indexer(table["patient"])])
    table = table.assign(size=table["z"].abs()).sort_values(["patient", "size"], ascending=[True, False], kind="stable")
    table = table.drop(columns="size").reset_index(drop=True)
    if top is not None:
        table = table.groupby("patient", sort=False).head(top).reset_index(drop=True)
    table.attrs["skipped"] = [name for name in names if name not in large]
    return table


def robust_z(
    values: NDArray[np.floating], errors: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """z of each value against the other rows of its column, and the median of these others; (n, m) each, n >= 2."""
    x = values.astype(np.float64)
    centre, candidates, which = _medians_of_others(x)
    spread = np.empty_like(x)
    for place in range(len(candidates)):
        deviation = np.abs(x - candidates[place])
        median = _medians_of_others(deviation)[0]
        mean = (deviation.sum(0) - deviation) / (len(x) - 1)
        scale = np.where(median > 0, 1.4826 * median, 1.2533 * mean)
        spread = np.where(which == place, scale, spread)
    scale = np.sqrt(spread**2 + errors.astype(np.float64) ** 2)
    distance = x - centre
    z = np.where(distance == 0, 0.0, np.copysign(np.inf, distance))
    return np.divide(distance, scale, out=z, where=scale > 1e-12), centre


def _of_group(
    barcodes: ad.AnnData, rows: NDArray[np.int64], values: NDArray, errors: NDArray, threshold: float
) -> pd.DataFrame:
    parts = []
    for start in range(0, barcodes.n_vars, BLOCK_LATENTS):
        here = slice(start, start + BLOCK_LATENTS)
        x = values[rows][:, here]
        z, others = robust_z(x, errors[rows][:, here])
        patient, latent = np.nonzero(np.abs(z) >= threshold)
        part = {
            "patient": np.asarray(barcodes.obs_names)[rows[patient]],
            "latent": np.asarray(barcodes.var_names)[start + latent],
            "value": x[patient, latent].astype(float),
            "others": others[patient, latent],
            "z": z[patient, latent],
        }
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def _medians_of_others(
    x: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int8]]:
    """Median of the other rows for each entry, its at most 3 values per column, and which of them each entry has.

    Without the entry of rank r, the middle of the sorted column moves by one place if r is in front of it: one sort
    serves all rows.
    """
    n = len(x)
    order = np.argsort(x, axis=0, kind="stable")
    s = np.take_along_axis(x, order, axis=0)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(n)[:, None], axis=0)
    k = (n - 1) // 2
    if n % 2 == 0:  # an odd number of others: one in the middle
        candidates = np.stack([s[k + 1], s[k]])
        which = np.where(rank <= k, 0, 1).astype(np.int8)
    else:  # an even number: two in the middle
        candidates = np.stack([(s[k] + s[k + 1]) / 2, (s[k - 1] + s[k + 1]) / 2, (s[k - 1] + s[k]) / 2])
        which = np.where(rank < k, 0, np.where(rank == k, 1, 2)).astype(np.int8)
    return np.take_along_axis(candidates, which.astype(np.int64), axis=0), candidates, which
