"""Which cells of a patient show a disease, and whether experts would point at the same ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.cohort import (
    REST,
    cell_types_of,
    enrichment,
    evaluate_rankings,
    fit_attention,
    make_folds,
    neighbour_scores,
    pathognomonic_cells,
)

if TYPE_CHECKING:
    from anndata import AnnData

    from cytosae.pipeline.configuration import CohortConfig


def rank_and_evaluate(
    atlas: AnnData, disease: str, against: str, config: CohortConfig
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Rank the cells of the disease's patients; compare with experts where some cells have their types.

    Returns
    -------
    The ranking (`pathognomonic_cells`), and tables: ``enrichment`` of every label among the first ten cells of a
    patient; ``evaluation`` of concepts, nearest neighbours and attention against chance, and ``differences`` of
    concepts from the other two, where patients of the disease have cells of the types in ``config.experts``.
    """
    asked = config.classification
    ranking = pathognomonic_cells(
        atlas, disease, against, kind=asked.kind, patient=config.patient, diagnosis=config.diagnosis
    )
    tables: dict[str, pd.DataFrame] = {}
    if "label" in ranking and pd.Series(ranking["label"]).notna().any():
        tables["enrichment"] = enrichment(ranking, confidence=asked.confidence, seed=asked.seed)
    types = cell_types_of(atlas)
    found = types.isin(config.experts).to_numpy(bool)
    truth = pd.Series(found, index=atlas.obs_names, dtype="boolean").mask(types.isna().to_numpy())
    if not found[np.isin(atlas.obs_names, ranking["cell_id"])].any():
        return ranking, tables
    of_cell = ranking.set_index("cell_id")["score"].reindex(atlas.obs_names).to_numpy(np.float64)
    scores = {
        "concepts": of_cell,
        "nearest neighbours": neighbour_scores(
            atlas, disease, patient=config.patient, diagnosis=config.diagnosis, seed=asked.seed
        ),
        "attention": attention_scores(atlas, disease, against, config),
    }
    patients = pd.Series(atlas.obs[config.patient].astype(object))
    evaluation = evaluate_rankings(scores, truth, patients, confidence=asked.confidence, seed=asked.seed)
    tables["evaluation"] = evaluation.table
    gaps = [evaluation.differences("concepts", other) for other in ("nearest neighbours", "attention")]
    tables["differences"] = pd.concat(
        gaps, keys=["nearest neighbours", "attention"], names=["concepts less", "measure"]
    )
    return ranking, tables


def attention_scores(atlas: AnnData, disease: str, against: str, config: CohortConfig) -> NDArray[np.float64]:
    """Attention of gated-attention multiple-instance learning to each cell, by a network that has not seen its patient.

    Returns
    -------
    (n,) attention times the number of the patient's cells; NaN for cells of patients without the disease.
    """
    asked = config.classification
    names = atlas.obs[config.patient].astype(object).map(str, na_action="ignore").to_numpy()
    diagnosis = atlas.obs[config.diagnosis].astype(object).to_numpy()
    groups = diagnosis == disease
    others = ~groups & pd.notna(diagnosis) if against == REST else diagnosis == against
    patients = sorted(set(names[(groups | others) & pd.notna(names)]))
    rows = [np.flatnonzero((names == name) & (groups | others)) for name in patients]
    tokens = np.asarray(atlas.obsm["X_backbone"], np.float32)
    y = np.array([int(groups[own[0]]) for own in rows])
    scores = np.full(atlas.n_obs, np.nan)
    for fold in make_folds(y, [against, disease], folds=min(asked.folds, np.bincount(y).min()), seed=asked.seed):
        model = fit_attention(
            [tokens[rows[i]] for i in fold.train], y[fold.train], seed=asked.seed, config=asked.attention
        )
        for i in fold.test:
            if y[i]:
                scores[rows[i]] = model.attention(tokens[rows[i]]) * len(rows[i])
    return scores
