"""Pairs of drawn cells that differ in one attribute, part by part the same in all else."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from cytosae.cells.synthetic.domains import DOMAINS, Domain
from cytosae.cells.synthetic.draw import Drawing, Room, draw_kind, room_of
from cytosae.cells.synthetic.streams import own_streams
from cytosae.cells.synthetic.types import TYPES, CellType, Projections, Rods

Change = Callable[[CellType, Domain], tuple[CellType, Domain]]


@dataclass(frozen=True)
class PairedAttribute:
    """An attribute of which a drawn cell has little in one picture, and much in the other.

    Attributes
    ----------
    words : str
        As a sentence names it: "follows the number of lobes of the nucleus".
    about : {"cell", "image"}
        Whether it is the cell's, or how its picture came about.
    kinds : tuple of str
        Names of `TYPES`, drawn in turn.
    little, much : callable
        Set it in a kind of cell, or in the laboratory's picture of it.
    """

    words: str
    about: Literal["cell", "image"]
    kinds: tuple[str, ...]
    little: Change
    much: Change


def _cell(**fields: Any) -> Change:
    return lambda kind, domain: (replace(kind, **fields), domain)


def _nucleus(**fields: Any) -> Change:
    return lambda kind, domain: (replace(kind, nucleus=replace(kind.nucleus, **fields)), domain)


def _lobes(count: int, times: float) -> Change:
    """So many lobes, each so many times as wide as usual."""

    def change(kind: CellType, domain: Domain) -> tuple[CellType, Domain]:
        nucleus: Any = kind.nucleus
        radius = tuple(times * end for end in nucleus.radius)
        return replace(kind, nucleus=replace(nucleus, lobes=(count, count), radius=radius)), domain

    return change


def _wide(times: float) -> Change:
    """The whole cell, nucleus and all, so many times as wide."""
    return lambda kind, domain: (replace(kind, radius=(kind.radius[0] * times, kind.radius[1] * times)), domain)


def _blue(amount: float) -> Change:
    def change(kind: CellType, domain: Domain) -> tuple[CellType, Domain]:
        purple, _, pink, red = kind.cytoplasm
        return replace(kind, cytoplasm=(purple, amount, pink, red)), domain

    return change


def _granules(times: float) -> Change:
    def change(kind: CellType, domain: Domain) -> tuple[CellType, Domain]:
        layers = [
            replace(one, count=(round(one.count[0] * times), round(one.count[1] * times))) for one in kind.granules
        ]
        return replace(kind, granules=tuple(layers)), domain

    return change


def _picture(**fields: Any) -> Change:
    return lambda kind, domain: (kind, replace(domain, **fields))


def _as_it_is(kind: CellType, domain: Domain) -> tuple[CellType, Domain]:
    return kind, domain


def _dyed(times: float) -> Change:
    """All dyes so many times as strong."""
    return lambda kind, domain: (kind, _with_dyes(domain, [[times * d for d in dye] for dye in domain.dyes]))


def _coloured(kind: CellType, domain: Domain) -> tuple[CellType, Domain]:
    """The dyes of another laboratory on the same glass."""
    other = DOMAINS["violet" if domain.modelled_on != DOMAINS["violet"].modelled_on else "rose"]
    return kind, _with_dyes(domain, other.dyes)


def _with_dyes(domain: Domain, densities: Any) -> Domain:
    names = ("purple", "blue", "pink", "red")
    colours = [tuple(g * math.exp(-d) for g, d in zip(domain.glass, dye, strict=True)) for dye in densities]
    return replace(domain, **dict(zip(names, colours, strict=True)))


def _lit(times: float) -> Change:
    def change(kind: CellType, domain: Domain) -> tuple[CellType, Domain]:
        names = ("glass", "purple", "blue", "pink", "red")
        return kind, replace(domain, **{name: tuple(times * c for c in getattr(domain, name)) for name in names})

    return change


_LOBED = ("neutrophil_segmented", "eosinophil")
_ROUND = ("lymphocyte_large_granular", "myelocyte", "lymphocyte_reactive")
_BLASTS = ("myeloblast", "promyelocyte", "lymphocyte_reactive")
_ANY = ("lymphocyte", "neutrophil_segmented", "myeloblast", "monocyte")

PAIRED_ATTRIBUTES: dict[str, PairedAttribute] = {
    "nucleus_lobes": PairedAttribute(
        "the number of lobes of the nucleus", "cell", _LOBED, _lobes(2, 1.0), _lobes(4, 0.86)
    ),  # of equal area
    "nucleus_size": PairedAttribute(
        "the size of the nucleus", "cell", _ROUND, _nucleus(ratio=(0.50, 0.54)), _nucleus(ratio=(0.74, 0.78))
    ),
    "nucleus_place": PairedAttribute(
        "how far the nucleus is from the middle", "cell", ("plasma_cell", "myelocyte", "lymphocyte_large_granular"),
        _nucleus(shift=0.0), _nucleus(shift=0.42),
    ),
    "nucleus_cup": PairedAttribute(
        "a cup in the nucleus", "cell", _BLASTS, _nucleus(cup=(0.0, 0.0)), _nucleus(cup=(0.38, 0.42))
    ),
    "chromatin_contrast": PairedAttribute(
        "how coarse the chromatin is", "cell", _ANY,
        _cell(chromatin=0.12, channels=0.06), _cell(chromatin=0.50, channels=0.50),
    ),
    "chromatin_density": PairedAttribute(
        "how dark the chromatin is", "cell", _ANY, _cell(purple=0.62), _cell(purple=1.10)
    ),
    "nucleoli": PairedAttribute("nucleoli", "cell", _BLASTS, _cell(nucleoli=(0, 0)), _cell(nucleoli=(3, 3))),
    "cell_size": PairedAttribute("the size of the cell", "cell", _ANY, _wide(0.85), _wide(1.15)),
    "basophilia": PairedAttribute(
        "how blue the cytoplasm is", "cell", ("myelocyte", "lymphocyte_reactive", "monocyte"), _blue(0.10), _blue(0.85)
    ),
    "granules": PairedAttribute(
        "the number of granules", "cell", ("neutrophil_segmented", "neutrophil_band", "promyelocyte"),
        _granules(0.3), _granules(1.5),
    ),
    "vacuoles": PairedAttribute(
        "vacuoles", "cell", ("monocyte", "lymphocyte_reactive", "promyelocyte"),
        _cell(vacuoles=(0, 0)), _cell(vacuoles=(8, 8)),
    ),
    "auer_rods": PairedAttribute(
        "Auer rods", "cell", ("myeloblast_with_auer_rod", "promyelocyte"), _cell(rods=None),
        _cell(rods=Rods((2, 2), (11, 17))),
    ),
    "hof": PairedAttribute(
        "a pale zone beside the nucleus", "cell", ("promyelocyte", "plasma_cell", "lymphocyte_reactive"),
        _cell(hof=0.0), _cell(hof=0.6),
    ),
    "projections": PairedAttribute(
        "hairs of the border", "cell", ("hairy_cell", "lymphocyte"), _cell(projections=None),
        _cell(projections=Projections((30, 30), (3.0, 8.5), (0.75, 1.25), 0.8)),
    ),
    "surroundings": PairedAttribute(
        "the number of red cells around", "image", _ANY, _picture(crowding=8.0), _picture(crowding=80.0)
    ),
    "stain_strength": PairedAttribute("the strength of the stain", "image", _ANY, _dyed(0.8), _dyed(1.25)),
    "stain_colour": PairedAttribute("the colour of the stain", "image", _ANY, _as_it_is, _coloured),
    "light": PairedAttribute("the light of the microscope", "image", _ANY, _lit(0.85), _as_it_is),
    "blur": PairedAttribute("the focus of the image", "image", _ANY, _picture(blur=0.3), _picture(blur=1.6)),
}  # fmt: skip
"""What a pair can differ in; docs/atlas.md has little and much of each in words."""


def draw_pair(
    attribute: str, index: int, domain: Domain, seed: int, *, size: int = 128, difficulty: float = 0.5
) -> tuple[Drawing, Drawing]:
    """Draw one cell twice, with little and with much of one attribute.

    Every part (outline, chromatin, each kind of granule, other cells, light, noise) draws from a stream of its own,
    the same in both, and in the same room: parts that the attribute does not concern are equal but for what it hides.

    Parameters
    ----------
    attribute : str
        A name of `PAIRED_ATTRIBUTES`.
    index : int
        Of the pair: its cell's type and chance.
    domain, seed, size, difficulty : Domain, int, int, float
        See `draw_cell`.
    """
    asked = PAIRED_ATTRIBUTES[attribute]
    kind = TYPES[asked.kinds[index % len(asked.kinds)]]
    of = (seed, zlib.crc32(attribute.encode()), index)
    ends = [change(kind, domain) for change in (asked.little, asked.much)]
    needed = [room_of(one, own_streams(*of)) for one, _ in ends]
    room = Room(max(one.clear for one in needed), max(one.reach for one in needed))
    little, much = (
        draw_kind(one, shown, own_streams(*of), size=size, difficulty=difficulty, room=room) for one, shown in ends
    )
    return little, much
