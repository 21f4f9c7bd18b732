"""Where a concept or a decision looks, beside where it lights up: what goes with parts of the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cytosae.views.concepts.concept_names import name_of
from cytosae.views.parts.opened_dataset import OpenedAtlas
from cytosae.views.parts.page_parts import Number, known, text

if TYPE_CHECKING:
    from cytosae.atlas.explaining.gaze import Gaze
    from cytosae.cohort.explanation.patient_explanation import PatientExplanation

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
    """Where a concept or a decision looks; ``verdict`` first, ``numbers`` are means over the cells.

    Of a concept ``latent`` is known, of a patient's decision ``patient``.
    """

    dataset: str
    latent: int | None
    patient: str | None
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
    verdict, numbers = _said(gazes, CONCEPT)
    place = text(atlas.fact(latent, "lives_in")) if "lives_in" in atlas.var else None
    caution = (
        "The concept lives in the background, and parts are painted over with background of the same image: that "
        "little of it goes says nothing here."
        if place == "background" and gazes
        else ""
    )
    return GazePage(atlas.name, latent, None, name_of(atlas, latent), verdict, numbers, caution, _cells(atlas, found))


def view_of_decision_gaze(atlas: OpenedAtlas, explanation: PatientExplanation, found: Mapping[str, Gaze]) -> GazePage:
    """Gather what painting says of a patient's decision; as `view_of_gaze`."""
    verdict, numbers = _said(list(found.values()), DECISION)
    name = f"{explanation.patient}: {explanation.target}"
    return GazePage(atlas.name, None, explanation.patient, name, verdict, numbers, "", _cells(atlas, found))


def _cells(atlas: OpenedAtlas, found: Mapping[str, Gaze]) -> tuple[GazedCell, ...]:
    return tuple(
        GazedCell(
            cell, atlas.labels[cell], one.patches, one.marked, _number(one.random), _number(one.in_cell), one.left
        )
        for cell, one in found.items()
    )


@dataclass(frozen=True)
class _Words:
    """How what is watched is spoken of."""

    none: str
    looks: str
    does_not: str
    part: str


CONCEPT = _Words(
    "The concept is active on no patch of its reference cells, so that there is nothing to paint out.",
    "It looks where it lights up",
    "Its map does not say where it looks",
    "its activation",
)
DECISION = _Words(
    "None of these cells speaks for the decision by a patch, so that there is nothing to paint out.",
    "The decision looks where its map lies",
    "The map of the decision does not say where it looks",
    "what these cells add to it",
)


def _said(gazes: list[Gaze], words: _Words) -> tuple[str, str]:
    if not gazes:
        return words.none, ""
    marked, random, left = (float(np.mean([getattr(g, n) for g in gazes])) for n in ("marked", "random", "left"))
    of_cells = [float(g.in_cell.mean()) for g in gazes if len(g.in_cell)]
    in_cell = float(np.mean(of_cells)) if of_cells else None
    elsewhere = max(random, in_cell if in_cell is not None else random)
    if marked - elsewhere >= CLEARLY:
        verdict = f"{words.looks}: what its map marks matters more than other parts of the cell and the image."
        if in_cell is None:
            verdict = f"{words.looks}, rather than elsewhere in the image; the cell has too few other patches."
    else:
        verdict = f"{words.does_not}: painting elsewhere takes about as much of it away."
    cell = "" if in_cell is None else f"as many random patches of the cell {_percent(in_cell)}, "
    numbers = (
        f"Painting out what its map marks takes {_percent(marked)} of {words.part} away, {cell}as many random "
        f"patches of the image {_percent(random)}. With all else painted out, {_percent(left)} is left."
    )
    return verdict, numbers


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def _number(draws: NDArray[np.float64]) -> Number:
    if not len(draws):
        return Number(None)
    return Number(known(draws.mean()), known(draws.min()), known(draws.max()))
