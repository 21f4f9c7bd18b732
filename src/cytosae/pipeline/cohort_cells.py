"""Which cells of a patient show a disease, and whether experts would point at the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
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
from cytosae.common.artifact import read_artifact, write_artifact
from cytosae.common.records import reading

if TYPE_CHECKING:
    from anndata import AnnData

    from cytosae.pipeline.study_config import RankingConfig


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


def open_ranking(path: Path | str, *, verify: bool = True) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """The ranking and the tables that `save_ranking` wrote."""
    path = read_artifact(path, "ranking", verify=verify).path
    with reading(path, "run the step again"):
        tables = {file.stem: pd.read_csv(file, index_col=0) for file in sorted(path.glob("*.csv"))}
        return pd.read_parquet(path / "cells.parquet"), tables


def rank_and_evaluate(
    atlas: AnnData, config: RankingConfig, groups: pd.Series | None = None
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Rank the cells of the disease's patients; compare with experts where some cells have their types.

    ``groups`` keeps patients together, by patient (`cytosae.cohort.patient_groups`).

    Returns
    -------
    tuple (DataFrame, dict of str to DataFrame)
        The ranking (`pathognomonic_cells`), and tables: ``enrichment`` of every label among the first ten cells of a
        patient; ``evaluation`` of concepts, nearest neighbours and attention against chance, and ``differences`` of
        concepts from the other two, where patients of the disease have cells of the types in ``config.experts``.
    """
    asked, columns = config.classification, {"patient": config.patient, "diagnosis": config.diagnosis}
    intervals = Intervals(asked.confidence, seed=asked.seed, groups=groups)
    ranking = pathognomonic_cells(atlas, config.disease, config.against, kind=asked.kind, **columns)  # pyright: ignore[reportArgumentType]
    tables: dict[str, pd.DataFrame] = {}
    if "label" in ranking and pd.Series(ranking["label"]).notna().any():
        tables["enrichment"] = enrichment(ranking, intervals=intervals)
    types = cell_types_of(atlas)
    found = types.isin(config.experts).to_numpy(bool)
    truth = pd.Series(found, index=atlas.obs_names, dtype="boolean").mask(types.isna().to_numpy())
    if not found[np.isin(atlas.obs_names, ranking["cell_id"])].any():
        return ranking, tables
    scores = {
        "concepts": ranking.set_index("cell_id")["score"].reindex(atlas.obs_names).to_numpy(np.float64),
        "nearest neighbours": neighbour_scores(atlas, config.disease, **columns, seed=asked.seed),  # pyright: ignore[reportArgumentType]
        "attention": attention_scores(atlas, config.disease, config.against, **columns, groups=groups, config=asked),
    }
    patients = pd.Series(atlas.obs[config.patient].astype(object))
    evaluation = evaluate_rankings(scores, truth, patients, intervals=intervals)
    tables["evaluation"] = evaluation.table
    gaps = [evaluation.differences("concepts", other) for other in ("nearest neighbours", "attention")]
    tables["differences"] = pd.concat(
        gaps, keys=["nearest neighbours", "attention"], names=["concepts less", "measure"]
    )
    return ranking, tables
