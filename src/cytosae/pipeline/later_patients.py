"""The work on later patients of known diagnosis: whom a classifier can be held to, and the steps in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cytosae.common.errors import InputError, UsageError
from cytosae.pipeline.new_patients import describe_cells, find_classifier, read_new_cells, trained_cells
from cytosae.pipeline.places import Place
from cytosae.pipeline.study_config import CohortConfig, Dataset
from cytosae.pipeline.validation_looks import Earlier, earlier_looks, remember_look, sketch
from cytosae.pipeline.validation_steps import Asked, number_steps, page_step, training_config

if TYPE_CHECKING:
    from cytosae.cohort import ClassificationResult, Validation
    from cytosae.pipeline.study import Study


@dataclass(frozen=True)
class Held:
    """What came of a validation.

    Attributes
    ----------
    dataset : str
        Data set of the later patients.
    result : ClassificationResult
        What was promised.
    validation : Validation
        What was kept.
    earlier : sequence of Earlier
        Earlier looks at some of these patients.
    page : Path
        For people.
    """

    dataset: str
    result: ClassificationResult
    validation: Validation
    earlier: Sequence[Earlier]
    page: Path


def validate_patients(
    study: Study, images: Path | Dataset | None, dataset: str | None = None, training: str | None = None
) -> Held:
    """Hold the classifier of a study to later patients whose diagnosis is known; nothing is fitted on them.

    Parameters
    ----------
    study : Study
        Held by this process (`Study.alone`).
    images : Path, Dataset or None
        Of the later patients; None where ``dataset`` names one of the study.
    dataset : str or None
        Name of the new data set, or of the one to take.
    training : str or None
        Data set whose patients the classifier was fitted on; needed where several have one.

    Raises
    ------
    UsageError
        No patients are named, or there is no classifier, or more than one.
    InputError
        The patients have no diagnoses, all have one, or were trained on.
    """
    fitted = _fitted_on(study, training)
    config = training_config(study.context, fitted)
    if images is None and dataset is None:
        raise UsageError("no patients are named; give a folder of their images, or --dataset.")
    later = read_new_cells(study, images, dataset) if images is not None else str(dataset)
    if later == fitted:
        raise UsageError(f"the classifier was fitted on {later}; validate on patients that came later.")
    cells = study.cells(later).frame
    classes = study.read(Place("classifier", fitted)).classes
    aside = _set_aside(study, cells, later, config, classes)
    describe_cells(study, later)
    asked = Asked(fitted, later, config, aside)
    counted = sorted(set(cells[config.patient].dropna().astype(str)) - set(aside))
    seen = sketch(cells, config.patient, counted)
    classifier = study.fingerprint("classifier", fitted)
    earlier = earlier_looks(study.path, seen, classifier)
    study.do(number_steps(asked, study.config, study.context))
    if study.context.first:
        remember_look(study.path, later, classifier, seen)
    study.context.run(page_step(asked, earlier, study.config))
    read = study.read
    return Held(
        later,
        read(Place("classification", fitted)),
        read(Place("validation", later)),
        earlier,
        study.place("validation_report", later),
    )


def _fitted_on(study: Study, training: str | None) -> str:
    if training is None:
        return find_classifier(study).parent.name
    study.cells(training)
    if not study.place("classifier", training).exists():
        raise UsageError(
            f"{training} has no fitted classifier; make one with: cytosae cohort --study {study.path} --dataset "
            f"{training}."
        )
    return training


def _set_aside(
    study: Study, cells: pd.DataFrame, dataset: str, config: CohortConfig, classes: tuple[str, ...]
) -> dict[str, str]:
    """Patients who do not count -> why; a sentence where too few are left, before anything is encoded."""
    from cytosae.cohort.validation.validation import refuse_one_class, why_unknown

    for column in (config.patient, config.diagnosis):
        if column not in cells or not cells[column].notna().to_numpy().any():
            raise InputError(
                f"{dataset} has no column {column!r}, or nothing in it; validating needs patients whose diagnosis is "
                "known (for others: cytosae cohort predict)."
            )
    usable: pd.DataFrame = cells.loc[cells[config.patient].notna().to_numpy()]
    owner = pd.Series(usable[config.patient]).astype(str)
    seen = pd.Series(usable["cell_id"]).isin(list(trained_cells(study)))
    trained = {str(name): int(n) for name, n in seen.groupby(owner).sum().items()}
    n_cells = {str(name): int(n) for name, n in owner.value_counts().items()}
    first = pd.Series(usable[config.diagnosis]).astype(object).groupby(owner).first()
    diagnosis: dict[str, Any] = {str(name): told for name, told in first.items()}
    aside: dict[str, str] = {}
    for name in sorted(set(owner)):
        told = diagnosis[name]
        if trained[name]:
            aside[name] = f"{trained[name]:,} of the patient's images are among those that SAE or classifier saw"
        elif why := why_unknown(told, classes):
            aside[name] = why
        elif n_cells[name] < config.min_cells:
            aside[name] = f"{n_cells[name]} cells, fewer than {config.min_cells}"
    _refuse_trained(study, dataset, trained)
    refuse_one_class([str(told) for name, told in diagnosis.items() if name not in aside], classes)
    return aside


def _refuse_trained(study: Study, dataset: str, trained: Mapping[str, int]) -> None:
    """Refuse patients all of whom were trained on."""
    if not all(trained.values()):
        return
    first = next(iter(trained))
    if dataset in study.trained_on:
        raise InputError(
            f"the SAE of {study.path} was trained on {dataset}, so none of its patients (first: {first}) is a later "
            f"one; begin a study whose SAE is trained on the other data sets alone (--train-on)."
        )
    raise InputError(
        f"each of the {len(trained)} patients of {dataset} (first: {first}) has images that SAE or classifier were "
        "trained on; validate on patients that came later."
    )
