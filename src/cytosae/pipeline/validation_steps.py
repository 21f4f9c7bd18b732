"""The steps of a validation as values: controls of later patients, the numbers, the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from cytosae.common.configuration import from_plain
from cytosae.pipeline.cohort_steps import barcodes_step, colours_step, columns_of, encoded, focus_step
from cytosae.pipeline.dataset_steps import tokens_needed
from cytosae.pipeline.patients import Patients
from cytosae.pipeline.places import Place
from cytosae.pipeline.step import Job, Step
from cytosae.pipeline.study_config import CohortConfig
from cytosae.pipeline.validation_looks import Earlier

if TYPE_CHECKING:
    from cytosae.cohort import PatientData
    from cytosae.pipeline.context import Context
    from cytosae.pipeline.study_config import StudyConfig


@dataclass(frozen=True)
class Asked:
    """What a validation is about.

    Attributes
    ----------
    training, later : str
        Data sets with the patients of both.
    cohort : CohortConfig
        How the training patients were compared.
    set_aside : mapping of str to str
        Later patients who do not count -> why.
    """

    training: str
    later: str
    cohort: CohortConfig
    set_aside: Mapping[str, str]


def number_steps(asked: Asked, config: StudyConfig, context: Context) -> Iterator[Step]:
    """Everything up to the numbers."""
    yield colours_step(asked.later)
    yield barcodes_step(asked.later, asked.cohort)
    yield later_control_step(asked, config)
    if asked.cohort.painted_cells:
        yield focus_step(asked.later, asked.cohort, config, context)
    yield validation_step(asked)


def later_control_step(asked: Asked, config: StudyConfig) -> Step:
    """Barcodes by the SAE with random weights at the threshold of the training patients, which is not found anew."""
    slice_ = {**columns_of(asked.cohort), "seed": asked.cohort.classification.seed}
    needs = (*encoded(asked.later, config), Place("control", asked.training))
    return Step(Place("control", asked.later), _make_control, slice_, needs)


def _make_control(job: Job) -> None:
    from cytosae.cohort import save_cohort
    from cytosae.pipeline.cohort_steps import barcodes_at
    from cytosae.sae.model.randomised import randomised

    (training,) = job.needed("control")
    tau = float(job.read(training).uns["barcode"]["tau"])
    columns = {name: job.asked[name] for name in ("patient", "diagnosis", "min_cells")}
    found = barcodes_at(randomised(job.sae(), job.asked["seed"]), job, job.of, columns, tau)
    save_cohort(found, job.path, **job.record)


def validation_step(asked: Asked) -> Step:
    """Hold the classifier, and every row of its table, to what cross-validation promised."""
    of_both = ["cohort", "control", "colours", "atlas", *(["focus"] if asked.cohort.painted_cells else [])]
    of_training = ["classification", "classifier", *(["retest"] if asked.cohort.retest_cells else [])]
    needs = [Place(role, name) for name in (asked.training, asked.later) for role in of_both]
    needs += [Place(role, asked.training) for role in of_training]
    return Step(Place("validation", asked.later), _validate, asdict(asked), tuple(needs))


def _validate(job: Job) -> None:
    from cytosae.cohort import validate

    asked = from_plain(Asked, job.asked)
    known, later = (Patients(job, name, asked.cohort) for name in (asked.training, asked.later))
    found = validate(
        known.classifier(),
        known.result(),
        _data(known),
        _data(later),
        patient=asked.cohort.patient,
        retests=(known.retest, known.retest_by("control")),
        set_aside=asked.set_aside,
        config=asked.cohort.classification,
    )
    found.save(job.path, **job.record)


def _data(patients: Patients) -> PatientData:
    from cytosae.cohort import PatientData

    return PatientData(
        patients.barcodes, patients.atlas, patients.colours, patients.control, dict(patients.cell_controls)
    )


def page_step(asked: Asked, earlier: Sequence[Earlier], config: StudyConfig) -> Step:
    """The page, which says whether the patients were looked at before."""
    roles = ("classification", "classifier", "atlas", "cells")
    needs = [
        *tokens_needed(config, [asked.training]),
        *(Place(role, asked.training) for role in roles),
        Place("sae"),
        Place("validation", asked.later),
    ]
    needs += [Place(role, asked.later) for role in ("atlas", "cells")]
    looks = [asdict(look) for look in earlier]
    slice_ = {"asked": asdict(asked), "earlier": looks, "concepts": config.cohort.concepts}
    return Step(Place("validation_report", asked.later), _write_page, slice_, tuple(needs))


def _write_page(job: Job) -> None:
    from cytosae.report import Pictures, write_page
    from cytosae.views import OpenedAtlas, OpenedDataset
    from cytosae.views.patients.validation_view import view_of_validation

    asked = from_plain(Asked, job.asked["asked"])
    training, later, cells = asked.training, asked.later, job.cells(asked.training)
    view = view_of_validation(
        job.read(Place("validation", later)),
        job.read(Place("classification", training)),
        OpenedDataset(job.atlas(training, backed="r"), cells, job.tokens(training), job.sae()),
        OpenedAtlas(job.atlas(later, backed="r"), job.cells(later)),
        earlier=[from_plain(Earlier, look) for look in job.asked["earlier"]],
        concepts=job.asked["concepts"],
    )
    write_page(job.path, view, Pictures([cells, job.cells(later)]), **job.record)


def training_config(context: Context, dataset: str) -> CohortConfig:
    """How the patients of a data set were compared when its classifier was fitted."""
    config = from_plain(CohortConfig, context.artifact(Place("classifier", dataset)).config)
    return replace(config, dataset=dataset)
