"""Reviews: sessions, the blinded panels, what they say, and what is decided."""

from __future__ import annotations

import base64
import inspect
import threading
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_type_hints
from urllib.parse import quote

import numpy as np
from fastapi import FastAPI, Form, Path, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from cytosae.common.artifact import read_artifact
from cytosae.common.configuration import finite
from cytosae.common.errors import InputError
from cytosae.explorer.accounts import User
from cytosae.explorer.answering import environment, html
from cytosae.explorer.library import Library
from cytosae.explorer.picturing import KEPT, coloured, webp
from cytosae.reviews.answers import (
    LONGEST,
    PLACES,
    VERDICTS,
    Answer,
    BlindPanel,
    SessionSummary,
    blind_panel,
    create_session,
    give_answer,
    list_sessions,
    panel_cell,
    session_summary,
)
from cytosae.reviews.database import Database, reviews_url
from cytosae.reviews.decisions import Case, Decision, decide, list_cases, names_in
from cytosae.reviews.panels import Design, Stratum, make_panels
from cytosae.reviews.results import Results, results_of
from cytosae.reviews.review_export import claim_checklist, ratings_csv, ratings_json
from cytosae.reviews.vocabulary import families, vocabulary

SIZE = 144
"""Pixels on a side of every cell of every panel: one magnification throughout."""
Name = Annotated[str, Query(max_length=64, description="rater, where there are no accounts")]
Number = Annotated[int, Path(ge=1, lt=1 << 31)]
Latent = Annotated[int, Path(ge=0, lt=1 << 31)]
EXPORTS = {"ratings.csv": ratings_csv, "session.json": ratings_json, "claim.md": claim_checklist}


@dataclass(frozen=True)
class ReviewList:
    """All review sessions; ``you`` is empty where there are no accounts."""

    sessions: tuple[SessionSummary, ...]
    datasets: tuple[str, ...]
    you: str
    coordinates: bool


@dataclass(frozen=True)
class Saved:
    """An answer is on disk, with this version."""

    version: int


class SessionForm(BaseModel):
    """What a coordinator fills in; raters are named a line each."""

    title: str = Field(max_length=200)
    raters: str = Field(max_length=4000)
    dataset: str = Field("", max_length=200)
    stratum: Stratum = "frequency"
    concepts: int = 40
    controls: int = 10
    repeats: int = 8
    seed: int = Field(0, ge=0, lt=1 << 31)


class AnswerForm(BaseModel):
    """What a rater fills in."""

    version: int = Field(ge=0, lt=1 << 31)
    rater: str = Field("", max_length=64)
    verdict: str = Field("", max_length=20)
    terms: list[str] = Field([], max_length=40)
    words: str = Field("", max_length=LONGEST)
    place: str = Field("", max_length=20)
    confidence: int = 0
    misfits: list[int] = Field([], max_length=40)
    seconds: float = Field(0.0, allow_inf_nan=False)
    state: Literal["draft", "submitted"] = "submitted"


class Reviewing:
    """The opened database of an explorer, opened when the first page needs it."""

    def __init__(self) -> None:
        self._database: Database | None = None
        self._lock = threading.Lock()

    def of(self, library: Library) -> Database:
        """The database."""
        with self._lock:
            if self._database is None:
                settings = library.settings
                if settings.reviews_url is None and settings.study is None:
                    raise InputError("An atlas by itself has no reviews; open a study, or give --reviews-url.")
                self._database = Database(settings.reviews_url or reviews_url(library.study.path))
                show_names(library, self._database)
            return self._database

    def known(self, library: Library) -> Database | None:
        """The database if there is one; to look at a page makes none."""
        settings = library.settings
        there = settings.reviews_url or (settings.study and (settings.study / "reviews.sqlite").is_file())
        return self.of(library) if there else None


def show_names(library: Library, database: Database) -> None:
    """Let every page call concepts by the names that are accepted now."""
    library.accepted.clear()
    library.accepted.update({latent: accepted.name for latent, accepted in names_in(database).items()})


def add_reviews(app: FastAPI) -> None:
    """Give the app its reviews, as pages and as JSON."""
    reviewing, library = Reviewing(), app.state.library
    reviewing.known(library)  # a database that cannot be opened is told before anything is served
    app.state.reviewing, library.reviews = reviewing, lambda: reviewing.known(library)
    environment().globals["review_form"] = offered
    pages: list[tuple[str, Any, str, Any]] = [
        ("/reviews", sessions, "reviews.html.j2", ReviewList),
        ("/reviews/{number}/panels/{key}", panel, "review_panel.html.j2", BlindPanel),
        ("/reviews/{number}/results", results, "review_results.html.j2", Results),
        ("/reviews/{number}/decisions", cases, "review_decisions.html.j2", list[Case]),
    ]
    for path, make, template, model in pages:
        _serve(app, path, make, template, model)
    app.post("/reviews", include_in_schema=False)(make_session)
    app.get("/reviews/{number}/next", include_in_schema=False)(next_panel)
    app.post("/reviews/{number}/panels/{key}", include_in_schema=False)(save_form)
    app.post("/api/reviews/{number}/panels/{key}", response_model=Saved, tags=["reviews"])(save_json)
    app.post("/reviews/{number}/decisions/{latent}", include_in_schema=False)(save_decision)
    app.get("/reviews/{number}/export/{name}", include_in_schema=False)(export)
    app.get("/reviews/{number}/pictures/{key}/{image}.webp", include_in_schema=False)(picture)
    app.get("/reviews/{number}/maps/{key}/{image}.webp", include_in_schema=False)(heat_map)


def _serve(app: FastAPI, path: str, make: Any, template: str, model: Any) -> None:
    hints = get_type_hints(make, include_extras=True)
    asked = [p.replace(annotation=hints[name]) for name, p in inspect.signature(make).parameters.items()]

    def page(request: Request, **query: Any) -> HTMLResponse:
        return html(request, template, make(request, **query))

    def twin(request: Request, **query: Any) -> JSONResponse:
        return JSONResponse(finite(make(request, **query)))

    for function, name in ((page, make.__name__), (twin, f"{make.__name__}_json")):
        function.__name__, function.__doc__ = f"review_{name}", make.__doc__
        vars(function)["__signature__"] = inspect.Signature(asked)
    app.get(path, response_class=HTMLResponse, include_in_schema=False)(page)
    app.get(f"/api{path}", response_model=model, tags=["reviews"])(twin)


def sessions(request: Request) -> ReviewList:
    """All review sessions, and how far each rater is."""
    user, library = _user(request), _library(request)
    found = list_sessions(_database(request))
    if not _coordinates(request):  # others see neither who else reviews nor how far they are
        found = [replace(s, raters=tuple(r for r in s.raters if user and r.rater == user.name)) for s in found]
    return ReviewList(tuple(found), tuple(library.names), user.name if user else "", _coordinates(request))


def panel(request: Request, number: Number, key: str, rater: Name = "") -> BlindPanel:
    """One panel, blinded: nothing in it says what it shows, or what others said."""
    return blind_panel(_database(request), number, _rater(request, rater), key)


def results(request: Request, number: Number) -> Results:
    """Agreement, learned latents against controls, and raters; for coordinators."""
    _demand_coordinator(request)
    return results_of(_database(request), number, repeats=300)


def cases(request: Request, number: Number) -> list[Case]:
    """What was said of each learned latent, and what is decided; for coordinators."""
    _demand_coordinator(request)
    return list_cases(_database(request), number)


def make_session(request: Request, form: Annotated[SessionForm, Form()]) -> RedirectResponse:
    """Make a session; its panels are computed here and now."""
    from cytosae.pipeline.concept_evidence_work import verdicts_known

    _demand_coordinator(request)
    library, user = _library(request), _user(request)
    if not library.has_maps:
        raise InputError("Panels cannot be made: neither tokens nor the SAE are at hand.")
    opened = library.dataset(form.dataset or None)
    design = Design(form.concepts, form.stratum, form.controls, form.repeats, seed=form.seed)
    verdicts = verdicts_known(library.study, opened.name)
    panels = make_panels(opened.atlas, library.columns(opened.name), opened.store, opened.sae, design, verdicts)
    create_session(
        _database(request),
        panels,
        design,
        title=form.title,
        dataset=opened.name,
        atlas=read_artifact(library.study.place("atlas", opened.name), "atlas", verify=False).fingerprint,
        raters=form.raters.splitlines(),
        by=user.name if user else "",
    )
    return RedirectResponse("/reviews", 303)


def next_panel(request: Request, number: Number, rater: Name = "") -> RedirectResponse:
    """On to the first panel without an answer."""
    name = _rater(request, rater)
    for progress in session_summary(_database(request), number).raters:
        if progress.rater == name:
            return RedirectResponse(_panel_url(number, progress.next, name) if progress.next else "/reviews", 303)
    raise InputError("You are no rater of this session; ask its coordinator.")


def save_form(request: Request, number: Number, key: str, form: Annotated[AnswerForm, Form()]) -> RedirectResponse:
    """Store an answer from the form, and go on to the next panel."""
    name, submitted, database = _rater(request, form.rater), form.state == "submitted", _database(request)
    answer = Answer(form.verdict, tuple(form.terms), form.words, form.place, form.confidence, tuple(form.misfits))
    give_answer(database, number, name, key, answer, submitted=submitted, version=form.version, seconds=form.seconds)
    following = blind_panel(database, number, name, key).next if submitted else key
    url = _panel_url(number, following, name) if following else f"/reviews/{number}/next?rater={_quoted(name)}"
    return RedirectResponse(url, 303)


def save_json(
    request: Request,
    number: Number,
    key: str,
    answer: Answer,
    version: Annotated[int, Query(ge=0, lt=1 << 31)],
    rater: Name = "",
    state: Literal["draft", "submitted"] = "draft",
    seconds: Annotated[float, Query(allow_inf_nan=False)] = 0.0,
) -> Saved:
    """Store an answer; when this is answered with 200, the answer is on disk."""
    name, database, submitted = _rater(request, rater), _database(request), state == "submitted"
    return Saved(
        give_answer(database, number, name, key, answer, version=version, submitted=submitted, seconds=seconds)
    )


def save_decision(
    request: Request,
    number: Number,
    latent: Latent,
    version: Annotated[int, Form(ge=0, lt=1 << 31)],
    accepted: Annotated[bool, Form()],
    name: Annotated[str, Form(max_length=200)] = "",
    terms: Annotated[list[str] | None, Form(max_length=40)] = None,
    comment: Annotated[str, Form(max_length=2000)] = "",
) -> RedirectResponse:
    """Store what is decided of a latent."""
    _demand_coordinator(request)
    user = _user(request)
    decision = Decision(accepted, name, tuple(terms or ()), comment)
    decide(_database(request), number, latent, decision, version=version, by=user.name if user else "")
    show_names(_library(request), _database(request))
    return RedirectResponse(f"/reviews/{number}/decisions#c{latent}", 303)


def export(request: Request, number: Number, name: str) -> PlainTextResponse:
    """Raw ratings and the filled checklist, as a file."""
    _demand_coordinator(request)
    if name not in EXPORTS:
        raise InputError(f"There is no such file; there are: {', '.join(EXPORTS)}.")
    kept = {"content-disposition": f'attachment; filename="review-{number}-{name}"'}
    return PlainTextResponse(EXPORTS[name](_database(request), number), headers=kept)


def picture(request: Request, number: Number, key: str, image: Latent) -> Response:
    """The whole field of a cell of a panel; its address says nothing of the cell."""
    cell, _, _ = panel_cell(_database(request), number, key, image)
    kept = request.app.state.kept.get(
        ("cell", cell, 2 * SIZE), lambda: webp(_library(request).pictures.thumbnail(cell, 2 * SIZE))
    )
    return Response(kept, media_type="image/webp", headers=KEPT)


def heat_map(request: Request, number: Number, key: str, image: Latent) -> Response:
    """The map of a cell of a panel."""
    _, coded, shape = panel_cell(_database(request), number, key, image)
    grid = np.frombuffer(base64.b64decode(coded), np.uint8).reshape(shape).astype(np.float32)
    return Response(webp(coloured(grid, SIZE, 255.0, "viridis"), lossless=True), media_type="image/webp", headers=KEPT)


def offered() -> dict[str, Any]:
    """What the form offers: verdicts, places, and terms by family."""
    terms = {words: [t for t in vocabulary().values() if t.family == key] for key, words in families().items()}
    return {"verdicts": VERDICTS, "places": PLACES, "terms": terms, "size": SIZE}


def _panel_url(number: Number, key: str | None, rater: str) -> str:
    return f"/reviews/{number}/panels/{key}?rater={_quoted(rater)}"


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _library(request: Request) -> Library:
    return request.app.state.library


def _database(request: Request) -> Database:
    return request.app.state.reviewing.of(_library(request))


def _user(request: Request) -> User | None:
    return getattr(request.state, "user", None)


def _coordinates(request: Request) -> bool:
    user = _user(request)
    return user.role == "coordinator" if user else request.app.state.accounts is None


def _demand_coordinator(request: Request) -> None:
    if not _coordinates(request):
        raise HTTPException(403, "This is for the coordinator of the reviews.")


def _rater(request: Request, named: str) -> str:
    """Who answers: the account's own name; the name that is given where there are no accounts."""
    user = _user(request)
    if user is None:
        return named
    if user.role == "reader":
        raise HTTPException(403, "A reader does not review; ask the coordinator for the role of a rater.")
    return user.name
