"""Geometry of the drawing: smooth random fields and soft shapes on the pixel grid, all as arrays."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.interpolate import BSpline

Field = NDArray[np.float32]


@cache
def grid(size: int) -> tuple[Field, Field]:
    """Coordinates (y, x) of pixel centres in units of a 128 px image, origin in the middle; each (size, size)."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(128 / size) - 64
    return np.meshgrid(axis, axis, indexing="ij")  # type: ignore[return-value]


@cache
def _basis(size: int, cells: int) -> Field:
    """(size, cells + 3) cubic B-spline basis: coarse random numbers to a smooth curve."""
    knots = np.arange(-3, cells + 4, dtype=float)
    at = (np.arange(size) + 0.5) * cells / size
    return BSpline.design_matrix(at, knots, 3).toarray().astype(np.float32)


def smooth_field(rng: Generator, size: int, scale: float) -> Field:
    """(size, size) random field of unit variance, correlated over about ``scale`` units of a 128 px image."""
    cells = max(int(round(128 / scale)), 1)
    basis = _basis(size, cells)
    coarse = rng.standard_normal((cells + 3, cells + 3), dtype=np.float32)
    return basis @ coarse @ basis.T * np.float32(2.1)


def outline(rng: Generator, radius: float, roughness: float, *, elongation: float = 1.0) -> tuple[NDArray, NDArray]:
    """Fourier coefficients (amplitude, phase) of a closed outline for `inside_outline`."""
    orders = np.arange(2, 7)
    amplitude = radius * roughness * rng.standard_normal(5) / orders
    amplitude[0] += radius * (elongation - 1) / 2
    return amplitude.astype(np.float32), rng.uniform(0, 2 * np.pi, 5).astype(np.float32)


def inside_outline(
    y: Field, x: Field, centre: tuple[float, float], radius: float, shape: tuple[NDArray, NDArray]
) -> Field:
    """Distance inside the outline (positive inside), in units; same shape as ``y``."""
    dy, dx = y - np.float32(centre[0]), x - np.float32(centre[1])
    distance = np.hypot(dy, dx)
    # cos(k angle + phase) by powers of the unit vector: far cheaper than one cosine an order
    unit = (dx + 1j * dy).astype(np.complex64) / np.maximum(distance, np.float32(1e-3))
    power = unit
    limit = np.full_like(distance, radius)
    for amplitude, phase in zip(*shape, strict=True):
        power = power * unit
        limit += amplitude * (power.real * np.cos(phase) - power.imag * np.sin(phase))
    return limit - distance


def inside_nodes(y: Field, x: Field, nodes: NDArray, *, softness: float = 0.8) -> Field:
    """Distance inside a smooth union of discs (positive inside).

    Parameters
    ----------
    nodes : (k, 3) array of y, x, radius in units
    softness : how far neighbouring discs melt together, in units
    """
    nodes = nodes.astype(np.float32)
    distance = nodes[:, 2, None, None] - np.hypot(y - nodes[:, 0, None, None], x - nodes[:, 1, None, None])
    top = distance.max(axis=0)
    total = np.exp((distance - top) / np.float32(softness)).sum(axis=0)
    return top + np.float32(softness) * (np.log(total) - np.float32(0.35))


def edge(distance: Field, width: float = 1.0) -> Field:
    """Distance inside to an opacity 0..1 with a soft edge ``width`` units wide."""
    return np.clip(distance / np.float32(2 * width) + np.float32(0.5), 0, 1)


def cover(canvas: Field, colour: Field | NDArray, opacity: Field) -> None:
    """Lay ``colour`` ((3,) or (H, W, 3)) over the canvas (H, W, 3), in place."""
    canvas += opacity[..., None] * (np.asarray(colour, dtype=np.float32) - canvas)


def arc_nodes(angles: NDArray, centre: tuple[float, float], bend: float, radii: NDArray, turn: float) -> NDArray:
    """(k, 3) discs along an arc of radius ``bend`` around ``centre``, turned by ``turn``."""
    at = angles + turn
    return np.stack([centre[0] + bend * np.sin(at), centre[1] + bend * np.cos(at), radii], axis=1)
