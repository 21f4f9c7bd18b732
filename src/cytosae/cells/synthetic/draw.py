"""Draw one cell: image, mask and the attributes that are true of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cytosae.cells.synthetic.domains import Domain
from cytosae.cells.synthetic.fields import (
    Field,
    cover,
    edge,
    grid,
    inside_nodes,
    inside_outline,
    outline,
    smooth_field,
)
from cytosae.cells.synthetic.types import TYPES, CellType, Granules


@dataclass(frozen=True)
class Drawing:
    """A drawn cell.

    Attributes
    ----------
    image : (size, size, 3) uint8 RGB
    mask : (size, size) uint8, 0 background and other cells, 1 cytoplasm, 2 nucleus
    attributes : nucleus_lobes, granules, vacuoles, nucleoli (counts), cell_diameter (units of a 128 px image),
        nuclear_cytoplasmic_ratio (areas, from the mask)
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    attributes: dict[str, Any]


def draw_cell(label: str, domain: Domain, rng: Generator, *, size: int = 128, difficulty: float = 0.5) -> Drawing:
    """Draw a cell of the type ``label`` (a name of `TYPES`) as this domain's laboratory would show it.

    Parameters
    ----------
    rng : the only source of chance: equal generators, equal cells
    size : px of the square image
    difficulty : 0..1, strength of the variation of stain, focus, light and noise
    """
    kind = TYPES[label]
    y, x = (axis / np.float32(domain.zoom) for axis in grid(size))
    canvas = np.ones((size, size, 3), dtype=np.float32)
    radius = rng.uniform(*kind.radius)
    centre = tuple(rng.normal(0, 2.5, 2))
    _red_cells(canvas, y, x, domain, rng, clear=radius)
    shape = outline(rng, radius, kind.roughness, elongation=rng.uniform(*kind.elongation))
    box = _box(y, x, np.array(centre), 1.45 * radius + 4)
    warp: list[Field] = [smooth_field(rng, size, scale)[box] for scale in (14, 12, 12)]
    near_y, near_x = y[box], x[box]
    cell = inside_outline(near_y, near_x, centre, radius, shape)
    cell += warp[0] * np.float32(0.03 * radius)
    nodes, lobes = kind.shape.nodes(rng, radius)
    nodes = nodes + np.array([*centre, 0.0])
    bent_y, bent_x = (
        (axis + field * 0.9).astype(np.float32, copy=False) for axis, field in ((near_y, warp[1]), (near_x, warp[2]))
    )
    # the nucleus stays inside the cell, a thin rim away from its border
    nucleus = np.minimum(inside_nodes(bent_y, bent_x, nodes), cell - np.float32(0.8))
    mask = np.zeros((size, size), dtype=np.uint8)
    mask[box] = np.where(nucleus > 0, 2, np.where(cell > 0, 1, 0))
    counts = _paint(canvas, box, kind, cell, nucleus, rng)
    image = _develop(canvas, domain, rng, difficulty)
    whole = max(int((mask > 0).sum()), 1)
    attributes = {
        "nucleus_lobes": lobes,
        **counts,
        "cell_diameter": round(2 * radius, 2),
        "nuclear_cytoplasmic_ratio": round(int((mask == 2).sum()) / whole, 4),
    }
    return Drawing(image, mask, attributes)


def _paint(
    canvas: Field, box: tuple[slice, slice], kind: CellType, cell: Field, nucleus: Field, rng: Generator
) -> dict[str, int]:
    """Lay cytoplasm, nucleus, granules and vacuoles over the canvas inside ``box``; gives their counts."""
    size, unit = canvas.shape[0], canvas.shape[0] / 128
    canvas = canvas[box]
    body, core = edge(cell, 0.7), edge(nucleus, 0.6)
    texture = smooth_field(rng, size, 3)[box] * np.float32(kind.texture) + smooth_field(rng, size, 10)[box] * 0.03
    # a darker rim, as thin cytoplasm curls at the border
    rim = np.exp(-np.square(cell / np.float32(1.6))) * np.float32(0.10)
    pale = np.float32(kind.halo) * np.exp(-np.maximum(-nucleus, 0) / np.float32(3.0))
    tone = np.asarray(kind.cytoplasm, dtype=np.float32) * (1 + texture - rim)[..., None]
    cover(canvas, tone + pale[..., None] * (np.float32(0.92) - tone), body)
    vacuoles = int(rng.integers(kind.vacuoles[0], kind.vacuoles[1] + 1))
    _spots(canvas, body * (1 - core), rng, vacuoles, 1.8 * unit, (0.96, 0.94, 0.95), 0.75)
    # chromatin: clumps that absorb more, between paler channels, and a dark membrane
    coarse, fine = (smooth_field(rng, size, scale)[box] for scale in (kind.clump, kind.clump / 2))
    density = np.exp(np.float32(kind.chromatin) * np.tanh(coarse + np.float32(0.6) * fine))
    membrane = np.exp(-np.square((nucleus - 0.6) / np.float32(1.1))) * np.float32(0.18)
    dark = np.asarray(kind.nucleus, dtype=np.float32) ** (density + membrane)[..., None]
    cover(canvas, dark, core * np.float32(0.97))
    nucleoli = int(rng.integers(kind.nucleoli[0], kind.nucleoli[1] + 1))
    _spots(canvas, edge(nucleus - 4, 1.0), rng, nucleoli, 2.4 * unit, (0.58, 0.46, 0.80), 0.8)
    granules = sum(_granulate(canvas, layer, body, core, rng, unit) for layer in kind.granules)
    return {"granules": granules, "vacuoles": vacuoles, "nucleoli": nucleoli}


def _granulate(canvas: Field, layer: Granules, body: Field, core: Field, rng: Generator, unit: float) -> int:
    count = int(rng.integers(*layer.count))
    where = body if layer.over_nucleus else body * (1 - core)
    _spots(canvas, where, rng, count, layer.radius * unit, layer.colour, layer.opacity, shade=0.25)
    return count


def _spots(
    canvas: Field,
    where: Field,
    rng: Generator,
    count: int,
    radius: float,
    colour: tuple[float, float, float],
    opacity: float,
    *,
    shade: float = 0.0,
) -> None:
    """Lay ``count`` round spots at random places inside ``where`` (an opacity, (H, W)); ``radius`` in px."""
    inside = np.flatnonzero(where.ravel() > 0.6)
    if count == 0 or not len(inside):
        return
    impulses = np.zeros(where.size, dtype=np.float32)
    np.add.at(impulses, rng.choice(inside, count), rng.uniform(0.6, 1.3, count).astype(np.float32))
    spread = max(radius * 0.75, 0.45)
    hills = gaussian_filter(impulses.reshape(where.shape), spread, truncate=3.0) * np.float32(2 * np.pi * spread**2)
    amount = np.clip(hills * np.float32(1.6) - np.float32(0.45), 0, 1) * np.float32(opacity) * where
    tone = np.asarray(colour, dtype=np.float32)
    if shade:
        # light falls through the middle of a granule, so crowded ones stay apart
        tone = tone * (1 + np.float32(shade) * (np.clip(hills, 0, 1.5) - np.float32(0.75)))[..., None]
    cover(canvas, tone, amount)


def _red_cells(canvas: Field, y: Field, x: Field, domain: Domain, rng: Generator, *, clear: float) -> None:
    """Scatter red cells (and now and then a platelet) around the space that the cell itself needs."""
    rim = np.asarray(domain.red_cells, dtype=np.float32)
    reach = 64 / domain.zoom + 12
    placed: list[NDArray] = []
    for _ in range(int(rng.poisson(domain.crowding))):
        at, radius = rng.uniform(-reach, reach, 2), rng.uniform(14, 17.5)
        near = np.hypot(*at) < clear + radius + 1
        if near or any(np.hypot(*(at - other)) < 1.5 * radius for other in placed):
            continue
        placed.append(at)
        box = _box(y, x, at, radius + 4)
        inside = inside_outline(y[box], x[box], (at[0], at[1]), radius, outline(rng, radius, 0.04))
        # the pale centre: a plateau with a soft border, as wide and as pale as the cell is flat
        middle = np.float32(radius * rng.uniform(0.50, 0.68))
        pallor = rng.uniform(0.25, 0.95) * edge(inside - middle, 2.4)
        fold = np.exp(-np.square((inside - 2.2) / np.float32(2.5))) * np.float32(0.12)
        depth = edge(inside, 0.8) * (1 - pallor + fold) * np.float32(rng.uniform(0.85, 1.1))
        canvas[box] *= 1 - depth[..., None] * (1 - rim)
    for _ in range(int(rng.poisson(0.6))):
        at = rng.uniform(-reach, reach, 2)
        if np.hypot(*at) > clear + 6:
            box = _box(y, x, at, 8)
            spot = edge(inside_outline(y[box], x[box], (at[0], at[1]), 3.2, outline(rng, 3.2, 0.2)), 0.9)
            cover(canvas[box], np.array([0.60, 0.45, 0.70]), spot * np.float32(0.8))


def _box(y: Field, x: Field, at: NDArray, reach: float) -> tuple[slice, slice]:
    """Rows and columns within ``reach`` of a point; shapes are drawn there only, which is most of the speed."""
    rows, columns = (
        slice(*np.searchsorted(axis, (centre - reach, centre + reach)))
        for axis, centre in ((y[:, 0], at[0]), (x[0], at[1]))
    )
    return rows, columns


def _develop(canvas: Field, domain: Domain, rng: Generator, difficulty: float) -> NDArray[np.uint8]:
    """Transmittance to a camera's image: stain, light, focus and noise."""
    size = canvas.shape[0]
    vary = 2 * difficulty
    stain = np.asarray(domain.stain) * np.exp(rng.normal(0, 0.07 * vary) + rng.normal(0, 0.04 * vary, 3))
    y, x = grid(size)
    slope = rng.normal(0, 0.02 * vary, 2) / 64
    slope, fall = slope.astype(np.float32), np.float32(rng.uniform(0, 0.025 * vary) / 64**2)
    light = 1 + slope[0] * y + slope[1] * x - fall * (y * y + x * x)
    glass = np.asarray(domain.background) * (1 + rng.normal(0, 0.012 * vary, 3))
    picture = np.exp(np.log(np.maximum(canvas, 0.02)) * stain.astype(np.float32)) * glass.astype(np.float32)
    picture *= light[..., None]
    sigma = domain.blur * float(np.exp(rng.normal(0, 0.25 * vary))) * size / 128
    picture = gaussian_filter(picture, (sigma, sigma, 0), truncate=3.0)
    picture += rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(domain.noise * (0.5 + difficulty))
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
