"""The pages of a cohort: what is shown of its artifacts, and what is said before anything else."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.cells.table import safe_name
from cytosae.cohort import (
    Detail,
    colour_following,
    explain_decision,
    fit_configuration,
    gather,
    model_input,
    open_contrast,
    patient_specific,
    retest_reliability,
    stability,
)
from cytosae.common.artifact import digest
from cytosae.common.errors import InputError
from cytosae.report import (
    DatasetReport,
    Evidence,
    Marks,
    comparison,
    models_view,
    write_cohort_report,
    write_disease_page,
    write_patient_page,
)

if TYPE_CHECKING:
    from cytosae.cohort import ClassificationResult, ConceptClassifier, Stability
    from cytosae.cohort.classification.cohort_arrays import CohortArrays
    from cytosae.pipeline.cohort_steps import CohortWork

RESEARCH = "This is research on a set of cells, not a diagnosis of anybody."


def write_pages(work: CohortWork, out: Path, *, config: Any, inputs: Mapping[str, str]) -> None:
    """Write ``out``, the page of the cohort, after the pages it links to, in the folder ``pages`` beside it."""
    shown = _Shown(work)
    folder = out.parent / "pages"
    shutil.rmtree(folder, ignore_errors=True)
    patients = {name: f"pages/{page_of(name)}" for name in shown.patients()}
    diseases = {a: f"pages/disease-{safe_name(a)}.html" for a, _ in work.comparisons}
    for name, link in patients.items():
        shown.patient_page(out.parent / link, name, back=f"../{out.name}")
    beside = {name: link.removeprefix("pages/") for name, link in patients.items()}
    comparisons = []
    for a, b in work.comparisons:
        table = open_contrast(work.study.place("contrasts", work.pair(a, b)))
        comparisons.append(comparison(table))
        ranking = work.study.place("ranking", work.pair(a, b))
        write_disease_page(
            out.parent / diseases[a],
            comparisons[-1],
            cells=pd.read_parquet(ranking / "cells.parquet"),
            enrichment=_csv(ranking / "enrichment.csv"),
            enrichment_words=evaluation_words(ranking),
            marks=shown.marks,
            patient_pages=beside,
            links={"the cohort": f"../{out.name}"},
            concepts=work.config.concepts,
            **shown.common,
        )
    write_cohort_report(
        out,
        barcodes=shown.barcodes,
        kind=shown.classifier.kind,
        models=models_view(shown.result),
        comparisons=comparisons,
        stability=shown.stability(),
        marks=shown.marks,
        patient_pages=patients,
        disease_pages=diseases,
        concepts=work.config.concepts,
        config=config,
        inputs=inputs,
        **shown.common,
    )


def page_of(patient: str) -> str:
    """File of a patient's page; two patients never share one."""
    plain = safe_name(patient)
    return f"patient-{plain}{'' if plain == patient else '-' + digest(patient)[:8]}.html"


def write_one_patient(work: CohortWork, patient: str, out: Path) -> Path:
    """Write the page of one patient."""
    _Shown(work).patient_page(out, patient)
    return out


class _Shown:
    """What all pages of a cohort share, read once."""

    def __init__(self, work: CohortWork) -> None:
        study, name = work.study, work.dataset
        self.work = work
        self.result, self.classifier = work.result(), work.classifier()
        self.dataset = DatasetReport(work.atlas, study.cells(name), study.tokens(name))
        self.sae = study.sae()
        known = work.barcodes.obs["diagnosis"].isin(self.result.classes).to_numpy()
        self.barcodes = work.barcodes[known].copy()
        self.data = self._arrays()
        # [patients, latents] as the model takes them; NaN for patients without a cell of the types that it looks at
        self.seen = model_input(self.result.recommended, self.data, work.asked)
        self.matrix = self.seen.barcodes
        self.marks = self._marks()
        self.evidence = _evidence(self.result, name)
        self.common: dict[str, Any] = {"dataset": self.dataset, "sae": self.sae, "evidence": self.evidence}
        self.own = self.result.predictions.query("model == @self.result.recommended.name").set_index("patient")

    def patients(self) -> list[str]:
        """Patients with a page: of each class those decided wrongly or most clearly, in turn."""
        table = self.own.assign(wrong=self.own["call"] != self.own["diagnosis"])
        if "decision" in table:
            table["clear"] = table["decision"].abs()
        else:
            table["clear"] = table[[f"probability_{c}" for c in self.result.classes]].max(axis=1)
        table = table.sort_values(["wrong", "clear"], ascending=False)
        table = table[table.index.isin(np.array(self.data.patients)[~np.isnan(self.matrix).any(axis=1)])]
        turn = table.groupby(["diagnosis", "wrong"]).cumcount()
        order = table.assign(turn=turn).sort_values(["turn", "wrong"], ascending=[True, False], kind="stable")
        return [str(name) for name in order.index[: self.work.config.pages]]

    def patient_page(self, out: Path, patient: str, *, back: str | None = None) -> None:
        """Write one patient's page."""
        explanation = explain_decision(
            self.classifier,
            self.work.atlas,
            patient,
            detail=Detail(self.sae, self.dataset.store),
            column=self.work.config.patient,
        )
        notes = ["The model was fitted on all patients, this one among them."]
        diagnosis = None
        if patient in self.own.index:
            row = self.own.loc[patient]
            diagnosis = str(row["diagnosis"])
            share = float(row[f"probability_{explanation.target}"])
            notes.append(
                f"Models fitted without this patient give {explanation.target} a probability of {share:.2f} on average."
            )
        write_patient_page(
            out,
            explanation,
            diagnosis=diagnosis,
            marks=self.marks,
            specific=self._specific(patient),
            notes=notes,
            links={"the cohort": back} if back else {},
            concepts=min(self.work.config.concepts, 8),
            **self.common,
        )

    def stability(self) -> Stability | None:
        """How far the top concepts depend on which patients are in the study."""
        if self.work.config.stability < 2:
            return None
        asked = self.work.asked
        matrix = np.where(np.isnan(self.matrix), np.nanmean(self.matrix, axis=0), self.matrix)

        def refit(rows: NDArray[np.intp]) -> ConceptClassifier:
            design = self.data.design.take(rows)
            fit = fit_configuration(self.result.recommended, matrix[rows], design, asked, self.seen.directions)
            used = np.flatnonzero((fit.coef != 0).any(0))
            return replace(
                self.classifier,
                latents=used.astype(np.int64),
                coef=fit.coef[:, used],
                intercept=fit.intercept,
                means=fit.means[used],
            )

        return stability(refit, matrix, self.data.design, resamples=self.work.config.stability, seed=asked.seed)

    def _arrays(self) -> CohortArrays:
        work, kind, classes = self.work, self.result.recommended.kind, self.result.classes
        positive = classes[-1] if len(classes) == 2 else None
        return gather(
            work.barcodes,
            work.atlas,
            work.colours,
            classes=classes,
            patient=work.config.patient,
            retest=work.retest,
            config=replace(work.asked, kind=kind, kinds=(kind,), positive=positive),
        )

    def _marks(self) -> Marks:
        cells, everyone = self.data.cells, np.arange(len(self.data.patients))
        following = np.zeros(self.work.atlas.n_vars, bool)
        if cells is not None and cells.colours is not None and len(cells.type_names) > 1:
            following = colour_following(cells, everyone)
        kept = None
        if self.data.retest is not None:
            kept = retest_reliability(*self.data.retest[self.result.recommended.kind].of(everyone))
        return Marks(following, kept, self.work.asked.reliability)

    @cached_property
    def _outliers(self) -> pd.DataFrame | None:
        """Concepts in which patients differ from their group, of all patients at once; None where no group is large."""
        try:
            return patient_specific(self.work.barcodes, kind=self.classifier.kind)
        except InputError:
            return None

    def _specific(self, patient: str) -> pd.DataFrame | None:
        table = self._outliers
        if table is None:
            return None
        own = pd.DataFrame(table[table["patient"] == patient])
        index = pd.Index(own["latent"].astype(int), name="latent")
        return pd.DataFrame({name: own[name].to_numpy() for name in ("value", "others", "z")}, index=index)


def evaluation_words(ranking: Path) -> list[str]:
    """What was measured of a ranking against experts, a sentence each."""
    table = _csv(ranking / "evaluation.csv")
    if table is None:
        return []
    words = []
    for name, row in table.iterrows():
        shares = [
            f"{row[m]:.2f} ({row[f'{m}_low']:.2f} to {row[f'{m}_high']:.2f})"
            for m in ("precision", "average_precision")
        ]
        words.append(
            f"By {name}: {shares[0]} of a patient’s first ten cells are of the types that experts point at; average "
            f"precision {shares[1]}."
        )
    return words


def _evidence(result: ClassificationResult, dataset: str) -> Evidence:
    rows = result.table.set_index("model")
    best = rows.loc[result.recommended.name]
    performance = (
        f"AUROC {best['auroc']:.2f} ({best['auroc_low']:.2f} to {best['auroc_high']:.2f}) in cross-validation, all "
        "choices inside the folds."
    )
    caveats = [RESEARCH]
    for name, what in (("colour alone", "colour of the images"), ("order of imaging alone", "order of imaging")):
        if name in rows.index:
            caveats.append(f"The {what} alone reaches {float(rows.loc[name, 'auroc']):.2f} in the same folds.")
    if np.isfinite(float(best.get("auroc_split", np.nan))):
        caveats.append(
            "Trained on one half of the colour range and tested on the other, the model reaches "
            f"{best['auroc_split']:.2f}."
        )
    groups = tuple((str(name), int(n)) for name, n in result.patients.items())
    return Evidence(groups=groups, dataset=dataset, performance=performance, caveats=tuple(caveats))


def _csv(path: Path) -> pd.DataFrame | None:
    return pd.read_csv(path, index_col=0) if path.is_file() else None
