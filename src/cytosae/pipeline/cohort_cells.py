"""Which cells of a patient show a disease, and whether experts would point at the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from cytosae.common.artifact import read_artifact, write_artifact
from cytosae.common.records import reading

if TYPE_CHECKING:
    from anndata import AnnData

    from cytosae.pipeline.configuration import RankingConfig


def save_ranking(
    path: Path,
    ranking: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame],
    *,
    config: Any = None,
    inputs: Mapping[str, str] | None = None,
) -> Path:
    """Write a ranking and its tables as an artifact of kind "ranking": ``cells.parquet`` and a CSV file each."""
    details = {"cells": len(ranking), "patients": int(ranking["patient"].nunique())}
    with write_artifact(path, "ranking", config=config, inputs=inputs, details=details) as folder:
        ranking.to_parquet(folder / "cells.parquet")
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.csv")
    return path


def open_ranking(path: Path, *, verify: bool = True) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """The ranking and the tables that `save_ranking` wrote."""
    read_artifact(path, "ranking", verify=verify)
    with reading(path, "run the step again"):
        tables = {file.stem: pd.read_csv(file, index_col=0) for file in sorted(path.glob("*.csv"))}
        return pd.read_parquet(path / "cells.parquet"), tables


def rank_and_evaluate(atlas: AnnData, config: RankingConfig) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Rank the cells of the disease's patients; compare with experts where some cells have their types.

    Returns
    -------
    The ranking (`pathognomonic_cells`), and tables: ``enrichment`` of every label among the first ten cells of a
    patient; ``evaluation`` of concepts, nearest neighbours and attention against chance, and ``differences`` of
    concepts from the other two, where patients of the disease have cells of the types in ``config.experts``.
    """
    patient, diagnosis = config.patient, config.diagnosis
    ranking = pathognomonic_cells(
        atlas, config.disease, config.against, kind=config.kind, patient=patient, diagnosis=diagnosis
    )
    tables: dict[str, pd.DataFrame] = {}
    if "label" in ranking and pd.Series(ranking["label"]).notna().any():
        tables["enrichment"] = enrichment(ranking, confidence=config.confidence, seed=config.seed)
    types = cell_types_of(atlas)
    found = types.isin(config.experts).to_numpy(bool)
    truth = pd.Series(found, index=atlas.obs_names, dtype="boolean").mask(types.isna().to_numpy())
    if not found[np.isin(atlas.obs_names, ranking["cell_id"])].any():
        return ranking, tables
    of_cell = ranking.set_index("cell_id")["score"].reindex(atlas.obs_names).to_numpy(np.float64)
    scores = {
        "concepts": of_cell,
        "nearest neighbours": neighbour_scores(
            atlas, config.disease, patient=patient, diagnosis=diagnosis, seed=config.seed
        ),
        "attention": attention_scores(atlas, config),
    }
    patients = pd.Series(atlas.obs[patient].astype(object))
    evaluation = evaluate_rankings(scores, truth, patients, confidence=config.confidence, seed=config.seed)
    tables["evaluation"] = evaluation.table
    gaps = [evaluation.differences("concepts", other) for other in ("nearest neighbours", "attention")]
    tables["differences"] = pd.concat(
        gaps, keys=["nearest neighbours", "attention"], names=["concepts less", "measure"]
    )
    return ranking, tables


def attention_scores(atlas: AnnData, config: RankingConfig) -> NDArray[np.float64]:
    """Attention of gated-attention multiple-instance learning to each cell, by a network that has not seen its patient.

    Returns
    -------
    (n,) attention times the number of the patient's cells; NaN for cells of patients without the disease.
    """
    disease, against = config.disease, config.against
    names = atlas.obs[config.patient].astype(object).map(str, na_action="ignore").to_numpy()
    diagnosis = atlas.obs[config.diagnosis].astype(object).to_numpy()
    groups = diagnosis == disease
    others = ~groups & pd.notna(diagnosis) if against == REST else diagnosis == against
    patients = sorted(set(names[(groups | others) & pd.notna(names)]))
    rows = [np.flatnonzero((names == name) & (groups | others)) for name in patients]
    tokens = np.asarray(atlas.obsm["X_backbone"], np.float32)
    y = np.array([int(groups[own[0]]) for own in rows])
    scores = np.full(atlas.n_obs, np.nan)
    for fold in make_folds(y, [against, disease], folds=min(config.folds, np.bincount(y).min()), seed=config.seed):
        model = fit_attention(
            [tokens[rows[i]] for i in fold.train], y[fold.train], seed=config.seed, config=config.attention
        )
        for i in fold.test:
            if y[i]:
                scores[rows[i]] = model.attention(tokens[rows[i]]) * len(rows[i])
    return scores
