"""The page of a cohort: how well diagnoses are told apart, against what, by which concepts, and for whom."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cytosae.cohort.patients.barcodes import patient_correlation
from cytosae.report import figures
from cytosae.report.cohort_content import (
    CellPictures,
    Evidence,
    provenance_inputs,
    provenance_rows,
    relative_link,
    write_page,
)
from cytosae.report.cohort_figures import correlation_matrix
from cytosae.report.contrast_view import UNITS, Comparison, concept_cards
from cytosae.report.html import whole
from cytosae.report.marks import Marks
from cytosae.report.models_view import ModelsView
from cytosae.report.patient_page import BARCODES

if TYPE_CHECKING:
    from anndata import AnnData

    from cytosae.cohort.explanation.faithfulness import Stability
    from cytosae.cohort.patients.barcodes import Kind
    from cytosae.report.content import DatasetReport
    from cytosae.sae import SparseAutoencoder


def write_cohort_report(
    out: Path,
    *,
    dataset: DatasetReport,
    sae: SparseAutoencoder,
    barcodes: AnnData,
    evidence: Evidence,
    kind: Kind = "presence",
    models: ModelsView | None = None,
    comparisons: Sequence[Comparison] = (),
    stability: Stability | None = None,
    marks: Marks | None = None,
    patient_pages: Mapping[str, str] | None = None,
    disease_pages: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
    title: str = "",
    concepts: int = 12,
    created: datetime.datetime | None = None,
    config: Any = None,
    inputs: Mapping[str, str] | None = None,
) -> Path:
    """Write one self-contained HTML page about a cohort.

    Parameters
    ----------
    out : path of the file, an artifact of kind "report"
    dataset, sae : atlas, table, tokens and SAE
    barcodes : patients x latents, obs with diagnosis and n_cells
    evidence : what stands behind it, said first
    kind : layer of ``barcodes`` that is shown
    models : classification, from `models_view`
    comparisons : a section each; the first one's clearest concepts are shown with their cells
    stability : of the recommended model's top concepts
    marks : why concepts are to be doubted
    patient_pages, disease_pages : name -> path relative to this page
    links : words -> path relative to this page
    title : headline; made from the groups where empty
    concepts : concepts shown with pictures
    created, config, inputs : as in `write_report`
    """
    pictures = CellPictures(dataset, sae)
    marks = marks or Marks()
    correlation = patient_correlation(barcodes, kind, centred=True).to_numpy()
    groups = ["unknown" if pd.isna(name) else str(name) for name in barcodes.obs["diagnosis"].tolist()]
    main = comparisons[0] if comparisons else None
    shown = main.specific(concepts) if main is not None else pd.DataFrame()
    views = [_comparison_view(c, i, pictures, marks, concepts) for i, c in enumerate(comparisons)]
    context = {
        "kicker": "A cohort in concepts",
        "title": title or " against ".join(name for name, _ in evidence.groups),
        "byline": f"{whole(len(groups))} patients · {whole(dataset.atlas.n_obs)} cells of {dataset.name}",
        "tiles": _tiles(evidence, dataset, models, main),
        "findings": [*(models.findings if models else []), *_stability_words(stability)],
        "model_tables": [*(models.tables if models else []), *_stability_table(stability, pictures, marks)],
        "plots": models.plots if models else [],
        "contrasts": views,
        "concepts": concept_cards(shown, pictures, main, marks) if main is not None else [],
        "concepts_words": _concepts_words(shown, main, marks),
        "colour_bar": figures.colour_bar_uri(),
        "matrix": correlation_matrix(correlation, groups) if len(groups) > 1 else "",
        "barcode_name": UNITS[kind],
        "barcode_words": BARCODES[kind],
        "patients": _patients(barcodes, groups, models, patient_pages or {}, disease_pages or {}),
        "predicted": models.positive if models is not None else "",
        "patients_caption": _patients_caption(models),
        "definitions": models.definitions if models is not None else [],
        "provenance": provenance_rows(dataset),
    }
    return write_page(
        out,
        "cohort.html.j2",
        context,
        evidence=evidence,
        links=links or {},
        created=created,
        config=config,
        inputs=inputs or provenance_inputs(dataset),
    )


def _tiles(
    evidence: Evidence, dataset: DatasetReport, models: ModelsView | None, main: Comparison | None
) -> list[dict[str, str]]:
    tiles = list(models.tiles) if models is not None else []
    tiles += [{"value": whole(n), "label": f"patients with {name}"} for name, n in evidence.groups]
    if main is not None:
        tiles.append(main.tiles()[-1])
    return [*tiles, {"value": whole(dataset.atlas.n_obs), "label": "cells"}]


def _comparison_view(
    comparison: Comparison, i: int, pictures: CellPictures, marks: Marks, concepts: int
) -> dict[str, Any]:
    shown = comparison.specific(concepts)
    return {
        "anchor": "contrasts" if i == 0 else f"contrasts-{i + 1}",
        "title": f"{comparison.group} against {comparison.against}, concept by concept",
        "sentences": comparison.sentences(),
        "plots": comparison.plots([int(latent) for latent in shown.index]),
        "table": comparison.rows(shown, pictures, marks),
    }


def _concepts_words(shown: pd.DataFrame, main: Comparison | None, marks: Marks) -> str:
    if main is None:
        return ""
    marked = marks.count(shown.index)
    words = (
        f"The {len(shown)} concepts that differ most clearly between {main.group} and {main.against}, with the cells "
    )
    words += "on which they are strongest, whoever’s these are. "
    if marked:
        words += f"{marked} of them {'is' if marked == 1 else 'are'} to be doubted: see the marks on colour and stain."
    return words


def _stability_words(stability: Stability | None) -> list[str]:
    if stability is None:
        return []
    return [
        f"Refitted on {stability.resamples} resamples of the patients, two models share {stability.overlap:.0%} of "
        f"their {stability.top} most important concepts; {stability.chance:.1%} would be chance.".replace(
            "%", "\u202f%"
        )
    ]


def _stability_table(stability: Stability | None, pictures: CellPictures, marks: Marks) -> list:
    if stability is None:
        return []
    from cytosae.report.contrast_view import table_of

    frame = stability.concepts.head(stability.top).reset_index()
    frame["latent"] = frame["latent"].astype(str)
    frame["mostly on"] = [pictures.top_class(int(latent)) for latent in frame["latent"]]
    frame["doubts"] = [marks.label(int(latent)) for latent in frame["latent"]]
    frame["in_all"] = ["yes" if there else "no" for there in frame["in_all"]]
    frame = frame.rename(columns={"in_all": "in the top on all patients"})
    return [table_of(frame, caption="The concepts that are most often among the most important, over resamples.")]


def _patients(
    barcodes: AnnData,
    groups: Sequence[str],
    models: ModelsView | None,
    patient_pages: Mapping[str, str],
    disease_pages: Mapping[str, str],
) -> list[dict[str, Any]]:
    counts = barcodes.obs["n_cells"].to_numpy(dtype=float)
    rows = []
    for name, diagnosis, cells in zip(map(str, barcodes.obs_names), groups, counts, strict=True):
        link, disease = patient_pages.get(name), disease_pages.get(diagnosis)
        row: dict[str, Any] = {
            "name": name,
            "diagnosis": diagnosis,
            "cells": cells,
            "link": relative_link(link) if link else None,
            "disease_link": relative_link(disease) if disease else None,
            "probability": None,
            "decided": "–",
            "wrong": False,
        }
        if models is not None and name in models.predictions.index:
            prediction = models.predictions.loc[name]
            row["probability"], row["decided"] = float(prediction["probability"]), str(prediction["decided"])
            row["wrong"] = diagnosis not in (row["decided"], "unknown")
        rows.append(row)
    return sorted(rows, key=lambda row: (row["diagnosis"], -(row["probability"] or 0.0), row["name"]))


def _patients_caption(models: ModelsView | None) -> str:
    if models is None:
        return "Patients by diagnosis."
    return (
        f"Probabilities by {models.name}, always from models that had not seen the patient; mean over repetitions. A "
        "patient is called by the class that is likelier than its share of the training patients, so that a rare one "
        "is called below 50 %."
    )
