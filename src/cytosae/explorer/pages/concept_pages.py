"""Concepts: the gallery of all of them, and one in depth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from fastapi import Depends, Query

from cytosae.common.errors import InputError
from cytosae.explorer.answering import Pages
from cytosae.explorer.library import Library
from cytosae.explorer.picturing import as_address
from cytosae.report.pictures import scaled
from cytosae.views.concept_page_view import ConceptPage, view_of_concept
from cytosae.views.gallery_view import GalleryQuery, GalleryView, Sort, Verdict, Where, view_of_gallery
from cytosae.views.gaze_view import GazePage, view_of_gaze
from cytosae.views.opened_dataset import OpenedAtlas

pages: Pages = Pages()
PAINTED = 160
"""Pixels on a side of a picture that is painted over."""
Bound = Annotated[float | None, Query(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Asked:
    """What the address asks of the gallery; `GalleryQuery` says what each means."""

    dataset: str = ""
    sort: Sort = "usefulness"
    top_class: Annotated[str, Query(alias="class", max_length=200)] = ""
    place: Where = ""
    q: Annotated[str, Query(max_length=200)] = ""
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1
    size: Annotated[int, Query(ge=1, le=120)] = 24
    low_frequency: Bound = None
    high_frequency: Bound = None
    low_activation: Bound = None
    high_activation: Bound = None
    verdict: Verdict = ""


@pages.add("/concepts", "concepts.html.j2")
def concepts(library: Library, asked: Annotated[Asked, Depends()]) -> GalleryView:
    """Concepts of a data set, filtered, sorted and paged."""
    query = GalleryQuery(**vars(asked))
    return view_of_gallery(library.atlas(asked.dataset or None), query, datasets=tuple(library.names))


@pages.add("/concepts/{latent}", "concept.html.j2")
def concept(library: Library, latent: int, dataset: str = "") -> ConceptPage:
    """One concept in depth."""
    atlas = _with_latent(library, dataset, latent)
    decoder = library.sae.W_dec.detach().cpu().numpy() if library.has_maps else None
    return view_of_concept(
        atlas,
        library.columns(atlas.name),
        latent,
        decoder=decoder,
        others=[library.atlas(name) for name in library.names if name != atlas.name],
        has_maps=library.has_maps,
    )


@pages.add("/concepts/{latent}/gaze", "gaze.html.j2")
def gaze(library: Library, latent: int, dataset: str = "") -> GazePage:
    """Where one concept looks: parts of its reference cells are painted out and encoded anew."""
    atlas = _with_latent(library, dataset, latent)
    if not library.has_maps:
        raise InputError("Where a concept looks cannot be shown: neither tokens nor the SAE are at hand.")
    found = library.study.where_it_looks(latent, atlas.name)
    view = view_of_gaze(atlas, latent, found)
    pictures = {
        cell: [as_address(scaled(np.asarray(picture), PAINTED)) for picture in (one.without, one.alone)]
        for cell, one in found.items()
    }
    cells = (replace(one, without=pictures[one.cell][0], alone=pictures[one.cell][1]) for one in view.cells)
    return replace(view, cells=tuple(cells))


def _with_latent(library: Library, dataset: str, latent: int) -> OpenedAtlas:
    atlas = library.atlas(dataset or None)
    if latent not in atlas.var.index:
        raise InputError(f"There is no latent {latent} here; they are 0 to {atlas.var.index.max()}.")
    return atlas
