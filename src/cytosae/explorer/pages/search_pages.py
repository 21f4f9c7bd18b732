"""Search: concepts by name, class and attribute, cells by their concepts, cells like a cell."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from cytosae.explorer.answering import Pages
from cytosae.explorer.library import Library
from cytosae.views.search_view import SearchPage, view_of_search

pages: Pages = Pages()


@pages.add("/search", "search.html.j2")
def search(
    library: Library,
    q: Annotated[str, Query(max_length=400)] = "",
    like: Annotated[str, Query(max_length=128)] = "",
    dataset: Annotated[str, Query(max_length=200)] = "",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
    background: bool = False,
) -> SearchPage:
    """Cells and concepts that are looked for."""
    atlas = library.place_of(like)[0] if like else library.atlas(dataset or None)
    # columns take a while to be made, and words are found without them
    return view_of_search(
        atlas, lambda latent: library.columns(atlas.name).of(latent), q=q, like=like, page=page, background=background
    )
