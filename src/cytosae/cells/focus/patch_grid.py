"""Masks on the grid of a backbone's patches, which covers the whole image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def patch_areas(mask: NDArray[np.integer], value: int, side: int) -> NDArray[np.float32]:
    """Share of each patch of a side x side grid over the mask [H, W] that has ``value``; [side, side], exact areas."""
    rows, columns = _overlap(mask.shape[0], side), _overlap(mask.shape[1], side)
    return (rows @ (mask == value).astype(np.float64) @ columns.T).astype(np.float32)


def _overlap(length: int, side: int) -> NDArray[np.float64]:
    """[side, length] weights of pixels in patches; each row sums to 1."""
    edges = np.arange(side + 1) * length / side
    pixels = np.arange(length)
    shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(shared, 0, None) * side / length
