"""What else is known of patients and could tell a diagnosis: age, sex, number of cells, format of their images."""

from __future__ import annotations

import re
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
    found: dict[str, Array] = {}
    notes: list[str] = []
    columns = {"age": _ages(obs, notes), "sex": _codes(obs, "sex"), "number of cells": _numbers(obs, "n_cells")}
    columns["image format"] = None if atlas is None else _formats(atlas.obs, obs.index.astype(str), patient)
    for name, values in columns.items():
        if values is None or (values.size and np.isnan(values).all()):
            notes.append(f"The {name} was not asked about: it is not known for these patients.")
        elif not values.shape[1] or (np.nanmax(values, 0) == np.nanmin(values, 0)).all():
            notes.append(f"The {name} tells nothing: it is the same for all patients.")
        else:
            found[name] = values
    return found, notes


def years(text: str) -> float:
    """An age in years: "45", "45 y", "45 years old", "4,5 J.", "18 months", "045Y" and "006M" of DICOM; else NaN."""
    found = re.fullmatch(r"(\d+(?:[.,]\d+)?)([^\d+]*)", text.strip().casefold())
    unit = re.sub(r"[^a-z]", "", found[2]).removesuffix("old") if found else ""
    return float(found[1].replace(",", ".")) * _IN_YEARS[unit] if found and unit in _IN_YEARS else np.nan


_IN_YEARS = {
    unit: share
    for units, share in (
        (("", "y", "yo", "yr", "yrs", "year", "years", "a", "j", "jahr", "jahre"), 1),
        (("m", "mo", "mos", "month", "months", "monat", "monate"), 1 / 12),
        (("w", "wk", "wks", "week", "weeks", "woche", "wochen"), 7 / 365.25),
        (("d", "day", "days", "tag", "tage"), 1 / 365.25),
    )
    for unit in units
}


def _ages(obs: pd.DataFrame, notes: list[str]) -> Array | None:
    if "age" not in obs:
        return None
    texts: Any = obs["age"].astype("string")
    values = texts.map(years, na_action="ignore").to_numpy(dtype=np.float64, na_value=np.nan)
    strange = texts[texts.notna() & np.isnan(values)]
    if len(strange):
        shown = ", ".join(repr(text) for text in strange.unique()[:3])
        notes.append(
            f"The age of {len(strange)} of {len(obs)} patients is not understood ({shown}); write it in years."
        )
    return values[:, None]


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
