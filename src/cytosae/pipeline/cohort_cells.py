"""Which cells of a patient show a disease, and whether experts would point at the same ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cytosae.cohort import (
    Intervals,
    attention_scores,
    cell_types_of,
    enrichment,
    evaluate_rankings,
    neighbour_scores,
    pathognomonic_cells,
)

if TYPE_CHECKING:
    from anndata import AnnData

    from cytosae.pipeline.configuration import CohortConfig


def rank_and_evaluate(
    atlas: AnnData, disease: str, against: str, config: CohortConfig, groups: pd.Series | None = None
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Rank the cells of the disease's patients; compare with experts where some cells have their types.

    ``groups`` : what keeps patients together, by patient (`cytosae.cohort.patient_groups`)

    Returns
    -------
    The ranking (`pathognomonic_cells`), and tables: ``enrichment`` of every label among the first ten cells of a
    patient; ``evaluation`` of concepts, nearest neighbours and attention against chance, and ``differences`` of
    concepts from the other two, where patients of the disease have cells of the types in ``config.experts``.
    """
    asked = config.classification
    columns: dict[str, Any] = {"patient": config.patient, "diagnosis": config.diagnosis}
    intervals = Intervals(asked.confidence, seed=asked.seed, groups=groups)
    ranking = pathognomonic_cells(atlas, disease, against, kind=asked.kind, **columns)
    tables: dict[str, pd.DataFrame] = {}
    if "label" in ranking and pd.Series(ranking["label"]).notna().any():
        tables["enrichment"] = enrichment(ranking, intervals=intervals)
    types = cell_types_of(atlas)
    found = types.isin(config.experts).to_numpy(bool)
    truth = pd.Series(found, index=atlas.obs_names, dtype="boolean").mask(types.isna().to_numpy())
    if not found[np.isin(atlas.obs_names, ranking["cell_id"])].any():
        return ranking, tables
    of_cell = ranking.set_index("cell_id")["score"].reindex(atlas.obs_names).to_numpy(np.float64)
    scores = {
        "concepts": of_cell,
        "nearest neighbours": neighbour_scores(atlas, disease, **columns, seed=asked.seed),
        "attention": attention_scores(atlas, disease, against, **columns, groups=groups, config=asked),
    }
    patients = pd.Series(atlas.obs[config.patient].astype(object))
    evaluation = evaluate_rankings(scores, truth, patients, intervals=intervals)
    tables["evaluation"] = evaluation.table
    gaps = [evaluation.differences("concepts", other) for other in ("nearest neighbours", "attention")]
    tables["differences"] = pd.concat(
        gaps, keys=["nearest neighbours", "attention"], names=["concepts less", "measure"]
    )
    return ranking, tables
