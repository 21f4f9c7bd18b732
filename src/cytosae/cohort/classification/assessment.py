"""Run a model in folds and describe what came out: one row of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cytosae.cohort.classification.confounders import (
    all_confounders,
    colour_splits,
    explained,
    match_by_colour,
    overlap_weights,
    remove_from_decisions,
)
from cytosae.cohort.classification.features import Array, CohortArrays
from cytosae.cohort.classification.folds import Fold, groups_of_rarest, make_folds
from cytosae.cohort.classification.models import Groups, Model, Split
from cytosae.cohort.classification.scores import Scores, auroc, metric_draws, repetition_spread, summary


@dataclass(frozen=True)
class Measured:
    """One model, run.

    Attributes
    ----------
    model : which
    scores : out-of-fold predictions
    folds : that they came from, as row numbers of the cohort
    row : name -> value, the table's columns
    auroc_draws : [1 + B], AUROC in the resamples of patients (first: all)
    robust_draws : [1 + B], what the choice goes by
    """

    model: Model
    scores: Scores
    folds: list[Fold]
    row: dict[str, float | str | int]
    auroc_draws: Array
    robust_draws: Array


def cross_validate(
    model: Model,
    y: NDArray[np.integer],
    n_classes: int,
    folds: Sequence[Fold],
    *,
    seed: int,
    groups: Groups = None,
    advance: Callable[[], object] = lambda: None,
) -> Scores:
    """Out-of-fold predictions of all repetitions in ``folds``; inner splits use seed + 1000 (repeat) + fold.

    ``groups`` [P] are kept together in the inner splits, too.
    """
    repeats = 1 + max(fold.repeat for fold in folds)
    decision = np.full((repeats, len(y), n_classes), np.nan)
    probability = np.full_like(decision, np.nan)
    for fold in folds:
        features = model.features(fold.train)
        split = Split(fold.train, fold.test, seed + 1000 * fold.repeat + fold.number, groups)
        out = model.learner.predict(features, y, split)
        decision[fold.repeat, fold.test], probability[fold.repeat, fold.test] = out
        advance()
    rows = np.flatnonzero(~np.isnan(decision).any((0, 2)))
    return Scores(decision[:, rows], probability[:, rows], rows)


def folds_of(model: Model, data: CohortArrays, folds: Sequence[Fold], *, number: int, seed: int) -> list[Fold]:
    """The folds that a model is run in: its repetitions of ``folds``, or folds of its own on its own patients."""
    repeats = 1 + max(fold.repeat for fold in folds)
    repeats = min(repeats, model.repeats or repeats)
    if model.rows is None:
        return [fold for fold in folds if fold.repeat < repeats]
    y, groups = data.y[model.rows], None if data.groups is None else data.groups[model.rows]
    most = min(number, groups_of_rarest(y, groups))
    own = make_folds(y, data.classes, folds=most, repeats=repeats, groups=groups, seed=seed)
    return [Fold(f.repeat, f.number, model.rows[f.train], model.rows[f.test]) for f in own]


@dataclass(frozen=True)
class Colours:
    """What is known of the patients' colours, for every model alike.

    Attributes
    ----------
    splits : name, training and test rows (`colour_splits`)
    overlap : [P] weights under which colour tells two classes nothing (`overlap_weights`); None for more classes
    matched : rows of patients matched by colour
    """

    splits: Sequence[tuple[str, NDArray[np.intp], NDArray[np.intp]]] = ()
    overlap: Array | None = None
    matched: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, dtype=np.intp))

    @classmethod
    def of(cls, data: CohortArrays, y: NDArray[np.integer]) -> Colours:
        """Of a cohort with classes ``y`` (its own, or shuffled); empty without colour statistics."""
        colour = data.confounders.get("colour")
        if colour is None:
            return cls()
        if len(data.classes) > 2:
            return cls(colour_splits(colour, y))
        return cls(colour_splits(colour, y), overlap_weights(colour, y), match_by_colour(colour, y))


def split_draws(
    model: Model,
    y: NDArray[np.integer],
    n_classes: int,
    colours: Colours,
    weights: Array,
    *,
    seed: int,
    groups: Groups = None,
) -> dict[str, Array]:
    """AUROC when trained on one half of the colour range and tested on the other, in every resample [1 + B].

    Returns
    -------
    ``split_<component>_<up or down>`` (up: trained on the darker half), ``auroc_split`` their mean, and
    ``auroc_split_balanced``, the mean where test patients have overlap weights; empty without colours.
    """
    if model.rows is not None or not model.splits or not colours.splits:
        return {}
    found: dict[str, Array] = {}
    balanced = []
    for name, train, test in colours.splits:
        decision, probability = model.learner.predict(model.features(train), y, Split(train, test, seed, groups))
        scores = Scores(decision[None], probability[None], test)
        found[f"split_{name}"] = auroc_of(scores, y[test], n_classes, weights[:, test])
        if colours.overlap is not None:
            balanced.append(auroc_of(scores, y[test], n_classes, weights[:, test] * colours.overlap[test]))
    found["auroc_split"] = np.mean(list(found.values()), axis=0)
    return found | ({"auroc_split_balanced": np.mean(balanced, axis=0)} if balanced else {})


def robust_draws(cross_validated: Array, balanced: Array | None, splits: Mapping[str, Array]) -> Array:
    """What `recommend` goes by, in every resample [1 + B].

    The mean of two AUROCs in which colour tells the classes nothing (overlap weights): in cross-validation, and trained
    on one half of the colour range and tested on the other. Where they are not known, the plain ones.
    """
    if balanced is not None and "auroc_split_balanced" in splits:
        return (balanced + splits["auroc_split_balanced"]) / 2
    return (cross_validated + splits["auroc_split"]) / 2 if "auroc_split" in splits else cross_validated


def measure(
    model: Model,
    data: CohortArrays,
    folds: Sequence[Fold],
    weights: Array,
    *,
    seed: int,
    number: int,
    specificity: float,
    confidence: float,
    colours: Colours,
    advance: Callable[[], object] = lambda: None,
) -> Measured:
    """Run one model in its folds and compute its row of the table; ``weights`` from `bootstrap_weights` [1 + B, P]."""
    own = folds_of(model, data, folds, number=number, seed=seed)
    scores = cross_validate(model, data.y, len(data.classes), own, seed=seed, groups=data.groups, advance=advance)
    y = data.y[scores.rows]
    draws = metric_draws(scores, y, data.classes, weights[:, scores.rows], specificity)
    spread = repetition_spread(scores, y, data.classes, specificity)
    row: dict[str, float | str | int] = {
        "model": model.name,
        "family": model.family,
        "patients": len(y),
        "repeats": len(scores.decision),
    }
    K, balanced = len(data.classes), None
    if colours.overlap is not None:
        overlap = colours.overlap[scores.rows]
        balanced = auroc_of(scores, y, K, weights[:, scores.rows] * overlap)
        draws["auroc_balanced"] = balanced
        single = [scores.repetition(r) for r in range(len(scores.decision))]
        spread["auroc_balanced"] = np.array([auroc_of(one, y, K, overlap[None])[0] for one in single])
    row |= summary(draws, spread, confidence)
    splits = split_draws(model, data.y, K, colours, weights, seed=seed, groups=data.groups)
    row |= {name: float(values[0]) for name, values in splits.items()}
    row |= _confounding(scores, data, own, colours.matched)
    robust = robust_draws(draws["auroc"], balanced, splits)
    return Measured(model, scores, own, row, draws["auroc"], robust)


def fold_aurocs(scores: Scores, y: NDArray[np.integer], folds: Sequence[Fold], n_classes: int) -> Array:
    """AUROC in each test fold alone [J]; NaN where a fold lacks a class. ``y`` [P] of the whole cohort."""
    where = {int(row): index for index, row in enumerate(scores.rows)}
    found = []
    for fold in folds:
        index = [where[int(row)] for row in fold.test]
        r = slice(fold.repeat, fold.repeat + 1)
        one = Scores(scores.decision[r, index], scores.probability[r, index], fold.test)
        found.append(float(auroc_of(one, y[fold.test], n_classes)[0]))
    return np.array(found)


def auroc_of(scores: Scores, y: NDArray[np.integer], n_classes: int, weights: Array | None = None) -> Array:
    """AUROC of the second of two classes, or the mean of one against the rest, under weights [B, P]; [B]."""
    margins = scores.margins()
    ranked = range(1, 2) if n_classes == 2 else range(n_classes)
    return np.mean([auroc(margins[:, :, k], y == k, weights) for k in ranked], axis=0)


def explained_by_colour(scores: Scores, data: CohortArrays) -> float:
    """Share of the decisions (mean over repetitions) that the colour statistics explain; NaN without them."""
    colour = data.confounders.get("colour")
    margins = scores.margins()
    if colour is None or np.ptp(margins) == 0:
        return float("nan")
    ranked = range(1, 2) if margins.shape[2] == 2 else range(margins.shape[2])
    return float(np.mean([explained(margins[:, :, k].mean(0), colour[scores.rows]) for k in ranked]))


def _confounding(
    scores: Scores, data: CohortArrays, folds: Sequence[Fold], matched: NDArray[np.intp]
) -> dict[str, float]:
    """How much of the decisions confounders explain, and the AUROC of what is left of them."""
    margins = scores.margins()
    K = len(data.classes)
    ranked = range(1, 2) if K == 2 else range(K)
    found: dict[str, float] = {}
    for name, covariates in (("colour", data.confounders.get("colour")), ("confounders", all_confounders(data))):
        if covariates is None or np.ptp(margins) == 0:
            continue
        mine = covariates[scores.rows]
        found[f"r2_{name}"] = float(np.mean([explained(margins[:, :, k].mean(0), mine) for k in ranked]))
        left = []
        for k in ranked:
            decision = np.zeros((len(margins), len(data.y)))
            decision[:, scores.rows] = margins[:, :, k]
            rest = remove_from_decisions(decision, covariates, folds)[:, scores.rows]
            left.append(float(auroc(rest, data.y[scores.rows] == k)[0]))
        found[f"auroc_without_{name}"] = float(np.mean(left))
    if len(matched) and K == 2 and np.isin(matched, scores.rows).all():
        index = np.searchsorted(scores.rows, matched)
        found["auroc_matched"] = float(auroc(margins[:, index, 1], data.y[matched] == 1)[0])
    return found
