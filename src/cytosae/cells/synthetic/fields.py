"""Geometry of the drawing: smooth random fields and soft shapes on the pixel grid, all as arrays."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Field = NDArray[np.float32]


@cache
def grid(size: int) -> tuple[Field, Field]:
    """Coordinates (y, x) of pixel centres in units of a 128 px image, origin in the middle; each (size, size)."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(128 / size) - 64
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return y, x


@cache
def _spline(size: int, cells: int) -> tuple[NDArray[np.intp], Field]:
    """First of the four coarse numbers that each pixel lies between, (size,), and their cubic weights, (size, 4)."""
    at = (np.arange(size) + 0.5) * cells / size
    first = np.floor(at).astype(np.intp)
    t = at - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1)
    return first, (weights / 6).astype(np.float32)


def smooth_field(rng: Generator, size: int, scale: float) -> Field:
    """(size, size) random field of unit variance, correlated over about ``scale`` units of a 128 px image.

    A uniform cubic B-spline over coarse random numbers. Written as sums of four, not as matrix products: those would
    wake the threads of BLAS for every small field, and may round differently on another machine.
    """
    cells = max(round(128 / scale), 1)
    first, weights = _spline(size, cells)
    coarse = rng.standard_normal((cells + 3, cells + 3), dtype=np.float32) * np.float32(2.1)
    rows = weights[:, 0, None] * coarse[first]
    for k in range(1, 4):
        rows += weights[:, k, None] * coarse[first + k]
    columns = np.ascontiguousarray(rows.T)
    field = weights[:, 0, None] * columns[first]
    for k in range(1, 4):
        field += weights[:, k, None] * columns[first + k]
    return field.T.astype(np.float32, copy=False)


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
