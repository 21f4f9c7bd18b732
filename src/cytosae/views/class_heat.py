"""Concepts by class: of all that are asked for, those that are most selective for each class, in the classes' order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.atlas.concept_choice import ENOUGH_CELLS
from cytosae.views.concept_names import name_of
from cytosae.views.opened_dataset import OpenedAtlas
from cytosae.views.page_parts import Number, series

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
    """Of the live latents that are kept, those that tell most of each class.

    Ordered by class, then by class selectivity times min(1, active cells / 20): what is on three cells is all of one
    class by chance.
    """
    names = [str(name) for name in atlas.atlas.uns["classes"]]
    cells = np.asarray(atlas.atlas.uns["class_cells"], int)
    there = np.flatnonzero(cells)
    columns = np.sort(there[np.argsort(-cells[there], kind="stable")[:ROWS]])
    live = atlas.live
    active = live["cells_active"].to_numpy(float)
    score = _score(live)
    of_class = np.asarray(pd.Categorical(live["top_class"], categories=names).codes)
    able = np.flatnonzero(keep & np.isfinite(score))
    groups = [own for column in columns if len(own := able[of_class[able] == column])]
    each = ROWS // max(len(groups), 1)
    chosen = [row for own in groups for row in own[np.argsort(-score[own], kind="stable")[:each]].tolist()]
    latents = live.index.to_numpy()[chosen]
    means = np.nan_to_num(np.asarray(atlas.atlas.varm["class_mean"])[atlas.var.index.get_indexer(latents)])
    shares = means / np.maximum(means.max(axis=1, keepdims=True, initial=0), np.finfo(np.float32).tiny)
    return ClassHeat(
        tuple(HeatClass(names[column], int(cells[column])) for column in columns),
        tuple(
            HeatRow(
                latent=int(latent),
                name=name_of(atlas, int(latent)),
                top_class=names[of_class[row]],
                cells=int(active[row]),
                shares=series(shares[i, columns], digits=3),
                selectivity=float(f"{live['class_selectivity'].iat[row]:.3g}"),
            )
            for i, (row, latent) in enumerate(zip(chosen, latents, strict=True))
        ),
        each,
        len(there) - len(columns),
        _most_selective(atlas.random, len(chosen)),
    )


def _score(table: pd.DataFrame) -> NDArray[np.float64]:
    """Class selectivity, less where a latent is on too few cells for it to be known."""
    enough = np.minimum(1, table["cells_active"].to_numpy(float) / ENOUGH_CELLS)
    return table["class_selectivity"].to_numpy(float) * enough


def _most_selective(random: pd.DataFrame | None, n: int) -> Number | None:
    """Class selectivity of the ``n`` most selective latents of random weights."""
    if random is None or n == 0:
        return None
    score = _score(random)
    able = np.flatnonzero(np.isfinite(score))
    best = random["class_selectivity"].to_numpy(float)[able[np.argsort(-score[able], kind="stable")[:n]]]
    return Number(float(np.median(best)), float(best.min()), float(best.max())) if len(best) else None
