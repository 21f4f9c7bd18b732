"""What a search finds: concepts by name and class, cells by their concepts or by likeness, each hit with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cytosae.atlas.cell_search import parse_conditions, search_cells
from cytosae.atlas.matrix import read_array_rows
from cytosae.common.errors import UsageError
from cytosae.views.cell_page_view import like_cells
from cytosae.views.gallery_view import ConceptCard, GalleryQuery, beside_the_cells, card_of, ordered
from cytosae.views.opened_dataset import OpenedAtlas

if TYPE_CHECKING:
    from cytosae.atlas.cell_search import Column

CONCEPTS = 24


@dataclass(frozen=True)
class FoundCell:
    """A cell that was found, its score from 0 to 1, and why, a phrase each."""

    cell: str
    label: str | None
    score: float
    because: tuple[str, ...]


@dataclass(frozen=True)
class SearchPage:
    """Hits, best first; ``total`` cells in all, ``concepts_total`` concepts; ``understood`` says what was asked.

    ``set_aside`` concepts that match live in the background and are not shown.
    """

    dataset: str
    datasets: tuple[str, ...]
    q: str
    like: str
    understood: str
    concepts: tuple[ConceptCard, ...]
    concepts_total: int
    cells: tuple[FoundCell, ...]
    total: int
    page: int
    pages: int
    problem: str = ""
    set_aside: int = 0


def view_of_search(
    atlas: OpenedAtlas,
    column_of: Column,
    *,
    q: str = "",
    like: str = "",
    page: int = 1,
    size: int = 48,
    background: bool = False,
) -> SearchPage:
    """Search a data set.

    Parameters
    ----------
    atlas : OpenedAtlas
        Where to search.
    column_of : callable
        The same by latent: on which cells one is active, and how much (`Columns.of`).
    q : str
        Conditions on concepts ("has 12 and 40, not 7"), or words of a concept's name, class or attributes.
    like : str
        A ``cell_id``: cells like it by mean tokens.
    page, size : int
        Which hits to give.
    background : bool
        Whether concepts that live beside the cells are found, too.
    """
    concepts, concepts_total, cells, total, understood, problem, set_aside = (), 0, (), 0, "", "", 0
    if like:
        cells, note = _like(atlas, like)
        understood, total = f"Cells like this one, by the cosine of mean tokens. {note}".strip(), len(cells)
    elif any(character.isdigit() for character in q):
        try:
            clauses = parse_conditions(q)
            numbers = {"cells": atlas.atlas.n_obs, "latents": atlas.atlas.n_vars}
            hits, total = search_cells(clauses, column_of, **numbers, limit=page * size)
        except UsageError as error:
            problem = str(error)
        else:
            names = atlas.atlas.obs_names
            understood = "Cells: " + "; ".join(map(str, clauses)) + "."
            cells = tuple(
                FoundCell(
                    str(names[hit.row]),
                    atlas.labels[str(names[hit.row])],
                    hit.score,
                    tuple(
                        f"{latent}: {value:.3g}, {share:.0%} of its strongest" for latent, value, share in hit.because
                    ),
                )
                for hit in hits[(page - 1) * size :]
            )
            named = sorted({latent for clause in clauses for latent in clause.latents})
            concepts = tuple(card_of(atlas, latent) for latent in named)
            concepts_total = len(concepts)
    elif q.strip():
        named = ordered(atlas, GalleryQuery(q=q))
        kept = named if background else named[~beside_the_cells(atlas, named)]
        concepts = tuple(card_of(atlas, int(k)) for k in kept[(page - 1) * CONCEPTS : page * CONCEPTS])
        concepts_total, set_aside = len(kept), len(named) - len(kept)
        understood = f"Concepts with “{q.strip()}” in their name, their attributes, or the class they are strongest on."
    pages = max(1, -(-(total if cells or not concepts_total else concepts_total) // (size if cells else CONCEPTS)))
    return SearchPage(
        dataset=atlas.name,
        datasets=(atlas.name,),
        q=q,
        like=like,
        understood=understood,
        concepts=concepts,
        concepts_total=concepts_total,
        cells=cells,
        total=total,
        page=page,
        pages=pages,
        problem=problem,
        set_aside=set_aside,
    )


def all_cells(atlas: OpenedAtlas, column_of: Column, *, q: str = "", like: str = "") -> list[str]:
    """``cell_id`` of all cells that `view_of_search` finds a page at a time, best first.

    Raises
    ------
    UsageError
        The conditions are not understood, or none is asked for.
    """
    if like:
        return [found.cell for found in _like(atlas, like)[0]]
    if not any(character.isdigit() for character in q):
        raise UsageError("No cells are asked for; name concepts by number, such as: has 12 and 40, not 7.")
    numbers = {"cells": atlas.atlas.n_obs, "latents": atlas.atlas.n_vars}
    hits, _ = search_cells(parse_conditions(q), column_of, **numbers)
    return [str(atlas.atlas.obs_names[hit.row]) for hit in hits]


def _like(atlas: OpenedAtlas, cell: str) -> tuple[tuple[FoundCell, ...], str]:
    row = atlas.atlas.obs_names.get_indexer([cell])[0]
    if row < 0:
        raise UsageError(f"There is no cell {cell[:80]!r} in {atlas.name}.")
    if "X_backbone" not in atlas.atlas.obsm:
        raise UsageError(f"{atlas.name} has no mean tokens, by which cells are compared.")
    mean = read_array_rows(atlas.mean_tokens, np.array([row]))[0]
    found, note = like_cells(atlas, mean, but=cell, n=48)
    return tuple(FoundCell(f.cell, f.label, f.likeness, (f"cosine {f.likeness:.2f}",)) for f in found), note
