"""Concepts by class: of all that are asked for, those that are most selective for each class, in the classes' order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytosae.atlas.meaning.concept_choice import ENOUGH_CELLS
from cytosae.views.concepts.concept_names import name_of
from cytosae.views.parts.opened_dataset import OpenedAtlas
from cytosae.views.parts.page_parts import Number, series, spread

ROWS = 48
"""Most rows, and most classes: what can still be read."""


@dataclass(frozen=True)
class HeatClass:
    """A column: a class, and how many cells of it there are."""

    name: str
    cells: int


@dataclass(frozen=True)
class HeatRow:
    """A concept: its mean activation on each class as a share of its largest, which is that on ``top_class``.

    ``cells`` are those on which it is active.
    """

    latent: int
    name: str
    top_class: str
    cells: int
    shares: tuple[float, ...]
    selectivity: float


@dataclass(frozen=True)
class ClassHeat:
    """The concepts that are most selective for each class, at most ``each`` of a class.

    Those that are active on fewer than ``enough`` cells count for as much less. ``left_out`` classes have fewer cells
    than those that are shown. ``random`` is the selectivity (median, lowest, highest) of as many latents of random
    weights, the most selective of a whole SAE of them whatever their class, chosen alike; None where there are none.
    """

    classes: tuple[HeatClass, ...]
    rows: tuple[HeatRow, ...]
    each: int
    left_out: int
    random: Number | None
    enough: int = ENOUGH_CELLS


def heat_of(atlas: OpenedAtlas, keep: NDArray[np.bool_]) -> ClassHeat:
    """Of the live latents that are kept, those that tell most of each class (`OpenedAtlas.by_class`)."""
    names = [str(name) for name in atlas.atlas.uns["classes"]]
    cells = np.asarray(atlas.atlas.uns["class_cells"], int)
    there = np.flatnonzero(cells)
    columns = np.sort(there[np.argsort(-cells[there], kind="stable")[:ROWS]])
    order, of_class = (array[keep[atlas.by_class[0]]] for array in atlas.by_class)
    ends = [np.searchsorted(of_class, column, side) for column in columns for side in ("left", "right")]
    groups = [order[start:stop] for start, stop in zip(ends[::2], ends[1::2], strict=True) if start < stop]
    each = ROWS // max(len(groups), 1)
    chosen = [int(row) for own in groups for row in own[:each]]
    latents = [int(latent) for latent in atlas.live.index.to_numpy()[chosen]]
    means = np.nan_to_num(np.asarray(atlas.atlas.varm["class_mean"])[atlas.var.index.get_indexer(latents)])
    shares = means / np.maximum(means.max(axis=1, keepdims=True, initial=0), np.finfo(np.float32).tiny)
    rows = tuple(_row(atlas, latent, shown) for latent, shown in zip(latents, shares[:, columns], strict=True))
    best = atlas.random_selectivity[: len(rows)]
    random = spread(best) if len(best) else None
    shown = tuple(HeatClass(names[column], int(cells[column])) for column in columns)
    return ClassHeat(shown, rows, each, len(there) - len(columns), random)


def _row(atlas: OpenedAtlas, latent: int, shares: NDArray[np.floating]) -> HeatRow:
    row = atlas.row(latent)
    selectivity = float(f"{row['class_selectivity']:.3g}")
    cells = int(row["cells_active"])
    return HeatRow(latent, name_of(atlas, latent), str(row["top_class"]), cells, series(shares, digits=3), selectivity)
