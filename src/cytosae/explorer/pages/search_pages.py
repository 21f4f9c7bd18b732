"""Search: concepts by name, class and attribute, cells by their concepts, cells like a cell or like patches of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query

from cytosae.common.errors import InputError
from cytosae.explorer.answering import Pages
from cytosae.explorer.library import Library
from cytosae.explorer.pages.cell_pages import Patches
from cytosae.views.cell_page_view import seen_in_store
from cytosae.views.opened_dataset import OpenedAtlas
from cytosae.views.search_view import Likeness, SearchPage, like_cell, like_patches, view_of_search

pages: Pages = Pages()


@dataclass(frozen=True)
class Sought:
    """What is looked for: ``q``, or cells like a cell, or like patches of it."""

    q: Annotated[str, Query(max_length=400)] = ""
    like: Annotated[str, Query(max_length=128)] = ""
    patches: Patches = ""
    dataset: Annotated[str, Query(max_length=200)] = ""

    def within(self, library: Library) -> tuple[OpenedAtlas, Likeness | None]:
        """The data set that is searched, and what cells are to be like."""
        if not self.like:
            return library.atlas(self.dataset or None), None
        atlas, _ = library.place_of(self.like)
        if not self.patches:
            return atlas, like_cell(atlas, self.like)
        if not library.has_maps:
            raise InputError("The patches of a cell cannot be looked into: neither tokens nor the SAE are at hand.")
        dataset = library.dataset(atlas.name)
        return atlas, like_patches(dataset, seen_in_store(dataset, self.like), self.patches, self.like)


@pages.add("/search", "search.html.j2")
def search(
    library: Library,
    sought: Annotated[Sought, Depends()],
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
    background: bool = False,
) -> SearchPage:
    """Cells and concepts that are looked for."""
    atlas, like = sought.within(library)

    return view_of_search(
        *(atlas, lambda latent: library.columns(atlas.name).of(latent)),  # made when asked for: it takes a while
        q=sought.q,
        like=like,
        page=page,
        background=background,
    )
