"""How well out-of-fold predictions tell the classes apart, with intervals from resampling patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import t as student

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Out-of-fold output of one model.

    Attributes
    ----------
    decision : float64 [R, P, K], log odds of each class against the training share of the classes; the class with the
        largest is called. NaN in repetitions that were not run
    probability : float64 [R, P, K], sums to 1
    rows : [P] int, the patients, as row numbers of the cohort
    """

    decision: Array
    probability: Array
    rows: NDArray[np.intp]

    def margins(self) -> Array:
        """Log odds of each class against all others [R, P, K]."""
        d = self.decision
        others = [logsumexp(np.delete(d, k, axis=2), axis=2) for k in range(d.shape[2])]
        return d - np.stack(others, axis=2)

    def repetition(self, number: int) -> Scores:
        """One repetition alone."""
        return Scores(self.decision[number : number + 1], self.probability[number : number + 1], self.rows)

    def calls(self) -> NDArray[np.intp]:
        """The class that is called [R, P]."""
        return self.decision.argmax(2)


def bootstrap_weights(y: NDArray[np.integer], draws: int, rng: np.random.Generator) -> Array:
    """How often each patient is drawn, [1 + draws, P]; patients are drawn within their class, and row 0 is all ones."""
    weights = np.zeros((1 + draws, len(y)))
    weights[0] = 1
    for k in np.unique(y):
        members = np.flatnonzero(y == k)
        weights[1:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=draws)
    return weights


def auroc(margin: Array, positive: NDArray[np.bool_], weights: Array | None = None) -> Array:
    """Area under the ROC curve, ties half, averaged over repetitions.

    Parameters
    ----------
    margin : [R, P]
    positive : [P] bool
    weights : [B, P], weight of each patient in each of B resamples; None for one resample with equal weights

    Returns
    -------
    [B] float64; NaN where there is no positive or no negative.
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


def metric_draws(
    scores: Scores, y: NDArray[np.integer], classes: Sequence[str], weights: Array, specificity: float
) -> dict[str, Array]:
    """Every metric in every resample of patients, each averaged over repetitions.

    Parameters
    ----------
    scores : R repetitions of P patients
    y : [P] int, their classes
    weights : [B, P] from `bootstrap_weights`
    specificity : at which the sensitivity is taken

    Returns
    -------
    name -> [B]: auroc (of the second class; mean of one against the rest for more), macro_f1, f1_<class>,
    balanced_accuracy, brier (two classes: (p - y)^2; more: sum over classes), sensitivity.
    """
    margins, K = scores.margins(), len(classes)
    ranked = range(1, 2) if K == 2 else range(K)
    found: dict[str, Array] = {}
    found["auroc"] = np.mean([auroc(margins[:, :, k], y == k, weights) for k in ranked], axis=0)
    f1, recall = _by_class(scores.calls(), y, K, weights)
    found["macro_f1"] = f1.mean(1)
    found |= {f"f1_{name}": f1[:, k] for k, name in enumerate(classes)}
    found["balanced_accuracy"] = recall.mean(1)
    errors = (scores.probability - np.eye(K)[y]) ** 2
    loss = (errors[:, :, 1] if K == 2 else errors.sum(2)).mean(0)
    found["brier"] = weights @ loss / weights.sum(1)
    found["sensitivity"] = np.mean(
        [sensitivity_at(margins[:, :, k], y == k, weights, specificity) for k in ranked], axis=0
    )
    return found


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


def summary(draws: dict[str, Array], spread: dict[str, Array], confidence: float) -> dict[str, float]:
    """Table row of metrics: value, ``_low`` and ``_high`` (percentiles of resamples), ``_sd`` (over repetitions)."""
    row: dict[str, float] = {}
    tail = 100 * (1 - confidence) / 2
    for name, values in draws.items():
        row[name] = float(values[0])
        row[f"{name}_low"], row[f"{name}_high"] = (float(v) for v in np.nanpercentile(values[1:], [tail, 100 - tail]))
        row[f"{name}_sd"] = float(np.std(spread[name], ddof=1)) if len(spread[name]) > 1 else float("nan")
    return row


def repetition_spread(
    scores: Scores, y: NDArray[np.integer], classes: Sequence[str], specificity: float
) -> dict[str, Array]:
    """Every metric in each repetition alone: name -> [R]."""
    ones = np.ones((1, len(y)))
    single = [metric_draws(scores.repetition(r), y, classes, ones, specificity) for r in range(len(scores.decision))]
    return {name: np.array([draw[name][0] for draw in single]) for name in single[0]}


def reliability(
    scores: Scores, y: NDArray[np.integer], classes: Sequence[str], *, bins: int = 5, confidence: float = 0.95
) -> pd.DataFrame:
    """Reliability curve: patients in bins of equal size by their probability (averaged over repetitions).

    Returns
    -------
    Columns class, predicted (mean probability), observed (share with the class), low, high (Wilson's interval), n; for
    two classes of the second only.
    """
    from scipy.stats import binomtest

    probability = scores.probability.mean(0)
    rows = []
    for k in range(1, 2) if len(classes) == 2 else range(len(classes)):
        order = np.argsort(probability[:, k], kind="stable")
        for part in np.array_split(order, min(bins, len(order))):
            hits = int((y[part] == k).sum())
            interval = binomtest(hits, len(part)).proportion_ci(confidence, method="wilson")
            rows.append(
                {
                    "class": classes[k],
                    "predicted": float(probability[part, k].mean()),
                    "observed": hits / len(part),
                    "low": float(interval.low),
                    "high": float(interval.high),
                    "n": len(part),
                }
            )
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
