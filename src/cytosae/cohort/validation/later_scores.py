"""The rows of a classification, fitted on its patients and applied to later ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytosae.cohort.classification.assessment import Advance
from cytosae.cohort.classification.cohort_arrays import CohortArrays
from cytosae.cohort.classification.models import Model, build_models
from cytosae.cohort.classification.scores import Scores, auroc_of, prior
from cytosae.cohort.config import ClassificationConfig
from cytosae.cohort.design import Fold
from cytosae.cohort.validation.joined import Joined

Array = NDArray[np.float64]
REASONS = {
    "colour-matched": "it is of patients matched in pairs by their colour, and later ones have no partner",
    "SAE without the test patients": "the SAE here has seen none of the later patients, so the recommended row is that",
    "kept together": "it is the recommended model in other folds",
    "imaging sessions mixed": "it is the recommended model in other folds",
    "shuffled diagnoses: the choice": "no choice is made on later patients",
    "order of imaging": "a rank among the training patients does not place those who come later",
    "all confounders": "the order of imaging is among them, in which later patients have no place",
    "cell painted out": "the cells of the later patients, or of the training, were not painted out",
    "cell alone": "the cells of the later patients, or of the training, were not painted out",
    "background tokens": "the cells of the later patients, or of the training, were not painted out",
    "random-weight SAE": "one of the two has no barcodes by an SAE with random weights",
}
"""What stands in the name of a row -> why it cannot be made of later patients."""
UNKNOWN = "what it looks at is not known of the later patients"


def later_scores(
    joined: Joined, names: list[str], config: ClassificationConfig, advance: Advance = lambda: None
) -> tuple[dict[str, Scores], dict[str, str]]:
    """Fit each named row on the training patients, as in the table, and let it speak of the later ones.

    Returns
    -------
    tuple (dict of str to Scores, dict of str to str)
        Name -> scores of the later patients, and name -> why there are none.
    """
    made = {model.name: model for model in build_models(joined.data, config) if model.rows is None}
    if any(name.startswith("order of imaging") for name in names):  # it is among all confounders of the table
        made = {name: model for name, model in made.items() if "all confounders" not in name}
    scores, missing = {}, {}
    for name in names:
        found = None
        if name in made:
            found = apply_model(made[name], joined.data, joined.train, joined.later, config)
        if found is not None:
            scores[name] = found
        else:
            told = (why for part, why in REASONS.items() if part in name and name not in made)
            missing[name] = next(told, UNKNOWN)
        advance()
    return scores, missing


def apply_model(
    model: Model, data: CohortArrays, train: NDArray[np.intp], later: NDArray[np.intp], config: ClassificationConfig
) -> Scores | None:
    """Fit a model on some patients, and let it speak of others; None where all that it looks at of these is unknown."""
    features = model.features(train)
    if _unknown(features, later):
        return None
    known = data.design.take(train)
    hidden = data.design.y.copy()
    hidden[later] = known.shares().argmax()  # no learner can see how it is
    design = replace(data.design, y=hidden, groups=data.design.codes)
    evidence = model.learner.evidence(features, design, Fold(train, later, config.seed))
    return Scores((evidence + prior(known, config.odds))[None], later)


def shuffled_aurocs(model: Model, joined: Joined, config: ClassificationConfig) -> Array:
    """AUROC on the later patients of a model fitted on training patients whose diagnoses were dealt out anew."""
    data, found = joined.data, []
    for number, dealt in enumerate(data.design.take(joined.train).shuffles(config.shuffles, config.seed)):
        y = data.design.y.copy()
        y[joined.train] = dealt.y
        there = replace(data, design=replace(data.design, y=y, groups=data.design.codes))
        scores = apply_model(model, there, joined.train, joined.later, replace(config, seed=config.seed + number))
        if scores is not None:
            found.append(float(auroc_of(scores, data.design.y[joined.later], len(data.classes))[0]))
    return np.array(found)


def _unknown(features: Any, later: NDArray[np.intp]) -> bool:
    if not isinstance(features, np.ndarray) or not features.shape[1]:
        return False
    return bool(np.isnan(features[later]).all())
