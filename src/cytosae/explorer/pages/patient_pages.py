"""Patients and diseases: who was decided how, and by what."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from fastapi import Query

from cytosae.common.errors import InputError
from cytosae.explorer.answering import Pages
from cytosae.explorer.library import Library
from cytosae.explorer.picturing import with_painted
from cytosae.pipeline.cohort_steps import is_priced
from cytosae.pipeline.places import Place
from cytosae.views.cells.gaze_view import GazePage, view_of_decision_gaze
from cytosae.views.patients.approval_view import view_of_approval
from cytosae.views.patients.patients_page_view import (
    CELLS,
    DiseasePage,
    PatientPage,
    PatientsPage,
    view_of_decision,
    view_of_disease_page,
    view_of_patients,
)

if TYPE_CHECKING:
    import pandas as pd

    from cytosae.pipeline.patients import Patients

pages: Pages = Pages()
Words = Annotated[str, Query(max_length=200)]


@pages.add("/patients", "patients.html.j2")
def patients(library: Library, dataset: Words = "", diagnosis: Words = "", q: Words = "") -> PatientsPage:
    """All patients with what was decided of them."""
    found = library.patients(dataset or None)
    diseases = [a for a, _ in found.comparisons]
    page = view_of_patients(found.result(), found.dataset, diseases=diseases, diagnosis=diagnosis, q=q)
    if not is_priced(library.study.context, found.dataset):
        return page
    return replace(page, approval=view_of_approval(found.approval(), library.accepted or None))


@pages.add("/patients/{patient}", "patient.html.j2")
def patient(library: Library, patient: str, dataset: Words = "") -> PatientPage:
    """One patient: the decision as a sum of concepts, and the cells that speak most; held in memory as it was made."""
    from cytosae.cohort import explain_decision

    found = _with_patient(library, dataset, patient)
    atlas = library.atlas(found.dataset)

    def make() -> PatientPage:
        explanation = explain_decision(found.classifier(), atlas.atlas, patient, column=found.config.patient)
        return view_of_decision(atlas, explanation, found.result())

    called = hash(frozenset(library.accepted.items()))  # a name that is accepted later is on the page
    name = f"patient {patient} with names {called}"
    return library.remembered.hold(PatientPage, library.fingerprint(atlas.name), name, make)


@pages.add("/patients/{patient}/gaze", "gaze.html.j2")
def patient_gaze(library: Library, patient: str, dataset: Words = "") -> GazePage:
    """Where a decision looks: parts of the cells that speak most for it are painted out and encoded anew.

    Pictures of a patient's cells are held in memory and not written into the cache.
    """
    found = _with_patient(library, dataset, patient)
    atlas = library.atlas(found.dataset)

    def make() -> GazePage:
        explanation, gazes = library.study.where_a_decision_looks(patient, found.dataset)
        return with_painted(view_of_decision_gaze(atlas, explanation, gazes), gazes)

    return library.remembered.hold(GazePage, library.fingerprint(atlas.name), f"patient {patient}", make)


@pages.add("/diseases/{name}", "disease.html.j2")
def disease(library: Library, name: str, dataset: Words = "") -> DiseasePage:
    """One disease: the concepts that set its patients apart, and their cells that show it most."""
    found = library.patients(dataset or None)
    against = dict(found.comparisons)
    if name not in against:
        raise InputError(f"There is no comparison of {name[:80]!r}; there are: {', '.join(against)}.")
    contrast, first = _apart(library, found, found.pair(name, against[name]))
    atlas = library.atlas(found.dataset)
    return view_of_disease_page(atlas, contrast, first, disease=name, against=against[name])


def _apart(library: Library, found: Patients, pair: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The contrast of a comparison and the cells that a page may show, read once."""

    def read() -> tuple[pd.DataFrame, pd.DataFrame]:
        contrast = library.study.read(Place("contrasts", pair))
        ranking, _ = library.study.read(Place("ranking", pair))
        frames = contrast, ranking[ranking["rank"] <= CELLS]
        for frame in frames:
            frame.attrs = {}  # pandas copies what they were made from into every row that is taken
        return frames

    return library.remembered.hold(tuple, library.fingerprint(found.dataset), f"against {pair}", read)


def _with_patient(library: Library, dataset: str, patient: str) -> Patients:
    """The patients of a data set, this one among them."""
    found = library.patients(dataset or None)
    if patient not in set(found.barcodes.obs_names.astype(str)):
        raise InputError(f"There is no patient {patient[:80]!r} here.")
    return found
