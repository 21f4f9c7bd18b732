"""Is it real? What an SAE scores on every measure of quality, beside controls that went the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from cytosae.cells.focus.patch_grid import Grid, checked_grid
from cytosae.common.errors import InputError
from cytosae.common.progress import progress
from cytosae.evaluation.config import QualityConfig
from cytosae.evaluation.quality_table import MEASURES, DictionaryQuality, verdicts_of
from cytosae.evaluation.unit_meanings import monosemanticity, structure_beyond
from cytosae.evaluation.unit_scores import aucs, aucs_of_ranks, linear_probe, pursue
from cytosae.evaluation.units import TokenRows, Units

Reconstruct = Callable[[torch.Tensor], torch.Tensor]
PROBE = 5
"""Units of the larger sparse probe."""
DENSE_FROM = 0.1
"""Share of tokens from which on an active unit is called dense."""
FEWEST_ACTIVE = 3
"""Active patches of a map whose structure is examined."""
BATCH = 8


@dataclass(frozen=True)
class Family:
    """Units with what is needed to measure them.

    Attributes
    ----------
    units : Units
        The units.
    reconstruct : callable or None
        Tokens [b, T, D] -> tokens, where the units can be decoded.
    source : TokenRows or None
        Tokens of the same cells by another backbone; None for the tokens that are given.
    sparse : bool
        Whether 0 means inactive.
    """

    units: Units
    reconstruct: Reconstruct | None = None
    source: TokenRows | None = None
    sparse: bool = True


def measure_quality(
    families: Mapping[str, Family],
    store: TokenRows,
    labels: Sequence[str | None],
    *,
    finish: Reconstruct | None = None,
    grid: Grid | None = None,
    config: QualityConfig | None = None,
) -> DictionaryQuality:
    """Measure families of units on cells with labels; the one called "SAE" is the subject, all others are controls.

    Parameters
    ----------
    families : mapping of str to Family
        Name -> units.
    store : TokenRows
        Tokens of n cells.
    labels : sequence of str or None
        Cell type of each.
    finish : callable or None
        The blocks after the hooked one: tokens -> tokens, CLS first.
    grid : tuple of int or None
        Rows and columns of the patches; None for a square.
    config : QualityConfig or None
        See there.

    Raises
    ------
    InputError
        Fewer than two types have enough cells.
    """
    return summed_up(*score_families(families, store, labels, finish=finish, grid=grid, config=config))


def score_families(
    families: Mapping[str, Family],
    store: TokenRows,
    labels: Sequence[str | None],
    *,
    finish: Reconstruct | None = None,
    grid: Grid | None = None,
    config: QualityConfig | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """What `measure_quality` sums up, of some families as of all: a row for each measure, family and half; facts."""
    config = config or QualityConfig()
    rows, y = chosen_cells(labels, config)
    halves = [_half(y, config.seed + split) for split in range(config.splits)]
    found: list[dict[str, Any]] = []
    own = _Measured(store, rows, finish, grid)
    with progress("Quality", len(families), "families of units") as bar:
        for name, family in families.items():
            measured = own if family.source is None else _Measured(family.source, rows, None, grid)
            for split, scores in enumerate(_scores(family, measured, y, halves, config)):
                found += [{"measure": m, "family": name, "split": split, "value": v} for m, v in scores.items()]
            bar.advance(1)
    ceiling = [_probe(own.means, own.means, y, half) for half in halves]
    found += [
        {"measure": "reconstruction_probe", "family": "tokens themselves", "split": split, "value": value}
        for split, value in enumerate(ceiling)
    ]
    facts = {"cells": len(rows), "classes": [str(name) for name in np.unique(y)], "outlier_ratio": own.outlier_ratio}
    return pd.DataFrame(found), facts


def summed_up(scores: pd.DataFrame, facts: dict[str, Any]) -> DictionaryQuality:
    """The quality that scores of the families (`score_families`) come to."""
    table = _summary(scores)
    return DictionaryQuality(table, verdicts_of(table), facts)


class _Measured:
    """What the tokens of the chosen cells say by themselves; mean tokens, and the class token at the very end."""

    def __init__(
        self, source: TokenRows, rows: NDArray[np.integer], finish: Reconstruct | None, grid: Grid | None
    ) -> None:
        self.source, self.rows, self.finish = source, rows, finish
        means, ends, square, count = [], [], 0.0, 0
        _, T, D = source.read(0, 1).shape
        self.grid, total = checked_grid(grid, T - 1), torch.zeros(D, dtype=torch.float64)
        for tokens in self.batches():
            means.append(tokens.mean(1).numpy())
            flat = tokens.reshape(-1, tokens.shape[-1]).double()
            total, square, count = total + flat.sum(0), square + float(flat.square().sum()), count + len(flat)
            if finish is not None:
                ends.append(finish(tokens)[:, 0].detach().numpy())
        self.means = np.concatenate(means)
        self.ends = np.concatenate(ends) if ends else None
        self.mean = total / count
        self.variance = square / count - float(self.mean.square().sum())
        self.outlier_ratio = float(self.mean.norm()) / max(self.variance, 1e-30) ** 0.5

    def batches(self) -> Any:
        """Tokens [b, T, D] of the chosen cells in order."""
        for at in range(0, len(self.rows), BATCH):
            yield torch.cat([self.source.read(int(r), int(r) + 1) for r in self.rows[at : at + BATCH]]).float()


def _scores(
    family: Family, measured: _Measured, y: NDArray[Any], halves: list[NDArray[np.bool_]], config: QualityConfig
) -> list[dict[str, float]]:
    """The measures of a family, for each half."""
    cells = _cells_of(family, measured, config)
    result = []
    for half in halves:
        rest = ~half
        scores = _probes(cells.values, y, half, signed=family.units.signed)
        scores["monosemanticity"] = _mean(monosemanticity(cells.values[rest], measured.means[rest]))
        inside = rest[: len(cells.structure)]
        scores["spatial_structure"] = _mean(cells.structure[inside])
        if family.sparse:
            scores["l0"] = float(cells.active[rest].mean())
            scores["dead_share"] = float((cells.frequency == 0).mean())
            scores["dense_share"] = float((cells.frequency > DENSE_FROM).mean())
        if cells.error is not None:
            scores["explained_variance"] = float(1 - cells.error[rest].sum() / cells.deviation[rest].sum())
            scores["reconstruction_probe"] = _probe(measured.means, cells.rebuilt, y, half)
        if cells.ends is not None and measured.ends is not None:
            scores["remaining_block"] = _probe(measured.ends, cells.ends, y, half)
        result.append(scores)
    return result


@dataclass
class _Cells:
    """What a family does on each of n cells."""

    values: NDArray[np.float32]
    active: NDArray[np.float64]
    frequency: NDArray[np.float64]
    structure: NDArray[np.float64]
    error: NDArray[np.float64] | None
    deviation: NDArray[np.float64]
    rebuilt: NDArray[np.float32]
    ends: NDArray[np.float32] | None


@torch.no_grad()
def _cells_of(family: Family, measured: _Measured, config: QualityConfig) -> _Cells:
    rng = np.random.default_rng(config.seed)
    finish, rebuild = measured.finish, family.reconstruct
    values, active, structure, error, deviation, rebuilt, ends = [], [], [], [], [], [], []
    fired, tokens_seen = np.zeros(family.units.count), 0
    for tokens in measured.batches():
        b, T = tokens.shape[:2]
        found = family.units.activate(tokens)
        dense = np.asarray(found.toarray() if sp.issparse(found) else found, np.float32).reshape(b, T, -1)
        values.append(dense.mean(1))
        active.append((dense > 0).sum(2).mean(1))
        fired += (dense > 0).sum((0, 1))
        tokens_seen += b * T
        for one in dense[: max(config.maps - len(structure), 0)]:
            structure.append(_structure(one[1:], measured.grid, rng, sparse=family.sparse))
        deviation.append((tokens.double() - measured.mean).square().sum((1, 2)).numpy())
        if rebuild is not None:
            made = rebuild(tokens)
            error.append((tokens - made).double().square().sum((1, 2)).numpy())
            rebuilt.append(made.mean(1).numpy())
            if finish is not None:
                ends.append(finish(made)[:, 0].detach().numpy())
    return _Cells(
        values=np.concatenate(values),
        active=np.concatenate(active),
        frequency=fired / tokens_seen,
        structure=np.array(structure),
        error=np.concatenate(error) if error else None,
        deviation=np.concatenate(deviation),
        rebuilt=np.concatenate(rebuilt) if rebuilt else np.zeros((0, 0), np.float32),
        ends=np.concatenate(ends) if ends else None,
    )


def _structure(patches: NDArray[np.float32], grid: Grid, rng: np.random.Generator, *, sparse: bool) -> float:
    """Mean over units of Moran's I of their maps on one cell [P, U], less that of the same patches shuffled."""
    used = (patches > 0).sum(0) >= FEWEST_ACTIVE if sparse else np.ones(patches.shape[1], bool)
    if not used.any():
        return float("nan")
    maps = patches[:, used].T
    return structure_beyond(maps, maps[:, rng.permutation(maps.shape[1])], grid)


def _probes(values: NDArray[Any], y: NDArray[Any], half: NDArray[np.bool_], *, signed: bool) -> dict[str, float]:
    """AUC on the other half of the best unit, and of a probe of `PROBE`, for each type; the mean over types."""
    ranks = np.asarray(rankdata(values[half], axis=0))
    singles, several = [], []
    for name in np.unique(y):
        positive = y == name
        auc = aucs_of_ranks(ranks, positive[half])
        best = int((np.abs(auc - 0.5) if signed else auc).argmax())
        score = values[~half, best] * (1 if auc[best] >= 0.5 else -1)
        singles.append(aucs(score[:, None], positive[~half])[0])
        path = pursue(values[half], positive[half].astype(float), PROBE)
        if not len(path):
            several.append(0.5)
            continue
        centre, scale = values[half][:, path].mean(0), values[half][:, path].std(0)
        chosen = (values[:, path] - centre) / np.where(scale > 0, scale, 1)
        model = LogisticRegression(max_iter=1000).fit(chosen[half], positive[half])
        score = model.decision_function(chosen[~half])
        several.append(aucs(score[:, None], positive[~half])[0])
    return {"probe_1": float(np.mean(singles)), "probe_5": float(np.mean(several))}


def _probe(fitted: NDArray[Any], asked: NDArray[Any], y: NDArray[Any], half: NDArray[np.bool_]) -> float:
    """Balanced accuracy on the other half of ``asked`` of a linear probe that was fitted on one half of ``fitted``."""
    model = linear_probe().fit(fitted[half], y[half])
    return float(balanced_accuracy_score(y[~half], model.predict(asked[~half])))


def chosen_cells(labels: Sequence[str | None], config: QualityConfig) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Rows and types of the cells that are looked at; an `InputError` where fewer than two types have enough."""
    names = np.array([str(label) if isinstance(label, str) else "" for label in labels], dtype=object)
    known = np.flatnonzero(names != "")
    known = known[np.unique(np.linspace(0, len(known) - 1, min(config.cells, len(known))).astype(int))]
    found, counts = np.unique(names[known].astype(str), return_counts=True)
    enough = set(found[counts >= 2 * PROBE])
    if len(enough) < 2:
        raise InputError(
            f"Only {len(enough)} cell types have {2 * PROBE} cells among the {len(known)} looked at; raise "
            "quality.cells, or take a data set with labels."
        )
    rows = known[[name in enough for name in names[known]]]
    return rows, names[rows].astype(str)


def _half(y: NDArray[Any], seed: int) -> NDArray[np.bool_]:
    """A random half of each type."""
    rng = np.random.default_rng([seed, 7])
    half = np.zeros(len(y), bool)
    for name in np.unique(y):
        here = rng.permutation(np.flatnonzero(y == name))
        half[here[: len(here) // 2]] = True
    return half


def _summary(found: pd.DataFrame) -> pd.DataFrame:
    grouped = found.groupby(["measure", "family"], sort=False)["value"]
    table = pd.DataFrame({"value": grouped.median(), "value_low": grouped.min(), "value_high": grouped.max()})
    order = list(MEASURES)
    table = table.reset_index()
    return table.sort_values("measure", key=lambda c: c.map(order.index), kind="stable", ignore_index=True)


def _mean(values: NDArray[Any]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
