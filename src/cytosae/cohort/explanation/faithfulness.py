"""Does an explanation name what the decision rests on? Deletion and insertion curves, and stability over patients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.cohort.design import Design
from cytosae.common.errors import UsageError

if TYPE_CHECKING:
    from cytosae.cohort.classification.classifier import ConceptClassifier
    from cytosae.cohort.explanation.patient_explanation import PatientExplanation

Mode = Literal["deletion", "insertion"]
BAND = (0.05, 0.95)
"""Quantiles of the random orders that the band spans."""


@dataclass(frozen=True)
class Curve:
    """The decision while concepts or cells are taken away, or put in, one after another.

    Attributes
    ----------
    what : str
        "concepts" or "cells".
    mode : {"deletion", "insertion"}
        "deletion" or "insertion".
    steps : ndarray of int64, shape (S,)
        How many are taken away or put in.
    values : ndarray of float64, shape (S,)
        Decision in the order of contribution to it, the strongest first.
    random_mean, random_low, random_high : ndarray of float64, shape (S,)
        Mean and `BAND` of random orders.
    area : float
        Mean over the steps of how much further than random orders the ordered curve is (down for deletion, up for
        insertion, in the direction of the decision), in units of the decision; 0 is chance.
    orders : int
        Number of random orders.
    """

    what: str
    mode: Mode
    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    random_mean: NDArray[np.float64]
    random_low: NDArray[np.float64]
    random_high: NDArray[np.float64]
    area: float
    orders: int


def concept_curve(explanation: PatientExplanation, mode: Mode, *, orders: int = 200, seed: int = 0) -> Curve:
    """Replace concepts by what they are in the typical patient, one after another, or the reverse.

    The model is linear, so the curve is a cumulative sum of contributions and its end points are fixed; what it shows
    is how few concepts carry the decision, against random orders. Deletion begins at the decision and ends at the
    typical patient's; insertion the other way round.

    Parameters
    ----------
    explanation : PatientExplanation
        Of one patient; only concepts with a difference other than 0 take part.
    mode : {"deletion", "insertion"}
        "deletion" or "insertion".
    orders : int
        Random orders.
    seed : int
        Of the random orders.
    """
    parts = explanation.concepts["difference"].to_numpy(dtype=np.float64)
    parts = parts[parts != 0]
    sign = _sign(explanation.value)
    start = explanation.reference_value
    rng = np.random.default_rng(seed)
    shuffled = np.stack([parts[rng.permutation(len(parts))] for _ in range(orders)])
    ordered = parts[np.argsort(-sign * parts, kind="stable")][None]

    def along(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.concatenate([np.zeros((len(rows), 1)), np.cumsum(rows, axis=1)], axis=1)
        return start + sums if mode == "insertion" else start + parts.sum() - sums

    return _curve("concepts", mode, np.arange(len(parts) + 1), along(ordered)[0], along(shuffled), sign)


def cell_curve(explanation: PatientExplanation, mode: Mode, *, orders: int = 200, seed: int = 0) -> Curve:
    """Take the patient's cells away (or start with one and add the others), the most speaking ones first.

    The barcode is the mean over the cells that are there, so its denominator changes with every step: this is the
    decision that the classifier would make on the smaller set of images. Deletion ends with one cell left; insertion
    begins with one.
    """
    alone = explanation.cells["alone"].to_numpy(dtype=np.float64)
    sign = _sign(explanation.value)
    rng = np.random.default_rng(seed)
    shuffled = np.stack([alone[rng.permutation(len(alone))] for _ in range(orders)])
    ordered = alone[np.argsort(-sign * alone, kind="stable")][None]
    counts = np.arange(1, len(alone) + 1)

    def along(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        if mode == "insertion":
            return np.cumsum(rows, axis=1) / counts
        return np.cumsum(rows[:, ::-1], axis=1)[:, ::-1] / counts[::-1]  # of the cells that remain

    steps = counts if mode == "insertion" else counts - 1
    return _curve("cells", mode, steps, along(ordered)[0], along(shuffled), sign)


@dataclass(frozen=True)
class Stability:
    """Whether the top concepts stay the same when other patients had been in the study.

    Attributes
    ----------
    concepts : DataFrame
        Index latent, columns selection_frequency (share of resamples with it among the top), mean_rank (1 is first,
        over the resamples in which the model uses it), same_sign (share of these resamples in which its coefficient has
        the sign of the model on all patients; NaN where that model does not use it), in_all (whether it is in the top
        of the model on all patients); every concept that was in some top, the most frequent first.
    top : int
        Size of the top.
    resamples : int
        Number of resamples.
    overlap : float
        Mean share of the top that two resamples have in common.
    overlap_with_all : float
        Mean share of the top on all patients that a resample finds again.
    chance : float
        Share that two random tops would have in common, of the ``candidates``.
    candidates : int
        Concepts used by at least one of the models.
    """

    concepts: pd.DataFrame
    top: int
    resamples: int
    overlap: float
    overlap_with_all: float
    chance: float
    candidates: int


def stability(
    refit: Callable[[NDArray[np.intp]], ConceptClassifier],
    barcodes: NDArray[np.floating],
    design: Design,
    *,
    top: int = 10,
    resamples: int = 50,
    seed: int = 0,
) -> Stability:
    """Refit on bootstrap samples of patients and compare the top concepts.

    A concept's importance in a model is the mean size of its contribution, measured from the mean patient:
    |w_j| mean_p |x_pj - mean_j|, with more than two classes the largest over the classes.

    Parameters
    ----------
    refit : callable
        Given (n,) row numbers of patients, with repetitions, returns the model fitted on them with all its choices;
        these belong in the inner folds of ``design.take(rows)``, which keep copies of a patient together.
    barcodes : ndarray, shape (n, m)
        Of the kind that the model uses.
    design : Design
        Diagnoses, and who is drawn together (`Design.bootstrap`).
    top : int
        How many concepts count as the top.
    resamples : int
        Bootstrap samples, at least 2.
    seed : int
        Of the samples.

    Raises
    ------
    InputError
        A class with fewer than two patients: its resamples would all be the same.
    """
    if resamples < 2:
        raise UsageError(f"{resamples} resamples cannot be compared; ask for at least 2.")
    design.refuse_few()
    spread = np.abs(barcodes - barcodes.mean(axis=0)).mean(axis=0)
    weights = design.bootstrap(resamples, np.random.default_rng(seed)).astype(np.intp)
    whole, *rankings = (_ranking(refit(np.repeat(np.arange(len(row)), row)), spread) for row in weights)
    return _compared(whole, rankings, top)


def _ranking(model: ConceptClassifier, spread: NDArray[np.floating]) -> pd.Series:
    """Coefficients of the concepts that a model uses (the largest over classes), the most important first."""
    latents = np.asarray(model.latents)
    coefficients = np.asarray(model.coef)
    strongest = np.abs(coefficients).argmax(axis=0)
    signed = coefficients[strongest, np.arange(len(latents))]
    importance = np.abs(signed) * spread[latents]
    order = [i for i in np.argsort(-importance, kind="stable") if importance[i] > 0]
    return pd.Series(signed[order], index=pd.Index(latents[order], name="latent"))


def _compared(whole: pd.Series, rankings: list[pd.Series], top: int) -> Stability:
    tops = [set(ranking.index.tolist()[:top]) for ranking in rankings]
    reference = set(whole.index.tolist()[:top])
    seen = sorted(set().union(reference, *tops))
    candidates = set(whole.index.tolist()).union(*(ranking.index.tolist() for ranking in rankings))
    ranks = pd.DataFrame({i: pd.Series(np.arange(1, len(r) + 1), index=r.index) for i, r in enumerate(rankings)})
    signs = pd.DataFrame({i: np.sign(r) for i, r in enumerate(rankings)}).reindex(seen)
    own = pd.Series(np.sign(whole.to_numpy()), index=whole.index).reindex(seen)
    same = signs.eq(own, axis=0).sum(axis=1) / signs.notna().sum(axis=1).replace(0, np.nan)
    table = pd.DataFrame(
        {
            "selection_frequency": [float(np.mean([latent in chosen for chosen in tops])) for latent in seen],
            "mean_rank": pd.Series(ranks.reindex(seen).mean(axis=1)).to_numpy(),
            "same_sign": same.where(own.notna()).to_numpy(),
            "in_all": [latent in reference for latent in seen],
        },
        index=pd.Index(seen, name="latent"),
    )
    size = min(top, max(len(candidates), 1))
    return Stability(
        concepts=table.sort_values(["selection_frequency", "mean_rank"], ascending=[False, True], kind="stable"),
        top=top,
        resamples=len(rankings),
        overlap=float(np.mean([len(a & b) / size for a, b in combinations(tops, 2)])),
        overlap_with_all=float(np.mean([len(chosen & reference) / size for chosen in tops])),
        chance=size / max(len(candidates), 1),
        candidates=len(candidates),
    )


def _curve(
    what: str,
    mode: Mode,
    steps: NDArray[np.int64],
    values: NDArray[np.float64],
    random: NDArray[np.float64],
    sign: float,
) -> Curve:
    mean = random.mean(axis=0)
    low, high = np.quantile(random, BAND, axis=0)
    gain = sign * (values - mean if mode == "insertion" else mean - values)
    return Curve(what, mode, steps, values, mean, low, high, float(gain.mean()), len(random))


def _sign(value: float) -> float:
    """Direction of the decision; 0 counts as the first class's, as in `ConceptClassifier.decision`."""
    return 1.0 if value > 0 else -1.0
