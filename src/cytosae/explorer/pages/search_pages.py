"""Search: concepts by name, class and attribute, cells by their concepts, cells like a cell or like patches of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query

from cytosae.common.errors import InputError
from cytosae.explorer.answering import Pages
from cytosae.explorer.library import Library
from cytosae.explorer.pages.cell_pages import Patches
from cytosae.views.cells.cell_page_view import seen_in_store
from cytosae.views.cells.search_view import Likeness, Searched, SearchPage, like_cell, like_patches, view_of_search
from cytosae.views.parts.opened_dataset import OpenedAtlas

pages: Pages = Pages()


@dataclass(frozen=True)
class Sought:
    """What is looked for: ``q``, or cells like a cell, or like patches of it; in one data set, or ``everywhere``."""

    q: Annotated[str, Query(max_length=400)] = ""
    like: Annotated[str, Query(max_length=128)] = ""
    patches: Patches = ""
    dataset: Annotated[str, Query(max_length=200)] = ""
    everywhere: Annotated[bool, Query(description="in all data sets of the study, as in one")] = False

    def within(self, library: Library) -> tuple[Searched, Likeness | None]:
        """The data sets that are searched, and what cells are to be like."""
        first, like = self._first(library)
        others = library.names if self.everywhere else []
        atlases = (first, *(library.atlas(name) for name in others if name != first.name))
        return Searched(atlases, lambda one: library.columns(one.name).of), like

    def _first(self, library: Library) -> tuple[OpenedAtlas, Likeness | None]:
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
    searched, like = sought.within(library)
    return view_of_search(searched, q=sought.q, like=like, page=page, background=background)
