"""What a search finds: concepts by name and class, cells by their concepts or by likeness, each hit with its reason."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cytosae.atlas.comparing.carried_latents import check_one_sae
from cytosae.atlas.finding.cell_search import parse_conditions, rank_cells, search_cells, side_by_side
from cytosae.atlas.stored.matrix import read_array_rows
from cytosae.cells.focus.patch_grid import Grid
from cytosae.common.errors import UsageError
from cytosae.views.cells.cell_page_view import Seen, chosen_patches, like_cells, surprise_at
from cytosae.views.concepts.gallery_view import ConceptCard, GalleryQuery, beside_the_cells, card_of, ordered
from cytosae.views.parts.opened_dataset import OpenedAtlas, OpenedDataset

if TYPE_CHECKING:
    from cytosae.atlas.finding.cell_search import Column, Hit

CONCEPTS = 24
ALIKE = 48
"""Cells that are like a cell."""
REASONS = 4
"""Concepts that are named as reasons for a cell."""


@dataclass(frozen=True)
class FoundCell:
    """A cell that was found, its score from 0 to 1, and why, a phrase each; ``latent`` is the first reason's."""

    cell: str
    dataset: str
    label: str | None
    score: float
    because: tuple[str, ...]
    latent: int | None = None


@dataclass(frozen=True)
class SearchPage:
    """Hits, best first; ``total`` cells in all, ``concepts_total`` concepts; ``understood`` says what was asked.

    ``dataset`` names the concepts; cells are of ``datasets``. ``like`` is the cell, ``patches`` those of it, that cells
    are to be like, on their ``grid`` of rows and columns; ``set_aside`` concepts that match live in the background and
    are not shown.
    """

    dataset: str
    datasets: tuple[str, ...]
    q: str
    like: str = ""
    patches: tuple[int, ...] = ()
    grid: Grid | None = None
    understood: str = ""
    concepts: tuple[ConceptCard, ...] = ()
    concepts_total: int = 0
    cells: tuple[FoundCell, ...] = ()
    total: int = 0
    page: int = 1
    pages: int = 1
    problem: str = ""
    set_aside: int = 0


@dataclass(frozen=True)
class Likeness:
    """What cells are to be like.

    Attributes
    ----------
    mean : ndarray of float32, shape (D,)
        The mean token.
    cell : str
        The ``cell_id``, left out of what is found; empty for an image that is in no data set.
    patches : tuple of int
        Patches pointed at, numbered row by row from 0.
    grid : tuple of int, or None
        Rows and columns of patches, where some are pointed at.
    there : mapping of int to float
        Surprise of the concepts on these patches, by latent (`cytosae.views.cells.cell_page_view.surprise_at`).
    """

    mean: NDArray[np.float32]
    cell: str = ""
    patches: tuple[int, ...] = ()
    grid: Grid | None = None
    there: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Searched:
    """Data sets that are searched as one: what is found, and its scores, are those of one atlas of all their cells.

    Attributes
    ----------
    atlases : tuple of OpenedAtlas
        Of one SAE; the first names the concepts.
    columns : callable
        An atlas -> its columns (`cytosae.atlas.stored.latent_columns`); asked only where cells are looked for, since
        columns of a large atlas may have to be made.

    Raises
    ------
    UsageError
        The atlases are of different SAEs.
    """

    atlases: tuple[OpenedAtlas, ...]
    columns: Callable[[OpenedAtlas], Column]

    def __post_init__(self) -> None:
        for other in self.atlases[1:]:
            check_one_sae(self.first.atlas, other.atlas)

    @property
    def first(self) -> OpenedAtlas:
        """The atlas that names the concepts."""
        return self.atlases[0]

    @cached_property
    def cells(self) -> tuple[int, ...]:
        """Numbers of cells, those of each atlas after those before it, from 0 on."""
        return tuple(accumulate((one.atlas.n_obs for one in self.atlases), initial=0))

    @cached_property
    def column(self) -> Column:
        """Columns of all cells, the rows of each atlas after those of the one before."""
        return side_by_side([self.columns(one) for one in self.atlases], self.cells[:-1])

    def place(self, row: int) -> tuple[OpenedAtlas, str]:
        """The atlas that has a row of all cells, and the ``cell_id``."""
        which = bisect_right(self.cells, row) - 1
        one = self.atlases[which]
        return one, str(one.atlas.obs_names[row - self.cells[which]])

    def row(self, cell: str) -> int | None:
        """Row of a cell among all; None where it is in no atlas."""
        for start, one in zip(self.cells, self.atlases, strict=False):
            if (row := one.atlas.obs_names.get_indexer([cell])[0]) >= 0:
                return start + int(row)
        return None


def like_cell(atlas: OpenedAtlas, cell: str) -> Likeness:
    """A whole cell of the data set, by its mean token; `UsageError` where that is not known."""
    row = atlas.atlas.obs_names.get_indexer([cell])[0]
    if row < 0:
        raise UsageError(f"There is no cell {cell[:80]!r} in {atlas.name}.")
    if "X_backbone" not in atlas.atlas.obsm:
        raise UsageError(f"{atlas.name} has no mean tokens, by which cells are compared.")
    return Likeness(read_array_rows(atlas.mean_tokens, np.array([row]))[0], cell)


def like_patches(dataset: OpenedDataset, seen: Seen, patches: str, cell: str = "") -> Likeness:
    """Patches, numbers with commas, of a cell or of an image; the whole of it where there are none."""
    chosen = chosen_patches(patches, seen.patches)
    if not chosen:
        return Likeness(seen.mean, cell)
    return Likeness(seen.mean, cell, tuple(chosen), dataset.store.grid, surprise_at(dataset, seen, chosen))


def view_of_search(
    searched: Searched,
    *,
    q: str = "",
    like: Likeness | None = None,
    page: int = 1,
    size: int = 48,
    background: bool = False,
) -> SearchPage:
    """Search data sets.

    Parameters
    ----------
    searched : Searched
        Where to search; concepts are looked for in the first data set.
    q : str
        Conditions on concepts ("has 12 and 40, not 7"), or words of a concept's name, class or attributes.
    like : Likeness or None
        Instead of ``q``: a cell or image, for cells with like mean tokens, or patches of it, for cells that have much
        of the concepts that are active there.
    page, size : int
        Which hits to give.
    background : bool
        Whether concepts that live beside the cells are found, too.
    """
    atlas = searched.first
    view = SearchPage(atlas.name, tuple(one.name for one in searched.atlases), q, page=page)
    if like is not None:
        view = replace(view, like=like.cell, patches=like.patches, grid=like.grid)
    if like is None and not any(character.isdigit() for character in q):
        return _concepts_named(atlas, view, background=background) if q.strip() else view
    try:
        found, latents, understood = _cells_found(searched, q, like, limit=page * size)
    except UsageError as error:
        return replace(view, problem=str(error))
    cards = tuple(card_of(atlas, latent) for latent in latents)
    return replace(
        view,
        cells=found.cells[(page - 1) * size :],
        total=found.total,
        pages=max(1, -(-found.total // size)),
        concepts=cards,
        concepts_total=len(cards),
        understood=understood,
    )


def all_cells(searched: Searched, *, q: str = "", like: Likeness | None = None) -> list[str]:
    """``cell_id`` of all cells that `view_of_search` finds a page at a time, best first.

    Raises
    ------
    UsageError
        The conditions are not understood, or none is asked for.
    """
    if like is None and not any(character.isdigit() for character in q):
        raise UsageError("No cells are asked for; name concepts by number, such as: has 12 and 40, not 7.")
    return [cell.cell for cell in _cells_found(searched, q, like)[0].cells]


def _concepts_named(atlas: OpenedAtlas, view: SearchPage, *, background: bool) -> SearchPage:
    named = ordered(atlas, GalleryQuery(q=view.q))
    kept = named if background else named[~beside_the_cells(atlas, named)]
    return replace(
        view,
        concepts=tuple(card_of(atlas, int(k)) for k in kept[(view.page - 1) * CONCEPTS : view.page * CONCEPTS]),
        concepts_total=len(kept),
        set_aside=len(named) - len(kept),
        pages=max(1, -(-len(kept) // CONCEPTS)),
        understood=f"Concepts with “{view.q.strip()}” in their name, their attributes, or the class they are "
        "strongest on.",
    )


class _Found(NamedTuple):
    cells: tuple[FoundCell, ...]
    total: int


def _cells_found(
    searched: Searched, q: str, like: Likeness | None, limit: int | None = None
) -> tuple[_Found, list[int], str]:
    """Cells, the concepts they were found by, and what was understood."""
    n = searched.cells[-1]
    if like is None:
        clauses = parse_conditions(q)
        hits = search_cells(clauses, searched.column, cells=n, latents=searched.first.atlas.n_vars, limit=limit)
        latents = sorted({latent for clause in clauses for latent in clause.latents})
        return _of_hits(searched, *hits), latents, f"Cells: {'; '.join(map(str, clauses))}."
    if like.patches:
        words = "this patch" if len(like.patches) == 1 else f"these {len(like.patches)} patches"
        if not like.there:
            raise UsageError(f"No concept is active on {words}; point at others.")
        hits = rank_cells(like.there, searched.column, cells=n, limit=limit, but=searched.row(like.cell))
        understood = f"Cells that have much of what is active on {words}: {len(like.there)} concepts by their surprise."
        return _of_hits(searched, *hits), list(like.there), understood
    cells, note = _alike(searched, like)
    return _Found(cells, len(cells)), [], f"Cells like this one, by the cosine of mean tokens. {note}".strip()


def _alike(searched: Searched, like: Likeness) -> tuple[tuple[FoundCell, ...], str]:
    """The cells of all data sets with the nearest mean tokens, less the mean of all of them."""
    atlases = [one for one in searched.atlases if "X_backbone" in one.atlas.obsm]
    centre = np.average([one.centre for one in atlases], axis=0, weights=[one.atlas.n_obs for one in atlases])
    found, notes = [], set()
    for one in atlases:
        alike, note = like_cells(one, like.mean, but=like.cell, n=ALIKE, centre=centre.astype(np.float32))
        found += [FoundCell(f.cell, one.name, f.label, f.likeness, (f"cosine {f.likeness:.2f}",)) for f in alike]
        notes.add(note)
    return tuple(sorted(found, key=lambda cell: -cell.score)[:ALIKE]), max(notes)


def _of_hits(searched: Searched, hits: list[Hit], total: int) -> _Found:
    cells = []
    for hit in hits:
        atlas, cell = searched.place(hit.row)
        because = tuple(f"{latent}: {value:.3g}, {share:.0%} of its strongest" for latent, value, share in hit.because)
        cells.append(FoundCell(cell, atlas.name, atlas.labels[cell], hit.score, because[:REASONS], hit.because[0][0]))
    return _Found(tuple(cells), total)
