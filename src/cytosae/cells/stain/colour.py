"""Colour of cell images: mean and spread of each channel, the plainest trace that a stain or a scanner leaves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.cells.decoding.decode import load_image, quiet
from cytosae.common.artifact import hash_file
from cytosae.common.errors import InputError
from cytosae.common.progress import progress
from cytosae.common.table_artifacts import open_table, save_table

if TYPE_CHECKING:
    from cytosae.cells.table import CellTable

COLOUR_COLUMNS = ("red_mean", "green_mean", "blue_mean", "red_sd", "green_sd", "blue_sd")
CHUNK = 32


def colour_statistics(cells: CellTable, *, workers: int | None = None) -> pd.DataFrame:
    """Mean and standard deviation of R, G and B over each cell's image.

    Parameters
    ----------
    cells : CellTable
        The table; whatever `read_cells` took as usable is decoded here by the same rules.
    workers : int or None
        Threads that decode, None for one a core, at most 8.

    Returns
    -------
    DataFrame
        Table indexed by cell_id, in the order of ``cells``, of float64 columns `COLOUR_COLUMNS`, in units of 0 to 255;
        the standard deviation is that of the image's pixels (divided by their number).

    Raises
    ------
    InputError
        naming the image that cannot be read or has changed since the table was made.
    """
    ids = [str(cell) for cell in cells.frame["cell_id"]]
    starts = range(0, len(cells), CHUNK)
    rows: list[NDArray[np.float64]] = []
    # Decoders release the interpreter lock, so threads do.
    pool = ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1), thread_name_prefix="cytosae-colour")

    def work(start: int) -> list[NDArray[np.float64]]:
        stop = min(start + CHUNK, len(ids))
        return [_of_file(cells.image_path(row), ids[row]) for row in range(start, stop)]

    with quiet(), progress(f"Colours of {cells.name}", len(cells), "images") as bar:
        try:
            for chunk in pool.map(work, starts):
                rows.extend(chunk)
                bar.advance(len(chunk))
        finally:
            pool.shutdown(cancel_futures=True)
    values = np.array(rows) if rows else np.zeros((0, len(COLOUR_COLUMNS)))
    return pd.DataFrame(values, index=pd.Index(ids, name="cell_id"), columns=pd.Index(COLOUR_COLUMNS))


def save_colours(table: pd.DataFrame, path: Path, *, inputs: Mapping[str, str] | None = None) -> Path:
    """Write colour statistics as a Parquet artifact of kind "colours"."""
    return save_table(table, path, "colours", inputs=inputs, details={"cells": len(table)})


def open_colours(path: Path | str) -> pd.DataFrame:
    """Open what `save_colours` wrote; index cell_id."""
    return open_table(path, "colours")


def colour_of(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Means, then standard deviations, of R, G and B of an image [H, W, 3]; float64 [6] in units of 0 to 255."""
    # From counts of the 256 values: exact sums at a fraction of the cost of float pixels.
    levels = np.arange(256.0)
    counts = np.stack([np.bincount(image[..., channel].ravel(), minlength=256) for channel in range(3)])
    mean = counts @ levels / counts.sum(1)
    variance = (counts * (levels - mean[:, None]) ** 2).sum(1) / counts.sum(1)
    return np.concatenate([mean, np.sqrt(variance)])


def _of_file(path: Path, cell_id: str) -> NDArray[np.float64]:
    try:
        if hash_file(path) != cell_id:
            raise InputError(f"{path} has changed since the cell table was made; read the cells again.")
    except OSError as problem:
        raise InputError(f"{path} can no longer be read ({problem.strerror}); read the cells again.") from problem
    return colour_of(load_image(path))
