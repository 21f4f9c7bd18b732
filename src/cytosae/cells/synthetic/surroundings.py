"""Red cells and platelets around the cell."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from cytosae.cells.synthetic.fields import Field, edge, open_window, place_points, smooth_field, stain, stamp_discs

RED_RADIUS = (12.0, 15.0)


def draw_surroundings(
    canvas: Field, rng: Generator, *, zoom: float, crowding: float, clear: float
) -> NDArray[np.bool_]:
    """Scatter red cells, and now and then a platelet, around the space that the cell needs.

    Parameters
    ----------
    canvas : ndarray of float, shape (4, H, W)
        Dyes, changed in place.
    crowding : float
        Mean number of red cells tried in a 128 px image at zoom 1.
    clear : float
        Radius in units that stays free, from the middle.

    Returns
    -------
    ndarray of bool, shape (H, W)
        Where they are.
    """
    reach = 64 / zoom + 12
    count = int(rng.poisson(crowding * (reach / 76) ** 2))
    kept: list[tuple[float, float, float]] = []
    for y, x, share in rng.uniform(-1, 1, (count, 3)).tolist():
        y, x, radius = y * reach, x * reach, RED_RADIUS[0] + (share + 1) / 2 * (RED_RADIUS[1] - RED_RADIUS[0])
        if math.hypot(y, x) < clear + 0.88 * radius:
            continue
        if all(math.hypot(y - b, x - a) > 0.82 * (radius + r) for b, a, r in kept):
            kept.append((y, x, radius))
    cover = _red_cells(canvas, np.array(kept).reshape(-1, 3), rng, zoom)
    for _ in range(int(rng.poisson(0.7))):
        at = rng.uniform(-reach, reach, 2)
        if math.hypot(*at) > clear + 6:
            _platelet(canvas, cover, (float(at[0]), float(at[1])), rng, zoom)
    return cover > np.float32(0.5)


def _red_cells(canvas: Field, cells: NDArray[np.floating], rng: Generator, zoom: float) -> Field:
    """Draw red cells (n, 3: y, x, radius), all at once; gives the opacity of the discs on (H, W)."""
    size, n = canvas.shape[1], len(cells)
    border = 1.45 * RED_RADIUS[1] + 1
    step = 128 / (size * zoom)
    half = math.ceil(border / step)
    wide = np.zeros((2, size + 4 * half, size + 4 * half), dtype=np.float32)
    at = cells[:, :2] / step + size / 2 - 0.5
    first = np.floor(at).astype(np.intp)
    far = (first < -half) | (first >= size + half)
    offset = np.arange(-half, half, dtype=np.float32)
    dy, dx = (((offset - (at[:, axis, None] - first[:, axis, None])) * step).astype(np.float32) for axis in (0, 1))
    inside = _inside_ovals(dy[:, :, None], dx[:, None, :], cells[:, 2], rng)
    # the pale centre: a plateau with a soft border, as wide and as pale as the cell is flat
    middle = (cells[:, 2] * rng.uniform(0.38, 0.58, n)).astype(np.float32)[:, None, None]
    pallor = np.clip(rng.uniform(0.1, 1.1, n), 0, 1).astype(np.float32)[:, None, None]
    disc = edge(inside, 0.7)
    fold = np.maximum(1 - np.abs(inside - np.float32(3.0)) * np.float32(0.3), 0) * np.float32(0.22)
    depth = disc * (1 - pallor * edge(inside - middle, 2.2) + fold)
    depth *= rng.uniform(0.82, 1.12, n).astype(np.float32)[:, None, None]
    for i in np.flatnonzero(~far.any(axis=1)):
        rows, columns = (slice(int(first[i, a]) + half, int(first[i, a]) + 3 * half) for a in (0, 1))
        wide[0, rows, columns] += depth[i]
        np.maximum(wide[1, rows, columns], disc[i], out=wide[1, rows, columns])
    amount, cover = wide[:, 2 * half : 2 * half + size, 2 * half : 2 * half + size]
    canvas[3] += amount
    return cover.copy()


def _inside_ovals(y: Field, x: Field, radii: NDArray[np.floating], rng: Generator) -> Field:
    """(n, h, w) distance inside ovals that are not quite regular."""
    distance = np.sqrt(y * y + x * x)
    inverse = 1 / np.maximum(distance, np.float32(1e-3))
    u, v = x * inverse, y * inverse
    n = len(radii)
    inside = radii.astype(np.float32)[:, None, None] - distance
    real, imaginary = u, v
    for share in (0.055, 0.022):
        real, imaginary = real * u - imaginary * v, real * v + imaginary * u
        weights = (rng.normal(0, share, (2, n)) * radii).clip(-2.5, 2.5).astype(np.float32)[:, :, None, None]
        inside += real * weights[0] + imaginary * weights[1]
    return inside


def _platelet(canvas: Field, cover: Field, at: tuple[float, float], rng: Generator, zoom: float) -> None:
    """A small platelet at a place in units."""
    radius = float(rng.uniform(3.5, 5.5))
    window = open_window(canvas.shape[1], zoom, at, radius + 4)
    if 0 in window.shape:
        return
    part = canvas[:, window.rows, window.columns]
    inside = radius - np.sqrt(window.y**2 + window.x**2) + smooth_field(rng, window, 3.0) * np.float32(0.7)
    disc = edge(inside, 0.7)
    stain(part, (0.14, 0.14, 0.06, 0), disc)
    points = place_points(rng, window, inside > 0.8, int(rng.integers(5, 12)))
    grains = stamp_discs(window, points, np.full(len(points), 0.8), np.full(len(points), 0.8))
    stain(part, (0.4, 0.05, 0.1, 0), grains)
    held = cover[window.rows, window.columns]
    np.maximum(held, disc, out=held)
