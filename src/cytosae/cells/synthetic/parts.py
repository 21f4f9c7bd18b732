"""The parts of a cell, painted one after another on a sketch: cytoplasm, nucleus, granules, rods, vacuoles."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cytosae.cells.synthetic.fields import (
    Field,
    Outline,
    Window,
    edge,
    inside_discs,
    inside_outline,
    lay,
    place_points,
    ridge,
    smooth_field,
    stain,
    stamp_discs,
)
from cytosae.cells.synthetic.streams import Stream
from cytosae.cells.synthetic.structure_bits import BITS
from cytosae.cells.synthetic.types import CellType, Granules, Projections, Rods, Span


@dataclass
class Sketch:
    """A cell in the making; every array covers the window.

    Attributes
    ----------
    stream : Stream
        Each part draws from that of its name.
    canvas : ndarray of float, shape (4, h, w)
        Dyes, a view of the whole image's.
    bits : ndarray of uint16, shape (h, w)
        Structures so far.
    cell, nucleus : ndarray of float, shape (h, w)
        Distances inside, in units.
    body, core : ndarray of float, shape (h, w)
        Opacities of cell and nucleus.
    counts : dict of str to int
        What was drawn.
    """

    window: Window
    kind: CellType
    stream: Stream
    radius: float
    canvas: Field
    bits: NDArray[np.uint16]
    cell: Field = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    nucleus: Field = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    body: Field = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    core: Field = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    middle: tuple[float, float] = (0.0, 0.0)
    counts: dict[str, int] = field(default_factory=dict)

    def mark(self, structure: str, where: NDArray[np.bool_]) -> None:
        """Note that a structure is in these pixels."""
        self.bits[where] |= np.uint16(BITS[structure])


def shape_cell(sketch: Sketch, outline: Outline) -> None:
    """Find where cell and nucleus are, and mark them."""
    kind, window, radius = sketch.kind, sketch.window, sketch.radius
    rng = sketch.stream("border")
    sketch.cell = inside_outline(window.y, window.x, radius, outline)
    sketch.cell += smooth_field(rng, window, 7) * np.float32(0.018 * radius)
    if kind.ghost:
        sketch.cell += smooth_field(rng, window, 4) * np.float32(kind.ragged * 0.6)
    sketch.body = edge(sketch.cell, 2.4 if kind.ghost else 0.55)
    if kind.projections is not None:
        _project(sketch, kind.projections, outline)
    inside = sketch.body > np.float32(0.5)
    discs, sketch.counts["nucleus_lobes"] = kind.nucleus.discs(sketch.stream("nucleus"), radius)
    if len(discs):
        sketch.nucleus = sketch.cell + 0 if kind.ghost else _shape_nucleus(sketch, discs)
        sketch.core = sketch.body if kind.ghost else edge(sketch.nucleus, 0.5)
    else:
        sketch.nucleus, sketch.core = np.full_like(sketch.cell, -radius), np.zeros_like(sketch.cell)
    core = sketch.nucleus > 0
    sketch.mark("cytoplasm", inside & ~core)
    sketch.mark("nucleus", core)


def _shape_nucleus(sketch: Sketch, discs: NDArray[np.floating]) -> Field:
    """(h, w) distance inside the nucleus, which stays a thin rim away from the cell's border."""
    kind, window, rng = sketch.kind, sketch.window, sketch.stream("border of the nucleus")
    bend_y, bend_x = (smooth_field(rng, window, 9) * np.float32(kind.ragged) for _ in range(2))
    y, x = window.y + bend_y, window.x + bend_x
    shape = inside_discs(y, x, discs, softness=1.8)
    big = discs[discs[:, 2] > 0.5 * discs[:, 2].max()]
    sketch.middle = (float(big[:, 0].mean()), float(big[:, 1].mean()))
    nucleus = np.minimum(shape, sketch.cell - np.float32(0.9))
    if kind.nucleus.cup[1]:
        size, rng = float(discs[:, 2].max()), sketch.stream("cup")
        radius, turn = rng.uniform(*kind.nucleus.cup) * size, rng.uniform(0, 2 * math.pi)
        away = size - 0.72 * radius
        at = np.array([[*(np.array(sketch.middle) + away * np.array([math.sin(turn), math.cos(turn)])), radius]])
        cup = inside_discs(y, x, at, softness=1.0)
        sketch.mark("cup", (cup > 0) & (nucleus > 0))
        nucleus = np.minimum(nucleus, -cup)
    return nucleus


def _project(sketch: Sketch, projections: Projections, outline: Outline) -> None:
    """Add processes to the border of the cell."""
    rng, window = sketch.stream("projections"), sketch.window
    count = int(rng.integers(projections.count[0], projections.count[1] + 1))
    sketch.counts["projections"] = count
    points, radii = [], []
    for angle in rng.uniform(0, 2 * math.pi, count).tolist():
        border = sketch.radius + sum(
            a * math.cos(k * angle + phase) for k, (a, phase) in enumerate(zip(*outline, strict=True), start=2)
        )
        length, width = rng.uniform(*projections.length), rng.uniform(*projections.width)
        bend = rng.normal(0, 0.10)
        start = -1.2 * width
        for t in np.linspace(0, 1, 3 + math.ceil(length / 0.6)).tolist():
            distance, at = border + start + t * (length - start), angle + bend * t * t
            points.append((distance * math.sin(at), distance * math.cos(at)))
            radii.append(width * (1 - projections.taper * t))
    if not count:
        return
    process = stamp_discs(window, np.array(points), np.array(radii), np.ones(len(radii)))
    sketch.mark("projections", (process > np.float32(0.5)) & (sketch.body <= np.float32(0.5)))
    sketch.body = np.maximum(sketch.body, process)


def paint_cytoplasm(sketch: Sketch) -> None:
    """Lay the cytoplasm: uneven, with more dye at the border, and with a pale zone beside the nucleus."""
    kind, window, rng = sketch.kind, sketch.window, sketch.stream("cytoplasm")
    if kind.ghost:
        return
    coarse, fine = (smooth_field(rng, window, scale) for scale in (6.0, 2.0))
    amount = 1 + np.float32(kind.mottle * 0.6) * coarse + np.float32(kind.mottle * 0.7) * fine
    amount += np.float32(kind.rim) * ridge(sketch.cell, 1.4, 4.5)
    # thin at the outermost border, as a lens
    amount *= np.clip(sketch.cell * np.float32(0.2) + np.float32(0.75), np.float32(0.6), 1)
    amount = np.maximum(amount, np.float32(0.2))
    if kind.hof:
        pale = _hof(sketch)
        amount *= 1 - pale * np.float32(kind.hof)
        sketch.mark("hof", (pale > np.float32(0.35)) & (sketch.nucleus <= 0) & (sketch.body > np.float32(0.5)))
    lay(sketch.canvas, tuple(np.float32(dye) * amount if dye else 0.0 for dye in kind.cytoplasm), sketch.body)


def _hof(sketch: Sketch) -> Field:
    """(h, w) 0..1 the pale Golgi zone on the side of the nucleus that has more room."""
    towards = -np.array(sketch.middle)
    length = float(np.hypot(*towards))
    towards = towards / length if length > 0.5 else np.array([0.0, 1.0])
    radius = 0.30 * sketch.radius
    y, x = towards * min(0.30 * sketch.radius, length + 4.0)
    distance = np.sqrt((sketch.window.y - np.float32(y)) ** 2 + (sketch.window.x - np.float32(x)) ** 2)
    return np.clip((radius - distance) * np.float32(1.6 / radius), 0, 1) * edge(-sketch.nucleus - 1, 1.5)


def paint_nucleus(sketch: Sketch) -> None:
    """Lay the nucleus: clumps of chromatin, pale channels between them, a dark membrane, nucleoli."""
    kind, window, rng = sketch.kind, sketch.window, sketch.stream("chromatin")
    if not sketch.counts["nucleus_lobes"]:
        sketch.counts["nucleoli"] = 0
        return
    coarse, fine = (smooth_field(rng, window, scale) for scale in (kind.clump, kind.clump * 0.6))
    clumps = np.clip(coarse + np.float32(0.7) * fine, np.float32(-1.6), np.float32(1.6))
    density = 1 + np.float32(kind.chromatin * 0.75) * clumps
    density -= np.float32(kind.channels) * ridge(fine - np.float32(0.3) * coarse, 0.35, 0.45)
    if not kind.ghost:
        density += ridge(sketch.nucleus, 0.7, 1.3) * np.float32(0.22)
    density = np.maximum(density, np.float32(0.25)) * np.float32(kind.purple)
    lay(sketch.canvas, (density, 0.04, 0.05 if kind.purple > 0.8 else 0.14, 0.0), sketch.core)
    rng = sketch.stream("nucleoli")
    count = int(rng.integers(kind.nucleoli[0], kind.nucleoli[1] + 1))
    depth = 1.5 if kind.ghost else 3.2
    points = place_points(rng, window, sketch.nucleus > np.float32(depth), count, spacing=6.5 if count > 1 else 0)
    radii = rng.uniform(1.9, 3.4, len(points))
    spots = stamp_discs(window, points, radii, np.ones(len(points)))
    border = np.maximum(stamp_discs(window, points, radii + 0.9, np.ones(len(points))) - spots, 0)
    stain(sketch.canvas, (0.10, 0, 0, 0), border * sketch.core)
    tone = 0.60 * kind.purple
    lay(sketch.canvas, (tone, 0.30, 0.0, 0.0), spots * np.float32(0.75) * sketch.core)
    sketch.mark("nucleolus", (spots > np.float32(0.5)) & (sketch.nucleus > 0))
    sketch.counts["nucleoli"] = len(points)


def paint_granules(sketch: Sketch, layer: Granules, visible: float) -> None:
    """Lay granules of one kind; ``visible`` is their opacity."""
    window = sketch.window
    # one for each draw: more granules are the same ones and others
    patches, number, places, sizes, depths = (
        sketch.stream(f"{layer.structure}: {of}") for of in ("patches", "number", "places", "radii", "strength")
    )
    where = sketch.body if layer.over_nucleus else sketch.body * (1 - sketch.core)
    inside = (where > np.float32(0.6)) & (sketch.cell > np.float32(0.35 * layer.radius[1]))
    if layer.count[0] > 40:  # many granules leave patches free
        inside &= smooth_field(patches, window, 7) > np.float32(-1.25)
    count = int(number.integers(layer.count[0], layer.count[1] + 1))
    points = place_points(places, window, inside, count, spacing=layer.spacing)
    radii = sizes.uniform(*layer.radius, len(points))
    strength = depths.uniform(0.7, 1.0, len(points))
    spots = stamp_discs(window, points, radii, strength) * where
    opacity = spots * np.float32(visible)
    if layer.opaque:
        # light falls through the middle of a granule, so crowded ones stay apart
        full = tuple(np.float32(dye) * (np.float32(1.25) - np.float32(0.4) * spots) for dye in layer.tone)
        lay(sketch.canvas, full, np.minimum(opacity * np.float32(1.25), 1))
    else:
        stain(sketch.canvas, layer.tone, opacity)
    sketch.mark(layer.structure, spots > np.float32(0.42 * _faintness(layer.radius, window)))
    sketch.counts[layer.structure] = sketch.counts.get(layer.structure, 0) + len(points)


def _faintness(radius: Span, window: Window) -> float:
    """Opacity of discs that are smaller than a pixel, as `stamp_discs` draws them; 1 for others."""
    return min(1.0, sum(radius) / 2 / window.step / 0.6) ** 1.5


def paint_rods(sketch: Sketch, rods: Rods, visible: float) -> None:
    """Lay Auer rods, singly or in bundles."""
    rng, window = sketch.stream("rods"), sketch.window
    count = int(rng.integers(rods.count[0], rods.count[1] + 1))
    bundles = int(rng.integers(rods.bundles[0], rods.bundles[1] + 1))
    free = (sketch.nucleus < np.float32(-1.2)) & (sketch.cell > np.float32(2.5))
    anchors = place_points(rng, window, free, bundles or count)
    if not len(anchors):
        anchors = place_points(rng, window, sketch.cell > np.float32(2.5), bundles or count)
    bundles = len(anchors) if bundles else 0
    sketch.counts["auer_rods"], sketch.counts["auer_bundles"] = count, bundles
    if not count:
        return
    points, radii = [], []
    slants = rng.uniform(0, 2 * math.pi, len(anchors))
    for i in range(count):
        anchor = i % len(anchors)
        # a single rod lies along the border of the nucleus, which leaves it most room
        along = math.atan2(*(anchors[anchor] - sketch.middle)) + math.pi / 2
        slant = slants[anchor] + rng.normal(0, 0.30) if bundles else along + rng.normal(0, 0.25)
        middle = anchors[anchor] + (rng.normal(0, 1.7, 2) if bundles else 0)
        length, width = rng.uniform(*rods.length), rng.uniform(*rods.width)
        t = np.linspace(-0.5, 0.5, math.ceil(length / 0.4))
        points.append(middle + (length * t)[:, None] * np.array([math.sin(slant), math.cos(slant)]))
        radii.append(width * (1 - 1.6 * np.abs(t) ** 2.5))
    at, size = np.concatenate(points), np.concatenate(radii)
    spots = stamp_discs(window, at, size, np.ones(len(size))) * edge(sketch.cell - 0.8, 0.5)
    lay(sketch.canvas, (0.40, 0.0, 1.3, 0.0), spots * np.float32(0.95 * visible))
    where = spots > np.float32(0.45 * _faintness(rods.width, window))
    sketch.mark("auer_rods", where)
    if bundles:
        sketch.mark("auer_bundles", where)


def paint_vacuoles(sketch: Sketch) -> None:
    """Punch vacuoles: almost clear, with a darker border."""
    kind, window, rng = sketch.kind, sketch.window, sketch.stream("vacuoles")
    count = int(rng.integers(kind.vacuoles[0], kind.vacuoles[1] + 1))
    free = sketch.cell > np.float32(2.0)
    if not kind.vacuoles_over_nucleus:
        free &= sketch.nucleus < np.float32(-1.0)
    points = place_points(rng, window, free, count, spacing=2.2 * kind.vacuole_radius[1] if count > 8 else 0.0)
    radii = rng.uniform(*kind.vacuole_radius, len(points))
    spots = stamp_discs(window, points, radii, np.ones(len(points))) * sketch.body
    lay(sketch.canvas, (0.0, 0.02, 0.0, 0.0), spots * np.float32(0.88))
    sketch.mark("vacuoles", spots > np.float32(0.5))
    sketch.counts["vacuoles"] = len(points)
