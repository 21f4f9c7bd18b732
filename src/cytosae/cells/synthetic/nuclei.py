"""Shapes of nuclei, as discs that melt together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Span = tuple[float, float]


@dataclass(frozen=True)
class RoundNucleus:
    """A round or oval nucleus that fills ``ratio`` of the cell's radius, off centre by up to ``shift`` of it.

    ``cup`` is the radius of an invagination of its border, share of the nucleus's radius; 0, 0 for none.
    """

    ratio: Span
    shift: float = 0.12
    elongation: Span = (1.0, 1.15)
    cup: Span = (0.0, 0.0)

    def discs(self, rng: Generator, radius: float) -> tuple[NDArray[np.floating], int]:
        """(k, 3) discs (y, x, radius) from the cell's centre, and the number of lobes."""
        ratio, turn = rng.uniform(*self.ratio), rng.uniform(0, 2 * math.pi)
        away = min(self.shift, 1 - ratio) * radius * rng.uniform(0.4, 1)
        stretch = (rng.uniform(*self.elongation) - 1) * ratio * radius
        along = np.linspace(-1, 1, 3)[:, None] * stretch * np.array([math.cos(turn), -math.sin(turn)])
        middle = away * np.array([math.sin(turn), math.cos(turn)])
        return np.column_stack([middle + along, np.full(3, ratio * radius - stretch)]), 1


@dataclass(frozen=True)
class ArcNucleus:
    """A bent nucleus: kidney, band or horseshoe; ``opening`` in radians along the arc, ``waist`` thins its middle."""

    thickness: Span
    bend: float
    opening: Span
    waist: float = 1.0
    cup: Span = (0.0, 0.0)

    def discs(self, rng: Generator, radius: float) -> tuple[NDArray[np.floating], int]:
        """(k, 3) discs (y, x, radius) from the cell's centre, and the number of lobes."""
        half = rng.uniform(*self.opening) / 2
        share = np.linspace(-1, 1, 9)
        thick = rng.uniform(*self.thickness) * radius * (1 - (1 - self.waist) * (1 - share * share))
        bend, turn = self.bend * radius * rng.uniform(0.9, 1.1), rng.uniform(0, 2 * math.pi)
        centre = (-0.45 * bend * math.sin(turn), -0.45 * bend * math.cos(turn))
        return _arc(share * half, centre, bend, thick * rng.uniform(0.9, 1.1, 9), turn), 1


@dataclass(frozen=True)
class LobedNucleus:
    """Oval lobes along an arc, joined by strands of ``strand`` times the cell's radius."""

    lobes: tuple[int, int]
    radius: Span
    bend: float = 0.5
    strand: float = 0.06
    cup: Span = (0.0, 0.0)

    def discs(self, rng: Generator, radius: float) -> tuple[NDArray[np.floating], int]:
        """(k, 3) discs (y, x, radius) from the cell's centre, and the number of lobes."""
        lobes = int(rng.integers(self.lobes[0], self.lobes[1] + 1))
        size = rng.uniform(*self.radius) * radius * {1: 1.3, 2: 1.16, 3: 1.04}.get(lobes, 0.95)
        bend = self.bend * radius
        step = min(2.15 * size / bend, 1.9 * math.pi / lobes)
        angles = (np.arange(lobes) - (lobes - 1) / 2) * step + rng.normal(0, 0.1, lobes)
        turn = rng.uniform(0, 2 * math.pi)
        centre = rng.normal(0, 0.05 * radius, 2) - 0.12 * bend * np.array([math.sin(turn), math.cos(turn)])
        big = _arc(angles, (centre[0], centre[1]), bend, size * rng.uniform(0.82, 1.12, lobes), turn)
        big[:, :2] += (rng.normal(0, 0.12, lobes) * bend)[:, None] * (big[:, :2] - centre) / bend
        # each lobe is oval: a second disc beside the first, mostly along the arc
        side = angles + turn + math.pi / 2 + rng.normal(0, 0.7, lobes)
        twin = big.copy()
        twin[:, :2] += 0.5 * size * np.column_stack([np.sin(side), np.cos(side)])
        twin[:, 2] *= 0.88
        share = np.linspace(0, 1, 6)[1:-1, None, None]
        strands = ((1 - share) * big[:-1] + share * big[1:]).reshape(-1, 3)
        strands[:, 2] = self.strand * radius * rng.uniform(0.7, 1.8)
        return np.concatenate([big, twin, strands]), lobes


@dataclass(frozen=True)
class PairedNucleus:
    """Two large lobes, broadly joined and deeply cleft, like a butterfly or buttocks."""

    radius: Span = (0.43, 0.50)
    apart: Span = (0.36, 0.44)
    cup: Span = (0.0, 0.0)

    def discs(self, rng: Generator, radius: float) -> tuple[NDArray[np.floating], int]:
        """(k, 3) discs (y, x, radius) from the cell's centre, and the number of lobes."""
        turn, apart = rng.uniform(0, 2 * math.pi), rng.uniform(*self.apart) * radius
        along = np.array([math.sin(turn), math.cos(turn)])
        across = np.array([along[1], -along[0]])
        size = rng.uniform(*self.radius) * radius * rng.uniform(0.92, 1.05, 2)
        rows = []
        for sign, lobe in zip((-1, 1), size, strict=True):
            at = sign * apart * along + rng.normal(0, 0.03 * radius) * across
            rows.append((*at, lobe))
            at = at + rng.choice([-1.0, 1.0]) * 0.22 * lobe * across + 0.08 * sign * radius * along
            rows.append((*at, 0.86 * lobe))
        rows.append((*(0.12 * radius * across), 0.26 * radius))
        return np.array(rows), 2


@dataclass(frozen=True)
class NoNucleus:
    """No nucleus: a platelet."""

    cup: Span = (0.0, 0.0)

    def discs(self, rng: Generator, radius: float) -> tuple[NDArray[np.floating], int]:
        """No discs (0, 3), no lobes."""
        del rng, radius
        return np.zeros((0, 3)), 0


Nucleus = RoundNucleus | ArcNucleus | LobedNucleus | PairedNucleus | NoNucleus


def _arc(
    angles: NDArray[np.floating], centre: tuple[float, float], bend: float, radii: NDArray[np.floating], turn: float
) -> NDArray[np.floating]:
    """(k, 3) discs along an arc of radius ``bend`` around ``centre``, turned by ``turn``."""
    at = angles + turn
    return np.stack([centre[0] + bend * np.sin(at), centre[1] + bend * np.cos(at), radii], axis=1)
