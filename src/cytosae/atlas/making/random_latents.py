"""Latents of random weights in the same table: what every figure of a latent is without learning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.common.table_artifacts import open_table, save_table

if TYPE_CHECKING:
    from cytosae.atlas.making.statistics import LatentStatistics
    from cytosae.cells import CellTable
    from cytosae.sae import SparseAutoencoder
    from cytosae.tokens import TokenStore

NEIGHBOURS = 101
"""Random latents of like activation frequency whose median is given."""


def describe_random(
    sae: SparseAutoencoder, store: TokenStore, cells: CellTable, *, reference_cells: int = 10, seed: int = 0
) -> pd.DataFrame:
    """The table of latents (``var`` of an atlas) of the same SAE with random directions, on the same cells.

    Parameters
    ----------
    sae, store, cells : SparseAutoencoder, TokenStore, CellTable
        As of `cytosae.atlas.build_atlas`, which takes as long.
    reference_cells : int
        As of the atlas that it stands beside.
    seed : int
        Of the directions (`cytosae.sae.model.randomised.randomised`).

    Returns
    -------
    DataFrame
        Index latent; ``activation_frequency``, ``cells_active`` and the statistics that are shown ``beside_random``.
    """
    options = {"reference_cells": reference_cells, "seed": seed}
    return random_table(count_random(sae, store, cells, rows=(0, len(store)), **options), store, cells)


def count_random(
    sae: SparseAutoencoder,
    store: TokenStore,
    cells: CellTable,
    *,
    rows: tuple[int, int],
    reference_cells: int = 10,
    seed: int = 0,
) -> LatentStatistics:
    """The statistics of `describe_random` on the rows [start, stop) of the store; those of all rows merge."""
    from cytosae.atlas.making.build import cell_blocks, labels_of_store
    from cytosae.atlas.making.statistics import LatentStatistics
    from cytosae.sae.model.randomised import randomised

    control = randomised(sae, seed).eval()
    labels, classes = labels_of_store(store, cells)
    statistics = LatentStatistics(control.d_sae, store.grid, len(classes), reference_cells)
    description = f"Random latents on {cells.name}"
    # none of these statistics knows tau
    for _ in cell_blocks(control, store, statistics, labels, tau=0.0, rows=rows, description=description):
        pass
    return statistics


def random_table(statistics: LatentStatistics, store: TokenStore, cells: CellTable) -> pd.DataFrame:
    """The table of `describe_random` from the statistics of all cells."""
    from cytosae.atlas.making.build import labels_of_store
    from cytosae.atlas.making.latent_table import STATISTICS, latent_table

    labels, classes = labels_of_store(store, cells)
    shown = [name for name, statistic in STATISTICS.items() if statistic.beside_random]
    table: Any = latent_table(statistics, labels, classes)
    return table[["activation_frequency", "cells_active", *shown]]


def save_random_latents(
    table: pd.DataFrame, path: Path, *, config: Any = None, inputs: Mapping[str, str] | None = None
) -> Path:
    """Write the table as a Parquet artifact of kind "random_latents"."""
    return save_table(table, path, "random_latents", config=config, inputs=inputs, details={"latents": len(table)})


def open_random_latents(path: Path | str) -> pd.DataFrame:
    """Open what `save_random_latents` wrote."""
    return open_table(path, "random_latents")


def at_frequency(random: pd.DataFrame, frequency: NDArray[np.floating], column: str) -> NDArray[np.float64]:
    """What a random latent has in a column that is as often active: the median of the nearest in frequency.

    Parameters
    ----------
    random : DataFrame
        Of `describe_random`.
    frequency : ndarray of float, shape (m,)
        Activation frequencies, shares of cells.
    column : str
        A column of ``random``.

    Returns
    -------
    ndarray of float64, shape (m,)
        NaN beyond the frequencies that random latents have.
    """
    alive: Any = random[random["cells_active"] > 0]
    alive = alive.sort_values("activation_frequency", kind="stable")
    if alive.empty:
        return np.full(len(frequency), np.nan)
    known = alive["activation_frequency"].to_numpy(float)
    values = alive[column].astype(float).rolling(NEIGHBOURS, center=True, min_periods=1).median()
    at = np.clip(np.searchsorted(known, frequency), 0, len(known) - 1)
    return np.where((frequency >= known[0]) & (frequency <= known[-1]), values.to_numpy()[at], np.nan)
