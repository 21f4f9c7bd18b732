"""How much of each patch is nucleus, cytoplasm and neither: of one cell's mask, and of all cells of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from cytosae.cells.decoding.masks import CELL, CYTOPLASM, NUCLEUS
from cytosae.cells.focus.cell_mask import find_cell
from cytosae.cells.focus.patch_grid import Grid, patch_areas
from cytosae.tokens.extraction.batches import prepared_batches

if TYPE_CHECKING:
    from cytosae.cells import CellTable

PARTS = {"nucleus": NUCLEUS, "cytoplasm": CYTOPLASM, "elsewhere": 0}
"""Where a patch can lie -> its value in a mask."""


def shares_of_table(
    cells: CellTable, grid: Grid, *, batch_cells: int = 32, workers: int = 0
) -> Iterator[NDArray[np.float32]]:
    """Shares of the parts on the patches of each cell, in the order of the table.

    Parameters
    ----------
    cells : CellTable
        With the masks of a user where there are any; others are found (`parts_of`).
    grid : tuple of int
        Rows and columns of the patches.
    batch_cells, workers : int
        Cells at a time, and processes that decode images.

    Yields
    ------
    ndarray of float32, shape (b, 3, P)
        In the order of `PARTS`; they sum to 1.
    """
    batches = [list(range(at, min(at + batch_cells, len(cells)))) for at in range(0, len(cells), batch_cells)]
    for shares in prepared_batches(cells, PartShares(grid), batches, workers=workers, change=parts_of):
        yield shares.numpy()


@dataclass(frozen=True)
class PartShares:
    """Masks to the share of each patch that each part covers; small enough to be sent to worker processes."""

    grid: Grid

    def __call__(self, masks: Sequence[Any]) -> torch.Tensor:
        """Shares [b, parts, P] of masks, uint8 arrays [H, W]."""
        areas = [[patch_areas(mask, value, self.grid).ravel() for value in PARTS.values()] for mask in masks]
        return torch.from_numpy(np.asarray(areas, np.float32))


def parts_of(image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """The mask of a user, or else what is found; in one that does not tell parts apart, the nucleus is found."""
    if mask is not None and not (mask == CELL).any():
        return mask
    found = find_cell(image)
    return found if mask is None else np.where(mask == CELL, np.where(found == NUCLEUS, NUCLEUS, CYTOPLASM), mask)
