"""Is a new patient like those that a classifier was fitted on? By mean tokens, by colour, by the number of cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from cytosae.cells.stain.colour import COLOUR_COLUMNS
from cytosae.cohort.design import Design

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Neighbourhood:
    """A Gaussian around training points, principal components of full variance and an even rest (probabilistic PCA).

    Attributes
    ----------
    centre : ndarray of float64, shape (D,)
    axes : ndarray of float64, shape (q, D)
        Orthonormal directions.
    variances : ndarray of float64, shape (q,)
        Along them.
    rest : float
        Variance in each of the other directions.
    limit : float
        Distance beyond which a point is outside.

    References
    ----------
    Tipping and Bishop 1999, Probabilistic principal component analysis.
    """

    centre: Array
    axes: Array
    variances: Array
    rest: float
    limit: float = np.inf

    def distances(self, points: Array) -> Array:
        """Mahalanobis distances [n] of points [n, D]."""
        away = points - self.centre
        along = away @ self.axes.T
        beside = np.maximum((away**2).sum(1) - (along**2).sum(1), 0)
        return np.sqrt((along**2 / self.variances).sum(1) + beside / self.rest)


class FamiliarFacts(TypedDict):
    """The plain values of a `Familiar`."""

    cells_least: int
    patients: int
    tokens_rest: float
    tokens_limit: float | None
    colours_rest: NotRequired[float]
    colours_limit: NotRequired[float | None]


@dataclass(frozen=True)
class Familiar:
    """What the training patients look like.

    Attributes
    ----------
    tokens : Neighbourhood
        Their mean tokens.
    colours : Neighbourhood or None
        Their mean colour statistics, None where none were given.
    colour_low, colour_high : ndarray of float64, shape (6,)
        Range of these.
    cells_least : int
        The fewest cells of a training patient.
    patients : int
        How many there were.
    """

    tokens: Neighbourhood
    colours: Neighbourhood | None
    colour_low: Array
    colour_high: Array
    cells_least: int
    patients: int

    def reasons(self, tokens: Array, colours: Array | None, n_cells: NDArray[np.integer]) -> list[list[str]]:
        """Why each new patient is outside, an empty list where it is not.

        Parameters
        ----------
        tokens : ndarray of float64, shape (P, D)
            Mean tokens.
        colours : ndarray of float64, shape (P, 6), or None
            Mean colour statistics, None to leave them out.
        n_cells : ndarray of int, shape (P,)
        """
        found: list[list[str]] = [[] for _ in n_cells]
        for mine, distance in zip(found, self.tokens.distances(tokens), strict=True):
            if distance > self.tokens.limit:
                mine.append(f"cells unlike those of training (distance {distance:.1f}, limit {self.tokens.limit:.1f})")
        if colours is not None and self.colours is not None:
            for mine, distance, colour in zip(found, self.colours.distances(colours), colours, strict=True):
                if distance > self.colours.limit:
                    mine.append(f"colours unlike those of training ({self._worst_colour(colour)})")
        for mine, n in zip(found, n_cells, strict=True):
            if n < self.cells_least:
                mine.append(f"{n} cells, fewer than any training patient had ({self.cells_least})")
        return found

    def _worst_colour(self, colour: Array) -> str:
        width = np.maximum(self.colour_high - self.colour_low, 1e-9)
        beyond = np.maximum(colour - self.colour_high, self.colour_low - colour) / width
        worst = int(beyond.argmax())
        if beyond[worst] <= 0:
            return "each within its range, but not in this combination"
        name = COLOUR_COLUMNS[worst].replace("_", " ")
        return f"{name} {colour[worst]:.0f}, training {self.colour_low[worst]:.0f} to {self.colour_high[worst]:.0f}"

    def to_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and plain values that `from_arrays` takes."""
        arrays = {"colour_low": self.colour_low, "colour_high": self.colour_high}
        facts: dict[str, Any] = {"cells_least": self.cells_least, "patients": self.patients}
        for name, part in (("tokens", self.tokens), ("colours", self.colours)):
            if part is not None:
                arrays |= {f"{name}_{field}": getattr(part, field) for field in ("centre", "axes", "variances")}
                facts |= {f"{name}_rest": part.rest, f"{name}_limit": part.limit}
        return {key: np.ascontiguousarray(value) for key, value in arrays.items()}, facts

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], facts: FamiliarFacts) -> Familiar:
        """The inverse of `to_arrays`."""

        def part(name: str) -> Neighbourhood:
            values = [arrays[f"{name}_{field}"] for field in ("centre", "axes", "variances")]
            limit = facts[f"{name}_limit"]  # JSON has no infinity
            return Neighbourhood(*values, rest=facts[f"{name}_rest"], limit=np.inf if limit is None else limit)

        return cls(
            tokens=part("tokens"),
            colours=part("colours") if "colours_centre" in arrays else None,
            colour_low=arrays["colour_low"],
            colour_high=arrays["colour_high"],
            cells_least=facts["cells_least"],
            patients=facts["patients"],
        )


def familiar(
    tokens: Array, colours: Array | None, n_cells: NDArray[np.integer], design: Design | None = None
) -> Familiar:
    """Describe training patients by mean tokens [P, D], mean colours [P, 6] (or None) and numbers of cells [P]."""
    return Familiar(
        tokens=neighbourhood(tokens, design),
        colours=None if colours is None else neighbourhood(colours, design),
        colour_low=np.zeros(0) if colours is None else colours.min(0),
        colour_high=np.zeros(0) if colours is None else colours.max(0),
        cells_least=int(n_cells.min()),
        patients=len(n_cells),
    )


def neighbourhood(points: Array, design: Design | None = None, *, parts: int = 20) -> Neighbourhood:
    """Fit to points [n, D]; the limit is the 99th percentile of the distances of points that were held out.

    Each of ``parts`` parts is held out once, patients who belong together in one. Up to 100 points the limit is the
    largest such distance, so that a patient of the same kind is outside with a probability of about 1 in n + 1.
    """
    held, everything = np.zeros(len(points)), _gaussian(points)
    split = (design or Design(np.zeros(len(points), dtype=np.intp))).parts(parts)
    if len(points) < 3 or len(split) < 2:
        return everything
    for part in split:
        held[part] = _gaussian(np.delete(points, part, axis=0)).distances(points[part])
    limit = float(np.quantile(held, 0.99, method="higher"))
    return Neighbourhood(everything.centre, everything.axes, everything.variances, everything.rest, limit)


def _gaussian(points: Array) -> Neighbourhood:
    n, D = points.shape
    centre = points.mean(0)
    _, singular, axes = np.linalg.svd(points - centre, full_matrices=False)
    variances = singular**2 / max(n - 1, 1)
    total = max(float(variances.sum()), 1e-12)
    enough = int(np.searchsorted(np.cumsum(variances) / total, 0.9)) + 1
    # A fifth as many directions as patients at most: their variances must be known.
    q = int(np.clip(min(enough, n // 5), 1, len(variances)))
    rest = float(variances[q:].sum()) / max(D - q, 1)
    rest = max(rest, 1e-6 * total / D)
    return Neighbourhood(centre, axes[:q], np.maximum(variances[:q], rest), rest)
