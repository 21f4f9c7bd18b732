"""A cohort: how well diagnoses are told apart, against what, by which concepts, and for whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import leaves_list, linkage

from cytosae.cohort.patients.barcodes import patient_correlation
from cytosae.views.concepts.concept_view import ConceptView
from cytosae.views.parts.number_words import count, listed, percent, whole
from cytosae.views.parts.page_parts import Fact, Head, Page, Table, define, series, table_of
from cytosae.views.parts.plots import Matrix
from cytosae.views.patients.approval_view import ApprovalView, view_of_approval
from cytosae.views.patients.contrast_view import (
    UNITS,
    ContrastView,
    contrast_concepts,
    contrast_facts,
    set_aside_words,
    view_of_contrast,
)
from cytosae.views.patients.evidence import Shared
from cytosae.views.patients.few_view import FewView, view_of_few
from cytosae.views.patients.models_view import ModelsView, positive_of, view_of_models
from cytosae.views.reporting import answers_of_cohort, reporting_table

if TYPE_CHECKING:
    from anndata import AnnData

    from cytosae.cohort.classification.approval import Approval
    from cytosae.cohort.classification.result import ClassificationResult
    from cytosae.cohort.config import Kind
    from cytosae.cohort.explanation.faithfulness import Stability
    from cytosae.views.parts.opened_dataset import OpenedAtlas

WORDS = ("Cliff’s delta", "q", "Follows colour", "Reliability in another stain")
MODEL_WORDS = (
    *("AUROC", "Brier", "Balanced accuracy", "Explained by colour", "AUROC without colour", "Colour split"),
    *("Order of imaging", "Stain-stable directions"),
)
"""Words that are defined on the page, and those of the classification."""


@dataclass(frozen=True)
class PatientRow:
    """One patient of a cohort, with the probability of a model that had not seen it; None where there is none."""

    patient: str
    diagnosis: str | None
    cells: int
    probability: float | None = None
    decided: str | None = None

    @property
    def differs(self) -> bool:
        """Whether the model calls another diagnosis than the known one."""
        return None not in (self.decided, self.diagnosis) and self.decided != self.diagnosis


@dataclass(frozen=True, kw_only=True)
class CohortView(Page):
    """A cohort: the concepts that differ most, the classification, each contrast, and the patients by diagnosis."""

    few: FewView | None
    concepts: tuple[ConceptView, ...]
    concepts_words: str
    models: ModelsView | None
    approval: ApprovalView | None
    contrasts: tuple[ContrastView, ...]
    stability: Table | None
    patients: tuple[PatientRow, ...]
    patients_words: str
    correlation: Matrix | None
    reporting: Table | None


def view_of_cohort(
    barcodes: AnnData,
    shared: Shared,
    *,
    kind: Kind = "presence",
    result: ClassificationResult | None = None,
    contrasts: Sequence[pd.DataFrame] = (),
    stability: Stability | None = None,
    concepts: int = 12,
    approval: Approval | None = None,
) -> CohortView:
    """Gather a cohort.

    ``barcodes`` are patients x latents, of whose layers ``kind`` is shown; of the first of the ``contrasts`` (from
    `cytosae.cohort.contrast`) the clearest concepts are shown with their cells.
    """
    dataset, evidence = shared.dataset, shared.evidence
    models = None if result is None else view_of_models(result)
    views = tuple(view_of_contrast(table, dataset, shared.marks, concepts) for table in contrasts)
    tiles = [] if models is None else [Fact("AUROC of the recommended model", models.auroc.value, "two", 0.5, "chance")]
    names = [group.name for group in evidence.groups]
    tiles += [Fact(f"patients with {listed(names)}", sum(group.patients for group in evidence.groups), "count")]
    tiles += contrast_facts(views[0])[2:] if views else []
    groups = [None if pd.isna(name) else str(name) for name in barcodes.obs["diagnosis"].tolist()]
    return CohortView(
        head=Head(
            kicker="A cohort in concepts",
            title=" against ".join(names[::-1]) if len(names) < 3 else f"{len(names)} diagnoses told apart",
            byline=f"{count(len(groups), 'patient')} · {whole(dataset.atlas.n_obs)} cells of {dataset.name}",
            verdict=models.verdict if models is not None else views[0].conclusion if views else evidence.compared,
            warnings=evidence.doubts,
            notice=evidence.notice,
        ),
        few=None if result is None else view_of_few(result, shared),
        concepts=contrast_concepts(contrasts[0], dataset, shared.marks, concepts) if views else (),
        concepts_words=_concepts_words(views[0]) if views else "",
        tiles=tuple(tiles),
        models=models,
        approval=None if approval is None else view_of_approval(approval),
        contrasts=views,
        stability=None if stability is None else _stability(stability, shared),
        patients=_patients(barcodes, groups, result),
        patients_words=_patients_words(models),
        correlation=_correlation(barcodes, groups, kind) if len(groups) > 1 else None,
        reporting=None if result is None else reporting_table("cohort", _answers(result, dataset)),
        definitions=define(f"Barcode:{kind}", *WORDS, *(MODEL_WORDS if models is not None else ())),
        made_from=dataset.made_from,
    )


def _answers(result: ClassificationResult, dataset: OpenedAtlas) -> dict[str, str]:
    return answers_of_cohort(result, cells=int(dataset.atlas.n_obs), dataset=dataset.name)


def _concepts_words(view: ContrastView) -> str:
    words = (
        f"The {count(view.shown, 'concept')} that differ most clearly between {view.group} and "
        f"{view.against}, with the cells on which they are strongest, whoever’s these are."
    )
    if view.doubtful:
        words += f" {whole(view.doubtful)} of them {'is' if view.doubtful == 1 else 'are'} to be doubted, as marked."
    return f"{words} {set_aside_words(view)}".rstrip()


def _stability(found: Stability, shared: Shared) -> Table | None:
    table = found.concepts.head(found.top).reset_index()
    latents = table["latent"].astype(int).tolist()
    table["latent"] = [str(latent) for latent in latents]
    table["in_all"] = ["yes" if there else "no" for there in table["in_all"]]
    table["mostly on"] = [shared.dataset.top_class(latent) for latent in latents]
    table["doubts"] = [shared.marks.label(latent) for latent in latents]
    return table_of(
        table.rename(columns={"in_all": "in the top on all patients"}),
        f"Refitted on {found.resamples} resamples of the patients, two models share {percent(found.overlap)} of their "
        f"{found.top} most important concepts; {percent(found.chance)} would be chance.",
        shown={"selection_frequency": "percent", "same_sign": "percent"},
    )


def _patients(
    barcodes: AnnData, groups: Sequence[str | None], result: ClassificationResult | None
) -> tuple[PatientRow, ...]:
    predicted = {}
    if result is not None:
        own = result.predictions.query("model == @result.recommended.name").to_dict("records")
        share = f"probability_{positive_of(result)}"
        predicted = {str(row["patient"]): (float(row[share]), str(row["call"])) for row in own}
    rows = [
        PatientRow(str(name), group, int(cells), *predicted.get(str(name), (None, None)))
        for name, group, cells in zip(barcodes.obs_names, groups, barcodes.obs["n_cells"], strict=True)
    ]
    return tuple(sorted(rows, key=lambda row: (row.diagnosis or "", -(row.probability or 0.0), row.patient)))


def _patients_words(models: ModelsView | None) -> str:
    if models is None:
        return "Patients by diagnosis."
    return (
        f"Probabilities by {models.name}, always from models that had not seen the patient; mean over repetitions. A "
        "patient is called by the class that is likelier than its share of the training patients, so that a rare one "
        "is called below 50 %."
    )


def _correlation(barcodes: AnnData, groups: Sequence[str | None], kind: Kind) -> Matrix:
    """Patients ordered by group and within it by similarity."""
    matrix = np.nan_to_num(patient_correlation(barcodes, kind, centred=True).to_numpy())
    named = [group or "unknown" for group in groups]
    order = []
    for name in sorted(set(named)):
        own = np.flatnonzero(np.array(named) == name)
        order += own[leaves_list(linkage(matrix[own], "average"))].tolist() if len(own) > 2 else own.tolist()
    return Matrix(
        words=(
            f"Correlation of the patients’ barcodes ({UNITS[kind]}) after the mean over all patients is taken off, "
            "which all smears share. Ordered by diagnosis, within it by similarity."
        ),
        names=tuple(str(barcodes.obs_names[i]) for i in order),
        groups=tuple(named[i] for i in order),
        values=tuple(series(matrix[i, order]) for i in order),
        value_words="correlation of barcodes",
    )
