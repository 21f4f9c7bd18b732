"""Within one cohort: what cross-validation promises some of its patients, and what is kept on the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.cohort.classification.assessment import Advance, cross_validate
from cytosae.cohort.classification.cohort_arrays import CohortArrays
from cytosae.cohort.classification.confounders import colour_splits
from cytosae.cohort.classification.models import Model
from cytosae.cohort.classification.scores import Scores, auroc_of, ends_of
from cytosae.cohort.config import ClassificationConfig
from cytosae.cohort.validation.joined import ORDER
from cytosae.cohort.validation.later_scores import apply_model

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Split:
    """Patients to train on, and others who stand for later ones.

    Attributes
    ----------
    name : str
        What sets the two apart.
    parts : tuple of tuple (ndarray of int, ndarray of int)
        Rows to train on, and to test on.
    pooled : bool
        Whether the decisions of all parts are one sample (each patient is tested once); else the AUROCs are averaged.
    """

    name: str
    parts: tuple[tuple[Rows, Rows], ...]
    pooled: bool = False


def splits_of(data: CohortArrays) -> list[Split]:
    """Early and late by the order of imaging, sessions left out one by one, halves of the colour range.

    A part is left out where a class has fewer than two patients to train on, or none to test on (sessions: any).
    """
    found, everyone, y = [], np.arange(len(data.y)), data.y
    order = data.confounders.get(ORDER)
    if order is not None:
        early = order[:, 0] < np.median(order[:, 0])
        parts = [(everyone[early], everyone[~early])]
        found.append(Split("trained on early, tested on late", tuple(parts)))
    session = data.alternative if data.alternative is not None else data.design
    if session.grouped:
        members = [np.flatnonzero(session.codes == code) for code in range(len(session.table))]
        parts = [(np.setdiff1d(everyone, mine), mine) for mine in members]
        found.append(Split(f"each {session.by or 'group'} left out", tuple(parts), pooled=True))
    colour = data.confounders.get("colour")
    if colour is not None:
        parts = [(train, test) for _, train, test in colour_splits(colour, data.design)]
        found.append(Split("trained on one half of the colour range", tuple(parts)))
    kept = []
    for split in found:
        good = [
            (train, test)
            for train, test in split.parts
            if np.bincount(y[train], minlength=len(data.classes)).min() >= 2
            and (split.pooled or np.bincount(y[test], minlength=len(data.classes)).min() >= 1)
        ]
        if good:
            kept.append(replace(split, parts=tuple(good)))
    return kept


def promised_and_kept(
    data: CohortArrays,
    models: Sequence[Model],
    splits: Sequence[Split],
    config: ClassificationConfig,
    advance: Advance = lambda: None,
) -> pd.DataFrame:
    """Each model's AUROC in cross-validation on the training patients of a split, and on the others.

    Returns
    -------
    DataFrame
        split, model, promised, kept, kept_low, kept_high (patients tested on resampled), patients (tested on). What is
        pooled is promised by cross-validation of the whole cohort, in which groups are not kept together.
    """
    rows = []
    for split in splits:
        for model in models:
            promised = _promised(model, data, split, config)
            scores = [apply_model(model, data, train, test, config) for train, test in split.parts]
            known = [one for one in scores if one is not None]
            if split.pooled:
                known = [Scores(np.concatenate([one.decision for one in known], axis=1), _rows(known))]
            draws = np.mean([_draws(one, data, config) for one in known], axis=0)
            low, high = ends_of(draws, config.confidence)
            facts = {"split": split.name, "model": model.name, "promised": promised, "kept": float(draws[0])}
            n = len(set(_rows(known).tolist()))
            rows.append({**facts, "kept_low": low, "kept_high": high, "patients": n})
            advance()
    return pd.DataFrame(rows)


def _promised(model: Model, data: CohortArrays, split: Split, config: ClassificationConfig) -> float:
    """AUROC of repeated cross-validation among the patients trained on."""
    found = []
    for train in [np.arange(len(data.y))] if split.pooled else [train for train, _ in split.parts]:
        mine = data.design.take(train)
        folds = mine.folds(min(config.folds, mine.most_folds), repeats=config.repeats, seed=config.seed)
        placed = [replace(fold, train=train[fold.train], test=train[fold.test]) for fold in folds]
        scores = cross_validate(model, data.design, placed, odds=config.odds)
        found.append(float(auroc_of(scores, data.y[scores.rows], len(data.classes))[0]))
    return float(np.mean(found))


def _draws(scores: Scores, data: CohortArrays, config: ClassificationConfig) -> NDArray[np.float64]:
    own = data.design.take(scores.rows)
    weights = own.bootstrap(config.bootstrap, np.random.default_rng(config.seed))
    return auroc_of(scores, own.y, len(data.classes), weights)


def _rows(scores: Sequence[Scores]) -> Rows:
    return np.concatenate([one.rows for one in scores])
