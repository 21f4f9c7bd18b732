"""Draw one cell: image, masks and the attributes that are true of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from cytosae.cells.synthetic.attributes import measure
from cytosae.cells.synthetic.camera import develop
from cytosae.cells.synthetic.domains import Domain
from cytosae.cells.synthetic.fields import Outline, draw_outline, open_window
from cytosae.cells.synthetic.parts import (
    Sketch,
    paint_cytoplasm,
    paint_granules,
    paint_nucleus,
    paint_rods,
    paint_vacuoles,
    shape_cell,
)
from cytosae.cells.synthetic.streams import Stream, one_stream
from cytosae.cells.synthetic.structure_bits import BITS
from cytosae.cells.synthetic.surroundings import draw_surroundings
from cytosae.cells.synthetic.types import TYPES, CellType
from cytosae.common.errors import UsageError


@dataclass(frozen=True)
class Drawing:
    """A drawn cell.

    Attributes
    ----------
    image : ndarray of uint8, shape (size, size, 3)
        RGB.
    mask : ndarray of uint8, shape (size, size)
        0 background and other cells, 1 cytoplasm, 2 nucleus.
    structures : ndarray of uint16, shape (size, size)
        Bit flags of `STRUCTURES`.
    attributes : dict of str to object
        What is true of the drawing, see `ATTRIBUTES`.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    structures: NDArray[np.uint16]
    attributes: dict[str, Any]


def draw_cell(label: str, domain: Domain, rng: Generator, *, size: int = 128, difficulty: float = 0.5) -> Drawing:
    """Draw a cell of the type ``label`` (a name of `TYPES`) as this domain's laboratory would show it.

    Parameters
    ----------
    rng : Generator
        The only source of chance: equal generators, equal cells.
    size : int
        Px of the square image.
    difficulty : float
        0..1, strength of the variation of stain, focus, light and noise from cell to cell, and how far the structures
        that tell a disease fade.

    Returns
    -------
    Drawing

    Raises
    ------
    UsageError
        for an unknown type.
    """
    if label not in TYPES:
        raise UsageError(f"there is no cell type {label!r}; choose one of: {', '.join(TYPES)}.")
    return draw_kind(TYPES[label], domain, one_stream(rng), size=size, difficulty=difficulty)


@dataclass(frozen=True)
class Room:
    """Radius in units that other cells leave free, and half the width of the window in which the cell is drawn."""

    clear: float
    reach: float


def draw_kind(
    kind: CellType,
    domain: Domain,
    stream: Stream,
    *,
    size: int = 128,
    difficulty: float = 0.5,
    room: Room | None = None,
) -> Drawing:
    """Draw a cell of this kind, which need be none of `TYPES`; see `draw_cell`.

    Parameters
    ----------
    stream : Stream
        Each part draws from that of its name.
    room : Room or None
        None for as much as the cell needs (`room_of`). With streams of their own, parts are the same in the same room.
    """
    canvas = np.zeros((4, size, size), dtype=np.float32)
    bits = np.zeros((size, size), dtype=np.uint16)
    radius = float(stream("size").uniform(*kind.radius))
    place = stream("place")
    centre = (float(place.normal(0, 2.0)), float(place.normal(0, 2.0)))
    clear = radius if room is None else room.clear
    around = draw_surroundings(canvas, stream("surroundings"), zoom=domain.zoom, crowding=domain.crowding, clear=clear)
    outline = _outline(kind, stream, radius)
    reach = _reach(kind, radius, outline) if room is None else room.reach
    window = open_window(size, domain.zoom, centre, reach)
    sketch = Sketch(
        window, kind, stream, radius, canvas[:, window.rows, window.columns], bits[window.rows, window.columns]
    )
    shape_cell(sketch, outline)
    _paint(sketch, 1 - 0.4 * difficulty)
    held = (bits & np.uint16(BITS["cytoplasm"] | BITS["nucleus"])) != 0
    bits[around & ~held] |= np.uint16(BITS["surroundings"])
    attributes = measure(sketch, zoom=domain.zoom)
    image = develop(canvas, domain, stream, difficulty=difficulty)
    mask = np.zeros((size, size), dtype=np.uint8)
    mask[(bits & np.uint16(BITS["cytoplasm"])) != 0] = 1
    mask[(bits & np.uint16(BITS["nucleus"])) != 0] = 2
    return Drawing(image, mask, bits, attributes)


def room_of(kind: CellType, stream: Stream) -> Room:
    """The room that a cell of this kind needs; draws its size and outline from their streams."""
    radius = float(stream("size").uniform(*kind.radius))
    return Room(radius, _reach(kind, radius, _outline(kind, stream, radius)))


def _outline(kind: CellType, stream: Stream, radius: float) -> Outline:
    rng = stream("outline")
    return draw_outline(rng, radius, kind.roughness, elongation=float(rng.uniform(*kind.elongation)))


def _reach(kind: CellType, radius: float, outline: Outline) -> float:
    """No wider than the cell can be: most of the time goes into arrays over this window."""
    reach = radius + sum(abs(a) for a in outline[0]) + 0.06 * radius + 2.5
    return reach if kind.projections is None else reach + kind.projections.length[1]


_OF_DISEASE = ("abnormal_granules", "giant_granules")


def _paint(sketch: Sketch, visible: float) -> None:
    """Paint the parts from the bottom to the top; ``visible`` is the opacity of those that tell a disease."""
    kind = sketch.kind
    paint_cytoplasm(sketch)
    below = [layer for layer in kind.granules if not layer.over_nucleus]
    for layer in below:
        paint_granules(sketch, layer, visible if layer.structure in _OF_DISEASE else 1.0)
    paint_nucleus(sketch)
    for layer in kind.granules:
        if layer.over_nucleus:
            paint_granules(sketch, layer, 1.0)
    if kind.rods is not None:
        paint_rods(sketch, kind.rods, visible)
    paint_vacuoles(sketch)
