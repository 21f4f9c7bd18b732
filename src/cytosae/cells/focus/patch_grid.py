"""The grid of a backbone's patches, which covers the whole image, and masks on it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytosae.common.errors import InputError

Grid = tuple[int, int]
"""Rows and columns of patches, which are numbered row by row from the upper left."""


def patch_areas(mask: NDArray[np.integer], value: int, grid: Grid) -> NDArray[np.float32]:
    """Share of each patch of a grid over the mask [H, W] that has ``value``; [rows, columns], exact areas."""
    rows, columns = (_overlap(length, patches) for length, patches in zip(mask.shape, grid, strict=True))
    return (rows @ (mask == value).astype(np.float64) @ columns.T).astype(np.float32)


def side_of(grid: Grid) -> int | list[int]:
    """A grid as records say it: one number for a square, so that those of before there were others are as they were."""
    return grid[0] if grid[0] == grid[1] else list(grid)


def grid_of(side: Any) -> Grid:
    """The grid that `side_of` made a record of."""
    numbers = [int(number) for number in np.ravel(side)]
    return numbers[0], numbers[-1]


def checked_grid(grid: Grid | None, patches: int) -> Grid:
    """The grid of so many patches; a square where none is given.

    Raises
    ------
    InputError
        It has another number of patches, or no square has so many.
    """
    rows, columns = grid or (math.isqrt(patches), math.isqrt(patches))
    if rows * columns != patches:
        shape = f"{rows} x {columns} patches" if grid else "a square grid of patches"
        raise InputError(
            f"{patches + 1} tokens are not CLS and {shape}; give all tokens of a cell, and the rows and columns of "
            "another grid (grid=)."
        )
    return rows, columns


def _overlap(length: int, patches: int) -> NDArray[np.float64]:
    """[patches, length] weights of pixels in patches; each row sums to 1."""
    edges = np.arange(patches + 1) * length / patches
    pixels = np.arange(length)
    shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(shared, 0, None) * patches / length
