"""Run a model in folds and describe what came out: one row of the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cytosae.cohort.classification.cohort_arrays import CohortArrays
from cytosae.cohort.classification.confounders import (
    all_confounders,
    colour_splits,
    explained,
    match_by_colour,
    overlap_weights,
    remove_from_decisions,
)
from cytosae.cohort.classification.features import Array
from cytosae.cohort.classification.models import Model, can_be_recommended
from cytosae.cohort.classification.scores import (
    Scores,
    auroc,
    auroc_of,
    bootstrap_p,
    corrected_t,
    ends_of,
    fold_f1,
    metric_draws,
    prior,
    ranked,
    summary,
)
from cytosae.cohort.config import ClassificationConfig, Odds
from cytosae.cohort.design import Design, Fold
from cytosae.common.errors import InputError

Advance = Callable[[], object]


@dataclass(frozen=True)
class Colours:
    """What is known of the patients' colours, for every model alike.

    Attributes
    ----------
    splits : sequence of tuple (str, ndarray of int64, ndarray of int64)
        Name, training and test rows (`colour_splits`).
    overlap : ndarray of float64, shape (P,), or None
        Weights under which colour tells two classes nothing (`overlap_weights`); None for more classes.
    matched : ndarray of int64
        Rows of patients matched by colour.
    """

    splits: Sequence[tuple[str, NDArray[np.intp], NDArray[np.intp]]] = ()
    overlap: Array | None = None
    matched: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, dtype=np.intp))

    @classmethod
    def of(cls, colour: Array | None, design: Design) -> Colours:
        """Of patients' colour statistics [P, 6], and their classes; empty without."""
        if colour is None:
            return cls()
        if len(design.classes) > 2:
            return cls(colour_splits(colour, design))
        y = design.y
        return cls(colour_splits(colour, design), overlap_weights(colour, y), match_by_colour(colour, y))


@dataclass(frozen=True)
class Sessions:
    """One more repetition of folds, in which the patients of an imaging session are on one side.

    Attributes
    ----------
    design : Design
        The patients, kept together by session.
    folds : list of Fold
        Their folds.
    """

    design: Design
    folds: list[Fold]

    @classmethod
    def of(cls, data: CohortArrays, design: Design, config: ClassificationConfig, seed: int) -> Sessions | None:
        """None where no sessions are known, or the folds of the design keep patients together anyway."""
        if data.alternative is None or design.grouped or not data.alternative.grouped:
            return None
        kept = replace(data.alternative, y=design.y)
        try:
            return cls(kept, kept.folds(min(config.folds, kept.most_folds), seed=seed))
        except InputError:  # dealt out anew, the diagnoses may not allow it
            return None


@dataclass(frozen=True)
class Trial:
    """What every model goes through alike.

    Attributes
    ----------
    data : CohortArrays
        The patients.
    design : Design
        Their diagnoses and who belongs together: those of ``data``, shuffled ones, or with other groups.
    folds : list of Fold
        The same for every model.
    weights : ndarray of float, shape (1 + B, P)
        From `Design.bootstrap`.
    colours : Colours
        What the smears' colour says of the same patients.
    config : ClassificationConfig
        How it is done.
    seed : int
        Of everything drawn.
    sessions : Sessions or None
        Folds that keep imaging sessions together, for what can be recommended; None where `folds` do, or none are
        known.
    """

    data: CohortArrays
    design: Design
    folds: list[Fold]
    weights: Array
    colours: Colours
    config: ClassificationConfig
    seed: int
    sessions: Sessions | None = None

    @classmethod
    def of(cls, data: CohortArrays, design: Design, config: ClassificationConfig, seed: int) -> Trial:
        """Folds and resamples of a design; `InputError` where there can be none."""
        folds = design.folds(config.folds, repeats=config.repeats, seed=seed)
        weights = design.bootstrap(config.bootstrap, np.random.default_rng(seed))
        colours = Colours.of(data.confounders.get("colour"), design)
        return cls(data, design, folds, weights, colours, config, seed, Sessions.of(data, design, config, seed))

    def folds_of(self, model: Model) -> list[Fold]:
        """The folds that a model is run in: its repetitions, or folds of its own on its own patients."""
        repeats = min(self.config.repeats, model.repeats or self.config.repeats)
        if model.rows is None:
            return [fold for fold in self.folds if fold.repeat < repeats]
        own = self.design.take(model.rows)
        made = own.folds(min(self.config.folds, own.most_folds), repeats=repeats, seed=self.seed)
        return [replace(fold, train=model.rows[fold.train], test=model.rows[fold.test]) for fold in made]

    def sessions_of(self, model: Model) -> Sessions | None:
        """What a model goes through beside its folds, if it can be recommended."""
        return self.sessions if can_be_recommended(model, self.config) else None


@dataclass(frozen=True)
class Measured:
    """One model, run.

    Attributes
    ----------
    model : Model
        Which.
    scores : Scores
        Out-of-fold predictions.
    folds : list of Fold
        That they came from, as row numbers of the cohort.
    aurocs : dict of str to ndarray of float64
        Name -> [1 + B], AUROC in the resamples of patients (first: all): ``auroc``, ``auroc_balanced`` (overlap
        weights), ``auroc_sessions`` (imaging sessions kept together), those of the splits by colour (`split_draws`).
    """

    model: Model
    scores: Scores
    folds: list[Fold]
    aurocs: dict[str, Array]

    @property
    def robust(self) -> float:
        """What `recommend` goes by: the mean of what is kept where the conditions change.

        Of the AUROC in cross-validation, that trained on one half of the colour range and tested on the other, both
        with overlap weights where they are known (colour tells the classes nothing), and that with imaging sessions
        kept together, where folds mix them.
        """
        plain, split = ("auroc", "auroc_split")
        if "auroc_balanced" in self.aurocs and "auroc_split_balanced" in self.aurocs:
            plain, split = ("auroc_balanced", "auroc_split_balanced")
        kept = (plain, split, "auroc_sessions")
        return float(np.mean([self.aurocs[name][0] for name in kept if name in self.aurocs]))


def run(model: Model, trial: Trial, advance: Advance = lambda: None) -> Measured:
    """Run one model in its folds, with sessions kept together, and across the colour range."""
    folds, design, overlap = trial.folds_of(model), trial.design, trial.colours.overlap
    scores = cross_validate(model, design, folds, odds=trial.config.odds, advance=advance)
    y, weights, K = design.y[scores.rows], trial.weights[:, scores.rows], len(design.classes)
    aurocs = {"auroc": auroc_of(scores, y, K, weights)}
    if overlap is not None:
        aurocs["auroc_balanced"] = auroc_of(scores, y, K, weights * overlap[scores.rows])
    sessions = trial.sessions_of(model)
    if sessions is not None:
        kept = cross_validate(model, sessions.design, sessions.folds, odds=trial.config.odds, advance=advance)
        aurocs["auroc_sessions"] = auroc_of(kept, design.y[kept.rows], K, trial.weights[:, kept.rows])
    return Measured(model, scores, folds, aurocs | split_draws(model, trial))


def cross_validate(
    model: Model,
    design: Design,
    folds: Sequence[Fold],
    *,
    odds: Odds = "equal",
    advance: Advance = lambda: None,
) -> Scores:
    """Out-of-fold decisions of all repetitions in ``folds``, at the odds that are asked for."""
    repeats = 1 + max(fold.repeat for fold in folds)
    evidence = np.full((repeats, len(design.y), len(design.classes)), np.nan)
    for fold in folds:
        evidence[fold.repeat, fold.test] = model.learner.evidence(model.features(fold.train), design, fold)
        advance()
    rows = np.flatnonzero(~np.isnan(evidence).any((0, 2)))
    return Scores(evidence[:, rows] + prior(design.take(rows), odds), rows)


def split_draws(model: Model, trial: Trial) -> dict[str, Array]:
    """AUROC when trained on one half of the colour range and tested on the other, in every resample [1 + B].

    Returns
    -------
    dict of str to ndarray
        ``split_<component>_<up or down>`` (up: trained on the darker half), ``auroc_split`` their mean, and
        ``auroc_split_balanced``, the mean where test patients have overlap weights; empty without colours.
    """
    if model.rows is not None or not model.splits or not trial.colours.splits:
        return {}
    found: dict[str, Array] = {}
    balanced, overlap, K = [], trial.colours.overlap, len(trial.design.classes)
    for name, train, test in trial.colours.splits:
        fold = Fold(train, test, trial.seed)
        scores = Scores(model.learner.evidence(model.features(train), trial.design, fold)[None], test)
        y, weights = trial.design.y[test], trial.weights[:, test]
        found[f"split_{name}"] = auroc_of(scores, y, K, weights)
        if overlap is not None:
            balanced.append(auroc_of(scores, y, K, weights * overlap[test]))
    found["auroc_split"] = np.mean(list(found.values()), axis=0)
    return found | ({"auroc_split_balanced": np.mean(balanced, axis=0)} if balanced else {})


def describe(measured: Measured, trial: Trial) -> dict[str, float | str | int]:
    """The row of a model in the table."""
    scores, design, config = measured.scores, trial.design, trial.config
    row: dict[str, float | str | int] = {
        "model": measured.model.name,
        "family": measured.model.family,
        "patients": len(scores.rows),
        "repeats": len(scores.decision),
        "kept together": design.by,
    }
    single = [Scores(decision[None], scores.rows) for decision in scores.decision]
    alone = [metric_draws(one, design, np.ones((1, len(design.y))), config) for one in single]
    spread = {name: np.array([draw[name][0] for draw in alone]) for name in alone[0]}
    draws = metric_draws(scores, design, trial.weights, config)
    if trial.colours.overlap is not None:
        y, overlap = design.y[scores.rows], trial.colours.overlap[None, scores.rows]
        draws["auroc_balanced"] = measured.aurocs["auroc_balanced"]
        spread["auroc_balanced"] = np.array([auroc_of(one, y, len(design.classes), overlap)[0] for one in single])
    row |= summary(draws, spread, config.confidence)
    row |= {name: float(values[0]) for name, values in measured.aurocs.items() if name not in row}
    by_fold = fold_f1(scores, design, measured.folds)
    for k, name in enumerate(design.classes):
        row |= {
            f"f1_{name}_folds": float(by_fold[:, k].mean()),
            f"f1_{name}_folds_sd": float(by_fold[:, k].std(ddof=1)),
        }
    return row | _confounding(measured, trial)


def compare(one: Measured, other: Measured, trial: Trial) -> dict[str, float | str]:
    """AUROC of one model less another's, on the repetitions that both were run in, with its interval and p."""
    design, config = trial.design, trial.config
    repeats = min(len(one.scores.decision), len(other.scores.decision))
    pair = [each.scores.first(repeats) for each in (one, other)]
    folds = [fold for fold in one.folds if fold.repeat < repeats]
    ours, theirs = (auroc_of(scores, design.y, len(design.classes), trial.weights) for scores in pair)
    by_fold = np.subtract(*(fold_aurocs(scores, design, folds) for scores in pair))
    low, high = ends_of(ours - theirs, config.confidence)
    n_test = float(np.mean([len(fold.test) for fold in folds]))
    return {
        "model": other.model.name,
        "reference": one.model.name,
        "difference": float(ours[0] - theirs[0]),
        "low": low,
        "high": high,
        "p_bootstrap": bootstrap_p((ours - theirs)[1:]),
        "p_t": corrected_t(by_fold, len(design.y) - n_test, n_test),
    }


def fold_aurocs(scores: Scores, design: Design, folds: Sequence[Fold]) -> Array:
    """AUROC in each test fold alone [J]; NaN where a fold lacks a class."""
    found = []
    for fold in folds:
        index = np.searchsorted(scores.rows, fold.test)
        one = Scores(scores.decision[fold.repeat : fold.repeat + 1, index], fold.test)
        found.append(float(auroc_of(one, design.y[fold.test], len(design.classes))[0]))
    return np.array(found)


def explained_by(scores: Scores, covariates: Array | None) -> float:
    """Share of the decisions (mean over repetitions) that covariates of the cohort explain; NaN without them."""
    margins = scores.margins()
    if covariates is None or not np.ptp(margins, axis=1).any():
        return float("nan")
    mine = covariates[scores.rows]
    return float(np.mean([explained(margins[:, :, k].mean(0), mine) for k in ranked(margins.shape[2])]))


def _confounding(measured: Measured, trial: Trial) -> dict[str, float]:
    """How much of the decisions confounders explain, and the AUROC of what is left of them."""
    scores, y, data = measured.scores, trial.design.y, trial.data
    margins, K, matched = scores.margins(), len(trial.design.classes), trial.colours.matched
    found: dict[str, float] = {}
    for name, covariates in (("colour", data.confounders.get("colour")), ("confounders", all_confounders(data))):
        if covariates is None or not np.ptp(margins, axis=1).any():
            continue
        found[f"r2_{name}"] = explained_by(scores, covariates)
        left = []
        for k in ranked(K):
            decision = np.zeros((len(margins), len(y)))
            decision[:, scores.rows] = margins[:, :, k]
            rest = remove_from_decisions(decision, covariates, measured.folds)[:, scores.rows]
            left.append(float(auroc(rest, y[scores.rows] == k)[0]))
        found[f"auroc_without_{name}"] = float(np.mean(left))
    if len(matched) and K == 2 and np.isin(matched, scores.rows).all():
        index = np.searchsorted(scores.rows, matched)
        found["auroc_matched"] = float(auroc(margins[:, index, 1], y[matched] == 1)[0])
    return found
