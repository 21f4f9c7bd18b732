"""One concept in depth: cells from its strongest to its weakest, who has it, what goes with it, where it lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cytosae.reviews.comments import Comment
from cytosae.views.concepts.concept_evidence_view import EvidencePage, KnownOfConcept
from cytosae.views.concepts.concept_names import headline, name_of, reference_ids
from cytosae.views.concepts.concept_view import atlas_facts
from cytosae.views.parts.opened_dataset import PROFILED, OpenedAtlas
from cytosae.views.parts.page_parts import Definition, Fact, Number, define, known, text

if TYPE_CHECKING:
    from cytosae.atlas.stored.latent_columns import Columns

BANDS = (1.0, 0.9, 0.75, 0.5, 0.25, 0.0)
"""Edges of the bands of activation from which examples are shown, as quantiles of the cells that have the concept."""
EXAMPLES = 8
NEIGHBOURS = 8
TOGETHER = 128
"""Cells from which co-activation is read: those on which the concept is strongest."""
HISTOGRAM = 30
FEWEST = 5
"""Cells of a value from which on a profile has a bar for it."""
LISTED_PATIENTS = 24
Z = 1.96


@dataclass(frozen=True)
class Example:
    """A cell that has the concept: its mean activation."""

    cell: str
    label: str | None
    value: float


@dataclass(frozen=True)
class Band:
    """Some cells from a band of activation, evenly spread, and how many cells are in it."""

    words: str
    low: float
    high: float
    cells: int
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class ProfileBar:
    """Cells of one value (a class, a patient): how many, the share that has the concept, its mean activation."""

    name: str
    cells: int
    share: Number
    mean: float | None


@dataclass(frozen=True)
class Profile:
    """Who has the concept, by one column of the cells; ``left_out`` values have too few cells or are too many."""

    column: str
    words: str
    bars: tuple[ProfileBar, ...]
    left_out: int = 0


@dataclass(frozen=True)
class Neighbour:
    """Another concept and how near it is, from 0 to 1."""

    latent: int
    name: str
    nearness: float
    references: tuple[str, ...]


@dataclass(frozen=True)
class Elsewhere:
    """The same latent on another data set."""

    dataset: str
    frequency: float | None
    mean: float | None
    top_class: str | None
    references: tuple[str, ...]


@dataclass(frozen=True)
class ConceptPage:
    """A concept; ``previous`` and ``next`` by number among the latents that are active.

    ``known`` is what steps of the study have measured, ``evidence`` and ``gaze`` what was computed on demand before.
    """

    dataset: str
    datasets: tuple[str, ...]
    latent: int
    name: str
    headline: str
    references: tuple[Example, ...]
    bands: tuple[Band, ...]
    facts: tuple[Fact, ...]
    more: tuple[Fact, ...]
    histogram: tuple[int, ...]
    histogram_ends: tuple[float, float]
    profiles: tuple[Profile, ...]
    alike: tuple[Neighbour, ...]
    together: tuple[Neighbour, ...]
    elsewhere: tuple[Elsewhere, ...]
    previous: int | None
    next: int | None
    has_maps: bool
    absent: str = ""
    known: KnownOfConcept = field(default_factory=lambda: KnownOfConcept((), ()))
    evidence: EvidencePage | None = None
    gaze: str | None = None
    comments: tuple[Comment, ...] = ()
    definitions: tuple[Definition, ...] = field(
        default_factory=lambda: define(
            *("Cells active", "Mean activation", "Mean activation of a cell", "Reference cells", "Label entropy"),
            *("Class selectivity", "Position dependence", "Central share", "Usefulness"),
        )
    )


def view_of_concept(
    atlas: OpenedAtlas,
    columns: Columns,
    latent: int,
    *,
    directions: NDArray[np.float32] | None = None,
    others: Sequence[OpenedAtlas] = (),
    has_maps: bool = False,
) -> ConceptPage:
    """Gather all that the atlas tells of a latent.

    Parameters
    ----------
    atlas : OpenedAtlas
        The data set.
    columns : Columns
        The same atlas by latent.
    latent : int
        A latent of the atlas.
    directions : ndarray of float32, shape (m, d), or None
        Decoder rows of all latents, each of length 1, where the SAE is at hand.
    others : sequence of OpenedAtlas
        Other data sets of the same SAE.
    has_maps : bool
        Whether maps can be computed.
    """
    rows, values = columns.of(latent)
    order = np.argsort(-values, kind="stable")
    few, more = atlas_facts(atlas, latent)
    cells = reference_ids(atlas, latent)
    live = atlas.live.index.to_numpy()
    at = int(np.searchsorted(live, latent))
    beyond = at + 1 if at < len(live) and live[at] == latent else at
    counts, edges = np.histogram(np.log10(values), HISTOGRAM) if len(values) else (np.zeros(HISTOGRAM), [0, 1])
    return ConceptPage(
        dataset=atlas.name,
        datasets=(atlas.name, *(other.name for other in others)),
        latent=latent,
        name=name_of(atlas, latent),
        headline=headline([atlas.labels[cell] for cell in cells]),
        references=tuple(_reference_examples(atlas, latent)),
        bands=_bands(atlas, rows[order], values[order]),
        facts=few,
        more=more,
        histogram=tuple(int(count) for count in counts),
        histogram_ends=(float(10.0 ** edges[0]), float(10.0 ** edges[-1])),
        profiles=tuple(_profiles(atlas, rows, values)),
        alike=_alike(atlas, latent, directions),
        together=_together(atlas, columns, latent, rows[order[:TOGETHER]]),
        elsewhere=tuple(_elsewhere(other, latent) for other in others),
        previous=int(live[at - 1]) if at > 0 else None,
        next=int(live[beyond]) if beyond < len(live) else None,
        has_maps=has_maps,
        absent=atlas.absent,
    )


def profile_of(
    values: NDArray[np.float32], codes: NDArray[np.integer], cells: NDArray[np.integer], names: Sequence[str]
) -> list[ProfileBar]:
    """Who has a concept, by group.

    Parameters
    ----------
    values : ndarray of float, shape (n,)
        Mean activation of the cells on which it is active, and of others if one likes.
    codes : ndarray of int, shape (n,)
        Group of each of them, -1 for none.
    cells : ndarray of int, shape (G,)
        Cells of each group in all.
    names : sequence of str
        Names of the G groups.

    Returns
    -------
    list of ProfileBar
        Of each group with cells; the share with its Wilson interval at 95%, the mean over all its cells.
    """
    grouped = codes >= 0
    active = np.bincount(codes[grouped], values[grouped] > 0, minlength=len(names))
    sums = np.bincount(codes[grouped], values[grouped], minlength=len(names))
    return [
        ProfileBar(name, n, wilson(int(a), n), float(f"{total / n:.4g}"))
        for name, n, a, total in zip(names, cells.tolist(), active.tolist(), sums.tolist(), strict=True)
        if n
    ]


def wilson(successes: int, n: int) -> Number:
    """A share with its 95% interval (Wilson 1927)."""
    p = successes / n
    middle = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return Number(p, max(0.0, middle - half), min(1.0, middle + half))


def _reference_examples(atlas: OpenedAtlas, latent: int) -> list[Example]:
    reference = atlas.atlas.uns["reference_cells"]
    cells = reference_ids(atlas, latent)
    return [
        Example(cell, atlas.labels[cell], float(value))
        for cell, value in zip(cells, reference["values"][latent], strict=False)
    ]


def _bands(atlas: OpenedAtlas, rows: NDArray[np.integer], values: NDArray[np.float32]) -> tuple[Band, ...]:
    """Examples from the cells that have the concept, the strongest first."""
    bands, n = [], len(rows)
    for high, low in pairwise(BANDS):
        start, stop = round((1 - high) * n), round((1 - low) * n)
        if start == stop:
            continue
        spread = np.unique(np.linspace(start, stop - 1, min(EXAMPLES, stop - start)).round().astype(int))
        names = [str(atlas.atlas.obs_names[rows[i]]) for i in spread]
        examples = tuple(Example(c, atlas.labels[c], float(values[i])) for c, i in zip(names, spread, strict=True))
        words = f"{100 * (1 - high):.0f} to {100 * (1 - low):.0f}% of the cells that have it, strongest first"
        bands.append(Band(words, float(values[stop - 1]), float(values[start]), stop - start, examples))
    return tuple(bands)


def _profiles(atlas: OpenedAtlas, rows: NDArray[np.integer], values: NDArray[np.float32]) -> list[Profile]:
    found = []
    for name, (codes, names) in atlas.groups.items():
        bars = profile_of(values, codes[rows], atlas.group_sizes[name], names)
        enough = sorted((bar for bar in bars if bar.cells >= FEWEST), key=lambda bar: -(bar.mean or 0))
        shown = enough[:LISTED_PATIENTS]
        title = PROFILED.get(name) or name.replace("_", " ").capitalize()
        found.append(Profile(name, title, tuple(shown), len(bars) - len(shown)))
    return [profile for profile in found if len(profile.bars) > 1]


def _alike(atlas: OpenedAtlas, latent: int, directions: NDArray[np.float32] | None) -> tuple[Neighbour, ...]:
    return () if directions is None else _nearest(atlas, latent, directions @ directions[latent])


def _together(
    atlas: OpenedAtlas, columns: Columns, latent: int, strongest: NDArray[np.integer]
) -> tuple[Neighbour, ...]:
    """Latents that are active on the cells where this one is ``strongest``, by row, more often than elsewhere.

    Nearness is (share of these cells that have the other - its share of all cells) / (1 - the latter), as in kappa.
    """
    if not len(strongest):
        return ()
    there = columns.count_on(np.sort(strongest)) / len(strongest)
    usual = np.zeros(atlas.atlas.n_vars)
    usual[atlas.var.index.to_numpy()] = atlas.var["activation_frequency"].to_numpy(float)
    return _nearest(atlas, latent, np.where(usual < 0.95, (there - usual) / (1 - usual + 1e-9), 0))


def _nearest(atlas: OpenedAtlas, latent: int, nearness: NDArray[np.floating]) -> tuple[Neighbour, ...]:
    """The live latents that are nearest to one, nearest first."""
    others = atlas.live.index.to_numpy()
    others = others[(others != latent) & (nearness[others] > 0)]
    if len(others) > NEIGHBOURS:
        others = others[nearness[others] >= np.partition(nearness[others], -NEIGHBOURS)[-NEIGHBOURS]]
    best = others[np.argsort(-nearness[others], kind="stable")][:NEIGHBOURS].tolist()
    return tuple(
        Neighbour(k, name_of(atlas, k), float(f"{nearness[k]:.3g}"), tuple(reference_ids(atlas, k)[:3])) for k in best
    )


def _elsewhere(atlas: OpenedAtlas, latent: int) -> Elsewhere:
    row = atlas.row(latent)
    return Elsewhere(
        atlas.name,
        known(row["activation_frequency"]),
        known(row["mean_activation"]),
        text(row["top_class"]),
        tuple(reference_ids(atlas, latent)[:6]),
    )
