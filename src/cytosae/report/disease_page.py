"""The page of one disease: its specific concepts, and the cells of its patients that show them most."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cytosae.common.errors import InputError
from cytosae.report import figures
from cytosae.report.cohort_content import (
    CellPictures,
    Evidence,
    provenance_inputs,
    provenance_rows,
    relative_link,
    write_page,
)
from cytosae.report.contrast_view import Comparison, concept_cards, table_of
from cytosae.report.html import whole
from cytosae.report.marks import Marks
from cytosae.report.patient_page import BARCODES

if TYPE_CHECKING:
    from cytosae.report.content import DatasetReport, ReferenceView
    from cytosae.sae import SparseAutoencoder


@dataclass(frozen=True)
class PatientCells:
    """The cells of one patient that show the disease most, as shown."""

    name: str
    link: str | None
    words: str
    cells: Sequence[ReferenceView]


def write_disease_page(
    out: Path,
    comparison: Comparison,
    *,
    dataset: DatasetReport,
    sae: SparseAutoencoder,
    evidence: Evidence,
    cells: pd.DataFrame | None = None,
    enrichment: pd.DataFrame | None = None,
    enrichment_words: Sequence[str] = (),
    marks: Marks | None = None,
    patient_pages: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
    concepts: int = 12,
    patients: int = 12,
    each: int = 10,
    created: datetime.datetime | None = None,
    config: Any = None,
    inputs: Mapping[str, str] | None = None,
) -> Path:
    """Write one self-contained HTML page about one disease.

    Parameters
    ----------
    out : path of the file, an artifact of kind "report"
    comparison : the disease's patients (its ``group``) against the others
    dataset, sae : atlas, table, tokens and SAE
    evidence : what stands behind the comparison
    cells : from `cytosae.cohort.pathognomonic_cells`: cell_id, patient, score, rank, leading (latents that add most,
        the first one's map is shown); the first ``each`` of a patient are shown
    enrichment : how far expert-labelled cells are enriched among them, shown as it is, and what is to be said of it
    marks : why concepts are to be doubted
    patient_pages : patient -> path relative to this page
    links : words -> path relative to this page
    concepts, patients, each : concepts, patients and cells of each patient shown
    created, config, inputs : as in `write_report`

    Raises
    ------
    InputError
        ``cells`` names a cell that the data set lacks.
    """
    pictures = CellPictures(dataset, sae)
    pages = patient_pages or {}
    shown = comparison.specific(concepts)
    people = [] if cells is None else _patient_cells(cells, pictures, pages, patients, each)
    n_patients = 0 if cells is None else int(cells["patient"].nunique())
    higher = int((shown["effect"] > 0).sum()) if len(shown) else 0
    marked = (marks or Marks()).count(shown.index)
    versus = f"{comparison.group} against {comparison.against}"
    context = {
        "kicker": "One disease in concepts",
        "title": f"{comparison.group}: what sets its patients apart",
        "byline": f"{versus} · {whole(dataset.atlas.n_obs)} cells of {dataset.name}",
        "disease": comparison.group,
        "tiles": [
            *comparison.tiles(),
            {"value": whole(marked), "label": "of the concepts shown follow colour or stain"},
        ],
        "sentences": [
            *comparison.sentences(),
            f"Shown: the {whole(len(shown))} clearest, {whole(higher)} of them higher in {comparison.group}.",
        ],
        "concepts": concept_cards(shown, pictures, comparison, marks or Marks()),
        "colour_bar": figures.colour_bar_uri(),
        "patients": people,
        "cells_words": (
            f"Of {whole(n_patients)} patients, {whole(len(people))} are shown: those whose best cells score highest. "
            "Concepts and weights were found on the other patients, so that no patient’s own cells decide what counts."
        ),
        "enrichment": table_of(enrichment),
        "enrichment_sentences": list(enrichment_words),
        "barcode_words": BARCODES[comparison.kind],
        "provenance": provenance_rows(dataset),
    }
    return write_page(
        out,
        "disease.html.j2",
        context,
        evidence=evidence,
        links=links or {},
        created=created,
        config=config,
        inputs=inputs or provenance_inputs(dataset),
    )


def _patient_cells(
    cells: pd.DataFrame, pictures: CellPictures, pages: Mapping[str, str], patients: int, each: int
) -> list[PatientCells]:
    unknown = [cell for cell in cells["cell_id"] if str(cell) not in pictures.row_in_store]
    if unknown:
        raise InputError(f"Cell {str(unknown[0])[:12]} is not in {pictures.dataset.name}; rank the cells of its atlas.")
    best = {str(name): group.nsmallest(each, "rank") for name, group in cells.groupby("patient", observed=True)}
    order = sorted(best, key=lambda name: (-float(best[name]["score"].mean()), name))[:patients]
    pairs = [pair for name in order for pair in _leading(best[name]) if pair[1] is not None]
    maps = pictures.maps_of([(cell, latent) for cell, latent in pairs if latent is not None])
    people = []
    for name in order:
        leading = _leading(best[name])
        views = [
            pictures.with_maps([cell], [float(score)], latent, maps)[0]
            for (cell, latent), score in zip(leading, best[name]["score"], strict=True)
        ]
        labels = pd.Series([view.label or "unlabelled" for view in views]).value_counts()
        words = ", ".join(f"{n} {label}" for label, n in labels.items())
        through = [
            f"latent {latent}" for latent in dict.fromkeys(latent for _, latent in leading[:3]) if latent is not None
        ]
        words += f". First cells by {', '.join(through)}." if through else ". None of its cells has a specific concept."
        link = relative_link(pages[name]) if name in pages else None
        people.append(PatientCells(name, link, words, views))
    return people


def _leading(cells: pd.DataFrame) -> list[tuple[str, int | None]]:
    """Each cell with the latent that adds most to its score, None where none does."""
    firsts = [str(words).split() for words in cells["leading"]]
    latents = [int(words[0]) if words else None for words in firsts]
    return list(zip(cells["cell_id"].astype(str), latents, strict=True))
