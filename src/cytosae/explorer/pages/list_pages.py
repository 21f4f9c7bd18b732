"""Lists of concepts or cells that people keep, and what they say of a concept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, FastAPI, Form, Path, Request
from fastapi.responses import PlainTextResponse, RedirectResponse
from starlette.exceptions import HTTPException

from cytosae.common.errors import InputError, UsageError
from cytosae.explorer.accounts import User
from cytosae.explorer.answering import Pages
from cytosae.explorer.library import Library
from cytosae.explorer.pages.concept_pages import Asked, with_latent
from cytosae.explorer.pages.map_pages import AskedOfMap, map_of
from cytosae.explorer.pages.search_pages import Sought
from cytosae.reviews.comments import LONGEST, add_comment
from cytosae.reviews.database import Database
from cytosae.reviews.kept_lists import (
    KeptList,
    Kind,
    ListOrigin,
    drop_list,
    keep_list,
    list_csv,
    list_json,
    read_list,
    read_lists,
)
from cytosae.views.cells.search_view import all_cells
from cytosae.views.concepts.concept_map_view import latents_inside
from cytosae.views.concepts.gallery_view import ConceptCard, GalleryQuery, card_of, ordered

pages: Pages = Pages()
SHOWN = 24
"""Concepts or cells of a list that its page shows."""
LONGEST_QUERY = 2000
Number = Annotated[int, Path(ge=1, lt=1 << 31)]
Title = Annotated[str, Form(max_length=200)]
EXPORTS = {"list.csv": (list_csv, "text/csv"), "list.json": (list_json, "application/json")}


@dataclass(frozen=True)
class ListSummary:
    """A list, how many things are on it, and how it was made."""

    id: int
    title: str
    kind: Kind
    dataset: str
    items: int
    made_from: str
    created: str
    created_by: str


@dataclass(frozen=True)
class ListsPage:
    """All lists, the newest first."""

    lists: tuple[ListSummary, ...]


@dataclass(frozen=True)
class CellOnList:
    """A cell on a list; None for the label of one that is no longer there."""

    cell: str
    label: str | None


@dataclass(frozen=True)
class ListPage:
    """A list, and the first things on it; ``same_atlas`` is False where the study has changed since it was made."""

    kept: KeptList
    same_atlas: bool
    cards: tuple[ConceptCard, ...]
    cells: tuple[CellOnList, ...]


@pages.add("/lists", "lists.html.j2")
def lists(library: Library) -> ListsPage:
    """Lists that people keep."""
    database = library.reviews()
    found = [] if database is None else read_lists(database)
    return ListsPage(
        tuple(
            ListSummary(
                *(one.id, one.title, one.kind, one.dataset, len(one.items)),
                *(one.made_from, one.created, one.created_by),
            )
            for one in found
        )
    )


@pages.add("/lists/{number}", "list.html.j2")
def one_list(library: Library, number: Number) -> ListPage:
    """One list with the first things on it."""
    kept = _list(library, number)
    there = kept.dataset in library.names
    same = there and library.fingerprint(kept.dataset) == kept.atlas
    if not there:
        return ListPage(kept, same, (), ())
    atlas = library.atlas(kept.dataset)
    if kept.kind == "concepts":
        latents = [int(item) for item in kept.items[:SHOWN]]
        return ListPage(kept, same, tuple(card_of(atlas, k) for k in latents if k in atlas.var.index), ())
    cells = tuple(CellOnList(cell, atlas.labels.get(cell)) for cell in kept.items[:SHOWN] if cell in atlas.labels)
    return ListPage(kept, same, (), cells)


def add_lists(app: FastAPI) -> None:
    """Give the app what is written: lists, and comments."""
    app.post("/concepts/keep", include_in_schema=False)(keep_gallery)
    app.post("/concepts/map/keep", include_in_schema=False)(keep_region)
    app.post("/search/keep", include_in_schema=False)(keep_search)
    app.post("/concepts/{latent}/keep", include_in_schema=False)(keep_concept)
    app.post("/cells/{cell}/keep", include_in_schema=False)(keep_cell)
    app.post("/concepts/{latent}/comments", include_in_schema=False)(comment)
    app.post("/lists/{number}/drop", include_in_schema=False)(drop)
    app.get("/lists/{number}/export/{name}", include_in_schema=False)(export)


def keep_gallery(request: Request, asked: Annotated[Asked, Depends()], title: Title) -> RedirectResponse:
    """Keep all concepts that the gallery's address asks for."""
    atlas = _library(request).atlas(asked.dataset or None)
    found = ordered(atlas, GalleryQuery(**vars(asked))).tolist()
    return _keep(request, title, "concepts", found, atlas.name, made_from="/concepts")


def keep_region(request: Request, asked: Annotated[AskedOfMap, Depends()], title: Title) -> RedirectResponse:
    """Keep the concepts of a region of the map."""
    library = _library(request)
    atlas, layout, query = map_of(library, asked)
    found = latents_inside(atlas, layout, query)
    return _keep(request, title, "concepts", found, atlas.name, made_from="/concepts/map")


def keep_search(request: Request, title: Title, sought: Annotated[Sought, Depends()]) -> RedirectResponse:
    """Keep all cells that a search finds."""
    library = _library(request)
    searched, like = sought.within(library)
    if len(searched.atlases) > 1:
        raise UsageError("A list is of one data set; search in one and keep what is found there.")
    found = all_cells(searched, q=sought.q, like=like)
    return _keep(request, title, "cells", found, searched.first.name, made_from="/search")


def keep_concept(request: Request, latent: int, title: Title, dataset: str = "") -> RedirectResponse:
    """Put one concept on a list that is put together by hand."""
    atlas = with_latent(_library(request), dataset, latent)
    return _keep(request, title, "concepts", [latent], atlas.name)


def keep_cell(request: Request, cell: str, title: Title) -> RedirectResponse:
    """Put one cell on a list that is put together by hand."""
    atlas, _ = _library(request).place_of(cell)
    return _keep(request, title, "cells", [cell], atlas.name)


def comment(
    request: Request,
    latent: int,
    text: Annotated[str, Form(max_length=2 * LONGEST)],
    name: Annotated[str, Form(max_length=64)] = "",
    dataset: str = "",
) -> RedirectResponse:
    """Keep a comment on a concept."""
    atlas = with_latent(_library(request), dataset, latent)
    add_comment(_database(request), atlas.name, latent, text, by=_writer(request) or name.strip())
    return RedirectResponse(
        str(request.url_for("concept", latent=latent).include_query_params(dataset=atlas.name)), 303
    )


def drop(request: Request, number: Number) -> RedirectResponse:
    """Give a list up: whoever made it, or a coordinator."""
    kept, writer = read_list(_database(request), number), _writer(request)
    user: User | None = getattr(request.state, "user", None)
    if user is not None and user.role != "coordinator" and kept.created_by != user.name:
        raise HTTPException(403, "Only who made a list, or a coordinator, gives it up.")
    drop_list(_database(request), number, by=writer)
    return RedirectResponse("/lists", 303)


def export(request: Request, number: Number, name: str) -> PlainTextResponse:
    """A list as CSV or JSON, with how it was made."""
    if name not in EXPORTS:
        raise InputError(f"There is no export {name[:40]!r}; there are: {', '.join(EXPORTS)}.")
    write, kind = EXPORTS[name]
    kept = {"content-disposition": f'attachment; filename="{number}-{name}"'}
    return PlainTextResponse(write(_list(_library(request), number)), media_type=f"{kind}; charset=utf-8", headers=kept)


def _keep(
    request: Request, title: str, kind: Kind, found: list[int] | list[str], dataset: str, *, made_from: str = ""
) -> RedirectResponse:
    if len(request.url.query) > LONGEST_QUERY:
        raise UsageError(f"What is asked is longer than {LONGEST_QUERY:,} characters; ask for less.")
    atlas = _library(request).fingerprint(dataset)
    origin = ListOrigin(dataset, atlas, f"{made_from}?{request.url.query}") if made_from else ListOrigin(dataset, atlas)
    number = keep_list(_database(request), title, kind, found, origin, by=_writer(request))
    return RedirectResponse(f"/lists/{number}", 303)


def _list(library: Library, number: int) -> KeptList:
    database = library.reviews()
    if database is None:
        raise InputError(f"There is no list {number}.")
    return read_list(database, number)


def _writer(request: Request) -> str:
    """Who writes: the account's name, empty where there are no accounts; readers do not write."""
    user: User | None = getattr(request.state, "user", None)
    if user is not None and user.role == "reader":
        raise HTTPException(403, "A reader keeps no lists and does not comment; ask the coordinator for another role.")
    return user.name if user else ""


def _library(request: Request) -> Library:
    return request.app.state.library


def _database(request: Request) -> Database:
    return request.app.state.reviewing.of(_library(request))
