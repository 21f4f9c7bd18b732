"""Geometry of the drawing: smooth random fields and soft shapes on the pixel grid, all as arrays.

Pixels are worked out with sums, products, quotients and square roots of float32 alone. These round in one way
everywhere, while an array's exponential, sine or power differs in its last bit from one processor to the next; so do
matrix products, which would also wake the threads of BLAS for every small field.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]
"""An array over pixels; float32 throughout."""
Outline = tuple[list[float], list[float]]


@dataclass(frozen=True)
class Window:
    """The part of the image that a shape needs, with coordinates from its centre.

    Attributes
    ----------
    rows, columns : slice
        The pixels.
    y, x : ndarray of float
        (h, 1) and (1, w) pixel centres in units of a 128 px image at zoom 1.
    reach : float
        Half the width of the window in units, before it was cut at the image's border.
    step : float
        Units a px.
    """

    rows: slice
    columns: slice
    y: Field
    x: Field
    reach: float
    step: float

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in px."""
        return self.y.shape[0], self.x.shape[1]


def open_window(size: int, zoom: float, centre: tuple[float, float], reach: float) -> Window:
    """Window of ``reach`` units around ``centre`` (y, x in units from the middle of the image)."""
    step = 128 / (size * zoom)
    axis = (np.arange(size) + 0.5 - size / 2) * step
    parts, axes = [], []
    for middle in centre:
        inside = np.flatnonzero(np.abs(axis - middle) <= reach)
        parts.append(slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0))
        axes.append((axis[parts[-1]] - middle).astype(np.float32))
    return Window(parts[0], parts[1], axes[0][:, None], axes[1][None, :], reach, step)


def smooth_field(rng: Generator, window: Window, scale: float) -> Field:
    """(h, w) random field of about unit variance over a window, correlated over about ``scale`` units.

    A uniform cubic B-spline over coarse random numbers; the numbers drawn do not depend on the image's size.
    """
    count = math.ceil(2 * window.reach / scale) + 4
    coarse = rng.standard_normal((count, count), dtype=np.float32) * np.float32(2.1)
    half = _spline_sum(coarse, window.y[:, 0], window.reach, scale)
    return _spline_sum(np.ascontiguousarray(half.T), window.x[0], window.reach, scale).T


def _spline_sum(coarse: Field, axis: Field, reach: float, scale: float) -> Field:
    """(pixels, ...) sum of four rows of the coarse numbers for each pixel along an axis."""
    at = (axis.astype(np.float64) + reach) / scale
    first = np.floor(at).astype(np.intp)
    t = (at - first).astype(np.float32)[:, None]
    s = 1 - t
    sixth = np.float32(1 / 6)
    weights = (s * s * s, 3 * t * t * t - 6 * t * t + 4, 3 * s * s * s - 6 * s * s + 4, t * t * t)
    total = coarse.take(first, axis=0)
    total *= weights[0] * sixth
    for k in (1, 2, 3):
        part = coarse.take(first + k, axis=0)
        part *= weights[k] * sixth
        total += part
    return total


def draw_outline(
    rng: Generator, radius: float, roughness: float, *, elongation: float = 1.0, orders: int = 5
) -> Outline:
    """Fourier amplitudes (units) and phases of a closed outline, for orders 2, 3, ...; see `inside_outline`."""
    amplitudes = [radius * roughness * float(rng.standard_normal()) / (2 + n) for n in range(orders)]
    amplitudes[0] += radius * (elongation - 1) / 2
    return amplitudes, [float(phase) for phase in rng.uniform(0, 2 * math.pi, orders)]


def inside_outline(y: Field, x: Field, radius: float, outline: Outline) -> Field:
    """Distance inside the outline (positive inside), in units, broadcast over ``y`` and ``x``."""
    distance = np.sqrt(y * y + x * x)
    inverse = 1 / np.maximum(distance, np.float32(1e-3))
    u, v = x * inverse, y * inverse
    # cos(k angle + phase) by recurrence: two products an order instead of a cosine
    real, imaginary = u, v
    inside = radius - distance
    for amplitude, phase in zip(*outline, strict=True):
        real, imaginary = real * u - imaginary * v, real * v + imaginary * u
        inside += real * np.float32(amplitude * math.cos(phase)) - imaginary * np.float32(amplitude * math.sin(phase))
    return inside


def inside_discs(y: Field, x: Field, discs: NDArray[np.floating], *, softness: float) -> Field:
    """Distance inside a smooth union of discs (positive inside), in units.

    Parameters
    ----------
    discs : ndarray of float, shape (k, 3)
        Array of y, x, radius in units.
    softness : float
        How far neighbours melt together, in units; the union of two equal discs gains a quarter of it.
    """
    discs = discs.astype(np.float32)
    dy, dx = y - discs[:, 0, None, None], x - discs[:, 1, None, None]
    distance = discs[:, 2, None, None] - np.sqrt(dy * dy + dx * dx)
    top = distance.max(axis=0)
    near = np.maximum(1 - (top - distance) / np.float32(softness), 0)
    near *= near
    total = near[0].copy()
    for disc in near[1:]:
        total += disc
    return top + np.minimum(total - 1, np.float32(1.5)) * np.float32(softness / 4)


def edge(distance: Field, width: float) -> Field:
    """Distance inside to an opacity 0..1 with a soft edge ``2 width`` units wide."""
    return np.clip(distance * np.float32(0.5 / width) + np.float32(0.5), 0, 1)


def ridge(distance: Field, at: float, width: float) -> Field:
    """1 where the distance is ``at``, falling to 0 over ``width`` units on both sides."""
    return np.maximum(1 - np.abs(distance - np.float32(at)) * np.float32(1 / width), 0)


def lay(canvas: Field, tone: Sequence[float | Field], opacity: Field) -> None:
    """Lay a tone (a number or an (h, w) array for each dye) over the canvas (dyes, h, w), in place."""
    for dye, amount in zip(canvas, tone, strict=True):
        dye += opacity * (np.asarray(amount, dtype=np.float32) - dye)


def stain(canvas: Field, tone: tuple[float, ...], opacity: Field) -> None:
    """Add a tone's dyes to what is there, in place."""
    for dye, amount in zip(canvas, tone, strict=True):
        if amount:
            dye += opacity * np.float32(amount)


def stamp_discs(
    window: Window, points: NDArray[np.floating], radii: NDArray[np.floating], strength: NDArray[np.floating]
) -> Field:
    """(h, w) greatest opacity of small soft discs.

    Parameters
    ----------
    points : ndarray of float, shape (n, 2)
        y, x in units from the window's centre.
    radii : ndarray of float, shape (n,)
        In units; discs smaller than a pixel cover one, more faintly.
    strength : ndarray of float, shape (n,)
        Opacity of each disc, 0..1.
    """
    height, width = window.shape
    flat = np.zeros(height * width, dtype=np.float32)
    if not len(points) or not flat.size:
        return flat.reshape(height, width)
    step = window.step
    least = 0.6
    r = np.maximum(radii / step, least)
    opacity = (strength * np.minimum(radii / step / least, 1.0) ** 1.5).astype(np.float32)
    half = math.ceil(float(r.max()) + 0.5)
    at = (points - (float(window.y[0, 0]), float(window.x[0, 0]))) / step
    first = np.floor(at).astype(np.intp) - half + 1
    span = np.arange(2 * half)
    pixel_y, pixel_x = first[:, :1] + span, first[:, 1:] + span
    dy, dx = (pixel_y - at[:, :1]).astype(np.float32), (pixel_x - at[:, 1:]).astype(np.float32)
    distance = np.sqrt((dy * dy)[:, :, None] + (dx * dx)[:, None, :])
    amount = np.clip(r.astype(np.float32)[:, None, None] - distance + np.float32(0.5), 0, 1) * opacity[:, None, None]
    within = ((pixel_y >= 0) & (pixel_y < height))[:, :, None] & ((pixel_x >= 0) & (pixel_x < width))[:, None, :]
    index = (pixel_y * width)[:, :, None] + pixel_x[:, None, :]
    np.maximum.at(flat, index[within], amount[within])
    return flat.reshape(height, width)


def place_points(
    rng: Generator, window: Window, inside: NDArray[np.bool_], count: int, *, spacing: float = 0.0
) -> NDArray[np.float64]:
    """(n, 2) points y, x in units from the window's centre, where ``inside`` (h, w) holds; n is ``count`` or fewer.

    Parameters
    ----------
    spacing : float
        0 for independent places; else the places of a shaken hexagonal lattice with that distance in units.
    """
    reach = window.reach
    if spacing:
        rows = math.ceil(2 * reach / (spacing * 0.866)) + 1
        columns = math.ceil(2 * reach / spacing) + 2
        n, m = (axis.ravel() for axis in np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"))
        points = np.stack([n * (spacing * 0.866), (m - 0.5 * (n % 2)) * spacing], axis=1) - reach
        points = rng.permutation(points + rng.uniform(-0.35 * spacing, 0.35 * spacing, points.shape))
    else:
        points = rng.uniform(-reach, reach, (max(6 * count, 400), 2))
    return points[_look_up(window, inside, points)][:count]


def _look_up(window: Window, inside: NDArray[np.bool_], points: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(n,) whether the pixel of each point is inside."""
    height, width = window.shape
    if not height or not width:
        return np.zeros(len(points), dtype=bool)
    at = np.rint((points - (float(window.y[0, 0]), float(window.x[0, 0]))) / window.step).astype(np.intp)
    held = (at >= 0).all(axis=1) & (at[:, 0] < height) & (at[:, 1] < width)
    at = np.clip(at, 0, (height - 1, width - 1))
    return held & inside[at[:, 0], at[:, 1]]
