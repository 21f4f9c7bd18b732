"""Is a diagnosis told from the laboratory? Colour within cell types says so, where the mixture of types cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytosae.cohort.classification.assessment import auroc_of, cross_validate, explained_by_colour
from cytosae.cohort.classification.features import CellArrays, CohortArrays, fixed, mean_by_patient
from cytosae.cohort.classification.folds import make_folds
from cytosae.cohort.classification.models import L2, Model
from cytosae.cohort.classification.scores import bootstrap_weights
from cytosae.cohort.config import Kind
from cytosae.evaluation.unit_scores import with_interval


def score_laboratory(
    data: CohortArrays,
    kind: Kind,
    linear: L2,
    *,
    folds: int,
    resamples: int,
    shuffles: int,
    seed: int,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """How much colour tells of the diagnosis, and how much of it the concepts' decisions follow.

    Parameters
    ----------
    data : patients with cells, colours and cell types
    kind : barcode of the concepts
    linear : the model that is fitted
    folds, resamples, shuffles, seed, confidence : as in `CohortsConfig`

    Returns
    -------
    ``colour`` (AUROC of the patients' mean colours), ``within`` (AUROC of their colours within cell types) with
    intervals, ``p`` (share of shuffled diagnoses for which the latter is as large), ``concepts`` (AUROC of barcodes),
    ``followed`` (adjusted R^2 of the concepts' decisions on colour), ``called`` (p <= 1 - confidence).
    """
    assert data.cells is not None  # noqa: S101 - for the type checker; the cohort is made with cells
    K = len(data.classes)
    made = make_folds(data.y, data.classes, folds=folds, seed=seed)
    weights = bootstrap_weights(data.y, resamples, np.random.default_rng(seed))
    within = Model("within", "confounder", fixed(colours_within_types(data.cells, len(data.patients))), linear)
    models = {
        "colour": Model("colour", "confounder", fixed(data.confounders["colour"]), linear),
        "within": within,
        "concepts": Model("concepts", "concepts", fixed(data.layers[kind]), linear),
    }
    row: dict[str, Any] = {}
    for name, model in models.items():
        scores = cross_validate(model, data.y, K, made, seed=seed)
        row |= with_interval(name, auroc_of(scores, data.y, K, weights), confidence)
        if name == "concepts":
            row["followed"] = explained_by_colour(scores, data)
    shuffled = shuffled_aurocs(within, data, shuffles=shuffles, folds=folds, seed=seed)
    row["p"] = float((1 + (shuffled >= row["within"] - 1e-12).sum()) / (1 + shuffles))
    row["called"] = bool(row["p"] <= 1 - confidence + 1e-12)
    return row


def shuffled_aurocs(model: Model, data: CohortArrays, *, shuffles: int, folds: int, seed: int) -> NDArray[np.float64]:
    """AUROC [shuffles] of a model when diagnoses are dealt out anew, each time in folds of its own."""
    rng, K, found = np.random.default_rng([seed, 5]), len(data.classes), []
    for shuffle in range(shuffles):
        y = rng.permutation(data.y)
        made = make_folds(y, data.classes, folds=folds, seed=seed + shuffle)
        scores = cross_validate(model, y, K, made, seed=seed + shuffle)
        found.append(float(auroc_of(scores, y[scores.rows], K)[0]))
    return np.array(found)


def colours_within_types(cells: CellArrays, patients: int) -> NDArray[np.float64]:
    """[P, 6] mean over a patient's cells of their colours less the mean colours of all cells of that type."""
    assert cells.colours is not None  # noqa: S101 - for the type checker
    present = np.unique(cells.types)
    means = np.zeros((len(present), cells.colours.shape[1]))
    codes = np.searchsorted(present, cells.types)
    np.add.at(means, codes, cells.colours)
    means /= np.bincount(codes)[:, None]
    return mean_by_patient(cells.colours - means[codes], cells.patient, patients)
