"""Patients in the explorer: all of them with what was decided, one decision as a sum, and what sets a disease apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytosae.cohort.patients.diagnoses import REST
from cytosae.common.errors import InputError
from cytosae.views.concepts.gallery_view import ConceptCard, card_of
from cytosae.views.parts.number_words import count, percent, two, whole
from cytosae.views.parts.opened_dataset import OpenedAtlas
from cytosae.views.parts.page_parts import Number, known, measured, text
from cytosae.views.patients.approval_view import ApprovalView
from cytosae.views.patients.models_view import doubts_of, row_words

if TYPE_CHECKING:
    from cytosae.cohort import ClassificationResult
    from cytosae.cohort.explanation.patient_explanation import PatientExplanation

CONCEPTS = 12
"""Concepts of a decision or disease that are shown, the rest summed up."""
CELLS = 8
OWN = 6
"""Cells of a patient shown for each concept."""


@dataclass(frozen=True)
class PatientRow:
    """A patient: the known diagnosis, what models fitted without it call it, and how probable that is."""

    patient: str
    diagnosis: str
    call: str
    probability: float | None
    cells: int


@dataclass(frozen=True)
class ModelRow:
    """A model of the table, what it is in words: AUROC with its interval, and where colour tells nothing."""

    model: str
    words: str
    auroc: Number
    balanced: Number
    recommended: bool


@dataclass(frozen=True)
class PatientsPage:
    """All patients of a data set, those decided wrongly first, and whether the decisions are to be trusted.

    ``approval`` is the price of concepts that reviewers approved alone, where it was asked for.
    """

    dataset: str
    classes: tuple[str, ...]
    verdict: str
    warnings: tuple[str, ...]
    reason: str
    notes: tuple[str, ...]
    models: tuple[ModelRow, ...]
    patients: tuple[PatientRow, ...]
    diseases: tuple[str, ...]
    approval: ApprovalView | None = None
    diagnosis: str = ""
    q: str = ""


@dataclass(frozen=True)
class Weighed:
    """A concept in a decision: what it adds beyond the typical patient, and the patient's cells that add most of it."""

    concept: ConceptCard
    difference: float
    coefficient: float
    barcode: float
    cells: tuple[str, ...]


@dataclass(frozen=True)
class SpeakingCell:
    """A cell of the patient, and what it adds beyond an average cell of the typical patient."""

    cell: str
    label: str | None
    difference: float


@dataclass(frozen=True)
class PatientPage:
    """One decision: ``typical`` (the decision for the typical patient) plus all differences is ``value``.

    The differences of ``concepts`` and ``others_difference`` of the ``others`` sum to ``value - typical``.
    """

    dataset: str
    patient: str
    diagnosis: str | None
    target: str
    against: str
    verdict: str
    note: str
    value: float
    typical: float
    n_cells: int
    concepts: tuple[Weighed, ...]
    others: int
    others_difference: float
    supporting: tuple[SpeakingCell, ...]
    opposing: tuple[SpeakingCell, ...]
    previous: str | None
    next: str | None


@dataclass(frozen=True)
class Apart:
    """A concept that sets a disease apart: AUC between patients with its interval, and q."""

    concept: ConceptCard
    higher: bool
    auc: Number
    q: float | None


@dataclass(frozen=True)
class DiseasePage:
    """What sets the patients of a disease apart, and the cells that show it most; ``found`` concepts are shown to."""

    dataset: str
    disease: str
    against: str
    patients: int
    others: int
    found: int
    verdict: str
    warnings: tuple[str, ...]
    concepts: tuple[Apart, ...]
    cells: tuple[tuple[str, tuple[SpeakingCell, ...]], ...]


def view_of_patients(
    result: ClassificationResult, dataset: str, *, diseases: Sequence[str], diagnosis: str = "", q: str = ""
) -> PatientsPage:
    """List the patients, of one ``diagnosis`` and with ``q`` in their name where these are asked for."""
    own: Any = _own(result)
    if diagnosis:
        own = own[own["diagnosis"].astype(str) == diagnosis]
    if q:
        own = own[own["patient"].astype(str).str.casefold().str.contains(q.casefold(), regex=False)]
    own = own.assign(wrong=own["call"].astype(str) != own["diagnosis"].astype(str))
    own = own.sort_values(["wrong", "patient"], ascending=[False, True])
    rows = tuple(
        PatientRow(
            str(row["patient"]),
            str(row["diagnosis"]),
            str(row["call"]),
            known(row.get(f"probability_{row['call']}")),
            int(row.get("cells", 0) or 0),
        )
        for row in own.to_dict("records")
    )
    return PatientsPage(
        dataset=dataset,
        classes=tuple(result.classes),
        verdict=verdict_of(result),
        warnings=doubts_of(result),
        reason=result.reason,
        notes=tuple(result.notes),
        models=_models(result),
        patients=rows,
        diseases=tuple(diseases),
        diagnosis=diagnosis,
        q=q,
    )


def view_of_decision(atlas: OpenedAtlas, explanation: PatientExplanation, result: ClassificationResult) -> PatientPage:
    """A patient's decision, from an explanation without tokens."""
    e, own = explanation, _own(result).set_index("patient")
    shown: Any = e.concepts[e.concepts["difference"] != 0].head(CONCEPTS)
    rest = e.concepts["difference"].sum() - shown["difference"].sum()
    diagnosis = str(own.at[e.patient, "diagnosis"]) if e.patient in own.index else None
    names = sorted(own.index.astype(str))
    at = names.index(e.patient) if e.patient in names else None
    by_cell = e.by_cell.tocsc()
    cells = [str(cell) for cell in e.cells.index]
    weighed = []
    for latent, row in zip(shown.index, shown.to_dict("records"), strict=True):
        column: Any = by_cell[:, [e.concepts.index.get_loc(latent)]]
        added = np.asarray(column.todense()).ravel() * (1 if row["difference"] >= 0 else -1)
        best = [cells[i] for i in np.argsort(-added, kind="stable")[:OWN] if added[i] > 0]
        card = card_of(atlas, int(str(latent)), OWN)
        numbers = float(row["difference"]), float(row["coefficient"]), float(row["barcode"])
        weighed.append(Weighed(card, *numbers, tuple(best)))
    said = zip(cells, e.cells["label"].astype(object), e.cells["difference"], strict=True)
    speaking = [SpeakingCell(cell, text(label), float(difference)) for cell, label, difference in said]
    ordered = sorted(speaking, key=lambda cell: -cell.difference)
    favoured = e.target if e.value > 0 else e.against or "the others"
    probability = e.probabilities.max()
    return PatientPage(
        dataset=atlas.name,
        patient=e.patient,
        diagnosis=diagnosis,
        target=e.target,
        against=e.against or "the others",
        verdict=f"The cells of {e.patient} speak for {favoured}, with a probability of {percent(float(probability))}"
        + (
            f"; the known diagnosis is {'' if diagnosis == favoured else 'another: '}{diagnosis}." if diagnosis else "."
        ),
        note=_without(own, e),
        value=float(e.value),
        typical=float(e.value - e.concepts["difference"].sum()),
        n_cells=len(e.cells),
        concepts=tuple(weighed),
        others=int((e.concepts["difference"] != 0).sum()) - len(shown),
        others_difference=float(rest),
        supporting=tuple(cell for cell in ordered[:CELLS] if cell.difference > 0),
        opposing=tuple(cell for cell in reversed(ordered[-CELLS:]) if cell.difference < 0),
        previous=names[at - 1] if at else None,
        next=names[at + 1] if at is not None and at + 1 < len(names) else None,
    )


def view_of_disease_page(
    atlas: OpenedAtlas, contrast: pd.DataFrame, ranking: pd.DataFrame, *, disease: str, against: str
) -> DiseasePage:
    """A disease against others, from its contrast (by latent) and the ranking of its patients' cells."""
    tested: Any = contrast[contrast["tested"].astype(bool)]
    order = tested.assign(clear=(tested["auc"] - 0.5).abs()).sort_values(["q", "clear"], ascending=[True, False])
    found = int((tested["q"] < 0.05).sum())
    concepts = tuple(
        Apart(card_of(atlas, int(str(latent))), bool(row["auc"] > 0.5), measured(row, "auc"), known(row["q"]))
        for latent, row in order.head(CONCEPTS).iterrows()
    )
    patients, others = int(contrast["patients_a"].max()), int(contrast["patients_b"].max())
    beside = count(others, "other") if against == REST else f"{whole(others)} with {against}"
    few: Any = ranking[ranking["rank"] <= CELLS]
    cells = tuple(
        (
            str(patient),
            tuple(SpeakingCell(str(r["cell_id"]), text(r["label"]), float(r["score"])) for r in own.to_dict("records")),
        )
        for patient, own in few.groupby("patient", sort=False)
    )
    return DiseasePage(
        dataset=atlas.name,
        disease=disease,
        against="the other patients" if against == REST else against,
        patients=patients,
        others=others,
        found=found,
        verdict=_differ(found, len(tested), f"{count(patients, 'patient')} with {disease}", beside),
        warnings=("A concept that differs may follow the stain or the session rather than the disease: see its maps.",),
        concepts=concepts,
        cells=cells[:6],
    )


def _differ(found: int, tested: int, own: str, others: str) -> str:
    """What a contrast says, in a sentence; where it says nothing, that what is shown are examples."""
    if found:
        return (
            f"{whole(found)} of {whole(tested)} concepts differ between {own} and {others} (q below 0.05; the unit is "
            "the patient)."
        )
    return (
        f"No concept is shown to differ between {own} and {others} once {whole(tested)} tests are allowed for: what "
        "follows are examples, not findings."
    )


def _own(result: ClassificationResult) -> pd.DataFrame:
    """Predictions of the recommended configuration, each by models fitted without the patient."""
    own: Any = result.predictions[result.predictions["model"] == result.recommended.name]
    if own.empty:
        raise InputError("The classification has no predictions of its recommended model; run cytosae cohort again.")
    return own


def verdict_of(result: ClassificationResult) -> str:
    """How well the recommended model tells the diagnoses apart, in one sentence."""
    row = result.table.set_index("model").loc[result.recommended.name]
    n, balanced = sum(result.patients.values()), known(row.get("auroc_balanced"))
    told = (
        f"On {whole(n)} patients the recommended model tells the diagnoses apart with an AUROC of {two(row['auroc'])}"
    )
    return told + (f", and of {two(balanced)} where the colour of the images tells nothing." if balanced else ".")


def _models(result: ClassificationResult) -> tuple[ModelRow, ...]:
    chosen = result.recommended.name
    sessions = f"{chosen}, imaging sessions kept together"
    words = row_words(result) | {sessions: "the same, imaging sessions kept together"}
    rows = {str(row["model"]): row for row in result.table.to_dict("records")}
    return tuple(
        ModelRow(name, said, measured(rows[name], "auroc"), measured(rows[name], "auroc_balanced"), name == chosen)
        for name, said in words.items()
        if name in rows
    )


def _without(own: pd.DataFrame, e: PatientExplanation) -> str:
    if e.patient not in own.index or f"probability_{e.target}" not in own:
        return "This decision is of the model that was fitted on all other patients of the study."
    share = known(own.at[e.patient, f"probability_{e.target}"])
    return (
        f"The model shown was fitted on all patients, this one among them; models fitted without this patient give "
        f"{e.target} a probability of {percent(share)} on average."
    )
