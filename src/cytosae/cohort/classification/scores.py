"""How well out-of-fold predictions tell the classes apart, with intervals from resampling patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax
from scipy.stats import norm
from scipy.stats import t as student

from cytosae.cohort.config import ClassificationConfig, Odds
from cytosae.cohort.design import Design, Fold

Array = NDArray[np.float64]
BINS = 5
"""Of a reliability curve, with as many patients each."""


@dataclass(frozen=True)
class Scores:
    """Out-of-fold output of one model.

    Attributes
    ----------
    decision : ndarray of float, shape (R, P, K)
        Log odds of the classes at the odds asked for, up to a constant of each patient; NaN in repetitions not run.
        Probabilities and calls follow from them and from nothing else.
    rows : ndarray of int, shape (P,)
        The patients, as row numbers of the cohort.
    """

    decision: Array
    rows: NDArray[np.intp]

    @property
    def probability(self) -> Array:
        """Probability of each class, shape (R, P, K)."""
        return softmax(self.decision, axis=2)

    def margins(self) -> Array:
        """Log odds of each class against all others, shape (R, P, K)."""
        d = self.decision
        others: list[Any] = [logsumexp(np.delete(d, k, axis=2), axis=2) for k in range(d.shape[2])]
        return d - np.stack(others, axis=2)

    def calls(self) -> NDArray[np.intp]:
        """The class with the largest probability, of equal ones the first, shape (R, P)."""
        return self.decision.argmax(2)

    def first(self, repetitions: int) -> Scores:
        """The first repetitions alone."""
        return Scores(self.decision[:repetitions], self.rows)

    def mean(self) -> Scores:
        """One repetition, the mean decision of all."""
        return Scores(self.decision.mean(0, keepdims=True), self.rows)


def verdicts(classes: Sequence[str], decision: Array, probability: Array) -> dict[str, Any]:
    """Columns of a table of patients: ``call``, the most probable class, with the decision and what follows from it.

    ``decision`` of the second of two classes, of more ``decision_<class>``; ``probability_<class>``.
    """
    columns: dict[str, Any] = {"call": [classes[k] for k in probability.argmax(1)]}
    if len(classes) == 2:
        columns["decision"] = decision[:, -1]
    else:
        columns |= {f"decision_{name}": decision[:, k] for k, name in enumerate(classes)}
    return columns | {f"probability_{name}": probability[:, k] for k, name in enumerate(classes)}


def ranked(n_classes: int) -> range:
    """Classes that are ranked against the rest: of two the second, of more each."""
    return range(1, 2) if n_classes == 2 else range(n_classes)


def prior(design: Design, odds: Odds) -> Array:
    """Log odds of the classes before anything is seen, shape (K,)."""
    return np.zeros(len(design.classes)) if odds == "equal" else np.log(design.shares())


def importance(y: NDArray[np.integer], odds: Odds) -> Array:
    """Weight of each patient in the population that probabilities are about, shape (P,)."""
    counts = np.bincount(y)
    return np.ones(len(y)) if odds == "training" else len(y) / (np.count_nonzero(counts) * counts[y])


def auroc(margin: Array, positive: NDArray[np.bool_], weights: Array | None = None) -> Array:
    """Area under the ROC curve, ties half, averaged over repetitions.

    Parameters
    ----------
    margin : ndarray of float64
        Ndarray of float, shape (R, P).
    positive : ndarray of bool, shape (P,)
    weights : ndarray of float, shape (B, P), or None
        Weight of each patient in each of B resamples; None for one resample with equal weights.

    Returns
    -------
    ndarray of float, shape (B,)
        NaN where there is no positive or no negative.
    """
    above = np.zeros((int(positive.sum()), int((~positive).sum())))
    for row in margin:
        ours, theirs = row[positive][:, None], row[~positive][None]
        above += (ours > theirs) + 0.5 * (ours == theirs)
    weights = np.ones((1, len(positive))) if weights is None else weights
    p, n = weights[:, positive], weights[:, ~positive]
    total = p.sum(1) * n.sum(1)
    won = ((p @ (above / len(margin))) * n).sum(1)
    return np.divide(won, total, out=np.full(len(weights), np.nan), where=total > 0)


def auroc_of(scores: Scores, y: NDArray[np.integer], n_classes: int, weights: Array | None = None) -> Array:
    """AUROC of the second of two classes, or the mean of one against the rest, under weights [B, P]; [B]."""
    margins = scores.margins()
    return np.mean([auroc(margins[:, :, k], y == k, weights) for k in ranked(n_classes)], axis=0)


def balanced_accuracy(scores: Scores, y: NDArray[np.integer], n_classes: int, weights: Array) -> Array:
    """Mean over the classes of the share of their patients who are called so, under weights [B, P]; [B]."""
    return _by_class(scores.calls(), y, n_classes, weights)[1].mean(1)


def metric_draws(scores: Scores, design: Design, weights: Array, config: ClassificationConfig) -> dict[str, Array]:
    """Every metric in every resample of patients, each averaged over repetitions.

    Parameters
    ----------
    scores : Scores
        R repetitions.
    design : Design
        Of the cohort.
    weights : ndarray of float, shape (B, P)
        From `Design.bootstrap`.
    config : ClassificationConfig
        Its odds, and the specificity at which the sensitivity is taken.

    Returns
    -------
    dict of str to ndarray of float, shape (B,)
        auroc (of the second class; mean of one against the rest for more), macro_f1, f1_<class>, balanced_accuracy,
        brier (two classes: (p - y)^2; more: sum over classes; in the population of the odds), sensitivity.
    """
    y, weights, margins, K = design.y[scores.rows], weights[:, scores.rows], scores.margins(), len(design.classes)
    found = {"auroc": auroc_of(scores, y, K, weights)}
    f1, recall = _by_class(scores.calls(), y, K, weights)
    found["macro_f1"] = f1.mean(1)
    found |= {f"f1_{name}": f1[:, k] for k, name in enumerate(design.classes)}
    found["balanced_accuracy"] = recall.mean(1)
    errors = (scores.probability - np.eye(K)[y]) ** 2
    loss = (errors[:, :, 1] if K == 2 else errors.sum(2)).mean(0)
    population = weights * importance(y, config.odds)
    found["brier"] = population @ loss / population.sum(1)
    sensitivities = [sensitivity_at(margins[:, :, k], y == k, weights, config.specificity) for k in ranked(K)]
    return found | {"sensitivity": np.mean(sensitivities, axis=0)}


def fold_f1(scores: Scores, design: Design, folds: Sequence[Fold]) -> Array:
    """F1 of each class in each test fold alone, [J, K], as papers give it with its mean and s.d. over folds."""
    found = []
    for fold in folds:
        index = np.searchsorted(scores.rows, fold.test)
        calls = scores.decision[fold.repeat, index].argmax(1)[None]
        found.append(_by_class(calls, design.y[fold.test], len(design.classes), np.ones((1, len(index))))[0][0])
    return np.array(found)


def sensitivity_at(margin: Array, positive: NDArray[np.bool_], weights: Array, specificity: float) -> Array:
    """Sensitivity at the lowest threshold of at least this specificity; [B], averaged over repetitions.

    A positive counts where it is strictly above the threshold, so that ties never help. NaN where the weights of all
    positives are 0, which happens in resamples of a few matched patients.
    """
    result, total = np.zeros(len(weights)), weights[:, positive].sum(1)
    allowed = (1 - specificity) * weights[:, ~positive].sum(1, keepdims=True) + 1e-9
    for row in margin:
        negatives = row[~positive]
        order = np.argsort(-negatives, kind="stable")
        passed = np.cumsum(weights[:, ~positive][:, order], axis=1) > allowed
        first = passed.argmax(1)
        above = row[positive][None] > negatives[order][:, None]
        hits = (above[first] * weights[:, positive]).sum(1)
        result += np.divide(hits, total, out=np.full(len(total), np.nan), where=total > 0)
    return result / len(margin)


def ends_of(values: Array, confidence: float) -> tuple[float, float]:
    """Ends of the interval of ``values[0]``: percentiles of its resamples ``values[1:]``, those without a value out."""
    tail = 100 * (1 - confidence) / 2
    low, high = np.nanpercentile(values[1:], [tail, 100 - tail])
    return float(low), float(high)


def summary(draws: dict[str, Array], spread: dict[str, Array], confidence: float) -> dict[str, float]:
    """Table row of metrics: value, ``_low`` and ``_high`` (percentiles of resamples), ``_sd`` (over repetitions)."""
    row: dict[str, float] = {}
    for name, values in draws.items():
        row[name] = float(values[0])
        row[f"{name}_low"], row[f"{name}_high"] = ends_of(values, confidence)
        row[f"{name}_sd"] = float(np.std(spread[name], ddof=1)) if len(spread[name]) > 1 else float("nan")
    return row


def reliability(scores: Scores, design: Design, config: ClassificationConfig) -> pd.DataFrame:
    """Reliability curve: patients in bins of equal size by the probability of their mean decision.

    Returns
    -------
    DataFrame
        Columns class, predicted (mean probability), observed (share with the class), low, high, n; for two classes of
        the second only. Shares are those in the population of the odds; the interval is Wilson's, of Kish's effective
        number of patients.
    """
    y, probability = design.y[scores.rows], scores.mean().probability[0]
    weights, z = importance(y, config.odds), float(norm.ppf((1 + config.confidence) / 2))
    rows = []
    for k in ranked(len(design.classes)):
        order = np.argsort(probability[:, k], kind="stable")
        for part in np.array_split(order, min(BINS, len(order))):
            w = weights[part]
            n, observed = w.sum() ** 2 / (w**2).sum(), float(w @ (y[part] == k) / w.sum())
            middle = (observed + z**2 / (2 * n)) / (1 + z**2 / n)
            half = z / (1 + z**2 / n) * np.sqrt(observed * (1 - observed) / n + z**2 / (4 * n**2))
            predicted = float(w @ probability[part, k] / w.sum())
            ends = {"low": float(middle - half), "high": float(middle + half)}
            facts = {"class": design.classes[k], "predicted": predicted, "observed": observed}
            rows.append({**facts, **ends, "n": len(part)})
    return pd.DataFrame(rows)


def corrected_t(differences: Array, n_train: float, n_test: float) -> float:
    """Two-sided p of the corrected resampled t-test on per-fold differences [J] (Nadeau and Bengio 2003).

    The variance is inflated by 1 / J + n_test / n_train, since training sets overlap; NaN for fewer than two folds.
    """
    d = differences[~np.isnan(differences)]
    if len(d) < 2:
        return float("nan")
    variance = d.var(ddof=1) * (1 / len(d) + n_test / n_train)
    if variance <= 0:
        return 1.0 if abs(d.mean()) < 1e-12 else 0.0
    return float(2 * student.sf(abs(d.mean()) / np.sqrt(variance), len(d) - 1))


def bootstrap_p(differences: Array) -> float:
    """Two-sided p of no difference, from resampled differences [B]: twice the smaller tail, never zero."""
    d = differences[~np.isnan(differences)]
    tail = min((d <= 0).sum(), (d >= 0).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(d) + 1)))


def _by_class(calls: NDArray[np.intp], y: NDArray[np.integer], K: int, weights: Array) -> tuple[Array, Array]:
    """F1 and recall of each class, [B, K], averaged over repetitions; a class never called has F1 0."""
    f1, recall = np.zeros((len(weights), K)), np.zeros((len(weights), K))
    truth = np.eye(K)[y]
    support = weights @ truth
    for row in calls:
        called = np.eye(K)[row]
        hits, n_called = weights @ (called * truth), weights @ called
        f1 += 2 * hits / np.maximum(n_called + support, 1e-300)
        recall += hits / np.maximum(support, 1e-300)
    return f1 / len(calls), recall / len(calls)
