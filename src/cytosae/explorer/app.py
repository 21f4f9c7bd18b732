"""The application: pages, their twins, pictures of cells, and what is served beside them."""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from cytosae.common.artifact import package_version
from cytosae.explorer.answering import Pages, add_errors
from cytosae.explorer.cores import Cores
from cytosae.explorer.explorer_settings import ExplorerSettings
from cytosae.explorer.library import Library
from cytosae.explorer.pages import (
    cell_pages,
    compare_pages,
    concept_pages,
    list_pages,
    map_pages,
    overview_page,
    patient_pages,
    review_pages,
    search_pages,
    signing_in_page,
)
from cytosae.explorer.picturing import add_pictures
from cytosae.explorer.security import add_security

PAGES: tuple[Pages, ...] = (
    overview_page.pages,
    map_pages.pages,
    concept_pages.pages,
    cell_pages.pages,
    patient_pages.pages,
    search_pages.pages,
    compare_pages.pages,
    list_pages.pages,
)
"""The pages of each module; what matches first is served."""


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
    library = Library(settings)
    app.state.settings, app.state.library, app.state.cores = settings, library, Cores(library.threads)
    app.mount("/static", StaticFiles(directory=str(files("cytosae.explorer") / "static")), name="static")
    for pages in PAGES:
        pages.serve(app)
    add_security(app, settings)
    signing_in_page.add_signing_in(app)
    cell_pages.add_trial(app)
    concept_pages.add_table(app)
    compare_pages.add_style(app)
    review_pages.add_reviews(app)
    list_pages.add_lists(app)
    add_pictures(app)
    add_errors(app)
    return app
