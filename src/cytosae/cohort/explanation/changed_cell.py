"""A patient's decision as one cell is changed: the cell is encoded anew, all others stay as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cytosae.cohort.explanation.token_shares import contributions

if TYPE_CHECKING:
    import torch

    from cytosae.atlas.explaining.intervention import Outcome
    from cytosae.cohort.classification.classifier import ConceptClassifier
    from cytosae.cohort.explanation.patient_explanation import PatientExplanation
    from cytosae.sae import SparseAutoencoder


def decision_with(
    classifier: ConceptClassifier,
    explanation: PatientExplanation,
    sae: SparseAutoencoder,
    cell: str,
    counted: NDArray[np.bool_] | None = None,
) -> Outcome:
    """What a patient's decision is as tokens of one of the patient's cells change.

    The decision is the mean over the n cells of what each says alone, a_c = intercept + sum_j w_j x_cj, so a cell that
    would say a instead of a_c moves it by (a - a_c) / n.

    Parameters
    ----------
    classifier : ConceptClassifier
        That of the explanation.
    explanation : PatientExplanation
        The patient's decision; ``cell`` is one of its cells.
    sae : SparseAutoencoder
        The classifier's.
    cell : str
        ``cell_id``.
    counted : ndarray of bool, shape (T,), or None
        Tokens that count, None for all.

    Returns
    -------
    callable
        Tokens (B, T, D) to (B, 2): the patient's decision, and what the cell says alone.
    """
    known, n = float(explanation.cells.at[cell, "alone"]), len(explanation.cells)

    def outcome(batch: torch.Tensor) -> NDArray[np.float64]:
        added = contributions(batch, explanation, sae, tau=classifier.tau, counted=counted).sum(axis=1)
        alone = explanation.intercept + added
        return np.stack([explanation.value + (alone - known) / n, alone], axis=1)

    return outcome
