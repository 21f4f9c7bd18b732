"""Can a diagnosis be told from the concepts, better than from simpler things, and not from the smear's colour?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytosae.cohort.classification.assessment import Measured, Trial, compare, describe, run
from cytosae.cohort.classification.cohort_arrays import Controls, gather
from cytosae.cohort.classification.controls import control_rows, permutation_p, shuffled_diagnoses, shuffled_trials
from cytosae.cohort.classification.few_concepts import Few
from cytosae.cohort.classification.few_curve import chosen_concepts, few_curves, few_kinds, resamples_of
from cytosae.cohort.classification.models import FEW_VARIANTS, Model, build_models, strict
from cytosae.cohort.classification.recommendation import recommend, without_limit
from cytosae.cohort.classification.result import ClassificationResult
from cytosae.cohort.classification.scores import reliability, verdicts
from cytosae.cohort.classification.settings import Configuration
from cytosae.cohort.config import ClassificationConfig
from cytosae.common.configuration import to_plain
from cytosae.common.errors import UsageError
from cytosae.common.progress import progress

if TYPE_CHECKING:
    from anndata import AnnData


def classify(
    barcodes: AnnData,
    atlas: AnnData | None = None,
    *,
    colours: pd.DataFrame | None = None,
    retest: AnnData | None = None,
    controls: Controls | None = None,
    classes: Sequence[str] | None = None,
    patient: str = "patient",
    config: ClassificationConfig | None = None,
) -> ClassificationResult:
    """Classify patients by their diagnosis with every model, baseline and control in the same nested folds.

    Parameters
    ----------
    barcodes : AnnData
        Patients x latents (`cytosae.cohort.barcodes`), diagnosis in ``obs``.
    atlas : AnnData or None
        The cells behind them; without it the models that look at cells are left out, and ``notes`` says so.
    colours : DataFrame or None
        Colour statistics of the cells, indexed by cell_id (`cytosae.cells.colour_statistics`).
    retest : AnnData or None
        Some of the cells in two stains (`cytosae.cohort.open_retest`); without it, nothing can be said of concepts that
        a change of stain changes.
    controls : Controls or None
        Barcodes by other SAEs: with random weights, trained without the test patients.
    classes : sequence of str or None
        Diagnoses to tell apart, None for all.
    patient : str
        Column of ``atlas.obs`` with the patients.
    config : ClassificationConfig or None
        How it is done; None for the defaults.

    Raises
    ------
    InputError
        A patient or an image would be in two folds; a diagnosis is missing; there is a single class, or one with fewer
        patients (or groups of them) than folds; diagnoses cannot be shuffled. All before anything is fitted.
    UsageError
        An option is out of its range.
    """
    config, controls = config or ClassificationConfig(), controls or Controls()
    _check(config)
    data = gather(
        barcodes, atlas, colours, classes=classes, patient=patient, retest=retest, controls=controls, config=config
    )
    trial, other = Trial.of(data, data.design, config, config.seed), None
    if data.alternative is not None:
        fewer = replace(config, folds=min(config.folds, data.alternative.most_folds))
        other = Trial.of(data, data.alternative, fewer, config.seed)
    models = build_models(data, config)
    if controls.barcodes_of is not None:
        models.append(strict(controls.barcodes_of, data, trial.folds, config))
    return _run(models, trial, other, shuffled_trials(data, config), no_cells=atlas is None)


def _run(
    models: list[Model], trial: Trial, other: Trial | None, shuffles: list[Trial], *, no_cells: bool
) -> ClassificationResult:
    data, config = trial.data, trial.config
    candidates = [model for model in models if model.configuration is not None]
    total = sum(_fits(model, trial) for model in models) + (0 if other is None else len(other.folds))
    again = sum(_fits(model, shuffled) for model in candidates for shuffled in shuffles)
    with progress("Classification", total + again, "fits") as bar:
        measured = [run(model, trial, bar.advance) for model in models]
        chosen, reason = recommend(measured, config.confidence)
        beside = None if other is None else _beside(run(chosen.model, other, bar.advance), other)
        shuffled = shuffled_diagnoses(candidates, shuffles, bar.advance)
    name, auroc = chosen.model.name, float(chosen.aurocs["auroc"][0])
    rows, shown, notes = [describe(one, trial) for one in measured], list(measured), list(data.notes)
    if beside is not None and other is not None:
        rows.append(describe(beside, other))
        shown.append(beside)
        notes.append(_both(chosen, beside, trial))
    compared, unlimited = _comparisons(chosen, measured, trial), without_limit(measured)
    if unlimited is not None:
        notes.append(_price(chosen, unlimited, compared))
    rows += control_rows(shuffled, name, config.confidence) if shuffles else []
    table = pd.DataFrame(rows).fillna({"kept together": ""})
    table["recommended"] = table["model"] == name
    if shuffles and trial.design.arrangements <= len(shuffles):
        notes.append(
            f"There are {trial.design.arrangements} ways to deal out the diagnoses among patients who can exchange "
            f"them, so that p cannot be below {1 / trial.design.arrangements:.2g} however often they are shuffled."
        )
    counts = np.bincount(data.y, minlength=len(data.classes))
    return ClassificationResult(
        classes=data.classes,
        patients={label: int(n) for label, n in zip(data.classes, counts, strict=True)},
        table=table,
        predictions=pd.concat([_predictions(one, trial) for one in shown], ignore_index=True),
        comparisons=compared,
        reliability=pd.concat([_reliability(one, trial) for one in shown], ignore_index=True),
        shuffled=shuffled,
        recommended=chosen.model.configuration or Configuration(),
        reason=reason,
        p_shuffled=permutation_p(shuffled, auroc) if shuffles else float("nan"),
        notes=(*notes, *(["No cells were given: models that look at cells are left out."] if no_cells else [])),
        config=to_plain(config),
        unlimited="" if unlimited is None else unlimited.model.name,
        **_few(chosen.model, trial),
    )


def _fits(model: Model, trial: Trial) -> int:
    """How often a model is fitted in folds."""
    sessions = trial.sessions_of(model)
    return len(trial.folds_of(model)) + (0 if sessions is None else len(sessions.folds))


def _few(chosen: Model, trial: Trial) -> dict[str, Any]:
    """AUROC against the number of concepts, by the barcode of the recommended model; what that chooses, how often."""
    found: dict[str, Any] = {}
    setting = chosen.configuration or Configuration()
    if trial.config.few_concepts:
        seen = Configuration(setting.kind, setting.variant if setting.variant in FEW_VARIANTS else "all concepts")
        with progress("Curve of few concepts", few_kinds(seen, trial) * len(trial.folds), "fits") as bar:
            found["few"] = few_curves(seen, trial, bar.advance)
    if isinstance(chosen.learner, Few):
        with progress("Choice of few concepts", len(trial.folds) + resamples_of(trial.config), "fits") as bar:
            found["few_concepts"], found["few_overlap"] = chosen_concepts(chosen, trial, bar.advance)
    return found


def _price(chosen: Measured, unlimited: Measured, compared: pd.DataFrame) -> str:
    """What a decision of few concepts costs, or wins."""
    row = compared.set_index("model").loc[unlimited.model.name]
    difference, low, high = (float(row[name]) for name in ("difference", "low", "high"))
    verdict = "clearly worse" if high < 0 else "clearly better" if low > 0 else "not clearly worse or better"
    return (
        f"Few concepts: without a limit to their number the rule takes {unlimited.model.name}, AUROC "
        f"{unlimited.aurocs['auroc'][0]:.2f}; the recommended decision, {chosen.model.name}, is {verdict} "
        f"({difference:+.2f}, {low:+.2f} to {high:+.2f})."
    )


def _beside(measured: Measured, other: Trial) -> Measured:
    """The recommended model, named by what its own folds do with imaging sessions."""
    words = f"{other.design.by}s kept together" if other.design.by else "imaging sessions mixed"
    return replace(measured, model=replace(measured.model, name=f"{measured.model.name}, {words}"))


def _both(chosen: Measured, beside: Measured, trial: Trial) -> str:
    """Which of the two AUROCs is shown where."""
    here = f"{trial.design.by}s kept together" if trial.design.by else "imaging sessions mixed"
    return (
        f"AUROC of {chosen.model.name} with {here}, as in the table: {chosen.aurocs['auroc'][0]:.2f}; "
        f"{beside.model.name}: {beside.aurocs['auroc'][0]:.2f}."
    )


def _comparisons(chosen: Measured, measured: list[Measured], trial: Trial) -> pd.DataFrame:
    """The chosen model against each other on the repetitions that both were run in."""
    others = [other for other in measured if other is not chosen and other.model.rows is None]
    return pd.DataFrame([compare(chosen, other, trial) for other in others])


def _predictions(one: Measured, trial: Trial) -> pd.DataFrame:
    """Call, decision and probability of the mean decision: each says the same."""
    data, scores = trial.data, one.scores.mean()
    frame = pd.DataFrame({"model": one.model.name, "patient": [data.patients[row] for row in scores.rows]})
    frame["diagnosis"] = [data.classes[k] for k in data.y[scores.rows]]
    return frame.assign(**verdicts(data.classes, scores.margins()[0], scores.probability[0]))


def _reliability(one: Measured, trial: Trial) -> pd.DataFrame:
    frame = reliability(one.scores, trial.design, trial.config)
    frame.insert(0, "model", one.model.name)
    return frame


def _check(config: ClassificationConfig) -> None:
    if not 0 < config.specificity < 1 or not 0 < config.confidence < 1:
        raise UsageError(
            f"specificity {config.specificity} and confidence {config.confidence} must lie between 0 and 1."
        )
    if min(config.most_concepts, config.few_concepts) < 0 or not 0 < config.likeness <= 1:
        raise UsageError("most_concepts and few_concepts must be 0 or more, likeness above 0 and at most 1.")
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
