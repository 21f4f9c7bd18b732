"""Cells: one of a data set, and an image that is dropped in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, UploadFile
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BeforeValidator, Field

from cytosae.common.configuration import finite
from cytosae.common.errors import InputError, UsageError
from cytosae.explorer.answering import Pages, html
from cytosae.explorer.library import Library
from cytosae.explorer.picturing import as_address
from cytosae.report.pictures import scaled
from cytosae.views.cells.cell_page_view import CellPage, chosen_patches, seen_in_store, seen_in_tokens, view_of_cell

pages: Pages = Pages()
SHOWN = 512
"""Pixels on a side of an image that was dropped in."""
Patches = Annotated[str, Query(max_length=2000, pattern=r"^(\d{1,5}(,\d{1,5})*)?$", description="numbers, with commas")]
Change = Annotated[int | None, Query(ge=0, description="concept that is changed in all tokens of the image")]
Second = Annotated[
    Annotated[int, Field(ge=0)] | None,
    BeforeValidator(lambda said: None if said == "" else said),
    Query(description="another concept, to see what both do together; empty for none"),
]
By = Annotated[float, Query(ge=0, le=100, description="what it is multiplied by: 0 removes it, 2 doubles it")]


@pages.add("/cells/{cell}", "cell.html.j2")
def cell(
    library: Library,
    cell: str,
    patches: Patches = "",
    latent: int | None = None,
    change: Change = None,
    second: Second = None,
    by: By = 0.0,
) -> CellPage:
    """One cell: its concepts, those of the patches pointed at, cells like it, and what a change of a concept does."""
    atlas, _ = library.place_of(cell)
    if not library.has_maps:
        raise InputError("A cell's concepts cannot be shown: neither tokens nor the SAE are at hand.")
    dataset = library.dataset(atlas.name)
    if latent is not None and latent not in dataset.var.index:
        raise InputError(f"There is no latent {latent} here; they are 0 to {dataset.var.index.max()}.")
    seen = seen_in_store(dataset, cell)
    chosen = chosen_patches(patches, seen.patches)
    name = dataset.labels[cell] or "Unlabelled cell"
    view = view_of_cell(dataset, seen, cell=cell, title=name, patches=chosen, latent=latent)
    if change is None:
        return view
    row = dataset.row_in_store[cell]
    tokens = dataset.store.read(row, row + 1)[0].float()
    changes = library.changes(atlas.name)
    return replace(view, change=changes.of(tokens, change, by, second=second, counted=seen.counted, cell=cell))


@pages.add("/try", "try.html.j2")
def trying(library: Library) -> dict[str, Any]:
    """Where an image is dropped in."""
    settings = library.settings
    return {"possible": library.has_maps, "bytes": settings.upload_bytes, "pixels": settings.upload_pixels}


def add_trial(app: FastAPI) -> None:
    """Give the app the answer to an image that is dropped in, as a page and as JSON."""
    app.post("/try", response_class=HTMLResponse, include_in_schema=False)(try_page)
    app.post("/api/try", response_model=CellPage, tags=["pages"])(try_json)


@dataclass(frozen=True)
class Asked:
    """What is asked of an image that is dropped in."""

    dataset: Annotated[str, Query(max_length=200)] = ""
    patches: Patches = ""
    change: Change = None
    second: Second = None
    by: By = 0.0


def try_page(request: Request, image: UploadFile, asked: Annotated[Asked, Depends()]) -> HTMLResponse:
    """The concepts of an image that is dropped in."""
    with request.app.state.cores.share():
        return html(request, "cell.html.j2", _of_upload(request.app.state.library, image, asked))


def try_json(request: Request, image: UploadFile, asked: Annotated[Asked, Depends()]) -> JSONResponse:
    """The concepts of an image that is dropped in; it is decoded in memory and kept nowhere."""
    with request.app.state.cores.share():
        return JSONResponse(finite(_of_upload(request.app.state.library, image, asked)))


def _of_upload(library: Library, upload: UploadFile, asked: Asked) -> CellPage:
    from cytosae.cells.decoding.decode import decode_image

    if not library.has_maps:
        raise InputError("An image cannot be tried: the SAE is not at hand.")
    name = (upload.filename or "image").replace("\\", "/").rsplit("/", 1)[-1][:80]
    data = upload.file.read(library.settings.upload_bytes + 1)
    if len(data) > library.settings.upload_bytes:
        raise UsageError(f"{name} is larger than {library.settings.upload_bytes >> 20} MiB; crop it to one cell.")
    try:
        picture = decode_image(data, name)
    except InputError as problem:
        raise UsageError(str(problem).partition(";")[0] + ".") from problem
    if picture.shape[0] * picture.shape[1] > library.settings.upload_pixels:
        raise UsageError(f"{name} has too many pixels ({picture.shape[1]} x {picture.shape[0]}); crop it to one cell.")
    opened = library.dataset(asked.dataset or None)
    with library.lock:  # the backbone is loaded at first use
        tokens, counted = library.study.see(picture)
    chosen = chosen_patches(asked.patches, len(tokens) - 1)
    view = view_of_cell(opened, seen_in_tokens(opened, tokens, counted), title=name, patches=chosen)
    if asked.change is not None:
        changes = library.changes(opened.name)
        view = replace(view, change=changes.of(tokens, asked.change, asked.by, second=asked.second, counted=counted))
    return replace(view, picture=as_address(scaled(picture, SHOWN)))
