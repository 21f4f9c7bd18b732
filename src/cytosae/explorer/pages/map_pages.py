"""The map of concepts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, Query

from cytosae.explorer.answering import Pages
from cytosae.explorer.library import Library
from cytosae.views.concepts.concept_map_view import By, Coloured, ConceptMap, Layout, MapQuery, layout_of, view_of_map
from cytosae.views.parts.opened_dataset import OpenedAtlas

pages: Pages = Pages()
Edge = Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False)]


@dataclass(frozen=True)
class AskedOfMap:
    """What the address asks of the map; `MapQuery` says what each means."""

    dataset: Annotated[str, Query(max_length=200)] = ""
    by: By = "direction"
    colour: Coloured = "class"
    group: Annotated[str, Query(max_length=200)] = ""
    left: Edge = None
    right: Edge = None
    bottom: Edge = None
    top: Edge = None


@pages.add("/concepts/map", "map.html.j2")
def concept_map(library: Library, asked: Annotated[AskedOfMap, Depends()]) -> ConceptMap:
    """All live concepts in a plane, by decoder direction or by the cells they are on; laid out once."""
    atlas, layout, query = map_of(library, asked)
    return view_of_map(atlas, layout, query, datasets=tuple(library.names), has_directions=library.has_maps)


def map_of(library: Library, asked: AskedOfMap) -> tuple[OpenedAtlas, Layout, MapQuery]:
    """The data set, its layout, and what is asked of it; the first time, the layout takes a while."""
    atlas = library.atlas(asked.dataset or None)
    by: By = asked.by if library.has_maps else "cells"  # an atlas by itself knows no directions

    def make() -> Layout:
        decoder = library.sae.W_dec.detach().cpu().numpy() if by == "direction" else None
        return layout_of(atlas, by, decoder)

    layout = library.remembered.get(Layout, library.fingerprint(atlas.name), by, make)
    return atlas, layout, replace(MapQuery(**vars(asked)), by=by)
