"""How good a ranking of cells is: precision among the first, average precision, and which labels are enriched."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.cohort.design import Intervals
from cytosae.common.errors import InputError, UsageError

if TYPE_CHECKING:
    from cytosae.cells import CellTable

CHANCE = "chance"


@dataclass(frozen=True)
class RankingEvaluation:
    """Rankings of cells compared with what experts say.

    Attributes
    ----------
    table : DataFrame
        One row a ranking, "chance" last; columns ``precision`` (of the first k cells, mean over patients) with
        ``precision_low``, ``precision_high``, ``average_precision`` with its interval, and for all but chance
        ``precision_gain`` and ``average_precision_gain`` (over chance, paired within patients) with intervals.
    per_patient : DataFrame
        One row a patient and ranking: patient, ranking, cells, positives, precision, average_precision.
    k : int
        Cells in ``precision``.
    patients : int
        Patients with a positive cell, over whom everything is averaged.
    without : int
        Patients with known cells but no positive one, in which nothing can be found.
    intervals : Intervals
        How all intervals are made.
    """

    table: pd.DataFrame
    per_patient: pd.DataFrame
    k: int
    patients: int
    without: int
    intervals: Intervals

    def differences(self, a: str, b: str) -> pd.DataFrame:
        """Paired difference a - b of two rankings, mean over patients with interval; rows the two measures."""
        rows = {}
        for measure in MEASURES:
            wide: Any = self.per_patient.pivot(index="patient", columns="ranking", values=measure)
            rows[measure] = dict(zip(("mean", "low", "high"), _mean(wide[a] - wide[b], self.intervals), strict=True))
        return pd.DataFrame.from_dict(rows, orient="index")


MEASURES = ("precision", "average_precision")


def evaluate_rankings(
    scores: Mapping[str, NDArray[np.floating]],
    truth: pd.Series,
    patients: pd.Series,
    *,
    k: int = 10,
    intervals: Intervals | None = None,
) -> RankingEvaluation:
    """Compare rankings of each patient's cells with the truth, and with chance.

    Parameters
    ----------
    scores : mapping of str to ndarray of float
        Ranking -> (n,) score of each cell, higher is earlier; a cell with a NaN in any of them is left out of all.
    truth : Series
        (n,) True, False or missing (left out), index cell_id; see `truth_of_labels`.
    patients : Series
        (n,) patient of each cell, same index.
    k : int
        Cells in the precision; all of a patient's where there are fewer.
    intervals : Intervals or None
        Bootstrap over patients, or over groups of them.

    Returns
    -------
    RankingEvaluation
        Ties are broken by cell_id. Chance is exact: with R positives among N cells, a random order has the expected
        precision R / N and the expected average precision (H_N + (R - 1) / (N - 1) (N - H_N)) / N, H_N = 1 + ... + 1 /
        N.

    Raises
    ------
    InputError
        scores of another length, or no patient with a positive cell.

    References
    ----------
    Bestgen 2015, Prague Bulletin of Mathematical Linguistics 103 (expected average precision).
    """
    if CHANCE in scores:
        raise UsageError(f"a ranking cannot be called {CHANCE!r}, which is added by itself; give it another name.")
    n = len(truth)
    for name, values in {**scores, "patients": patients}.items():
        if len(values) != n:
            raise InputError(f"{name!r} has {len(values)} values, but there are {n} cells; give one a cell.")
    known = truth.notna().to_numpy() & patients.notna().to_numpy()
    for values in scores.values():
        known = known & ~np.isnan(values)
    ids, names = truth.index.astype(str).to_numpy(), patients.astype(object).to_numpy()
    positive = truth.astype("boolean").fillna(value=False).to_numpy(bool)
    rows, without = [], 0
    for patient in sorted({str(name) for name in names[known]}):
        own = np.flatnonzero(known & (names == patient))
        R, N = int(positive[own].sum()), len(own)
        if not R:
            without += 1
            continue
        facts = {"patient": patient, "cells": N, "positives": R}
        for name, values in scores.items():
            order = own[np.lexsort((ids[own], -np.asarray(values)[own]))]
            precision, average = precision_at(positive[order], k), average_precision(positive[order])
            rows.append({**facts, "ranking": name, "precision": precision, "average_precision": average})
        rows.append({**facts, "ranking": CHANCE, "precision": R / N, "average_precision": expected_ap(R, N)})
    if not rows:
        raise InputError("No patient has a cell with one of these labels; nothing can be found, or compared.")
    per_patient = pd.DataFrame(rows, columns=["patient", "ranking", "cells", "positives", *MEASURES])  # pyright: ignore[reportArgumentType]
    intervals = intervals or Intervals()
    table = _summary(per_patient, [*scores, CHANCE], intervals)
    return RankingEvaluation(table, per_patient, k, len({row["patient"] for row in rows}), without, intervals)


def precision_at(positive: NDArray[np.bool_], k: int) -> float:
    """Share of positives among the first k (all where there are fewer) of cells in their order."""
    return float(positive[:k].mean())


def average_precision(positive: NDArray[np.bool_]) -> float:
    """Mean over the positives of the precision down to each."""
    ranks = np.flatnonzero(positive) + 1
    return float((np.arange(1, len(ranks) + 1) / ranks).mean()) if len(ranks) else float("nan")


def expected_ap(positives: int, cells: int) -> float:
    """Expected average precision of a random order; see `evaluate_rankings`."""
    if cells == 1:
        return float(positives)
    H = float((1 / np.arange(1, cells + 1)).sum())
    return (H + (positives - 1) / (cells - 1) * (cells - H)) / cells


def enrichment(ranking: pd.DataFrame, *, k: int = 10, intervals: Intervals | None = None) -> pd.DataFrame:
    """How much more often each label is among the first k cells of a patient than among all.

    Parameters
    ----------
    ranking : DataFrame
        As `pathognomonic_cells` gives it, with ``label``; cells without one are passed over.
    k : int
        First cells of each patient.
    intervals : Intervals or None
        Bootstrap over patients, or over groups of them.

    Returns
    -------
    DataFrame
        Index label, most enriched first: ``top`` (share among the first k, mean over patients), ``all`` (share among
        all cells, likewise), ``difference`` with ``difference_low``, ``difference_high`` (bootstrap over patients),
        ``ratio``, ``patients`` (who have such a cell), ``cells``.

    Raises
    ------
    InputError
        no labels.
    """
    if "label" not in ranking or ranking["label"].isna().to_numpy().all():
        raise InputError("The ranked cells have no labels; enrichment needs them.")
    table = ranking.dropna(subset=["label"]).sort_values(["patient", "rank"])
    first = table.groupby("patient").cumcount() < k
    shares = pd.crosstab(table["patient"], table["label"], normalize="index")
    top = pd.crosstab(table["patient"][first], table["label"][first], normalize="index").reindex_like(shares).fillna(0)
    rows = {}
    for label in shares.columns:
        gap, low, high = _mean(top[label] - shares[label], intervals or Intervals())
        rows[label] = {
            "top": top[label].mean(),
            "all": shares[label].mean(),
            "difference": gap,
            "difference_low": low,
            "difference_high": high,
            "ratio": top[label].mean() / shares[label].mean(),
            "patients": int((shares[label] > 0).sum()),
            "cells": int((table["label"] == label).sum()),
        }
    result = pd.DataFrame.from_dict(rows, orient="index").astype({"patients": int, "cells": int})
    return result.rename_axis("label").sort_values("difference", ascending=False)


def truth_of_labels(atlas: ad.AnnData, labels: Collection[str], column: str = "label") -> pd.Series:
    """(n,) nullable boolean: whether a cell has one of ``labels``, missing where it has none; index cell_id.

    Raises
    ------
    InputError
        no such column, or none of the cells has one of the labels.
    """
    if column not in atlas.obs:
        raise InputError(f"The atlas has no column {column!r}; name the column of the expert labels.")
    values = pd.Series(atlas.obs[column].astype(object))
    truth = pd.Series(values.isin(list(labels)), index=atlas.obs_names).astype("boolean").mask(values.isna().to_numpy())
    if not truth.fillna(value=False).any():
        raise InputError(
            f"No cell is labelled {' or '.join(map(repr, sorted(labels)))}; the labels are: "
            f"{', '.join(sorted(map(str, values.dropna().unique())))}."
        )
    return truth


def expert_labels(atlas: ad.AnnData, cells: CellTable, annotations: Path | str) -> pd.DataFrame:
    """Expert labels of AML_Hehr cells for the cells of an atlas, joined by patient and file name.

    Parameters
    ----------
    cells : CellTable
        The table that the atlas was made from.
    annotations : str or Path
        ``hehr_expert_annotations.csv``.

    Returns
    -------
    DataFrame
        Index as ``atlas.obs_names``; ``expert_label``, ``expert_cell_type`` (harmonised), ``expert_pathognomonic``
        (nullable boolean); missing for cells that experts did not label. Add them to ``atlas.obs``, or take a column as
        the truth.

    Raises
    ------
    InputError
        none of the cells is in the table of annotations, or it cannot be read.
    """
    from cytosae.cells import join_annotations, read_expert_annotations

    frame = join_annotations(cells, read_expert_annotations(annotations)).frame.set_index("cell_id")
    columns = ["expert_label", "expert_cell_type", "expert_pathognomonic"]
    table = pd.DataFrame(frame.loc[:, columns]).reindex(atlas.obs_names)
    if table["expert_label"].isna().to_numpy().all():
        raise InputError(f"{annotations} names none of these cells; it is about images of AML_Hehr.")
    return table.astype({"expert_pathognomonic": "boolean"})


def _summary(per_patient: pd.DataFrame, names: list[str], intervals: Intervals) -> pd.DataFrame:
    wide: dict[str, Any] = {m: per_patient.pivot(index="patient", columns="ranking", values=m) for m in MEASURES}
    rows: dict[str, dict[str, float]] = {name: {} for name in names}
    for name, measure in product(names, MEASURES):
        shown = {measure: wide[measure][name]}
        if name != CHANCE:
            shown[f"{measure}_gain"] = wide[measure][name] - wide[measure][CHANCE]
        for key, values in shown.items():
            rows[name] |= dict(zip((key, f"{key}_low", f"{key}_high"), _mean(values, intervals), strict=True))
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("ranking")


def _mean(values: pd.Series, intervals: Intervals) -> tuple[float, float, float]:
    """Mean over patients with its interval."""
    return intervals.mean(values.to_numpy(dtype=np.float64), [str(name) for name in values.index])
