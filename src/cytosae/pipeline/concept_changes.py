"""Concepts changed in an image, and what is watched: the cell's type by a probe, and the decision about its patient."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cytosae.atlas.encoding.token_activations import encode_cells, mean_activation
from cytosae.atlas.explaining.cell_type_probe import CellTypeProbe, fit_probe
from cytosae.atlas.explaining.intervention import DOSES, Outcome, dose_response, interaction
from cytosae.backbones import Backbone
from cytosae.common.errors import CytosaeError, InputError, UsageError
from cytosae.pipeline.kept_probe import kept_probe
from cytosae.pipeline.patients import Patients
from cytosae.views.cells.cause_view import view_of_doses, view_of_pair
from cytosae.views.cells.change_view import ChangeView, Watched, view_of_change
from cytosae.views.concepts.concept_names import name_of
from cytosae.views.parts.number_words import percent, whole
from cytosae.views.parts.opened_dataset import OpenedDataset
from cytosae.views.parts.page_parts import text

if TYPE_CHECKING:
    from cytosae.cohort import ConceptClassifier
    from cytosae.pipeline.study import Study

CONTROLS = 12
"""Random latents beside a concept."""
CELLS_AT_ONCE = 32


class ConceptChanges:
    """A data set of a study in which concepts are changed; probe and classifier are made ready at first use.

    Parameters
    ----------
    study : Study
        Finished.
    dataset : OpenedDataset
        One of its data sets.
    """

    study: Study
    dataset: OpenedDataset

    def __init__(self, study: Study, dataset: OpenedDataset) -> None:
        self.study, self.dataset, self._making = study, dataset, threading.Lock()

    def of(
        self,
        tokens: torch.Tensor,
        latent: int,
        factor: float,
        *,
        second: int | None = None,
        counted: NDArray[np.bool_] | None = None,
        cell: str = "",
    ) -> ChangeView:
        """Multiply a concept in an image, and give it at other doses beside.

        Parameters
        ----------
        tokens : Tensor, shape (T, D), float32
            Of the image.
        latent : int
            The concept.
        factor : float
            0 removes it, 0.5 halves it, 2 doubles it.
        second : int or None
            Another concept, to see what both do together.
        counted : ndarray of bool, shape (T,), or None
            Tokens that count; only these are changed.
        cell : str
            The cell of the data set that the image is, empty for none.

        Raises
        ------
        UsageError
            There is no such latent, one is named twice, or the factor is below 0.
        """
        sae, asked = self.dataset.sae, [latent] if second is None else [latent, second]
        self._check(asked, factor)
        codes = encode_cells(sae, tokens[None], None if counted is None else counted[None])
        mean = mean_activation(codes, counted)
        concepts = [(one, name_of(self.dataset, one), float(mean[one])) for one in asked]
        types, of_type = self._types(cell)
        decision, of_decision, patient = self._decision(cell, counted)
        watched = [one for one in (of_type, of_decision) if one is not None]
        outcome, names = _together(watched), (types.names, decision.names)
        how = {"patches": None if counted is None else np.flatnonzero(counted[1:]).tolist(), "controls": CONTROLS}
        found = doses = None
        if watched and mean[latent] > 0:
            found = dose_response(tokens, sae, outcome, latent, sorted({*DOSES, factor}), **how, seed=latent)
            doses = view_of_doses(found, latent, *names)
        view = view_of_change(
            None if found is None else found.at(factor),
            (latent, concepts[0][1], factor),
            activation=concepts[0][2],
            types=types,
            decision=decision,
            patient=patient,
        )
        pair = None
        if second is not None:
            both = None
            if watched and mean[latent] > 0 and mean[second] > 0:
                both = interaction(tokens, sae, outcome, (latent, second), factor, **how, seed=latent)
            pair = view_of_pair(both, concepts, view.words, *names)
        return replace(view, doses=doses, pair=pair)

    @property
    def probe(self) -> CellTypeProbe | str:
        """The probe of the cell type; where there is none, a sentence that says why."""
        with self._making:  # pages are made by several threads at once
            return self._probe

    def _check(self, concepts: Sequence[int], factor: float) -> None:
        for one in concepts:
            if one not in self.dataset.var.index:
                raise UsageError(f"There is no concept {one} here; they are 0 to {self.dataset.var.index.max()}.")
        if len({*concepts}) < len(concepts):
            raise UsageError(f"Concept {concepts[0]} is named twice; what two do together is asked of different ones.")
        if not 0 <= factor <= 100:
            raise UsageError(f"A concept cannot be multiplied by {factor:g}; give a number from 0 to 100.")

    def _types(self, cell: str) -> tuple[Watched, Outcome | None]:
        """The probe of the cell type; where there is none, the words say why."""
        probe = self.probe
        if isinstance(probe, str):
            return Watched(note=probe), None
        half = probe.unseen(self._row.get(cell))
        note = (
            f"By a probe fitted on {whole(probe.cells)} cells of {self.dataset.name}, each asked of the half that its "
            f"patient is not in: balanced accuracy {percent(probe.accuracy)}, by chance "
            f"{percent(1 / len(probe.types))}."
        )
        return Watched(probe.types, note), lambda batch: half.probabilities(self.ends_of(batch))

    def _decision(self, cell: str, counted: NDArray[np.bool_] | None) -> tuple[Watched, Outcome | None, str]:
        """The decision about the cell's patient; where there is none, the words say why."""
        from cytosae.cohort.explanation.changed_cell import decision_with
        from cytosae.cohort.explanation.decision import explain_decision

        obs, column = pd.DataFrame(self.dataset.atlas.obs), self.study.config.cohort.patient
        patient = text(obs.at[cell, column]) if cell and column in obs else None
        if patient is None:
            return Watched(note="No patient is known for this image, so no decision can move."), None, ""
        if self._classifier is None:
            words = "No patients have been classified here; do it with: cytosae cohort --study DIR."
            return Watched(note=words), None, patient
        try:
            found = explain_decision(self._classifier, self.dataset.atlas, patient, column=column)
        except CytosaeError as problem:
            return Watched(note=str(problem)), None, patient
        if cell not in found.cells.index:
            return Watched(note="The model does not count cells of this type."), None, patient
        names = ("the decision", "this cell alone")
        note = (
            f"{patient} has {whole(len(found.cells))} cells that count; the decision is the mean of what each says "
            f"alone, and is above 0 for {found.target}, below for {found.against or 'the others'}. The model was "
            "fitted with this patient among the others."
        )
        outcome = decision_with(self._classifier, found, self.dataset.sae, cell, counted)
        return Watched(names, note), outcome, patient

    @cached_property
    def _row(self) -> dict[str, int]:
        return {str(cell): row for row, cell in enumerate(self.dataset.atlas.obs_names)}

    @cached_property
    def _probe(self) -> CellTypeProbe | str:
        obs, column = pd.DataFrame(self.dataset.atlas.obs), self.study.config.cohort.patient
        labels = [self.dataset.labels[str(cell)] for cell in obs.index]
        groups = (
            obs.index.to_series() if column not in obs else obs[column].astype(object).fillna(obs.index.to_series())
        )
        names = [str(group) for group in groups]
        try:
            recipe = [self.dataset.store.fingerprint, self.study.backbone.describe(), list(obs.index), labels, names]
            return kept_probe(recipe, lambda: fit_probe(labels, self._ends, groups=names))
        except InputError as problem:
            return str(problem)

    @cached_property
    def _classifier(self) -> ConceptClassifier | None:
        if not self.study.place("classifier", self.dataset.name).is_dir():
            return None
        return Patients(self.study, self.dataset.name, self.study.config.cohort).classifier()

    def _ends(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """CLS at the end of the backbone, of cells of the data set by their rows in the atlas."""
        store, names = self.dataset.store, self.dataset.atlas.obs_names
        places = [self.dataset.row_in_store[str(names[row])] for row in rows]
        blocks = [places[i : i + CELLS_AT_ONCE] for i in range(0, len(places), CELLS_AT_ONCE)]
        return np.concatenate(
            [self.ends_of(torch.cat([store.read(at, at + 1).float() for at in block])) for block in blocks]
        )

    @torch.no_grad()
    def ends_of(self, tokens: torch.Tensor) -> NDArray[np.float32]:
        """CLS at the end of the backbone, (B, D), of tokens (B, T, D) of the hooked block."""
        backbone = self.study.backbone
        if not isinstance(backbone, Backbone):
            raise InputError(f"There is no probe of the cell type: {backbone.name} runs elsewhere than in torch.")
        return backbone.finish(tokens)[:, 0].cpu().numpy()


def _together(outcomes: Sequence[Outcome]) -> Outcome:
    return lambda batch: np.concatenate([one(batch) for one in outcomes], axis=1)
