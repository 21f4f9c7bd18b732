"""Two groups of patients compared latent by latent; patients, never cells, are the samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from cytosae.cohort.config import Kind
from cytosae.cohort.contrasts.rank_tests import auc_interval, fewest_patients, mann_whitney, smallest_p
from cytosae.cohort.design import Design, Intervals
from cytosae.cohort.patients.barcodes import BLOCK_LATENTS, layer
from cytosae.cohort.patients.diagnoses import REST, group_rows
from cytosae.common.errors import InputError
from cytosae.common.table_artifacts import open_table, save_table

LARGE_DELTA = 0.474
"""Size of Cliff's delta from which an effect is called large (Romano et al. 2006): an AUC of 0.737."""
SMALL_GROUP = 5


def contrast(
    barcodes: ad.AnnData,
    a: str,
    b: str = REST,
    *,
    kind: Kind = "presence",
    diagnosis: str = "diagnosis",
    fdr: float = 0.05,
    min_patients: int | None = None,
    intervals: Intervals | None = None,
) -> pd.DataFrame:
    """Compare two diagnoses, latent by latent.

    Parameters
    ----------
    barcodes : AnnData
        Patients x latents.
    a, b : str
        Diagnoses; ``b="rest"``: all other patients with a diagnosis.
    kind : {"presence", "mean", "count"}
        Barcode that is compared.
    diagnosis : str
        Column of ``obs``.
    fdr : float
        False discovery rate at which a concept is called specific (Benjamini-Hochberg over the tested latents).
    min_patients : int or None
        Latents that fewer patients have (barcode > 0) are not tested; None for `rank_tests.fewest_patients`.
    intervals : Intervals or None
        Coverage of the intervals, each by itself, and how that of the difference is made (1,000 resamples of patients
        where None).

    Returns
    -------
    DataFrame
        One row a latent, index as ``barcodes.var_names``:

        * ``mean_a``, ``mean_b``, ``median_a``, ``median_b``, ``difference`` = mean_a - mean_b with ``difference_low``,
            ``difference_high``: percentile bootstrap over patients (`cytosae.cohort.Design.bootstrap`), each group's
            deviations widened by sqrt(n / (n - 1)), n the number of what is drawn;
        * ``auc`` = P(a > b) + P(a = b) / 2 with ``auc_low``, ``auc_high`` (`rank_tests.auc_interval`) and
            ``cliffs_delta`` = 2 auc - 1, ``cliffs_delta_low``, ``cliffs_delta_high``;
        * ``patients_a``, ``patients_b``: how many patients have the concept; ``tested``: enough have it;
        * ``p`` (two-sided Mann-Whitney, see `rank_tests.mann_whitney`) and ``q``; NaN where not tested;
        * ``specific_a``, ``specific_b``: q <= fdr and a large effect (|delta| >= 0.474) in favour of this group.

        ``attrs`` holds a, b, n_a, n_b, kind, method, tested, excluded, min_patients, fdr, confidence.

    Raises
    ------
    InputError
        a missing column or group, a single diagnosis.
    UsageError
        a barcode that was not made, or a group compared with itself.

    References
    ----------
    Hesterberg 2015, The American Statistician 69, 371-386 (widening); Romano et al. 2006 (size of effects).
    """
    intervals = intervals or Intervals(resamples=1000)
    rows_a, rows_b = group_rows(barcodes, a, b, diagnosis)
    values = layer(barcodes, kind)
    x, y = values[rows_a], values[rows_b]
    n_a, n_b = len(x), len(y)
    least = fewest_patients(n_a, n_b, fdr) if min_patients is None else min_patients
    table = pd.DataFrame(index=barcodes.var_names)
    table["mean_a"], table["mean_b"] = x.mean(0, dtype=np.float64), y.mean(0, dtype=np.float64)
    table["median_a"], table["median_b"] = np.median(x, axis=0).astype(float), np.median(y, axis=0).astype(float)
    table["difference"] = table["mean_a"] - table["mean_b"]
    names = [str(name) for name in barcodes.obs_names[np.concatenate([rows_a, rows_b])]]
    table["difference_low"], table["difference_high"] = _bootstrap(x, y, names, intervals)
    auc, p, method = mann_whitney(x, y)
    low, high = auc_interval(auc, n_a, n_b, intervals.confidence)
    table["auc"], table["auc_low"], table["auc_high"] = auc, low, high
    for name in ("", "_low", "_high"):
        table[f"cliffs_delta{name}"] = 2 * table[f"auc{name}"] - 1
    table["patients_a"], table["patients_b"] = (x > 0).sum(0), (y > 0).sum(0)
    tested = (table["patients_a"] + table["patients_b"] >= max(least, 1)).to_numpy()
    table["tested"] = tested
    table["p"] = np.where(tested, p, np.nan)
    table["q"] = np.nan
    if tested.any():
        table.loc[tested, "q"] = stats.false_discovery_control(p[tested])
    found = (table["q"] <= fdr).to_numpy()
    table["specific_a"] = found & (table["cliffs_delta"] >= LARGE_DELTA).to_numpy()
    table["specific_b"] = found & (table["cliffs_delta"] <= -LARGE_DELTA).to_numpy()
    table.attrs = {"a": a, "b": b, "n_a": n_a, "n_b": n_b, "kind": kind, "method": method}
    table.attrs |= {"tested": int(tested.sum()), "excluded": int((~tested).sum()), "min_patients": int(least)}
    table.attrs |= {"fdr": fdr, "confidence": intervals.confidence}
    return table


def conclusion(table: pd.DataFrame) -> str:
    """What a contrast shows and what it cannot, in sentences.

    The smallest p of a rank test of n_a and n_b patients is 2 / C(n_a + n_b, n_a). Benjamini-Hochberg over M tests
    calls a latent at this p only if at least M p / fdr latents reach it together; where that is more than all, nothing
    can be called, whatever the data.
    """
    facts = table.attrs
    a, b, n_a, n_b, tests, fdr = (facts[name] for name in ("a", "b", "n_a", "n_b", "tested", "fdr"))
    groups = f"{n_a} {_patients(n_a)} with {a} and {n_b} with {b}"
    if not tests:
        return f"With {groups}, no concept is frequent enough to be tested; nothing can be concluded."
    least = smallest_p(n_a, n_b)
    needed = int(np.ceil(least * tests / fdr * (1 - 1e-12)))
    if needed > tests:
        return (
            f"With {groups}, the smallest p that a rank test can give is {least:.2g}; after correction for {tests} "
            f"tests none can reach q <= {fdr:g}, whatever the data. No concept can be called specific: the differences "
            "shown are examples, not findings."
        )
    found = int((table["q"] <= fdr).sum())
    specific = [int(table[f"specific_{group}"].sum()) for group in ("a", "b")]
    text = (
        f"With {groups}, {found} of {tests} concepts tested differ at a false discovery rate of {fdr:g}; "
        f"{specific[0]} are specific for {a} and {specific[1]} for {b}."
    )
    if needed > 1:
        text += (
            f" The smallest p that groups of this size can give is {least:.2g}: a concept can only be called if "
            f"{needed} or more separate the groups completely at once, so that one that is not called may still differ."
        )
    if min(n_a, n_b) < SMALL_GROUP:
        text += (
            f" With {min(n_a, n_b)} {_patients(min(n_a, n_b))} in a group, nothing can be said about others like them."
        )
    return text


def save_contrast(
    table: pd.DataFrame, path: Path, *, config: Any = None, inputs: Mapping[str, str] | None = None
) -> Path:
    """Write a contrast as a ``.parquet`` artifact of kind "contrasts" (``attrs`` are kept)."""
    details = {str(name): value for name, value in table.attrs.items()}
    return save_table(table, path, "contrasts", config=config, inputs=inputs, details=details)


def open_contrast(path: Path | str, *, verify: bool = True) -> pd.DataFrame:
    """Open what `save_contrast` wrote."""
    return open_table(path, "contrasts", verify=verify)


def disease_barcodes(barcodes: ad.AnnData, kind: Kind = "presence", diagnosis: str = "diagnosis") -> pd.DataFrame:
    """Mean barcode of the patients of each diagnosis (each patient counts once), [diagnoses, latents]."""
    if diagnosis not in barcodes.obs:
        raise InputError(f"The barcodes have no column {diagnosis!r}; make them with the column of the diagnosis.")
    diagnoses = barcodes.obs[diagnosis].astype(object).map(str, na_action="ignore").to_numpy()
    values = pd.DataFrame(layer(barcodes, kind), columns=barcodes.var_names, dtype=np.float64)
    means: Any = values.groupby(pd.Index(diagnoses, name=diagnosis)).mean()
    return means


def _bootstrap(
    x: NDArray[np.floating], y: NDArray[np.floating], patients: list[str], intervals: Intervals
) -> NDArray[np.float64]:
    """Interval of the difference of means, shape (2, m)."""
    m, first = x.shape[1], np.arange(len(patients)) < len(x)
    design = Design.of(patients, intervals.groups, (~first).astype(np.intp))
    drawn = (design.table > 0).sum(0)
    if drawn.min() < 2:  # one patient says nothing about the spread between patients
        return np.full((2, m), np.nan)
    weights = design.bootstrap(intervals.resamples, np.random.default_rng(intervals.seed))
    deviations = np.zeros((intervals.resamples, len(patients)), np.float32)
    for own, n, sign in ((first, drawn[0], 1), (~first, drawn[1], -1)):
        shares = weights[:, own] / weights[:, own].sum(1, keepdims=True)
        deviations[:, own] = sign * (shares[1:] - shares[0]) * np.sqrt(n / (n - 1))
    bounds = np.empty((2, m))
    for start in range(0, m, BLOCK_LATENTS):
        of_x, of_y = (values[:, start : start + BLOCK_LATENTS].astype(np.float32) for values in (x, y))
        difference = of_x.mean(0, dtype=np.float64) - of_y.mean(0, dtype=np.float64)
        bounds[:, start : start + BLOCK_LATENTS] = difference + intervals.ends(
            deviations @ np.concatenate([of_x, of_y])
        )
    return bounds


def _patients(n: int) -> str:
    return "patient" if n == 1 else "patients"
