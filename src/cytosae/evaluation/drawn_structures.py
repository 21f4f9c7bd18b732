"""Do single units find the structures and attributes of drawn cells? Chosen on one half, scored on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.evaluation.drawn_cells import DrawnCells
from cytosae.evaluation.unit_scores import (
    average_precision_draws,
    average_precisions,
    best_threshold,
    cell_weights,
    interval,
    overlap_draws,
    rank_correlation_draws,
    rank_correlations,
    with_interval,
)
from cytosae.evaluation.units import Activations, Units, cell_values, columns, patch_values

FOUND = 0.5
"""Average precision above which a structure counts as found."""
CLOSE = 0.9
"""Share of the best unit's gain over the base rate from which on another unit counts as standing for the same."""
MOST_MATCHED = 10
LEAST_CELLS = 5
"""Cells of each half that must show a structure for it to be scored."""


@dataclass(frozen=True)
class StructureScores:
    """How well one family of units finds the structures.

    Attributes
    ----------
    table : DataFrame
        One row a structure: structure, units (family), unit, sign, search_ap, ap, base (rate of patches that show it),
        iou, purity, each of the last four but base with ``_low`` and ``_high``; redundancy.
    summary : dict of str to object
        One row: units, structures, mean_ap, recall (share of structures with ap > 0.5), mean_iou, with intervals,
        redundancy and purity (means over the structures found).
    matched : dict of str to list of int
        Structure -> units whose gain over the base rate is close to the best one's, best first, at most ten.
    """

    table: pd.DataFrame
    summary: dict[str, Any]
    matched: dict[str, list[int]]


def scored_structures(cells: DrawnCells, halves: Sequence[NDArray[np.intp]]) -> list[int]:
    """Numbers of the structures that enough cells of both halves show."""
    seen: NDArray[np.bool_] = np.asarray(cells.shows.any(axis=1))
    counts = np.min([seen[half].sum(0) for half in halves], axis=0)
    return np.flatnonzero(counts >= LEAST_CELLS).tolist()


def score_structures(
    units: Units, cells: DrawnCells, *, seed: int, resamples: int, confidence: float = 0.95
) -> StructureScores:
    """Choose the best unit, and its threshold, for each structure on one half of the cells; score them on the other.

    Parameters
    ----------
    units : Units
        The candidates.
    cells : DrawnCells
        With the truth.
    seed : int
        Of the halves and of the resamples.
    resamples : int
        Of the scored cells behind each interval.

    Returns
    -------
    StructureScores
        The measures are defined in docs/concept_benchmark.md.
    """
    search, test = cells.halves(seed)
    kept = scored_structures(cells, (search, test))
    values = patch_values(units, cells.tokens, search)
    truth = cells.shows[search][:, :, kept].reshape(-1, len(kept))
    precision = average_precisions(values, truth)
    if units.signed:
        precision = np.vstack([precision, average_precisions(-values, truth)])
    chosen = precision.argmax(0)
    thresholds = [best_threshold(_of(values, int(u), units.count), truth[:, j]) for j, u in enumerate(chosen)]
    matched = _matched(precision, truth.mean(0))
    del values
    maps = _maps(units, cells, test, chosen)
    weights = cell_weights(len(test), resamples, seed)
    rows, ap_draws, iou_draws = [], [], []
    for j, s in enumerate(kept):
        shown = cells.shows[test, :, s]
        ap = average_precision_draws(maps[j], shown, weights)
        iou, purity = overlap_draws(maps[j] >= thresholds[j], shown, weights)
        ap_draws.append(ap)
        iou_draws.append(iou)
        unit = int(chosen[j])
        rows.append(
            {
                "structure": cells.structures[s],
                "units": units.name,
                "unit": unit % units.count,
                "sign": "-" if unit >= units.count else "+",
                "search_ap": float(precision[unit, j]),
                **with_interval("ap", ap, confidence),
                "base": float(shown.mean()),
                **with_interval("iou", iou, confidence),
                **with_interval("purity", purity, confidence),
                "redundancy": len(matched[j]),
            }
        )
    table = pd.DataFrame(rows)
    names = [cells.structures[s] for s in kept]
    found = table[table["ap"] > FOUND]
    summary: dict[str, Any] = {"units": units.name, "structures": len(kept)}
    summary |= with_interval("mean_ap", np.nanmean(ap_draws, axis=0), confidence)
    summary |= with_interval("recall", (np.array(ap_draws) > FOUND).mean(0), confidence)
    summary |= with_interval("mean_iou", np.mean(iou_draws, axis=0), confidence)
    summary |= {"redundancy": float(found["redundancy"].mean()), "purity": float(found["purity"].mean())}
    best = {name: list(matched[j][:MOST_MATCHED] % units.count) for j, name in enumerate(names)}
    return StructureScores(table, summary, {name: [int(u) for u in found] for name, found in best.items()})


def score_attributes(
    units: Units, cells: DrawnCells, *, seed: int, resamples: int, confidence: float = 0.95
) -> pd.DataFrame:
    """Rank correlation of each drawn attribute with the mean activation of the unit that follows it best.

    Returns
    -------
    DataFrame
        One row an attribute: attribute, units, unit, sign, search_rho, rho with interval; then the row "mean". The sign
        is that of the half on which the unit was chosen, so a unit that turns out to run the other way scores below 0.
    """
    search, test = cells.halves(seed)
    values = cell_values(units, cells.tokens, search)
    draws = np.random.default_rng(seed).integers(0, len(test), (resamples, len(test)))
    draws = np.vstack([np.arange(len(test)), draws])
    names = [n for n in cells.attributes if all(_varies(cells.attributes[n].to_numpy()[h]) for h in (search, test))]
    rho = np.stack([_all_correlations(values, cells.attributes[name].to_numpy()[search]) for name in names])
    chosen = np.abs(rho).argmax(1)
    of_test = columns(cell_values(units, cells.tokens, test), np.asarray(chosen))
    rows, kept = [], []
    for j, name in enumerate(names):
        sign = 1.0 if rho[j, chosen[j]] >= 0 else -1.0
        scored = sign * rank_correlation_draws(of_test[:, j], cells.attributes[name].to_numpy()[test], draws)
        kept.append(scored)
        facts = {"attribute": name, "units": units.name, "unit": int(chosen[j]), "sign": "+" if sign > 0 else "-"}
        found = with_interval("rho", scored, confidence)
        rows.append({**facts, "search_rho": float(np.abs(rho[j, chosen[j]])), **found})
    value, low, high = interval(np.mean(kept, axis=0), confidence)
    rows.append({"attribute": "mean", "units": units.name, "rho": value, "rho_low": low, "rho_high": high})
    return pd.DataFrame(rows)


def _of(values: Activations, unit: int, count: int) -> NDArray[np.float32]:
    column = columns(values, np.array([unit % count])).ravel()
    return -column if unit >= count else column


def _maps(units: Units, cells: DrawnCells, rows: NDArray[np.intp], chosen: NDArray[np.integer]) -> NDArray[np.float32]:
    """[chosen, n, P] values of the chosen units; other units are dropped batch by batch."""
    narrow = Units(
        units.name, units.count, units.signed, lambda tokens: columns(units.activate(tokens), chosen % units.count)
    )
    values = patch_values(narrow, cells.tokens, rows)
    values = np.where(chosen >= units.count, -values, values)
    return np.ascontiguousarray(values.T).reshape(len(chosen), len(rows), -1)


def _matched(precision: NDArray[np.float64], base: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    gain = precision - base
    order = np.argsort(-gain, axis=0, kind="stable")
    found = []
    for j in range(gain.shape[1]):
        ranked = order[:, j]
        found.append(ranked[gain[ranked, j] >= CLOSE * gain[ranked[0], j]] if gain[ranked[0], j] > 0 else ranked[:1])
    return found


def _all_correlations(values: Activations, truth: NDArray[Any]) -> NDArray[np.float64]:
    width = values.shape[1]
    return np.concatenate(
        [rank_correlations(columns(values, slice(i, min(i + 512, width))), truth) for i in range(0, width, 512)]
    )


def _varies(values: NDArray[Any]) -> bool:
    """Whether 10 cells or more differ from the most frequent value."""
    counts = np.unique(values, return_counts=True)[1]
    return len(values) - counts.max() >= 10
