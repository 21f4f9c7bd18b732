"""Where a concept looks, beside where it lights up: what goes from its activation with parts of the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cytosae.views.concept_names import name_of
from cytosae.views.opened_dataset import OpenedAtlas
from cytosae.views.page_parts import Number, known, text

if TYPE_CHECKING:
    from cytosae.atlas.gaze import Gaze

CLEARLY = 0.2
"""Share of the activation by which painting out what a map marks has to take more than painting elsewhere."""


@dataclass(frozen=True)
class GazedCell:
    """One reference cell: patches painted out, and the share of the activation that goes, or is left, each time.

    ``random`` and ``in_cell`` are means with the least and the most of several draws; ``in_cell`` is empty where the
    cell has fewer patches. ``without`` and ``alone`` are pictures as addresses, where they are shown.
    """

    cell: str
    label: str | None
    patches: int
    marked: float
    random: Number
    in_cell: Number
    left: float
    without: str = ""
    alone: str = ""


@dataclass(frozen=True)
class GazePage:
    """Where a concept looks; ``verdict`` first, ``numbers`` are means over the cells."""

    dataset: str
    latent: int
    name: str
    verdict: str
    numbers: str
    caution: str
    cells: tuple[GazedCell, ...]


def view_of_gaze(atlas: OpenedAtlas, latent: int, found: Mapping[str, Gaze]) -> GazePage:
    """Gather what painting says of a concept.

    Parameters
    ----------
    atlas : OpenedAtlas
        Where names and labels come from.
    latent : int
        The concept.
    found : mapping of str to Gaze
        Cell to what was found on it (`cytosae.atlas.where_it_looks`).
    """
    gazes = list(found.values())
    verdict, numbers = _said(gazes)
    place = text(atlas.fact(latent, "lives_in")) if "lives_in" in atlas.var else None
    caution = (
        "The concept lives in the background, and parts are painted over with background of the same image: that "
        "little of it goes says nothing here."
        if place == "background" and gazes
        else ""
    )
    cells = tuple(
        GazedCell(
            cell, atlas.labels[cell], one.patches, one.marked, _number(one.random), _number(one.in_cell), one.left
        )
        for cell, one in found.items()
    )
    return GazePage(atlas.name, latent, name_of(atlas, latent), verdict, numbers, caution, cells)


def _said(gazes: list[Gaze]) -> tuple[str, str]:
    if not gazes:
        return "The concept is active on no patch of its reference cells, so that there is nothing to paint out.", ""
    marked, random, left = (float(np.mean([getattr(g, n) for g in gazes])) for n in ("marked", "random", "left"))
    of_cells = [float(g.in_cell.mean()) for g in gazes if len(g.in_cell)]
    in_cell = float(np.mean(of_cells)) if of_cells else None
    elsewhere = max(random, in_cell if in_cell is not None else random)
    if marked - elsewhere >= CLEARLY:
        verdict = (
            "It looks where it lights up: what its map marks matters more than other parts of the cell and the image."
        )
        if in_cell is None:
            verdict = (
                "It looks where it lights up, rather than elsewhere in the image; the cell has too few other patches."
            )
    else:
        verdict = "Its map does not say where it looks: painting elsewhere takes about as much of it away."
    cell = "" if in_cell is None else f"as many random patches of the cell {_percent(in_cell)}, "
    numbers = (
        f"Painting out what its map marks takes {_percent(marked)} of its activation away, {cell}as many random "
        f"patches of the image {_percent(random)}. With all else painted out, {_percent(left)} is left."
    )
    return verdict, numbers


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def _number(draws: NDArray[np.float64]) -> Number:
    if not len(draws):
        return Number(None)
    return Number(known(draws.mean()), known(draws.min()), known(draws.max()))
