"""How many concepts a diagnosis takes: AUROC against their number, beside other features, and how firm it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA

from cytosae.cohort.classification.assessment import Advance, Trial
from cytosae.cohort.classification.cohort_arrays import CellArrays, CohortArrays
from cytosae.cohort.classification.features import Array, Features, fixed, mean_by_patient
from cytosae.cohort.classification.few_concepts import Few, Order, fit_on
from cytosae.cohort.classification.linear import against_shares
from cytosae.cohort.classification.models import Model
from cytosae.cohort.classification.row_names import PAINTED
from cytosae.cohort.classification.scores import Scores, auroc_of, balanced_accuracy, ends_of
from cytosae.cohort.classification.settings import Configuration, few_of
from cytosae.cohort.config import ClassificationConfig
from cytosae.cohort.design import Design

CLUSTERS = 64
"""Of cells by k-means; the shares of a patient's cells in them are what few are chosen of."""
RESAMPLES = 50
"""Of patients at most, in each of which concepts are chosen anew; no more than a tenth of those behind intervals."""


def few_curves(setting: Configuration, trial: Trial, advance: Advance = lambda: None) -> pd.DataFrame:
    """AUROC of decisions by 1, 2, ... features, all chosen inside the folds of ``trial``.

    Parameters
    ----------
    setting : Configuration
        Barcode and variant of the concepts.
    trial : Trial
        Folds and resamples of patients; ``config.few_concepts`` is the largest number.
    advance : callable
        Called after each fold.

    Returns
    -------
    DataFrame
        One row a kind of feature and number: features, method, concepts; auroc, auroc_balanced (patients weighted so
        that colour tells the classes nothing; two classes), balanced_accuracy, each with ``_low`` and ``_high``
        (interval over patients); enough: the smallest number whose AUROC is within one standard error of the best.
    """
    config, rows = trial.config, []
    learner = few_of(config, config.few_concepts)
    for name, features in _kinds_of_features(setting, trial.data, config):
        found = []
        for number, scores in enumerate(few_scores(features, learner, trial, advance), 1):
            metrics, error = _metrics(scores, trial)
            found.append({"features": name, "method": config.few_method, "concepts": number, **metrics, "error": error})
        values = np.array([row["auroc"] for row in found])
        best = int(values.argmax())
        enough = int(np.argmax(values >= values[best] - found[best]["error"]))
        rows += [{**row, "enough": place == enough} for place, row in enumerate(found)]
    return pd.DataFrame(rows).drop(columns="error")


def few_scores(features: Features, learner: Few, trial: Trial, advance: Advance = lambda: None) -> Iterator[Scores]:
    """Out-of-fold decisions by 1, 2, ... features, as long as every fold finds so many."""
    design, K = trial.design, len(trial.design.classes)
    repeats = 1 + max(fold.repeat for fold in trial.folds)
    evidence = np.full((learner.most, repeats, len(design.y), K), np.nan)
    for fold in trial.folds:
        seen, train = features(fold.train), design.take(fold.train)
        X = seen[fold.train]
        order = learner.order(X, train.y, learner.join(X, train.y), learner.most)
        for k in range(len(order.features)):
            fit = fit_on(X, train.y, order.features[: k + 1])
            evidence[k, fold.repeat, fold.test] = against_shares(fit.logits(seen[fold.test]), train)
        advance()
    for decision in evidence:
        if not np.isnan(decision).any():
            yield Scores(decision, np.arange(len(design.y)))


def few_kinds(setting: Configuration, trial: Trial) -> int:
    """How many kinds of features `few_curves` compares."""
    return sum(1 for _ in _kinds_of_features(setting, trial.data, trial.config))


def resamples_of(config: ClassificationConfig) -> int:
    """In how many resamples of the patients concepts are chosen anew."""
    return min(RESAMPLES, max(1, config.bootstrap // 10))


def chosen_concepts(model: Model, trial: Trial, advance: Advance = lambda: None) -> tuple[pd.DataFrame, float]:
    """The concepts that a model of few chooses on all patients, and how often on some of them.

    Returns
    -------
    tuple (DataFrame, float)
        One row a concept, the first chosen first: latent; family (its near-twins, itself among them); weight (change of
        the log odds per standard deviation over patients; of more than two classes ``weight_<class>``); folds,
        resamples (share of the training sets of the folds, and of resamples of the patients, on which one of its
        family is chosen). Then the mean Jaccard index of the families chosen in two folds.
    """
    learner, design, config = model.learner, trial.design, trial.config
    if not isinstance(learner, Few):
        raise ValueError(f"{model.name} does not choose few concepts")
    everyone = np.arange(len(design.y))
    X = model.features(everyone)
    joined = learner.join(X, design.y)
    chosen = learner.choose(X, design, config.seed, joined)
    named = {int(j): number for number, family in enumerate(joined.families) for j in family}

    def families(order: Order) -> frozenset[int]:
        return frozenset(named.get(int(j), -1 - int(j)) for j in order.features)

    def chosen_on(X: Array, rows: NDArray[np.intp], seed: int) -> frozenset[int]:
        advance()
        return families(learner.choose(X[rows], design.take(rows), seed))

    in_folds = [chosen_on(model.features(fold.train), fold.train, fold.seed) for fold in trial.folds]
    drawn = design.bootstrap(resamples_of(config), np.random.default_rng(config.seed))[1:].astype(np.intp)
    resampled = [chosen_on(X, np.repeat(everyone, row), config.seed) for row in drawn]
    table = pd.DataFrame(
        {
            "latent": chosen.features,
            "family": [[int(j) for j in family] for family in chosen.families],
            **_weights(X, design, chosen),
            "folds": _shares(chosen, families, in_folds),
            "resamples": _shares(chosen, families, resampled),
        }
    )
    pairs = [len(a & b) / len(a | b) for a, b in combinations(in_folds, 2) if a | b]
    return table, float(np.mean(pairs)) if pairs else float("nan")


def _shares(chosen: Order, families: Callable[[Order], frozenset[int]], sets: list[frozenset[int]]) -> list[float]:
    """Share of the sets that hold the family of each concept."""
    alone = [families(Order(chosen.features[[i]], chosen.families[i : i + 1])) for i in range(len(chosen.features))]
    return [float(np.mean([own <= held for held in sets])) for own in alone]


def _weights(X: Array, design: Design, chosen: Order) -> dict[str, Array]:
    fit = fit_on(X, design.y, chosen.features)
    weights = fit.coef[:, chosen.features] * np.nanstd(X[:, chosen.features], axis=0)
    if len(weights) == 1:
        return {"weight": weights[0]}
    return {f"weight_{name}": row for name, row in zip(design.classes, weights, strict=True)}


def _kinds_of_features(
    setting: Configuration, data: CohortArrays, config: ClassificationConfig
) -> Iterator[tuple[str, Features]]:
    """What few are chosen of: concepts, the same without learning or without the cell, and what needs no SAE."""
    see = setting.see(data, config)
    if see is not None:
        yield setting.name, lambda train: see(train).features
    if setting.kind in data.random:
        yield f"random-weight SAE ({setting.kind})", fixed(data.random[setting.kind])
    if setting.kind in data.of_cells.get("painted out", {}):
        yield f"{PAINTED} ({setting.kind})", fixed(data.of_cells["painted out"][setting.kind])
    if data.tokens is not None:
        yield "neurons of the mean token", fixed(data.tokens)
    if data.cells is not None:
        yield "principal components of tokens", _components(data.cells, len(data.patients), config.seed)
        yield "clusters of cells (k-means)", _clusters(data.cells, len(data.patients), config.seed)


def _components(cells: CellArrays, n_patients: int, seed: int) -> Features:
    """Patients' means of the principal components of the training patients' cells."""

    def features(train: NDArray[np.intp]) -> Array:
        own = cells.tokens[np.isin(cells.patient, train)]
        made = PCA(min(own.shape), random_state=seed).fit(own).transform(cells.tokens)
        return mean_by_patient(made.astype(np.float64), cells.patient, n_patients)

    return features


def _clusters(cells: CellArrays, n_patients: int, seed: int) -> Features:
    """Shares of the patients' cells in clusters of the training patients' cells."""

    def features(train: NDArray[np.intp]) -> Array:
        own = cells.tokens[np.isin(cells.patient, train)]
        number = min(CLUSTERS, len(own))
        made: Any = MiniBatchKMeans(number, n_init="auto", random_state=seed).fit(own).predict(cells.tokens)
        return mean_by_patient(np.eye(number)[made], cells.patient, n_patients)

    return features


def _metrics(scores: Scores, trial: Trial) -> tuple[dict[str, float], float]:
    """Values with their intervals, and the standard error of the AUROC, over resamples of patients."""
    y, K, config = trial.design.y, len(trial.design.classes), trial.config
    draws = {"auroc": auroc_of(scores, y, K, trial.weights)}
    if trial.colours.overlap is not None:
        draws["auroc_balanced"] = auroc_of(scores, y, K, trial.weights * trial.colours.overlap)
    draws["balanced_accuracy"] = balanced_accuracy(scores, y, K, trial.weights)
    found: dict[str, float] = {}
    for name, values in draws.items():
        low, high = ends_of(values, config.confidence)
        found |= {name: float(values[0]), f"{name}_low": low, f"{name}_high": high}
    return found, float(np.nanstd(draws["auroc"][1:]))
