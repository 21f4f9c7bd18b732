"""Is a diagnosis told from the laboratory? Colour within cell types says so, where the mixture of types cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytosae.cohort.classification.assessment import cross_validate, explained_by
from cytosae.cohort.classification.cohort_arrays import CellArrays, CohortArrays
from cytosae.cohort.classification.features import fixed, mean_by_patient
from cytosae.cohort.classification.linear import L2
from cytosae.cohort.classification.models import Model
from cytosae.cohort.classification.scores import auroc_of
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
    data : CohortArrays
        Patients with cells, colours and cell types.
    kind : {"presence", "mean", "count"}
        Barcode of the concepts.
    linear : L2
        The model that is fitted.
    folds, resamples, shuffles, seed, confidence : int, float
        As in `CohortsConfig`.

    Returns
    -------
    dict of str to object
        ``colour`` (AUROC of the patients' mean colours), ``within`` (AUROC of their colours within cell types) with
        intervals, ``p`` (share of shuffled diagnoses for which the latter is as large), ``concepts`` (AUROC of
        barcodes), ``followed`` (adjusted R^2 of the concepts' decisions on colour), ``called`` (p <= 1 - confidence).
    """
    assert data.cells is not None  # noqa: S101 - for the type checker; the cohort is made with cells
    K = len(data.classes)
    made = data.design.folds(folds, seed=seed)
    weights = data.design.bootstrap(resamples, np.random.default_rng(seed))
    within = Model("within", "confounder", fixed(colours_within_types(data.cells, len(data.patients))), linear)
    models = {
        "colour": Model("colour", "confounder", fixed(data.confounders["colour"]), linear),
        "within": within,
        "concepts": Model("concepts", "concepts", fixed(data.layers[kind]), linear),
    }
    row: dict[str, Any] = {}
    for name, model in models.items():
        scores = cross_validate(model, data.design, made)
        row |= with_interval(name, auroc_of(scores, data.y, K, weights), confidence)
        if name == "concepts":
            row["followed"] = explained_by(scores, data.confounders["colour"])
    shuffled = shuffled_aurocs(within, data, shuffles=shuffles, folds=folds, seed=seed)
    row["p"] = float((1 + (shuffled >= row["within"] - 1e-12).sum()) / (1 + shuffles))
    row["called"] = bool(row["p"] <= 1 - confidence + 1e-12)
    return row


def shuffled_aurocs(model: Model, data: CohortArrays, *, shuffles: int, folds: int, seed: int) -> NDArray[np.float64]:
    """AUROC [shuffles] of a model when diagnoses are dealt out anew, each time in folds of its own."""
    found = []
    for number, design in enumerate(data.design.shuffles(shuffles, seed)):
        scores = cross_validate(model, design, design.folds(folds, seed=seed + number))
        found.append(float(auroc_of(scores, design.y[scores.rows], len(data.classes))[0]))
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
