"""What is measured of a model on later patients, and the same of its cross-validation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_expit

from cytosae.cohort.classification.scores import Scores, importance, metric_draws, ranked
from cytosae.cohort.config import ClassificationConfig
from cytosae.cohort.design import Design
from cytosae.cohort.validation.calibration import THRESHOLDS, at_threshold, calibration, net_benefit, threshold_at

Array = NDArray[np.float64]


def thresholds_of(scores: Scores, design: Design, specificity: float) -> list[float]:
    """Thresholds of the log odds of each ranked class, at a specificity among the patients of ``scores``."""
    margins, y = scores.margins()[0], design.y[scores.rows]
    return [threshold_at(margins[:, k], y == k, specificity) for k in ranked(len(design.classes))]


def draws_of(
    scores: Scores, design: Design, weights: Array, config: ClassificationConfig, thresholds: list[float]
) -> dict[str, Array]:
    """Every measure in every resample of patients; of more than two classes the mean of each against the rest.

    ``scores`` are of one repetition; sensitivity and specificity are those at the fixed ``thresholds``; calibration and
    Brier score are those of the population that probabilities are about.
    """
    found = metric_draws(scores, design, weights, config)
    margins, y, mine = scores.margins()[0], design.y[scores.rows], weights[:, scores.rows]
    population = mine * importance(y, config.odds)
    at: list[tuple[Array, Array]] = []
    fitted: list[tuple[Array, Array]] = []
    for k, threshold in zip(ranked(len(design.classes)), thresholds, strict=True):
        at.append(at_threshold(margins[:, k], y == k, mine, threshold))
        fitted.append(calibration(margins[:, k], y == k, population))
    found["sensitivity"], found["specificity"] = np.mean(at, axis=0)
    found["calibration_slope"], found["calibration_intercept"] = np.mean(fitted, axis=0)
    return found


def with_interval(draws: Mapping[str, Array], confidence: float) -> dict[str, float]:
    """Each measure with ``_low`` and ``_high``; an end that is infinite, or of resamples without a value, is NaN."""
    row: dict[str, float] = {}
    tail = (1 - confidence) / 2
    for name, values in draws.items():
        known = np.sort(values[1:][~np.isnan(values[1:])])
        ends = (np.nan, np.nan)
        if len(known) >= 2:  # no interpolation: between a number and infinity there is none
            ends = tuple(known[[int(tail * (len(known) - 1)), int(np.ceil((1 - tail) * (len(known) - 1)))]])
        for key, value in zip((name, f"{name}_low", f"{name}_high"), (values[0], *ends), strict=True):
            row[key] = float(value) if np.isfinite(value) else float("nan")
    return row


def decision_curve(scores: Scores, design: Design, weights: Array, config: ClassificationConfig) -> pd.DataFrame:
    """Net benefit of acting by a model's probability, and of acting on everybody; on nobody it is 0.

    Returns
    -------
    DataFrame
        class, threshold, net_benefit, low, high, treat_all, in the population that probabilities are about.
    """
    y, tail = design.y[scores.rows], 100 * (1 - config.confidence) / 2
    population = weights[:, scores.rows] * importance(y, config.odds)
    rows = []
    for k in ranked(len(design.classes)):
        found = net_benefit(scores.probability[0][:, k], y == k, population)
        everybody = net_benefit(np.ones(len(y)), y == k, population[:1])[:, 0]
        low, high = np.percentile(found[:, 1:], [tail, 100 - tail], axis=1)
        for i, threshold in enumerate(THRESHOLDS):
            facts = {"class": design.classes[k], "threshold": float(threshold), "net_benefit": float(found[i, 0])}
            rows.append({**facts, "low": float(low[i]), "high": float(high[i]), "treat_all": float(everybody[i])})
    return pd.DataFrame(rows)


def scores_of(predictions: pd.DataFrame, classes: tuple[str, ...], rows: NDArray[np.intp]) -> Scores:
    """The predictions of one model, as `cytosae.cohort.classify` and `cytosae.cohort.predict` give them, as scores."""
    if len(classes) == 2:
        second = predictions["decision"].to_numpy(dtype=np.float64)
        log_odds = np.stack([-second, second], axis=1)
    else:
        log_odds = predictions[[f"decision_{name}" for name in classes]].to_numpy(dtype=np.float64)
        if not np.allclose(1 / (1 + np.exp(-log_odds)), predictions[[f"probability_{name}" for name in classes]]):
            return Scores(log_odds[None], rows)  # of `predict`: log odds up to a constant of each patient
    return Scores(log_expit(log_odds)[None], rows)
