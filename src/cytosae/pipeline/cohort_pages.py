"""Writes the pages of a cohort."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytosae.common.names import file_name
from cytosae.pipeline.places import Place
from cytosae.report import Pictures, write_page
from cytosae.views import OpenedCohort, OpenedDataset, Ranking

if TYPE_CHECKING:
    from cytosae.pipeline.patients import Patients


def write_pages(work: Patients, out: Path, *, config: Any, inputs: Mapping[str, str]) -> None:
    """Write ``out``, the page of the cohort, after the pages it links to, in the folder ``pages`` beside it."""
    cohort = _opened(work)
    pictures, folder = Pictures([cohort.dataset.cells]), out.parent / "pages"
    shutil.rmtree(folder, ignore_errors=True)
    patients = cohort.telling_patients(work.config.pages)
    contrasts = {a: work.source.read(Place("contrasts", work.pair(a, b))) for a, b in work.comparisons}
    files = {("patient", name): page_of(name) for name in patients}
    files |= {("disease", name): page_of(name, "disease") for name in contrasts}
    beside = {**files, ("cohort", ""): f"../{out.name}"}
    for name in patients:
        write_page(folder / page_of(name), cohort.patient_named(name), pictures, links=beside)
    for a, b in work.comparisons:
        ranking = Ranking(*work.source.read(Place("ranking", work.pair(a, b))))
        write_page(folder / page_of(a, "disease"), cohort.disease(contrasts[a], ranking), pictures, links=beside)
    price = work.approval() if work.source.has(Place("approval", work.dataset)) else None
    view = cohort.cohort(list(contrasts.values()), work.config.stability, price)
    links = {name: f"pages/{file}" for name, file in files.items()}
    write_page(out, view, pictures, links=links, config=config, inputs=inputs)


def write_one_patient(work: Patients, patient: str, out: Path) -> Path:
    """Write the page of one patient."""
    cohort = _opened(work)
    return write_page(out, cohort.patient_named(patient), Pictures([cohort.dataset.cells]))


def page_of(name: str, kind: str = "patient") -> str:
    """File of the page of a patient or disease; two of them never share one."""
    return f"{kind}-{file_name(name)}.html"


def _opened(work: Patients) -> OpenedCohort:
    source, name = work.source, work.dataset
    return OpenedCohort(
        dataset=OpenedDataset(
            *(work.atlas, source.cells(name), source.tokens(name), source.sae()),
            random=source.random_latents(name),
            looks=source.looks(name),
        ),
        barcodes=work.barcodes,
        result=work.result(),
        classifier=work.classifier(),
        asked=work.asked,
        colours=work.colours,
        retest=work.retest,
        patient=work.config.patient,
        concepts=work.config.concepts,
        background=work.config.background,
    )
