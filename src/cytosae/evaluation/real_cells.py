"""Do units say what people see in real cells? Attributes beside the agreement of two annotators; masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from cytosae.cohort.classification.linear import fit_l2
from cytosae.common.errors import InputError
from cytosae.evaluation.unit_scores import auc_draws, aucs, cell_weights, cohen_kappa, pursue, with_interval
from cytosae.evaluation.units import Activations, Units, columns

if TYPE_CHECKING:
    from cytosae.atlas import LocalisationConfig
    from cytosae.cells import CellTable
    from cytosae.sae import SparseAutoencoder
    from cytosae.tokens import TokenStore

PROBES = (1, 2, 5, 10)
"""Units of the sparse probes."""
LEAST_CELLS = 10
"""Cells of each half that must have an attribute's value, and another, for it to be scored."""
STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""Candidates of the inverse penalty of the linear probe."""
MEASURES = ("best unit", *(f"probe of {k}" for k in PROBES), "linear probe")
SECOND = "attributes_second_annotator.csv"


@dataclass(frozen=True)
class HumanTruth:
    """Attributes of cells by two annotators.

    Attributes
    ----------
    first : DataFrame
        One row a cell, one column an attribute (text).
    second : DataFrame or None
        The same by another annotator for some of the cells (same index), or None.
    """

    first: pd.DataFrame
    second: pd.DataFrame | None


def read_truth(folder: Path) -> HumanTruth:
    """Read ``attributes.csv`` and, where it is there, the second annotator's table; index is the image's path."""
    path = folder / "attributes.csv"
    if not path.is_file():
        raise InputError(f"{path} is not there; give the folder that holds acevedo with its attributes.")
    second = folder / SECOND
    return HumanTruth(_read(path), _read(second) if second.is_file() else None)


def scored_values(truth: pd.DataFrame, half: NDArray[np.bool_]) -> list[tuple[str, str]]:
    """(attribute, value) with enough cells in both halves; an attribute of two values counts twice, as it stands."""
    found = []
    for name in truth:
        values = truth[name].to_numpy()
        enough = [
            value
            for value in sorted(set(values))
            if all(min((values[h] == value).sum(), (values[h] != value).sum()) >= LEAST_CELLS for h in (half, ~half))
        ]
        found += [(str(name), value) for value in enough]
    return found


def score_human_attributes(
    units: Units, values: Activations, truth: pd.DataFrame, *, seed: int, resamples: int, confidence: float = 0.95
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """AUC of the best unit, of sparse probes and of a linear probe for every value of every attribute.

    Everything is chosen and fitted on one half of the cells and scored on the other.

    Parameters
    ----------
    units : Units
        What they are called, and whether their sign counts.
    values : Activations
        [n, units] mean activation of each cell.
    truth : DataFrame
        [n, attributes].
    seed : int
        Of the halves, inner folds and resamples.
    resamples : int
        Of the scored cells behind each interval.

    Returns
    -------
    tuple of DataFrame
        Table with one row an attribute, value and measure (`MEASURES`): attribute, value, units, measure, chosen
        (units, best first), auc with interval, cells (that have the value, of those scored); and one with a row a
        measure: the mean over attributes of the mean over their values, with interval.
    """
    half = np.random.default_rng([seed, 3]).random(len(truth)) < 0.5
    weights = cell_weights(int((~half).sum()), resamples, seed)
    rows, draws = [], []
    scored = scored_values(truth, half)
    linear = _linear_scores(values, truth, half, sorted({name for name, _ in scored}), seed)
    for name, value in scored:
        positive = truth[name].to_numpy() == value
        found = _choose(units, values, positive, half)
        found["linear probe"] = ([], linear[name][value])
        for measure, (chosen, score) in found.items():
            drawn = auc_draws(score, positive[~half], weights)
            draws.append((name, measure, drawn))
            facts = {"attribute": name, "value": value, "units": units.name, "measure": measure}
            cells = int(positive[~half].sum())
            chosen_text = " ".join(map(str, chosen))
            rows.append({**facts, "chosen": chosen_text, **with_interval("auc", drawn, confidence), "cells": cells})
    return pd.DataFrame(rows), _means(units.name, draws, confidence)


def annotators(truth: HumanTruth, *, seed: int, resamples: int, confidence: float = 0.95) -> pd.DataFrame:
    """How well two people agree, on the cells that both annotated.

    Returns
    -------
    DataFrame
        One row an attribute and value: attribute, value, cells (both annotated), agreement (share of cells for which
        both or neither gave this value), kappa, auc (of the second annotator's yes or no for the first one's) with
        intervals; value "" for the whole attribute (agreement and kappa over its values; auc the mean over them).
        Values that one of the two never gave are left out.
    """
    if truth.second is None:
        return pd.DataFrame()
    both = truth.second.index.intersection(truth.first.index)
    first, second = truth.first.loc[both], truth.second.loc[both]
    weights = cell_weights(len(both), resamples, seed)
    rows = []
    for name in first:
        a, b = first[name].to_numpy(), second[name].to_numpy()
        by_value = []
        for value in sorted(set(a) & set(b)):
            ours, theirs = a == value, b == value
            drawn = auc_draws(theirs.astype(float), ours, weights)
            by_value.append(drawn)
            rows.append(_agreement(str(name), value, ours, theirs, drawn, weights, confidence))
        mean = np.nanmean(by_value, axis=0)
        rows.append(_agreement(str(name), "", a, b, mean, weights, confidence))
    return pd.DataFrame(rows)


def localise(
    saes: Mapping[str, SparseAutoencoder],
    sources: Sequence[tuple[TokenStore, CellTable]],
    config: LocalisationConfig,
) -> pd.DataFrame:
    """Nucleus and cytoplasm of real cells by the best unit of each family (`cytosae.atlas.localisation`).

    Returns
    -------
    DataFrame
        Columns structure, units, unit, sign, iou, iou_low, iou_high, chance (the same map on another cell's mask), gain
        with interval, ceiling.
    """
    from cytosae.atlas import localisation

    tables = []
    for turn, (name, sae) in enumerate(saes.items()):
        found = localisation(sae, sources, config=config)
        table = found.table.rename(columns={"low": "iou_low", "high": "iou_high", "family": "units"})
        table["ceiling"] = [found.ceiling[name] for name in table["structure"]]
        if turn:  # all other families are the same for every SAE
            table = table.query("units == 'SAE latent'")
        tables.append(table.replace({"units": {"SAE latent": name}}))
    shown = ["structure", "units", "unit", "sign", "iou", "iou_low", "iou_high"]
    shown += ["chance", "gain", "gain_low", "gain_high", "ceiling"]
    result = pd.concat(tables).loc[:, shown]
    return result.sort_values(["structure", "iou"], ascending=[False, False], ignore_index=True)


def _read(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if "image" not in table:
        raise InputError(f"{path} has no column 'image'; take the table as it was published with the cells.")
    return table.set_index("image").drop(columns="label", errors="ignore")


def _choose(
    units: Units, values: Activations, positive: NDArray[np.bool_], half: NDArray[np.bool_]
) -> dict[str, tuple[list[int], NDArray[Any]]]:
    """Measure -> units chosen on ``half``, and their score of the other half."""
    width = values.shape[1]
    ours = values[np.flatnonzero(half)]
    blocks = [columns(ours, slice(i, min(i + 512, width))) for i in range(0, width, 512)]
    auc = np.concatenate([aucs(block, positive[half]) for block in blocks])
    best = int(np.abs(auc - 0.5).argmax())
    sign = 1 if auc[best] >= 0.5 else -1
    found: dict[str, tuple[list[int], NDArray[Any]]] = {
        "best unit": ([best], sign * columns(values, np.array([best]))[~half, 0])
    }
    path = pursue(np.concatenate(blocks, axis=1), positive[half].astype(float), max(PROBES))
    chosen = columns(values, path)
    scale = chosen[half].std(0)
    chosen = (chosen - chosen[half].mean(0)) / np.where(scale > 0, scale, 1)
    for count in PROBES:
        model = LogisticRegression(C=1.0, max_iter=1000).fit(chosen[half][:, :count], positive[half])
        found[f"probe of {count}"] = (path[:count].tolist(), model.decision_function(chosen[~half][:, :count]))
    return found


def _linear_scores(
    values: Activations, truth: pd.DataFrame, half: NDArray[np.bool_], names: list[str], seed: int
) -> dict[str, dict[str, NDArray[Any]]]:
    """Attribute -> value -> log odds of the scored half by logistic regression on all units of the other half."""
    X = columns(values, slice(None)).astype(np.float64)
    found = {}
    for name in names:
        y = truth[name].to_numpy()
        classes, codes = np.unique(y[half], return_inverse=True)
        fit = fit_l2(X[half], codes, strengths=STRENGTHS, inner_folds=3, min_share=0.01, seed=seed)
        logits = fit.logits(X[~half])
        others = np.stack([np.asarray(logsumexp(np.delete(logits, k, axis=1), axis=1)) for k in range(len(classes))])
        found[name] = {str(c): logits[:, k] - others[k] for k, c in enumerate(classes)}
    return found


def _means(name: str, draws: list[tuple[str, str, NDArray[Any]]], confidence: float) -> pd.DataFrame:
    rows = []
    for measure in MEASURES:
        by_attribute: dict[str, list[NDArray[Any]]] = {}
        for attribute, of, drawn in draws:
            if of == measure:
                by_attribute.setdefault(attribute, []).append(drawn)
        mean = np.mean([np.nanmean(drawn, axis=0) for drawn in by_attribute.values()], axis=0)
        rows.append({"units": name, "measure": measure, **with_interval("auc", mean, confidence)})
    return pd.DataFrame(rows)


def _agreement(
    name: str,
    value: str,
    a: NDArray[Any],
    b: NDArray[Any],
    auc: NDArray[Any],
    weights: NDArray[Any],
    confidence: float,
) -> dict[str, Any]:
    same = (a == b).astype(float)
    agreement = weights @ same / len(a)
    return {
        "attribute": name,
        "value": value,
        "cells": len(a),
        **with_interval("agreement", agreement, confidence),
        "kappa": cohen_kappa(a, b),
        **with_interval("auc", auc, confidence),
    }
