"""Concepts: the gallery of all of them, and one in depth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BeforeValidator, Field

from cytosae.common.errors import InputError
from cytosae.explorer.answering import Pages
from cytosae.explorer.library import Library
from cytosae.explorer.picturing import with_painted
from cytosae.reviews.comments import comments_on
from cytosae.views.cells.gaze_view import GazePage, view_of_gaze
from cytosae.views.concepts.concept_evidence_view import EvidencePage
from cytosae.views.concepts.concept_names import name_of
from cytosae.views.concepts.concept_page_view import ConceptPage, view_of_concept
from cytosae.views.concepts.gallery_view import (
    GalleryQuery,
    GalleryView,
    Shape,
    Sort,
    Verdict,
    Where,
    table_csv,
    view_of_gallery,
)
from cytosae.views.parts.opened_dataset import OpenedAtlas

pages: Pages = Pages()
Bound = Annotated[
    Annotated[float, Field(ge=0, allow_inf_nan=False)] | None,
    BeforeValidator(lambda said: None if said == "" else said),
    Query(),
]
"""A bound; a field of the form that is left empty asks for nothing."""


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
    shape: Annotated[Shape, Query(alias="as")] = "pictures"


@pages.add("/concepts", "concepts.html.j2")
def concepts(library: Library, asked: Annotated[Asked, Depends()]) -> GalleryView:
    """Concepts of a data set, filtered, sorted and paged."""
    query = GalleryQuery(**vars(asked))
    return view_of_gallery(library.atlas(asked.dataset or None), query, datasets=tuple(library.names))


def add_table(app: FastAPI) -> None:
    """Give the app all concepts that match as a table for spreadsheets."""
    app.get("/concepts.csv", response_class=StreamingResponse, tags=["files"])(concepts_csv)


def concepts_csv(request: Request, asked: Annotated[Asked, Depends()]) -> StreamingResponse:
    """All concepts that match, in order, as CSV; pages do not matter."""
    library: Library = request.app.state.library
    atlas = library.atlas(asked.dataset or None)
    lines = table_csv(atlas, GalleryQuery(**vars(asked)))
    kept = {"content-disposition": 'attachment; filename="concepts.csv"'}
    return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=kept)


@pages.add("/concepts/{latent}", "concept.html.j2")
def concept(library: Library, latent: int, dataset: str = "") -> ConceptPage:
    """One concept in depth."""
    atlas = with_latent(library, dataset, latent)
    database, columns = library.reviews(), library.columns(atlas.name)
    kept, print_of = library.remembered, library.fingerprint(atlas.name)
    view = view_of_concept(
        atlas,
        columns,
        latent,
        directions=library.directions if library.has_maps else None,
        others=[library.atlas(name) for name in library.names if name != atlas.name],
        has_maps=library.has_maps,
    )
    view = replace(view, comments=comments_on(database, atlas.name, latent) if database else ())
    if not library.has_maps:
        return view
    from cytosae.pipeline.concept_evidence_work import known_of_concept

    seen = kept.peek(GazePage, print_of, str(latent))
    return replace(
        view,
        known=known_of_concept(library.study, atlas.name, latent),
        evidence=kept.peek(EvidencePage, print_of, _with_images(atlas, latent)),
        gaze=seen and f"{seen.verdict} {seen.numbers}",
    )


@pages.add("/concepts/{latent}/evidence", "evidence.html.j2")
def evidence(library: Library, latent: int, dataset: str = "") -> EvidencePage:
    """Is it real? A concept beside random latents, and cells without it; computed once."""
    from cytosae.pipeline.concept_evidence_work import evidence_of

    atlas = with_latent(library, dataset, latent)
    if not library.has_maps:
        raise InputError("Whether a concept is real cannot be shown: neither tokens nor the SAE are at hand.")

    def make() -> EvidencePage:
        return evidence_of(library.changes(atlas.name), library.columns(atlas.name), latent)

    found = library.remembered.get(EvidencePage, library.fingerprint(atlas.name), _with_images(atlas, latent), make)
    return replace(found, name=name_of(atlas, latent))


@pages.add("/concepts/{latent}/gaze", "gaze.html.j2")
def gaze(library: Library, latent: int, dataset: str = "") -> GazePage:
    """Where one concept looks: parts of its reference cells are painted out and encoded anew; computed once.

    What was found is kept on disk; the painted pictures, which show patients' cells, stay in memory.
    """
    atlas = with_latent(library, dataset, latent)
    if not library.has_maps:
        raise InputError("Where a concept looks cannot be shown: neither tokens nor the SAE are at hand.")
    kept, print_of = library.remembered, library.fingerprint(atlas.name)

    def make() -> GazePage:
        found = library.study.where_it_looks(latent, atlas.name)
        told = view_of_gaze(atlas, latent, found)
        kept.get(GazePage, print_of, str(latent), lambda: told)
        return with_painted(told, found)

    return replace(kept.hold(GazePage, print_of, f"concept {latent}", make), name=name_of(atlas, latent))


def _with_images(atlas: OpenedAtlas, latent: int) -> str:
    """Name under which evidence is kept: where the images are away, less is found."""
    return str(latent) if atlas.cells.root.is_dir() else f"{latent}-without-images"


def with_latent(library: Library, dataset: str, latent: int) -> OpenedAtlas:
    """The atlas of a data set, which has this latent."""
    atlas = library.atlas(dataset or None)
    if latent not in atlas.var.index:
        raise InputError(f"There is no latent {latent} here; they are 0 to {atlas.var.index.max()}.")
    return atlas
