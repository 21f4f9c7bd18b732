"""One disease: the cells of its patients that show it most, and its specific concepts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from cytosae.common.errors import InputError
from cytosae.views.concepts.concept_view import ConceptView
from cytosae.views.parts.number_words import count, whole
from cytosae.views.parts.opened_dataset import CellView, OpenedDataset
from cytosae.views.parts.page_parts import Head, Page, Table, define, measured, say, table_of
from cytosae.views.patients.contrast_view import (
    ContrastView,
    contrast_concepts,
    contrast_facts,
    set_aside_words,
    view_of_contrast,
)
from cytosae.views.patients.evidence import Shared

WORDS = ("Specific concept", "Cliff’s delta", "q", "Follows colour", "Reliability in another stain", "Score of a cell")
"""Words that are defined on the page."""


@dataclass(frozen=True)
class Ranking:
    """Cells ranked for a disease by `cytosae.cohort.pathognomonic_cells`, and tables that measure the ranking.

    Of the tables, ``enrichment`` (of labels among the first cells) and ``evaluation`` (against experts) are shown.
    """

    cells: pd.DataFrame
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True)
class PatientCells:
    """The cells of one patient that show the disease most; each map is that of the concept that adds most."""

    patient: str
    words: str
    cells: tuple[CellView, ...]


@dataclass(frozen=True, kw_only=True)
class DiseaseView(Page):
    """One disease: the cells of its patients that show it most, and the concepts that differ most, clearest first."""

    disease: str
    contrast: ContrastView
    concepts: tuple[ConceptView, ...]
    patients: tuple[PatientCells, ...]
    cells_words: str
    enrichment: Table | None


def view_of_disease(
    contrast: pd.DataFrame,
    shared: Shared,
    ranking: Ranking | None = None,
    *,
    concepts: int = 12,
    patients: int = 12,
    each: int = 10,
) -> DiseaseView:
    """Gather a disease; ``contrast`` is from `cytosae.cohort.contrast`, its patients against the others.

    Raises
    ------
    InputError
        The ranking names a cell that the data set lacks.
    """
    dataset = shared.dataset
    view = view_of_contrast(contrast, dataset, shared.marks, concepts)
    people = () if ranking is None else _patient_cells(ranking.cells, dataset, patients, each)
    ranked = 0 if ranking is None else int(ranking.cells["patient"].nunique())
    return DiseaseView(
        head=Head(
            kicker="One disease in concepts",
            title=f"{view.group}: what sets its patients apart",
            byline=f"{view.group} against {view.against} · {whole(dataset.atlas.n_obs)} cells of {dataset.name}",
            verdict=_verdict(view),
            warnings=(*_warnings(view), *shared.evidence.doubts),
            notice=shared.evidence.notice,
        ),
        disease=view.group,
        contrast=view,
        concepts=contrast_concepts(contrast, dataset, shared.marks, concepts),
        patients=people,
        cells_words=(
            f"Of {count(ranked, 'patient')}, {whole(len(people))} are shown: those whose best cells score highest. "
            "Concepts and weights were found on the other patients, so that no patient’s own cells decide what counts. "
            "Each map is that of the concept that adds most to the cell’s score, on a scale of its own."
        ),
        tiles=contrast_facts(view),
        enrichment=None if ranking is None else _enrichment(ranking.tables),
        definitions=define(f"Barcode:{view.kind}", *WORDS, group=view.group),
        made_from=dataset.made_from,
    )


def _verdict(view: ContrastView) -> str:
    if not view.found:
        return (
            f"No concept is shown to differ between {view.group} and {view.against} once {whole(view.tested)} tests "
            "are allowed for: what follows are examples, not findings."
        )
    words = (
        f"{whole(view.found)} of {whole(view.tested)} concepts differ between {count(view.patients, 'patient')} with "
        f"{view.group} and {whole(view.patients_against)} with {view.against}."
    )
    return f"{words} {set_aside_words(view)}".rstrip()


def _warnings(view: ContrastView) -> tuple[str, ...]:
    if not view.doubtful:
        return ()
    return (
        f"{whole(view.doubtful)} of the {count(view.shown, 'concept')} shown follow the colour of the image or change "
        "with the stain: they may speak of the laboratory, not of the disease.",
    )


def _enrichment(tables: Mapping[str, pd.DataFrame]) -> Table | None:
    """How far labels are enriched among the first cells, and what was measured against experts."""
    measures = tables.get("evaluation", pd.DataFrame()).iterrows()
    words = [
        f"By {name}: {say(measured(row, 'precision'))} of a patient’s first ten cells are of the types that experts "
        f"point at; average precision {say(measured(row, 'average_precision'))}."
        for name, row in measures
    ]
    return table_of(tables.get("enrichment"), " ".join(words))


def _patient_cells(cells: pd.DataFrame, dataset: OpenedDataset, patients: int, each: int) -> tuple[PatientCells, ...]:
    unknown = [cell for cell in cells["cell_id"] if str(cell) not in dataset.row_in_store]
    if unknown:
        raise InputError(f"Cell {str(unknown[0])[:12]} is not in {dataset.name}; rank the cells of its atlas.")
    best = {str(name): group.nsmallest(each, "rank") for name, group in cells.groupby("patient", observed=True)}
    order = sorted(best, key=lambda name: (-float(best[name]["score"].mean()), name))[:patients]
    leading = {name: _leading(best[name]) for name in order}
    maps = dataset.maps(
        (cell, latent) for own in leading.values() for cell, latent in own.items() if latent is not None
    )
    people = []
    for name in order:
        views = []
        for (cell, latent), score in zip(leading[name].items(), best[name]["score"], strict=True):
            bare = CellView(cell, dataset.labels[cell], float(score))
            views.append(bare if latent is None else dataset.cell_views([cell], [float(score)], latent, maps)[0])
        labels = Counter(view.label or "unlabelled" for view in views).most_common()
        words = ", ".join(f"{n} {label}" for label, n in labels)
        through = [f"latent {view.latent}" for view in views[:3] if view.latent is not None]
        first = f"First cells by {', '.join(dict.fromkeys(through))}." if through else "No specific concept in them."
        people.append(PatientCells(name, f"{words}. {first}", tuple(views)))
    return tuple(people)


def _leading(cells: pd.DataFrame) -> dict[str, int | None]:
    """Each cell with the latent that adds most to its score, None where none does."""
    firsts = [str(words).split() for words in cells["leading"]]
    latents = [int(words[0]) if words else None for words in firsts]
    return dict(zip(cells["cell_id"].astype(str), latents, strict=True))
