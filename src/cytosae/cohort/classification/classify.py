"""Can a diagnosis be told from the concepts, better than from simpler things, and not from the smear's colour?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.atlas.matrix import dense
from cytosae.cohort.classification.assessment import Colours, Measured, fold_aurocs, measure
from cytosae.cohort.classification.controls import control_rows, permutation_p, shuffled_diagnoses
from cytosae.cohort.classification.features import Array, CohortArrays, gather
from cytosae.cohort.classification.folds import Fold, check_folds, make_folds
from cytosae.cohort.classification.models import Configuration, Model, build_models, linear_of
from cytosae.cohort.classification.recommendation import Contender, recommend
from cytosae.cohort.classification.result import ClassificationResult
from cytosae.cohort.classification.scores import (
    Scores,
    bootstrap_p,
    bootstrap_weights,
    corrected_t,
    metric_draws,
    reliability,
)
from cytosae.cohort.config import ClassificationConfig
from cytosae.cohort.stain.retest import retest_pairs
from cytosae.common.configuration import to_plain
from cytosae.common.errors import InputError, UsageError
from cytosae.common.progress import progress

if TYPE_CHECKING:
    from anndata import AnnData


BarcodesOf = Callable[[int, Sequence[str]], "AnnData"]
"""(number of the fold, its training patients) -> barcodes of all patients by an SAE trained on those alone."""


def classify(
    barcodes: AnnData,
    atlas: AnnData | None = None,
    *,
    colours: pd.DataFrame | None = None,
    random: AnnData | None = None,
    retest: AnnData | None = None,
    random_retest: AnnData | None = None,
    barcodes_of: BarcodesOf | None = None,
    classes: Sequence[str] | None = None,
    patient: str = "patient",
    config: ClassificationConfig | None = None,
) -> ClassificationResult:
    """Classify patients by their diagnosis with every model, baseline and control in the same nested folds.

    Parameters
    ----------
    barcodes : patients x latents (`cytosae.cohort.patients.barcodes`), diagnosis in ``obs``
    atlas : the cells behind them; without it the models that look at cells are left out, and ``notes`` says so
    colours : colour statistics of the cells, indexed by cell_id (`cytosae.cells.colour_statistics`)
    random : barcodes of the same patients by an SAE with random weights, a negative control
    retest, random_retest : some of the cells in two stains (`cytosae.cohort.open_retest`), by the SAE and by the one
        with random weights; without the first, nothing can be said of concepts that a change of stain changes
    barcodes_of : for the strict row: barcodes by an SAE that was trained without a fold's test patients. It is called
        with the number of the fold and the names of its training patients, folds x strict_repeats times
    classes : diagnoses to tell apart, None for all
    patient : column of ``atlas.obs`` with the patients
    config : see `ClassificationConfig`

    Raises
    ------
    InputError
        a patient or an image would be in two folds; a diagnosis is missing; there is a single class, or one with fewer
        patients than folds.
    UsageError
        an option is out of its range.
    """
    config = config or ClassificationConfig()
    _check(config)
    data = gather(
        barcodes,
        atlas,
        colours,
        kinds=config.kinds,
        classes=classes,
        positive=config.positive,
        group=config.group,
        patient=patient,
        retest=retest,
        sessions=config.sessions,
    )
    _check_random(random, data)
    folds = make_folds(
        data.y, data.classes, folds=config.folds, repeats=config.repeats, groups=data.groups, seed=config.seed
    )
    check_folds(folds, data.patients)
    random_pairs = None
    if random_retest is not None:
        random_pairs = retest_pairs(random_retest, data.patients, config.kinds, patient=patient)
    models = build_models(data, config, random, random_pairs)
    if barcodes_of is not None:
        models.append(_strict(barcodes_of, data, folds, config))
    return _run(models, data, folds, config, atlas is None)


def _run(
    models: list[Model], data: CohortArrays, folds: list[Fold], config: ClassificationConfig, no_cells: bool
) -> ClassificationResult:
    weights = bootstrap_weights(data.y, config.bootstrap, np.random.default_rng(config.seed))
    candidates = [model for model in models if model.configuration is not None]
    repeats = sum(min(model.repeats or config.repeats, config.repeats) for model in models)
    total = (repeats + config.shuffles * len(candidates)) * config.folds
    with progress("Classification", total, "fits") as bar:
        measured = _measure(models, data, folds, weights, config, bar.advance)
        chosen, configuration, reason = _choose(measured)
        shuffled = shuffled_diagnoses(
            candidates, data, shuffles=config.shuffles, folds=config.folds, seed=config.seed, advance=bar.advance
        )
    name = chosen.model.name
    rows = [one.row for one in measured]
    rows += control_rows(shuffled, name, config.confidence) if config.shuffles else []
    table = pd.DataFrame(rows)
    table["recommended"] = table["model"] == name
    notes = [*data.notes, *(["No cells were given: models that look at cells are left out."] if no_cells else [])]
    counts = np.bincount(data.y, minlength=len(data.classes))
    return ClassificationResult(
        classes=data.classes,
        patients={label: int(n) for label, n in zip(data.classes, counts, strict=True)},
        table=table,
        predictions=pd.concat([_predictions(one.model.name, one.scores, data) for one in measured], ignore_index=True),
        comparisons=_comparisons(chosen, measured, data, weights, config),
        reliability=_reliability(measured, data, config.confidence),
        shuffled=shuffled,
        recommended=configuration,
        reason=reason,
        p_shuffled=permutation_p(shuffled, float(chosen.auroc_draws[0])) if config.shuffles else float("nan"),
        notes=tuple(notes),
        config=to_plain(config),
    )


def _measure(
    models: list[Model],
    data: CohortArrays,
    folds: list[Fold],
    weights: Array,
    config: ClassificationConfig,
    advance: Callable[[], object],
) -> list[Measured]:
    colours = Colours.of(data, data.y)
    return [
        measure(
            model,
            data,
            folds,
            weights,
            seed=config.seed,
            number=config.folds,
            specificity=config.specificity,
            confidence=config.confidence,
            colours=colours,
            advance=advance,
        )
        for model in models
    ]


def _choose(measured: list[Measured]) -> tuple[Measured, Configuration, str]:
    """The recommended model, its configuration, and why."""
    settings = {one.model.name: one.model.configuration for one in measured if one.model.configuration is not None}
    contenders = [
        Contender(
            one.model.name,
            float(one.robust_draws[0]),
            settings[one.model.name].complexity,
        )
        for one in measured
        if one.model.name in settings and settings[one.model.name].images_alone
    ]
    name, reason = recommend(contenders)
    return next(one for one in measured if one.model.name == name), settings[name], reason


def _comparisons(
    chosen: Measured, measured: list[Measured], data: CohortArrays, weights: Array, config: ClassificationConfig
) -> pd.DataFrame:
    """The chosen model against each other on the repetitions that both were run in."""
    rows = []
    K = len(data.classes)
    for other in measured:
        if other is chosen or other.model.rows is not None:
            continue
        repeats = min(len(chosen.scores.decision), len(other.scores.decision))
        ours, theirs = (_first(one.scores, repeats) for one in (chosen, other))
        folds = [fold for fold in chosen.folds if fold.repeat < repeats]
        difference = (
            metric_draws(ours, data.y, data.classes, weights, config.specificity)["auroc"]
            - metric_draws(theirs, data.y, data.classes, weights, config.specificity)["auroc"]
        )
        by_fold = fold_aurocs(ours, data.y, folds, K) - fold_aurocs(theirs, data.y, folds, K)
        tail = 100 * (1 - config.confidence) / 2
        low, high = np.nanpercentile(difference[1:], [tail, 100 - tail])
        n_test = float(np.mean([len(fold.test) for fold in folds]))
        rows.append(
            {
                "model": other.model.name,
                "reference": chosen.model.name,
                "difference": float(difference[0]),
                "low": float(low),
                "high": float(high),
                "p_bootstrap": bootstrap_p(difference[1:]),
                "p_t": corrected_t(by_fold, len(data.y) - n_test, n_test),
            }
        )
    return pd.DataFrame(rows)


def _first(scores: Scores, repeats: int) -> Scores:
    return Scores(scores.decision[:repeats], scores.probability[:repeats], scores.rows)


def _predictions(name: str, scores: Scores, data: CohortArrays) -> pd.DataFrame:
    decision, probability = scores.decision.mean(0), scores.probability.mean(0)
    frame = pd.DataFrame({"model": name, "patient": [data.patients[row] for row in scores.rows]})
    frame["diagnosis"] = [data.classes[k] for k in data.y[scores.rows]]
    frame["call"] = [data.classes[k] for k in decision.argmax(1)]
    margin = Scores(decision[None], probability[None], scores.rows).margins()[0]
    if len(data.classes) == 2:
        frame["decision"] = margin[:, 1]
    else:
        for k, label in enumerate(data.classes):
            frame[f"decision_{label}"] = margin[:, k]
    for k, label in enumerate(data.classes):
        frame[f"probability_{label}"] = probability[:, k]
    return frame


def _reliability(measured: list[Measured], data: CohortArrays, confidence: float) -> pd.DataFrame:
    frames = []
    for one in measured:
        frame = reliability(one.scores, data.y[one.scores.rows], data.classes, confidence=confidence)
        frame.insert(0, "model", one.model.name)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _strict(
    barcodes_of: BarcodesOf,
    data: CohortArrays,
    folds: Sequence[Fold],
    config: ClassificationConfig,
) -> Model:
    """Concepts of an SAE trained without the test patients; the splits by colour have no SAE of their own."""
    numbers = {fold.train.tobytes(): index for index, fold in enumerate(folds)}

    def features(train: NDArray[np.intp]) -> Array:
        number = numbers[train.tobytes()]
        made = barcodes_of(number, [data.patients[row] for row in train])
        rows = made.obs_names.astype(str).get_indexer(list(data.patients))
        if (rows < 0).any():
            absent = data.patients[int((rows < 0).argmax())]
            raise InputError(f"the barcodes of fold {number} lack the patient {absent!r}; make them for all patients.")
        layer = made.layers[config.kind]
        return dense(layer, np.float64)[rows]

    name = f"concepts ({config.kind}), SAE without the test patients"
    return Model(name, "concepts", features, linear_of(config), config.strict_repeats, splits=False)


def _check_random(random: AnnData | None, data: CohortArrays) -> None:
    if random is None:
        return
    absent = set(data.patients) - set(random.obs_names.astype(str))
    if absent:
        raise InputError(
            f"the barcodes of the random-weight SAE lack the patient {min(absent)!r}; make them of the same cells."
        )


def _check(config: ClassificationConfig) -> None:
    if not 0 < config.specificity < 1 or not 0 < config.confidence < 1:
        raise UsageError(
            f"specificity {config.specificity} and confidence {config.confidence} must lie between 0 and 1."
        )
    counts = (config.repeats, config.inner_folds, config.bootstrap, config.slow_repeats, config.strict_repeats)
    if min(counts) < 1 or config.shuffles < 0:
        raise UsageError(
            "repeats, inner_folds, bootstrap, slow_repeats and strict_repeats must be 1 or more, shuffles 0."
        )
    if not config.strengths or min(config.strengths) <= 0:
        raise UsageError(f"strengths {config.strengths} must be positive numbers.")
    if not -1 <= config.reliability <= 1:
        raise UsageError(f"reliability is {config.reliability}; an intraclass correlation lies between -1 and 1.")
    if config.kind not in config.kinds:
        raise UsageError(f"kind {config.kind!r} is none of the kinds compared ({', '.join(config.kinds)}); add it.")
