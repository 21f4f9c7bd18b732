"""What else is known of patients and could tell a diagnosis: age, sex, number of cells, format of their images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from anndata import AnnData

Array = NDArray[np.float64]


def known_covariates(obs: pd.DataFrame, atlas: AnnData | None, patient: str) -> tuple[dict[str, Array], list[str]]:
    """Covariates that differ between the patients of ``obs``, [P, c] each (NaN where unknown), and notes on the others.

    Parameters
    ----------
    obs : DataFrame
        One row a patient.
    atlas : AnnData or None
        Their cells, for the format of the images.
    patient : str
        Column of ``atlas.obs``.
    """
    columns = {"age": _numbers(obs, "age"), "sex": _codes(obs, "sex"), "number of cells": _numbers(obs, "n_cells")}
    columns["image format"] = None if atlas is None else _formats(atlas.obs, obs.index.astype(str), patient)
    found: dict[str, Array] = {}
    notes: list[str] = []
    for name, values in columns.items():
        if values is None or (values.size and np.isnan(values).all()):
            notes.append(f"The {name} was not asked about: it is not known for these patients.")
        elif not values.shape[1] or (np.nanmax(values, 0) == np.nanmin(values, 0)).all():
            notes.append(f"The {name} tells nothing: it is the same for all patients.")
        else:
            found[name] = values
    return found, notes


def _numbers(obs: pd.DataFrame, column: str) -> Array | None:
    if column not in obs:
        return None
    values: Any = pd.to_numeric(obs[column].astype(object), errors="coerce")
    return np.asarray(values, dtype=np.float64)[:, None]


def _codes(obs: pd.DataFrame, column: str) -> Array | None:
    """One column 0 or 1 for each value but the first, NaN where unknown."""
    if column not in obs:
        return None
    values: Any = obs[column].astype("string").str.strip().str.lower()
    table = pd.get_dummies(values, drop_first=True, dtype=float)
    table[values.isna()] = np.nan
    return table.to_numpy(dtype=np.float64)


def _formats(cells: Any, patients: pd.Index, patient: str) -> Array:
    """Shares of each file suffix, pixel size and original size that at least two patients have."""
    owner = cells[patient].astype(str)
    texts: list[Any] = []
    if "image" in cells:
        texts.append(cells["image"].astype(str).str.extract(r"(\.\w+)$")[0].str.lower().fillna(""))
    if {"width", "height"} <= set(cells.columns):
        texts.append(cells["width"].astype(str) + "x" + cells["height"].astype(str))
    if "original_size" in cells:
        texts.append(cells["original_size"].astype(str))
    tables = [pd.crosstab(owner, text, normalize="index").reindex(patients).to_numpy() for text in texts]
    shares = [table[:, ((table > 0).sum(0) >= 2) & (table.std(0) > 0)] for table in tables]
    return np.hstack(shares) if shares else np.zeros((len(patients), 0))
