"""The opened artifacts of a cohort, what is computed from them once, and the views of its pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.cohort import (
    Detail,
    colour_following,
    explain_decision,
    fit_configuration,
    gather,
    model_input,
    patient_specific,
    retest_reliability,
    stability,
)
from cytosae.common.errors import InputError
from cytosae.views.parts.marks import Marks
from cytosae.views.parts.number_words import percent, two
from cytosae.views.parts.opened_dataset import OpenedDataset
from cytosae.views.parts.page_parts import measured, say
from cytosae.views.patients.cohort_view import CohortView, view_of_cohort
from cytosae.views.patients.disease_view import DiseaseView, Ranking, view_of_disease
from cytosae.views.patients.evidence import Evidence, Group, Shared
from cytosae.views.patients.models_view import doubts_of, rival_words, rivals_of
from cytosae.views.patients.patient_view import KnownOfPatient, PatientView, view_of_patient

if TYPE_CHECKING:
    from anndata import AnnData

    from cytosae.cohort import ClassificationConfig, ClassificationResult, ConceptClassifier, Stability
    from cytosae.cohort.classification.approval import Approval
    from cytosae.cohort.classification.cohort_arrays import CohortArrays
    from cytosae.cohort.classification.settings import ModelInput


@dataclass(frozen=True)
class OpenedCohort:
    """What the pages of a cohort are made from: cells, barcodes, classification and the classifier fitted on everybody.

    ``asked`` is how it was classified, ``patient`` the column of the atlas with the patients, ``concepts`` how many are
    shown on a page, ``background`` whether concepts of the background are among them.
    """

    dataset: OpenedDataset
    barcodes: AnnData
    result: ClassificationResult
    classifier: ConceptClassifier
    asked: ClassificationConfig
    colours: pd.DataFrame
    retest: AnnData | None = None
    patient: str = "patient"
    concepts: int = 12
    background: bool = False

    def cohort(self, contrasts: Sequence[pd.DataFrame], resamples: int, approval: Approval | None = None) -> CohortView:
        """The cohort; stability over so many resamples of the patients, none below 2.

        ``approval`` is what concepts alone tell that reviewers approved, where that was asked for.
        """
        return view_of_cohort(
            self._known,
            self.shared,
            kind=self.classifier.kind,
            result=self.result,
            contrasts=contrasts,
            stability=self._stability(resamples) if resamples > 1 else None,
            concepts=self.concepts,
            approval=approval,
        )

    def disease(self, contrast: pd.DataFrame, ranking: Ranking) -> DiseaseView:
        """One disease."""
        return view_of_disease(contrast, self.shared, ranking, concepts=self.concepts)

    def patient_named(self, patient: str) -> PatientView:
        """One patient."""
        detail = Detail(self.dataset.sae, self.dataset.store)
        explanation = explain_decision(self.classifier, self.dataset.atlas, patient, detail=detail, column=self.patient)
        note = "The model was fitted on all patients, this one among them."
        diagnosis = None
        if patient in self._own.index:
            row = self._own.loc[patient]
            diagnosis = str(row["diagnosis"])
            share = float(row[f"probability_{explanation.target}"])
            note = (
                f"Fitted on all patients, this one among them; models fitted without this patient give "
                f"{explanation.target} a probability of {percent(share)} on average."
            )
        known_of = KnownOfPatient(diagnosis, [note], self._specific(patient))
        return view_of_patient(explanation, self.shared, known_of, concepts=self._cards)

    @property
    def _cards(self) -> int:
        """Concepts with pictures on a patient's page: all of a decision of few, so that nothing is left over."""
        few = len(self.classifier.latents) if self.result.recommended.penalty == "few" else 0
        return max(min(self.concepts, 8), few)

    def telling_patients(self, n: int) -> list[str]:
        """Patients with a page: of each class those decided wrongly or most clearly, in turn."""
        table = self._own.assign(wrong=self._own["call"] != self._own["diagnosis"])
        if "decision" in table:
            table["clear"] = table["decision"].abs()
        else:
            table["clear"] = table[[f"probability_{c}" for c in self.result.classes]].max(axis=1)
        table = table.sort_values(["wrong", "clear"], ascending=False)
        has_cells = ~np.isnan(self._seen.barcodes).any(axis=1)
        table = table[table.index.isin(np.array(self._arrays.patients)[has_cells])]
        turn = table.groupby(["diagnosis", "wrong"]).cumcount()
        order = table.assign(turn=turn).sort_values(["turn", "wrong"], ascending=[True, False], kind="stable")
        return [str(name) for name in order.index[:n]]

    @cached_property
    def shared(self) -> Shared:
        """What stands behind all pages."""
        return Shared(self.dataset, evidence_of(self.result, self.dataset.name), self._marks())

    @cached_property
    def _known(self) -> AnnData:
        """Barcodes of the patients with a diagnosis that was compared."""
        return self.barcodes[self.barcodes.obs["diagnosis"].isin(self.result.classes).to_numpy()].copy()

    @cached_property
    def _own(self) -> pd.DataFrame:
        """Predictions of the recommended model."""
        return self.result.predictions.query("model == @self.result.recommended.name").set_index("patient")

    @cached_property
    def _arrays(self) -> CohortArrays:
        kind, classes = self.result.recommended.kind, self.result.classes
        positive = classes[-1] if len(classes) == 2 else None
        return gather(
            self._known,
            self.dataset.atlas,
            self.colours,
            classes=classes,
            patient=self.patient,
            retest=self.retest,
            config=replace(self.asked, kind=kind, kinds=(kind,), positive=positive),
        )

    @cached_property
    def _seen(self) -> ModelInput:
        """What the recommended model is fitted on; NaN for patients without a cell of the types that it looks at."""
        return model_input(self.result.recommended, self._arrays, self.asked)

    @cached_property
    def _outliers(self) -> pd.DataFrame | None:
        """Concepts in which patients differ from their group, of all patients; None where no group is large enough."""
        try:
            return patient_specific(self.barcodes, kind=self.classifier.kind)
        except InputError:
            return None

    def _specific(self, patient: str) -> pd.DataFrame | None:
        if self._outliers is None:
            return None
        own = self._outliers.query("patient == @patient").astype({"latent": int}).set_index("latent")
        return pd.DataFrame(own[["value", "others", "z"]])

    def _marks(self) -> Marks:
        cells, everyone = self._arrays.cells, np.arange(len(self._arrays.patients))
        following = np.zeros(self.dataset.atlas.n_vars, bool)
        if cells is not None and cells.colours is not None and len(cells.type_names) > 1:
            following = colour_following(cells, everyone)
        kept = None
        if self._arrays.retest is not None:
            kept = retest_reliability(*self._arrays.retest[self.result.recommended.kind].of(everyone))
        var = self.dataset.atlas.var
        background = np.asarray(var["lives_in"] == "background") if "lives_in" in var else np.zeros(0, bool)
        return Marks(following, kept, self.asked.reliability, background, self.background)

    def _stability(self, resamples: int) -> Stability:
        """How far the most important concepts depend on which patients are in the study."""
        design, seen = self._arrays.design, self._seen
        matrix = np.where(np.isnan(seen.barcodes), np.nanmean(seen.barcodes, axis=0), seen.barcodes)

        def refit(rows: NDArray[np.intp]) -> ConceptClassifier:
            drawn = design.take(rows)
            fit = fit_configuration(self.result.recommended, matrix[rows], drawn, self.asked, seen.directions)
            used = np.flatnonzero((fit.coef != 0).any(0))
            changes = {"coef": fit.coef[:, used], "intercept": fit.intercept, "means": fit.means[used]}
            return replace(self.classifier, latents=used.astype(np.int64), **changes)

        return stability(refit, matrix, design, resamples=resamples, seed=self.asked.seed)


def evidence_of(result: ClassificationResult, dataset: str) -> Evidence:
    """What a classification says of itself on every page."""
    rows = result.table.set_index("model")
    performance = (
        f"AUROC {say(measured(rows.loc[result.recommended.name].to_dict(), 'auroc'))} in cross-validation, all choices "
        "inside the folds."
    )
    groups = tuple(Group(str(name), int(n)) for name, n in result.patients.items())
    return Evidence(groups, dataset, performance, tuple(_caveats(result)), doubts_of(result))


def _caveats(result: ClassificationResult) -> list[str]:
    """What the confounders do alone, and what is left in other colours."""
    rows = result.table.set_index("model")
    alone = [(name, other) for name, other in rivals_of(result).items() if rows.at[name, "family"] == "confounder"]
    words = [f"In the same folds {rival_words(name)} reaches {two(other.value)}." for name, other in alone]
    split = measured(rows.loc[result.recommended.name].to_dict(), "auroc_split").value
    if split is not None:
        words.append(
            f"Trained on one half of the colour range and tested on the other, the model reaches {two(split)}."
        )
    return words
