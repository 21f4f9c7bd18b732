"""The search for the unit, and its threshold, whose map agrees best with a structure; pure arrays in and out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.atlas.config import LocalisationConfig

FIXED = "fixed map"
"""Family of no unit at all: the typical place of the structure, the same map on every cell."""


def search_units(
    families: dict[str, Any],
    areas: dict[str, NDArray[np.float32]],
    dataset: NDArray[Any],
    search: NDArray[np.bool_],
    config: LocalisationConfig,
) -> Localisation:
    """The search itself, on units' values.

    Parameters
    ----------
    families : dict of str to object
        Family -> [n * P, units] values on the patches: a CSC array of non-negative activations, or a dense array; of a
        dense family the second half of the columns is the first with the other sign.
    areas : dict of str to ndarray of float32
        Structure -> [n, P] float32, share of each patch that the structure covers.
    dataset : ndarray, shape (n,)
        Name of each cell's data set.
    search : ndarray of bool, shape (n,)
        The cells searched; the others are held out.
    """
    n, P = next(iter(areas.values())).shape
    rng = np.random.default_rng(config.seed)
    partners = [_partners(dataset[~search], rng) for _ in range(config.permutations)]
    draws = rng.integers(0, (~search).sum(), (config.bootstrap, (~search).sum()))
    best = {family: _best_units(values, areas, search, P, config.thresholds) for family, values in families.items()}
    rows, by_dataset = [], []
    for structure, area in areas.items():
        for family in [*families, FIXED]:
            if family == FIXED:
                chosen, maps = _fixed_map(area, search)
            else:
                chosen, maps = _maps_of(families[family], best[family][structure], n, P)
            scores, row = _score(maps[~search], area[~search], partners, draws, config.confidence)
            rows.append({"structure": structure, "family": family, **chosen, **row})
            for name in sorted(set(dataset[~search].tolist())):
                of_name = scores[dataset[~search] == name]
                found = {"dataset": name, "n": len(of_name), "iou": float(of_name.mean())}
                by_dataset.append({"structure": structure, "family": family, **found})
    table = pd.DataFrame(rows).sort_values(["structure", "iou"], ascending=[False, False], ignore_index=True)
    return Localisation(
        table=table,
        ceiling={structure: float(_ceiling(area[~search]).mean()) for structure, area in areas.items()},
        by_dataset=pd.DataFrame(by_dataset),
        n_search=int(search.sum()),
        n_test=int((~search).sum()),
        config=config,
    )


@dataclass(frozen=True)
class Localisation:
    """Result of `localisation`.

    Attributes
    ----------
    table : DataFrame
        One row per structure and family, best first within a structure. Columns: structure, family, unit, sign,
        threshold, search_iou (on the cells searched), iou, low, high (held-out cells, mean and interval), chance (the
        same map against another cell's mask), chance_area (as many patches at random places), gain, gain_low, gain_high
        (iou - chance, paired).
    ceiling : dict of str to float
        Structure -> mean IoU of the best possible selection of whole patches, held-out cells.
    by_dataset : DataFrame
        One row per structure, family and data set: n, iou.
    n_search, n_test : int
        Cells.
    config : LocalisationConfig
        How it was done.
    held_out : dict of str to list of str
        Data set -> cell_id of the cells not searched.
    """

    table: pd.DataFrame
    ceiling: dict[str, float]
    by_dataset: pd.DataFrame
    n_search: int
    n_test: int
    config: LocalisationConfig
    held_out: dict[str, list[str]] = field(default_factory=dict)


def iou(maps: NDArray[np.bool_], area: NDArray[np.floating]) -> NDArray[np.float64]:
    """IoU of selected patches with a structure, per cell, at the full resolution of its mask.

    Parameters
    ----------
    maps : ndarray of bool, shape (n, P)
        Whole patches selected.
    area : ndarray of float, shape (n, P)
        Share of each patch that the structure covers.

    Returns
    -------
    ndarray of float64, shape (n,)
        Sum of covered shares of selected patches / (selected + covered - that); 0 where both are empty.
    """
    inside = (maps * area).sum(1, dtype=np.float64)
    union = maps.sum(1) + area.sum(1, dtype=np.float64) - inside
    return np.divide(inside, union, out=np.zeros(len(maps)), where=union > 0)


def _best_units(
    values: Any, areas: dict[str, NDArray[np.float32]], search: NDArray[np.bool_], P: int, n_thresholds: int
) -> dict[str, dict[str, Any]]:
    """Structure -> column, threshold and mean IoU of the best unit on the searched cells."""
    chosen = np.flatnonzero(np.repeat(search, P))
    n = int(search.sum())
    covered = {name: area[search] for name, area in areas.items()}
    best: dict[str, dict[str, Any]] = {name: {"search_iou": -1.0} for name in areas}
    for first, cell, patch, unit, value, width in _blocks(values, chosen, P):
        of_units = np.split(value, np.cumsum(np.bincount(unit, minlength=width))[:-1])  # entries lie unit by unit
        thresholds = _thresholds(of_units, n_thresholds, zero=sp.issparse(values))
        K = thresholds.shape[1]
        passed = np.concatenate([np.searchsorted(*pair) for pair in zip(thresholds, of_units, strict=True)])
        # An entry that exceeds its lowest `passed` thresholds is selected under each of them: a histogram over
        # `passed`, summed from above, counts the selected patches for all thresholds at once.
        keys = (cell * width + unit) * (K + 1) + passed
        selected = _from_above(keys, None, (n, width, K + 1))
        for name, area in covered.items():
            inside = _from_above(keys, area[cell, patch], (n, width, K + 1))
            union = selected + area.sum(1, dtype=np.float64)[:, None, None] - inside
            scores = np.divide(inside, union, out=np.zeros_like(inside), where=union > 0).mean(0)
            at = np.unravel_index(scores.argmax(), scores.shape)
            if scores[at] > best[name]["search_iou"]:
                found = {"column": int(first + at[0]), "threshold": float(thresholds[at])}
                best[name] = {**found, "search_iou": float(scores[at])}
    return best


def _blocks(values: Any, chosen: NDArray[np.int64], P: int, size: int = 128) -> Iterator[tuple[Any, ...]]:
    """Blocks of units as entries: first column, then each entry's cell, patch, unit within the block and value."""
    values = sp.csc_array(sp.csr_array(values)[chosen]) if sp.issparse(values) else values[chosen]
    for first in range(0, values.shape[1], size):
        block = values[:, first : first + size]
        width = block.shape[1]
        if sp.issparse(block):
            token, value = block.indices.astype(np.int64), block.data
            unit = np.repeat(np.arange(width), np.diff(block.indptr))
        else:
            token = np.tile(np.arange(len(block)), width)
            unit, value = np.repeat(np.arange(width), len(block)), block.T.ravel()
        if len(value):
            yield first, token // P, token % P, unit, value, width


def _thresholds(of_units: list[NDArray[Any]], n: int, *, zero: bool) -> NDArray[np.float32]:
    """[units, n] ascending thresholds, quantiles of each unit's values; with ``zero`` the first is 0."""
    thresholds = np.full((len(of_units), n), np.inf, np.float32)
    for row, value in zip(thresholds, of_units, strict=True):
        if len(value):
            row[:] = np.sort(value)[(np.arange(n) / n * len(value)).astype(np.int64)]
            row[0] = 0 if zero else row[0]
    return thresholds


def _from_above(keys: NDArray[np.int64], weights: NDArray[Any] | None, shape: tuple[int, int, int]) -> NDArray[Any]:
    histogram = np.bincount(keys, weights, minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)
    return np.cumsum(histogram[..., :0:-1], axis=-1)[..., ::-1]


def _score(
    maps: NDArray[np.bool_],
    area: NDArray[np.float32],
    partners: list[NDArray[np.int64]],
    draws: NDArray[np.int64],
    confidence: float,
) -> tuple[NDArray[np.float64], dict[str, float]]:
    scores = iou(maps, area)
    other = np.mean([iou(maps, area[partner]) for partner in partners], axis=0)
    selected, covered, P = maps.sum(1), area.sum(1, dtype=np.float64), maps.shape[1]
    inside = selected * covered / P
    at_random = np.divide(inside, selected + covered - inside, out=np.zeros(len(maps)), where=selected + covered > 0)
    tail = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(scores[draws].mean(1), tail)
    gain_low, gain_high = np.quantile((scores - other)[draws].mean(1), tail)
    row = {"iou": scores.mean(), "low": low, "high": high, "chance": other.mean(), "chance_area": at_random.mean()}
    row |= {"gain": (scores - other).mean(), "gain_low": gain_low, "gain_high": gain_high}
    return scores, {name: float(value) for name, value in row.items()}


def _maps_of(values: Any, best: dict[str, Any], n: int, P: int) -> tuple[dict[str, Any], NDArray[np.bool_]]:
    column, half = best["column"], values.shape[1] // 2
    signed = not sp.issparse(values)
    of_column = values[:, column] if signed else values[:, [column]].toarray().ravel()
    chosen = {
        "unit": column % half if signed else column,
        "sign": "-" if signed and column >= half else "+",
        "threshold": best["threshold"],
        "search_iou": best["search_iou"],
    }
    return chosen, of_column.reshape(n, P) > best["threshold"]


def _fixed_map(area: NDArray[np.float32], search: NDArray[np.bool_]) -> tuple[dict[str, Any], NDArray[np.bool_]]:
    """What knowing only where cells lie in their images gives: the mean mask of the searched cells, thresholded."""
    mean, searched = area[search].mean(0), area[search]
    candidates = np.unique(mean)
    results = [iou(np.broadcast_to(mean > t, searched.shape), searched).mean() for t in candidates]
    at = int(np.argmax(results))
    chosen = {"unit": -1, "sign": "+", "threshold": float(candidates[at]), "search_iou": float(results[at])}
    return chosen, np.broadcast_to(mean > candidates[at], area.shape)


def _ceiling(area: NDArray[np.float32]) -> NDArray[np.float64]:
    ordered = np.sort(area, axis=1)[:, ::-1].cumsum(1, dtype=np.float64)
    selected = np.arange(1, area.shape[1] + 1)
    return (ordered / (selected + ordered[:, -1:] - ordered)).max(1)


def _partners(dataset: NDArray[Any], rng: np.random.Generator) -> NDArray[np.int64]:
    """[n] a random pairing of each cell with another of the same data set, so that magnification is the same."""
    partner = np.arange(len(dataset))
    for name in sorted(set(dataset.tolist())):
        order = rng.permutation(np.flatnonzero(dataset == name))
        partner[order] = np.roll(order, -1)
    return partner
