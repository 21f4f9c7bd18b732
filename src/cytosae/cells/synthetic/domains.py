"""Laboratories: stain, camera and magnification."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from numpy.random import Generator

from cytosae.common.errors import UsageError

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Domain:
    """How one laboratory's smears look.

    Attributes
    ----------
    glass : Colour
        RGB of empty glass, 0..255.
    purple, blue, pink, red : Colour
        RGB, 0..255, of one unit of each dye on that glass: chromatin of a mature nucleus, strongly basophilic
        cytoplasm, granules of an eosinophil, a red cell.
    zoom : float
        Magnification relative to the reference.
    crowding : float
        Mean number of red cells tried in a 128 px image at zoom 1.
    blur : float
        Gaussian blur in units of a 128 px image.
    sharpening : float
        Strength of the camera's unsharp mask.
    noise : float
        Standard deviation of the camera's noise, 0..1.
    jpeg : int
        Quality of the JPEG that the camera wrote, 1..95.
    tint : float
        Standard deviation of the glass's colour between smears, share of its blue.
    modelled_on : str
        The real data set whose colours were measured.
    """

    glass: Colour = (255, 230, 204)
    purple: Colour = (71, 28, 133)
    blue: Colour = (112, 110, 162)
    pink: Colour = (194, 116, 124)
    red: Colour = (205, 165, 168)
    zoom: float = 0.9
    crowding: float = 52
    blur: float = 0.42
    sharpening: float = 0.7
    noise: float = 0.008
    jpeg: int = 90
    tint: float = 0.012
    modelled_on: str = "acevedo"

    def density(self, colour: Colour) -> tuple[float, ...]:
        """Optical density of a colour on this glass in R, G, B."""
        return tuple(-math.log(max(c, 1) / g) for c, g in zip(colour, self.glass, strict=True))

    @property
    def dyes(self) -> tuple[tuple[float, ...], ...]:
        """Optical densities (R, G, B) of one unit of purple, blue, pink and red."""
        return tuple(self.density(colour) for colour in (self.purple, self.blue, self.pink, self.red))


DOMAINS: dict[str, Domain] = {
    "reference": Domain(),
    "rose": Domain(
        purple=(84, 36, 131), blue=(112, 102, 156), pink=(183, 98, 118), red=(188, 137, 150),
        zoom=1.0, crowding=50, jpeg=88, modelled_on="apl_cohort",
    ),
    "violet": Domain(
        glass=(231, 225, 233), purple=(74, 30, 152), blue=(100, 112, 190), pink=(196, 124, 160), red=(196, 174, 196),
        zoom=0.95, crowding=52, blur=0.6, sharpening=0.3, jpeg=85, modelled_on="acevedo (its second camera)",
    ),
    "blue": Domain(
        glass=(206, 207, 203), purple=(116, 90, 205), blue=(128, 148, 196), pink=(190, 124, 148), red=(176, 142, 156),
        zoom=1.55, crowding=50, blur=1.35, sharpening=0.2, noise=0.012, jpeg=75, modelled_on="bccd_cells",
    ),
    "rapid": Domain(
        glass=(255, 253, 166), purple=(98, 26, 92), blue=(140, 106, 108), pink=(182, 92, 92), red=(243, 240, 158),
        zoom=1.5, crowding=20, blur=0.85, sharpening=0.3, noise=0.012, jpeg=92, tint=0.24, modelled_on="tecom_wbc",
    ),
    "purple": Domain(
        glass=(253, 226, 202), purple=(90, 38, 130), blue=(128, 108, 156), pink=(184, 108, 138), red=(202, 150, 158),
        zoom=1.2, crowding=50, blur=0.45, sharpening=0.6, jpeg=92, modelled_on="cellavision_wbc",
    ),
}  # fmt: skip
"""Presets; colours are medians measured on real smears (docs/synthetic.md)."""


def find_domain(name: str) -> Domain:
    """Preset of that name."""
    if name not in DOMAINS:
        raise UsageError(f"there is no domain {name!r}; choose one of: {', '.join([*DOMAINS, 'mixed'])}.")
    return DOMAINS[name]


def vary_domain(domain: Domain, rng: Generator, strength: float) -> Domain:
    """One smear of a laboratory: dyes stronger or weaker, another tint, another focus; ``strength`` 1 is usual."""
    glass = [min(g * math.exp(strength * s * z), 255.0) for g, s, z in zip(
        domain.glass, (0.004, 0.008, domain.tint), rng.standard_normal(3).tolist(), strict=True)]  # fmt: skip
    shared = 0.06 * strength * float(rng.standard_normal())
    dyes = []
    for density in domain.dyes:
        amount = math.exp(shared + 0.08 * strength * float(rng.standard_normal()))
        dyes.append(tuple(g * math.exp(-amount * d) for g, d in zip(glass, density, strict=True)))
    return replace(
        domain,
        glass=tuple(glass),
        purple=dyes[0],
        blue=dyes[1],
        pink=dyes[2],
        red=dyes[3],
        zoom=domain.zoom * math.exp(0.02 * strength * float(rng.standard_normal())),
        crowding=domain.crowding * math.exp(0.25 * strength * float(rng.standard_normal())),
        blur=domain.blur * math.exp(0.15 * strength * float(rng.standard_normal())),
    )
