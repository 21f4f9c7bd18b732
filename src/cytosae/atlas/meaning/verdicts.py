"""Artefact or morphology? Whether a latent goes with what a cell is, or with how its image came about."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.common.errors import UsageError

LEAST = 0.05
"""Share of a latent's variance that an explanation must add, at the lower end of its interval, to count."""
CLEARLY = 3.0
"""How many times one share must exceed the other for a latent to be of one kind only."""
FIXED = 0.5
"""Position dependence from which on a latent describes the place in the image, whatever the cell."""
VERDICTS = ("morphology", "artefact", "mixed", "unclear")


CELL_FACTS = (
    *("cell_type", "label", "cell_size", "cell_shape", "nucleus_shape", "nuclear_cytoplasmic_ratio"),
    *("chromatin_density", "cytoplasm_vacuole", "cytoplasm_texture", "cytoplasm_colour", "granule_type"),
    *("granule_colour", "granularity"),
)
IMAGE_FACTS = ("site", "laboratory", "domain", "session", "scanner", "dataset", "stain")
"""Columns of a cell table that tell of the cell, and of how its image came about."""


def give_verdicts(
    values: Any,
    cell: pd.DataFrame,
    image: pd.DataFrame,
    *,
    looks: pd.DataFrame | None = None,
    position_dependence: NDArray[np.floating] | None = None,
    units: NDArray[np.integer] | None = None,
    resamples: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Say of each column whether it goes with the cell or with its image.

    ``morphology`` is the share of a column's variance that what is known of the cell adds to what is known of its
    image (squared semipartial correlation of linear models, adjusted for the number of parameters), ``artefact`` the
    reverse. Intervals: 95 %, from resampling units, their bias taken away. The verdict, by this rule:

    * artefact, where the position dependence is at least `FIXED`;
    * morphology, where its lower end is at least `LEAST` and `CLEARLY` times the upper end of the other; artefact
      likewise;
    * mixed, where both lower ends are at least `LEAST` and neither is so much larger;
    * unclear otherwise.

    Parameters
    ----------
    values : array or sparse array, shape (n, m)
        Mean activation of each cell.
    cell : DataFrame, n rows
        What is known of the cells: cell type, human attributes; text is taken as categories, gaps as one of them.
    image : DataFrame, n rows
        What is known of how images came about: data set, laboratory, session.
    looks : DataFrame or None, n rows
        Colours and sharpness of the images. A cell's own colour is in them, so only what is left of them beside
        ``cell`` and ``image`` counts as the image's.
    position_dependence : ndarray or None, shape (m,)
        See docs/atlas.md.
    units : ndarray of int or None, shape (n,)
        What is resampled, such as patients; cells where None.
    resamples, seed : int
        Of the intervals.

    Returns
    -------
    DataFrame
        Index 0 to m - 1; ``morphology`` and ``artefact`` with ``_low`` and ``_high``, ``position_dependence``,
        ``verdict``.

    Raises
    ------
    UsageError
        Nothing is known of the cells or of their images, or there are fewer cells than parameters.
    """
    X: Any = sp.csr_array(values).astype(np.float64)
    n, m = X.shape
    of_cell, of_image = _design(cell), _design(image)
    if looks is not None:
        known = np.hstack([np.ones((n, 1)), of_cell, of_image])
        shown = _design(looks)
        of_image = np.hstack([of_image, shown - known @ np.linalg.lstsq(known, shown, rcond=None)[0]])
    if not of_cell.shape[1] or not of_image.shape[1]:
        side = "cells" if not of_cell.shape[1] else "images"
        raise UsageError(
            f"nothing that varies is known of the {side}, so artefact and morphology cannot be told apart."
        )
    if n <= 2 * (of_cell.shape[1] + of_image.shape[1] + 1):
        raise UsageError(f"{n} cells are too few for {of_cell.shape[1] + of_image.shape[1]} facts about them.")
    both = np.hstack([np.ones((n, 1)), of_cell, of_image])
    parts = {
        "full": np.arange(both.shape[1]),
        "cell": np.arange(1 + of_cell.shape[1]),
        "image": np.r_[0, np.arange(1 + of_cell.shape[1], both.shape[1])],
    }
    of_unit = np.arange(n) if units is None else np.unique(units, return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    count = int(of_unit.max()) + 1
    found: list[tuple[NDArray[Any], NDArray[Any]]] = []
    for draw in range(1 + resamples):
        weights = np.ones(count) if draw == 0 else rng.multinomial(count, np.full(count, 1 / count)).astype(float)
        found.append(_added(X, both, parts, weights[of_unit]))
    table: dict[str, Any] = {}
    for i, name in enumerate(("morphology", "artefact")):
        value, draws = found[0][i], np.stack([one[i] for one in found[1:]])
        draws += value - draws.mean(0)  # cells drawn twice fit too well: their bias is taken away
        low, high = np.quantile(draws, [0.025, 0.975], axis=0)
        table |= {name: np.maximum(value, 0), f"{name}_low": np.maximum(low, 0), f"{name}_high": np.maximum(high, 0)}
    table["position_dependence"] = np.zeros(m) if position_dependence is None else np.nan_to_num(position_dependence)
    table["verdict"] = _verdicts(table)
    return pd.DataFrame(table)


def _verdicts(t: dict[str, Any]) -> NDArray[Any]:
    cell, image = t["morphology_low"] >= LEAST, t["artefact_low"] >= LEAST
    cell_first = t["morphology_low"] > CLEARLY * np.maximum(t["artefact_high"], LEAST / CLEARLY)
    image_first = t["artefact_low"] > CLEARLY * np.maximum(t["morphology_high"], LEAST / CLEARLY)
    return np.select(
        [t["position_dependence"] >= FIXED, cell & cell_first, image & image_first, cell & image],
        ["artefact", "morphology", "artefact", "mixed"],
        "unclear",
    )


def _added(
    X: Any, both: NDArray[np.float64], parts: dict[str, NDArray[np.intp]], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of the variance of each column that cell adds to image, and image to cell; 0 for constant columns."""
    n = weights.sum()
    weighted = both * weights[:, None]
    gram, cross = both.T @ weighted, np.asarray((X.T @ weighted).T)
    mean = cross[0] / n
    total = np.asarray(X.multiply(X).T @ weights).ravel() - n * mean**2
    used = int((weights > 0).sum())
    explained = {}
    for name, columns in parts.items():
        inverse = np.linalg.pinv(gram[np.ix_(columns, columns)], rcond=1e-9, hermitian=True)
        fitted = (cross[columns] * (inverse @ cross[columns])).sum(0) - n * mean**2
        share = np.divide(fitted, total, out=np.zeros_like(total), where=total > 1e-9)
        rank = np.linalg.matrix_rank(gram[np.ix_(columns, columns)], tol=1e-6, hermitian=True)
        # Ezekiel's adjustment, so that many facts do not explain by their number
        explained[name] = 1 - (1 - share) * (used - 1) / max(used - rank, 1)
    live = total > 1e-9
    return (
        np.where(live, explained["full"] - explained["image"], 0),
        np.where(live, explained["full"] - explained["cell"], 0),
    )


def _design(frame: pd.DataFrame) -> NDArray[np.float64]:
    """Columns of a linear model: numbers scaled (gaps as their mean), categories but their most frequent as 0 or 1."""
    columns = []
    for name in frame:
        column: Any = frame[name]
        if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
            values = column.to_numpy(np.float64, na_value=np.nan)
            if np.nanstd(values) > 0:
                values = np.where(np.isnan(values), np.nanmean(values), values)
                columns.append((values - values.mean()) / values.std())
            continue
        text = column.astype(object).where(column.notna(), "").astype(str).to_numpy()
        names, counts = np.unique(text, return_counts=True)
        usual = names[counts.argmax()]
        columns += [(text == one).astype(np.float64) for one in names if one != usual]
    return np.stack(columns, axis=1) if columns else np.zeros((len(frame), 0))
