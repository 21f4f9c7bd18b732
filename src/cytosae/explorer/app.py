"""The application: pages, their twins, pictures of cells, and what is served beside them."""

from __future__ import annotations

import io
from importlib.resources import files
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from PIL import Image
from starlette.staticfiles import StaticFiles

from cytosae.common.artifact import package_version
from cytosae.explorer.answering import Pages, add_errors
from cytosae.explorer.explorer_settings import ExplorerSettings
from cytosae.explorer.library import Library
from cytosae.explorer.pages import overview

PAGES: tuple[Pages, ...] = (overview.pages,)
"""The pages of each module."""


def create_app(settings: ExplorerSettings) -> FastAPI:
    """The explorer of a study, to be run by any ASGI server.

    Raises
    ------
    ArtifactError
        There is no finished study.
    UsageError
        ``settings`` cannot be served, or not safely.
    """
    settings.check()
    app = FastAPI(title="cytosae explorer", version=package_version(), docs_url=None, redoc_url=None)
    app.state.settings, app.state.library = settings, Library(settings)
    app.mount("/static", StaticFiles(directory=str(files("cytosae.explorer") / "static")), name="static")
    for pages in PAGES:
        pages.serve(app)
    app.get("/pictures/{cell}.webp", include_in_schema=False)(picture)
    add_errors(app)
    return app


def picture(request: Request, cell: str, size: Annotated[int, Query(ge=16, le=1024)] = 128) -> Response:
    """A cell's image, scaled to ``size`` x ``size`` pixels."""
    library: Library = request.app.state.library
    buffer = io.BytesIO()
    Image.fromarray(library.pictures.thumbnail(cell, size)).save(buffer, "WEBP", quality=82, method=4)
    return Response(buffer.getvalue(), media_type="image/webp", headers={"cache-control": "private, max-age=3600"})
