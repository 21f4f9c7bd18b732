"""What each cell type looks like; colours are transmittances (1 = glass) under May-Grünwald-Giemsa."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from cytosae.cells.synthetic.fields import arc_nodes

Colour = tuple[float, float, float]
Span = tuple[float, float]


@dataclass(frozen=True)
class Granules:
    """Granules of one kind.

    Attributes
    ----------
    colour : transmittance
    count : from, to
    radius : units of a 128 px image
    over_nucleus : whether they lie over the nucleus, too
    opacity : 0..1
    """

    colour: Colour
    count: tuple[int, int]
    radius: float
    over_nucleus: bool = False
    opacity: float = 0.9


@dataclass(frozen=True)
class RoundNucleus:
    """A round or oval nucleus that fills ``ratio`` of the cell's radius, off centre by ``shift`` of it."""

    ratio: Span
    shift: float = 0.12
    elongation: Span = (1.0, 1.15)

    def nodes(self, rng: Generator, radius: float) -> tuple[NDArray, int]:
        """(k, 3) discs (y, x, radius) relative to the cell's centre, and the number of lobes."""
        ratio, turn = rng.uniform(*self.ratio), rng.uniform(0, 2 * np.pi)
        away = min(self.shift, 1 - ratio) * radius * rng.uniform(0.3, 1)
        stretch = (rng.uniform(*self.elongation) - 1) * ratio * radius
        along = np.linspace(-1, 1, 3) * stretch
        middle = away * np.array([np.sin(turn), np.cos(turn)])
        across = np.array([np.cos(turn), -np.sin(turn)])
        centres = middle + along[:, None] * across
        return np.column_stack([centres, np.full(3, ratio * radius - stretch)]), 1


@dataclass(frozen=True)
class ArcNucleus:
    """A bent nucleus: kidney, band or horseshoe; ``opening`` in radians along the arc."""

    thickness: Span
    bend: float
    opening: Span
    waist: float = 1.0

    def nodes(self, rng: Generator, radius: float) -> tuple[NDArray, int]:
        """(k, 3) discs (y, x, radius) relative to the cell's centre, and the number of lobes."""
        half = rng.uniform(*self.opening) / 2
        angles = np.linspace(-half, half, 9)
        thick = rng.uniform(*self.thickness) * radius * (1 - (1 - self.waist) * np.cos(angles / half * np.pi / 2))
        bend, turn = self.bend * radius, rng.uniform(0, 2 * np.pi)
        back = 0.45 * bend
        centre = (-back * np.sin(turn), -back * np.cos(turn))
        return arc_nodes(angles, centre, bend, thick * rng.uniform(0.92, 1.08, 9), turn), 1


@dataclass(frozen=True)
class LobedNucleus:
    """Lobes along an arc, joined by thin strands."""

    lobes: tuple[int, int]
    radius: Span
    bend: float = 0.5

    def nodes(self, rng: Generator, radius: float) -> tuple[NDArray, int]:
        """(k, 3) discs (y, x, radius) relative to the cell's centre, and the number of lobes."""
        lobes = int(rng.integers(self.lobes[0], self.lobes[1] + 1))
        size = rng.uniform(*self.radius) * radius * (1.1 if lobes == 2 else 1.0)
        bend = self.bend * radius
        step = min(2.3 * size / bend, 1.9 * np.pi / lobes)
        angles = (np.arange(lobes) - (lobes - 1) / 2) * step + rng.normal(0, 0.08, lobes)
        turn = rng.uniform(0, 2 * np.pi)
        centre = tuple(rng.normal(0, 0.06 * radius, 2) - 0.15 * bend * np.array([np.sin(turn), np.cos(turn)]))
        offset = rng.normal(0, 0.10, lobes)
        big = arc_nodes(angles, centre, bend, size * rng.uniform(0.8, 1.15, lobes), turn)
        big[:, :2] += offset[:, None] * bend * np.column_stack([np.sin(angles + turn), np.cos(angles + turn)])
        # each lobe is oval: a second disc beside the first
        side = rng.uniform(0, 2 * np.pi, lobes)
        twin = big.copy()
        twin[:, :2] += 0.45 * size * np.column_stack([np.sin(side), np.cos(side)])
        twin[:, 2] *= 0.85
        share = np.linspace(0, 1, 5)[1:-1, None, None]
        strands = ((1 - share) * big[:-1] + share * big[1:]).reshape(-1, 3)
        strands[:, 2] = 0.055 * radius
        return np.concatenate([big, twin, strands]), lobes


@dataclass(frozen=True)
class CellType:
    """One type of cell.

    Attributes
    ----------
    radius : of the cell, units of a 128 px image
    roughness : of its outline, share of the radius
    cytoplasm, nucleus : colours; ``chromatin`` is the strength of the texture and ``clump`` its size in units
    nucleoli : from, to
    vacuoles : from, to
    halo : paling of the cytoplasm around the nucleus, 0..1
    """

    radius: Span
    cytoplasm: Colour
    nucleus: Colour
    shape: RoundNucleus | ArcNucleus | LobedNucleus
    roughness: float = 0.04
    elongation: Span = (1.0, 1.12)
    chromatin: float = 0.35
    clump: float = 4.0
    texture: float = 0.05
    granules: tuple[Granules, ...] = ()
    nucleoli: tuple[int, int] = (0, 0)
    vacuoles: tuple[int, int] = (0, 0)
    halo: float = 0.0


_FINE = Granules((0.66, 0.44, 0.66), (110, 220), 0.6, opacity=0.7)
_EOSIN = Granules((0.83, 0.47, 0.44), (170, 240), 1.25, opacity=0.95)
_BASO = Granules((0.22, 0.09, 0.38), (170, 260), 1.1, over_nucleus=True, opacity=0.95)
_AZURE = Granules((0.40, 0.14, 0.46), (160, 320), 0.75, over_nucleus=True, opacity=0.9)
_DARK = (0.29, 0.14, 0.52)

TYPES: dict[str, CellType] = {
    "neutrophil_segmented": CellType(
        (25, 29), (0.83, 0.74, 0.83), _DARK, LobedNucleus((2, 5), (0.25, 0.31)), granules=(_FINE,), clump=3.5
    ),
    "neutrophil_band": CellType(
        (25, 29),
        (0.83, 0.74, 0.84),
        (0.31, 0.16, 0.54),
        ArcNucleus((0.23, 0.29), 0.52, (3.0, 4.2), 0.92),
        granules=(_FINE,),
    ),
    "eosinophil": CellType(
        (26, 30), (0.88, 0.66, 0.64), (0.34, 0.18, 0.54), LobedNucleus((2, 3), (0.29, 0.35), 0.48), granules=(_EOSIN,)
    ),
    "basophil": CellType(
        (23, 27), (0.74, 0.62, 0.80), (0.40, 0.22, 0.58), LobedNucleus((2, 3), (0.36, 0.44), 0.36), granules=(_BASO,)
    ),
    "lymphocyte": CellType(
        (18, 23), (0.55, 0.60, 0.85), (0.28, 0.14, 0.52), RoundNucleus((0.82, 0.91), 0.10), chromatin=0.40, clump=5.0
    ),
    "monocyte": CellType(
        (29, 34),
        (0.66, 0.63, 0.79),
        (0.40, 0.24, 0.62),
        ArcNucleus((0.36, 0.44), 0.34, (1.6, 2.9), 0.88),
        roughness=0.09,
        elongation=(1.0, 1.35),
        chromatin=0.28,
        clump=3.2,
        texture=0.09,
        granules=(Granules((0.55, 0.40, 0.66), (20, 60), 0.5, opacity=0.4),),
        vacuoles=(0, 5),
    ),
    "myeloblast": CellType(
        (26, 32),
        (0.52, 0.55, 0.82),
        (0.47, 0.27, 0.66),
        RoundNucleus((0.80, 0.88), 0.10),
        roughness=0.05,
        chromatin=0.14,
        clump=2.2,
        nucleoli=(1, 3),
    ),
    "promyelocyte": CellType(
        (30, 36),
        (0.60, 0.50, 0.76),
        (0.42, 0.21, 0.60),
        RoundNucleus((0.62, 0.70), 0.28),
        roughness=0.06,
        chromatin=0.22,
        clump=3.0,
        texture=0.07,
        granules=(_AZURE,),
        nucleoli=(0, 2),
        halo=0.35,
    ),
    "myelocyte": CellType(
        (27, 31),
        (0.74, 0.68, 0.82),
        (0.37, 0.20, 0.58),
        RoundNucleus((0.58, 0.66), 0.30, (1.1, 1.35)),
        chromatin=0.30,
        granules=(_FINE,),
    ),
    "erythroblast": CellType(
        (17, 21), (0.66, 0.65, 0.82), (0.17, 0.07, 0.38), RoundNucleus((0.52, 0.64), 0.20, (1.0, 1.08)), chromatin=0.45
    ),
}
