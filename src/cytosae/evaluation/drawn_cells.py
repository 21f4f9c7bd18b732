"""Drawn cells for the benchmark: as many of every type, of all laboratories, with tokens and the truth on patches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cytosae.cells.focus.patch_grid import Grid, patch_areas
from cytosae.cells.synthetic import DOMAINS, STRUCTURES, TYPES, Drawing, draw_cell, structure_mask
from cytosae.common.progress import progress

if TYPE_CHECKING:
    from cytosae.backbones import AnyBackbone

COVER = 0.1
"""Share of a patch that a structure covers from which on the patch shows it."""
BATCH = 32


@dataclass(frozen=True)
class KeptTokens:
    """Tokens of n cells in one file, read piece by piece.

    Attributes
    ----------
    path : Path
        An .npy file, float16 [n, T, D].
    """

    path: Path

    def __len__(self) -> int:
        return len(np.load(self.path, mmap_mode="r"))

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Float32 tokens [stop - start, T, D]."""
        return torch.from_numpy(np.asarray(np.load(self.path, mmap_mode="r")[start:stop], np.float32))


@dataclass(frozen=True)
class DrawnCells:
    """Drawn cells and what is true of them.

    Attributes
    ----------
    tokens : KeptTokens
        Of the cells.
    shows : ndarray of bool, shape (n, P, S)
        Patches in which a structure covers `COVER` or more.
    structures : tuple of str
        The S names.
    attributes : DataFrame
        One row a cell.
    labels, domains : tuple of str
        Type and laboratory of each.
    """

    tokens: KeptTokens
    shows: NDArray[np.bool_]
    structures: tuple[str, ...]
    attributes: pd.DataFrame
    labels: tuple[str, ...]
    domains: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def halves(self, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows to choose units on, and rows to score them on; every type is in both (where two of it were drawn)."""
        rng = np.random.default_rng([seed, 2])
        first = np.zeros(len(self), bool)
        labels = np.array(self.labels)
        for turn, label in enumerate(sorted(set(self.labels))):
            here = rng.permutation(np.flatnonzero(labels == label))
            first[here[: (len(here) + turn % 2) // 2]] = True
        return np.flatnonzero(first), np.flatnonzero(~first)


def draw_benchmark(
    backbone: AnyBackbone, folder: Path, *, cells: int, seed: int, difficulty: float, size: int = 128
) -> DrawnCells:
    """Draw cells of all types and laboratories in turn, and make their tokens.

    Parameters
    ----------
    backbone : AnyBackbone
        Makes tokens [b, T, D].
    folder : Path
        For the file of tokens.
    cells : int
        n.
    seed, difficulty, size : int, float, int
        Of the drawings, see `draw_cell`.
    """
    path = folder / "drawn.npy"
    shape = (cells, backbone.n_tokens, backbone.width)
    kept = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    shows = np.empty((cells, math.prod(backbone.grid), len(STRUCTURES)), bool)
    attributes, chosen = [], [_type_and_domain(i) for i in range(cells)]
    with progress("Drawing cells", cells, "cells") as bar:
        for start in range(0, cells, BATCH):
            drawings = [
                draw_cell(label, DOMAINS[domain], np.random.default_rng([seed, i]), size=size, difficulty=difficulty)
                for i, (label, domain) in enumerate(chosen[start : start + BATCH], start)
            ]
            kept[start : start + len(drawings)] = backbone(backbone.prepare([d.image for d in drawings])).cpu().numpy()
            for i, drawing in enumerate(drawings, start):
                shows[i] = patches_showing(drawing, backbone.grid)
                attributes.append(drawing.attributes)
            bar.advance(len(drawings))
    kept.flush()
    labels, domains = zip(*chosen, strict=True)
    return DrawnCells(KeptTokens(path), shows, tuple(STRUCTURES), pd.DataFrame(attributes), labels, domains)


def patches_showing(drawing: Drawing, grid: Grid) -> NDArray[np.bool_]:
    """[P, S] which patches of a grid show each structure."""
    masks = [structure_mask(drawing.structures, name).astype(np.uint8) for name in STRUCTURES]
    return np.stack([patch_areas(mask, 1, grid).ravel() >= COVER - 1e-6 for mask in masks], axis=1)


def _type_and_domain(index: int) -> tuple[str, str]:
    labels, domains = list(TYPES), list(DOMAINS)
    # the next laboratory with every round, so that each type meets them all
    return labels[index % len(labels)], domains[(index // len(labels) + index) % len(domains)]
