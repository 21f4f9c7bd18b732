"""Laboratories: stain, camera and magnification."""

from __future__ import annotations

from dataclasses import dataclass

from cytosae.common.errors import UsageError


@dataclass(frozen=True)
class Domain:
    """How one laboratory's smears look.

    Attributes
    ----------
    background : RGB of empty glass, 0..1
    stain : exponent of the transmittance in R, G, B; above 1 is a stronger stain
    red_cells : transmittance of red cells in R, G, B
    crowding : mean number of red cells in a 128 px image
    zoom : magnification relative to the reference
    blur : Gaussian blur in px of a 128 px image
    noise : standard deviation of camera noise, 0..1
    """

    background: tuple[float, float, float] = (0.995, 0.905, 0.795)
    stain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    red_cells: tuple[float, float, float] = (0.76, 0.71, 0.78)
    crowding: float = 26
    zoom: float = 1.0
    blur: float = 0.55
    noise: float = 0.010


DOMAINS = {
    "reference": Domain(),
    "violet": Domain((0.93, 0.91, 0.95), (0.95, 0.95, 0.75), (0.86, 0.72, 0.74), 26, 1.15, 0.75, 0.014),
    "rapid": Domain((0.97, 0.93, 0.74), (0.85, 0.80, 1.05), (0.86, 0.80, 0.72), 14, 1.3, 0.95, 0.018),
    "pale": Domain((0.95, 0.95, 0.93), (0.70, 0.68, 0.62), (0.90, 0.77, 0.75), 20, 0.9, 0.65, 0.010),
}


def find_domain(name: str) -> Domain:
    """Preset of that name."""
    if name not in DOMAINS:
        raise UsageError(f"there is no domain {name!r}; choose one of: {', '.join([*DOMAINS, 'mixed'])}.")
    return DOMAINS[name]
