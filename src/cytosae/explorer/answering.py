"""One function makes a page and its JSON twin."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar, get_type_hints

import jinja2
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from markupsafe import Markup
from starlette.exceptions import HTTPException

from cytosae.common.artifact import package_version
from cytosae.common.configuration import finite
from cytosae.common.errors import CytosaeError, InputError, UsageError
from cytosae.explorer.library import Library
from cytosae.report.templating import make_environment
from cytosae.views.parts.page_parts import Definition, Page, meaning_of

Make = TypeVar("Make", bound=Callable[..., Any])

NAVIGATION = {
    "/": "Overview",
    "/concepts": "Concepts",
    "/patients": "Patients",
    "/search": "Search",
    "/compare": "Compare",
    "/try": "Try an image",
    "/lists": "Lists",
    "/reviews": "Reviews",
}
"""Path -> words, in their order; those that are not served are left out."""
OF_A_STUDY = {"/patients", "/try"}
"""Of these, what an atlas by itself has not."""


@dataclass
class Pages:
    """Pages of one module, to be added to the app."""

    made: list[tuple[str, str, Callable[..., Any]]] = field(default_factory=list)

    def add(self, path: str, template: str) -> Callable[[Make], Make]:
        """Register a function as the page at ``path``, and as its twin at ``/api`` + ``path``."""

        def keep(make: Make) -> Make:
            self.made.append((path, template, make))
            return make

        return keep

    def serve(self, app: FastAPI) -> None:
        """Give the app the pages and their twins."""
        for path, template, make in self.made:
            _serve(app, path, template, make)


def _serve(app: FastAPI, path: str, template: str, make: Callable[..., Any]) -> None:
    hints = get_type_hints(make, include_extras=True)
    asked = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(make).parameters.items()
        if name != "library"
    ]
    request = inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)

    def page(request: Request, **query: Any) -> HTMLResponse:
        with request.app.state.cores.share():
            return html(request, template, make(request.app.state.library, **query))

    def twin(request: Request, **query: Any) -> JSONResponse:
        with request.app.state.cores.share():
            return JSONResponse(finite(make(request.app.state.library, **query)))

    for function, name in ((page, make.__name__), (twin, f"{make.__name__}_json")):
        function.__name__, function.__doc__ = name, make.__doc__
        function.__signature__ = inspect.Signature([request, *asked])
    app.get(path, response_class=HTMLResponse, include_in_schema=False)(page)
    app.get(f"/api{path}", response_model=hints["return"], tags=["pages"])(twin)


def html(request: Request, template: str, view: Any, *, status: int = 200) -> HTMLResponse:
    """A page of the explorer that shows ``view``."""
    served = {getattr(route, "path", "") for route in request.app.routes}
    library: Library = request.app.state.library
    if library.settings.atlas is not None:
        served -= OF_A_STUDY
    user = getattr(request.state, "user", None)
    known = user is not None or request.app.state.accounts is None  # who has not signed in learns nothing
    text = (
        environment()
        .get_template(template)
        .render(
            view=view,
            request=request,
            library=library,
            changed=known and library.changed(),
            navigation={path: said for path, said in NAVIGATION.items() if path in served and known},
            nonce=getattr(request.state, "nonce", ""),
            user=user,
            known=known,
            package=package_version(),
            embed=lambda view: embedded(library, view),
            explained=explained,
        )
    )
    return HTMLResponse(text, status_code=status)


def embedded(library: Library, view: Page) -> Markup:
    """A view as the report shows it, below its head."""
    from cytosae.report.pages import render

    return Markup(render(view, library.pictures, embedded=True))  # noqa: S704  made by our own templates, which escape


def explained(words: str, own: Iterable[Definition] = ()) -> tuple[Definition, ...]:
    """What a figure's words mean, by the page's ``own`` definitions or by those of all pages; a unit is left aside."""
    word = words.split(",")[0].strip().casefold()
    found = next((d for d in own if d.word.casefold() == word), None) or meaning_of(word)
    return () if found is None else (found,)


def add_errors(app: FastAPI) -> None:
    """Errors become one sentence: a page for people, JSON for programs."""

    def told(request: Request, sentence: str, status: int) -> Any:
        if request.url.path.startswith("/api"):
            return JSONResponse({"detail": sentence}, status_code=status)
        return html(request, "error.html.j2", {"status": status, "sentence": sentence}, status=status)

    @app.exception_handler(CytosaeError)
    def of_cytosae(request: Request, problem: CytosaeError) -> Any:
        status = 400 if isinstance(problem, UsageError) else 404 if isinstance(problem, InputError) else 409
        return told(request, str(problem), status)

    @app.exception_handler(HTTPException)
    def of_http(request: Request, problem: HTTPException) -> Any:
        sentence = "There is no such page here." if problem.status_code == 404 else str(problem.detail)
        return told(request, sentence, problem.status_code)

    from fastapi.exceptions import RequestValidationError

    @app.exception_handler(RequestValidationError)
    def of_request(request: Request, problem: RequestValidationError) -> Any:
        first = problem.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "the request"
        return told(request, f"{where} is not understood: {first['msg']}.", 422)


@cache
def environment() -> jinja2.Environment:
    """Templates of the explorer; every value is escaped."""
    return make_environment("cytosae.explorer")
