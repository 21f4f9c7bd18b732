"""What an image looks like apart from its cell: colour and sharpness, in which stain and focus show."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.cells.decoding.decode import load_image, quiet
from cytosae.cells.stain.colour import COLOUR_COLUMNS, colour_of
from cytosae.cells.table import CellTable
from cytosae.common.errors import InputError
from cytosae.common.progress import progress

LOOKS = (*COLOUR_COLUMNS, "sharpness")


def looks_of(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Colour (see `colour_of`) and sharpness of an image [H, W, 3]; float64 [7].

    Sharpness is ln of the mean square of the Laplacian (four neighbours) over the variance of the grey image, at half
    size, where camera noise counts less: it does not depend on brightness or contrast.
    """
    grey = image.astype(np.float64).mean(2)
    height, width = (size // 2 * 2 for size in grey.shape)
    half = grey[:height, :width].reshape(height // 2, 2, width // 2, 2).mean((1, 3))
    inner = half[1:-1, 1:-1]
    laplacian = half[:-2, 1:-1] + half[2:, 1:-1] + half[1:-1, :-2] + half[1:-1, 2:] - 4 * inner
    sharp = np.log(((laplacian**2).mean() + 1e-9) / (half.var() + 1e-9))
    return np.append(colour_of(image), sharp)


def cell_looks(cells: CellTable, rows: Iterable[int] | None = None) -> pd.DataFrame:
    """Looks of the cells at these rows (all where None): index cell_id, columns `LOOKS`; unreadable images left out."""
    chosen = list(range(len(cells)) if rows is None else rows)
    found, ids = [], []
    with quiet(), progress(f"Looks of {cells.name}", len(chosen), "images") as bar:
        for row in chosen:
            try:
                found.append(looks_of(load_image(cells.image_path(row))))
                ids.append(str(cells.frame["cell_id"].iat[row]))
            except (InputError, OSError):
                continue  # an image that has gone: the others still tell
            finally:
                bar.advance(1)
    values = np.array(found) if found else np.zeros((0, len(LOOKS)))
    return pd.DataFrame(values, index=pd.Index(ids, name="cell_id"), columns=pd.Index(LOOKS))
