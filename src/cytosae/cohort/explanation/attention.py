"""Where multiple-instance learning looks: what a ranking of cells by concepts is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.cohort.classification.mil import fit_attention
from cytosae.cohort.config import ClassificationConfig
from cytosae.cohort.design import Design
from cytosae.cohort.patients.diagnoses import REST

if TYPE_CHECKING:
    from anndata import AnnData


def attention_scores(
    atlas: AnnData,
    disease: str,
    against: str = REST,
    *,
    patient: str = "patient",
    diagnosis: str = "diagnosis",
    groups: pd.Series | None = None,
    config: ClassificationConfig | None = None,
) -> NDArray[np.float64]:
    """Attention of gated-attention multiple-instance learning to each cell, by a network that has not seen its patient.

    Parameters
    ----------
    atlas : AnnData
        With ``obsm["X_backbone"]``.
    disease, against : str
        Diagnoses; ``rest``: all others.
    patient, diagnosis : str
        Columns of ``obs``.
    groups : Series or None
        Site or session of each patient, index patient: the network has seen nobody of a patient's group either, unless
        all patients of a diagnosis are in one.
    config : ClassificationConfig or None
        Folds, seed and network.

    Returns
    -------
    ndarray of float, shape (n,)
        Attention times the number of the patient's cells; NaN for cells of patients without the disease.
    """
    asked = config or ClassificationConfig()
    names = atlas.obs[patient].astype(object).map(str, na_action="ignore").to_numpy()
    diagnoses = atlas.obs[diagnosis].astype(object).to_numpy()
    has = diagnoses == disease
    used = (has | (pd.notna(diagnoses) if against == REST else diagnoses == against)) & pd.notna(names)
    patients = sorted(set(names[used]))
    rows = [np.flatnonzero((names == name) & used) for name in patients]
    tokens = np.asarray(atlas.obsm["X_backbone"], np.float32)
    y = np.array([int(has[own[0]]) for own in rows])
    design = Design.of(patients, groups, y)
    design = design if design.most_folds > 1 else Design(y)
    scores = np.full(atlas.n_obs, np.nan)
    for fold in design.folds(min(asked.folds, design.most_folds), seed=asked.seed):
        train = design.take(fold.train)
        bags = [tokens[rows[i]] for i in fold.train]
        model = fit_attention(bags, train.y, seed=asked.seed, config=asked.attention, groups=train.codes)
        for i in fold.test[y[fold.test] == 1]:
            scores[rows[i]] = model.attention(tokens[rows[i]]) * len(rows[i])
    return scores
