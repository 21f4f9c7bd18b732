"""Nothing keeps anybody from reading a page: axe-core finds nothing serious, and every page fits window and paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from explorer.browsing import chromium, needs_chromium, served
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from fastapi.testclient import TestClient
from starlette.routing import Match

from cytosae.atlas.finding import concept_layout
from cytosae.explorer import ExplorerSettings, create_app
from cytosae.explorer.accounts import add_account
from cytosae.pipeline import Study

AXE = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"
WIDTHS = {1280: "screen", 768: "screen", 718: "print"}  # a window, a tablet, A4 between margins of 1 cm
PAGES = {
    "overview": "/",
    "concepts": "/concepts",
    "table": "/concepts?as=table",
    "none that match": "/concepts?q=999999",
    "map": "/concepts/map?by=cells",
    "concept": "/concepts/{latent}",
    "evidence": "/concepts/{latent}/evidence",
    "gaze": "/concepts/{latent}/gaze",
    "cell": "/cells/{cell}?patches=100,101&change={latent}&by=0",
    "try": "/try",
    "patients": "/patients",
    "patient": "/patients/{a}",
    "gaze of a decision": "/patients/{a}/gaze",
    "disease": "/diseases/{disease}",
    "search": "/search?q=has {latent}",
    "like patches": "/search?like={cell}&patches=100,101",
    "compare": "/compare?a={a}&b={b}",
    "lists": "/lists",
    "list": "/lists/1",
    "reviews": "/reviews",
    "panel": "/reviews/1/panels/{panel}?rater=Ada",
    "results": "/reviews/1/results",
    "decisions": "/reviews/1/decisions",
    "error": "/nowhere",
    "sign in": "/login",
}
"""Name -> path of a page of every kind, with what it names in braces."""


@pytest.fixture(scope="module")
def app(study_of_patients: Path, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """The explorer of a classified cohort, with reviews of its own."""
    reviews = f"sqlite:///{tmp_path_factory.mktemp('reviews')}/reviews.sqlite"
    return create_app(ExplorerSettings(study=study_of_patients, reviews_url=reviews))


@pytest.fixture(scope="module")
def guarded(study_of_patients: Path, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """The same where people sign in."""
    accounts = tmp_path_factory.mktemp("accounts") / "accounts.json"
    add_account(accounts, "ada", "a long enough password", "reader")
    return create_app(ExplorerSettings(study=study_of_patients, accounts=accounts))


@pytest.fixture(scope="module")
def known(app: FastAPI, study_of_patients: Path) -> dict[str, object]:
    """What the paths of `PAGES` name; a review with answers, a decision, a list and a comment are made."""
    client = TestClient(app, base_url="http://127.0.0.1:8765", headers={"origin": "http://127.0.0.1:8765"})
    atlas = Study(study_of_patients).atlas("patients")
    latent = int(atlas.X[[0]].toarray().ravel().argmax())
    said = client.get("/api/patients").json()
    a, b = (row["patient"] for row in said["patients"][:2])
    sheet = {"title": "Smear", "raters": "Ada\nBob", "concepts": "2", "controls": "1", "repeats": "1"}
    client.post("/reviews", data=sheet)
    panels = [r["next"] for r in client.get("/api/reviews").json()["sessions"][0]["raters"]]
    for rater, panel in zip(("Ada", "Bob"), panels, strict=True):
        answer = {"verdict": "yes", "terms": [], "words": "", "place": "", "confidence": 4, "misfits": []}
        given = client.post(f"/api/reviews/1/panels/{panel}?rater={rater}&version=0&state=submitted", json=answer)
        assert given.status_code == 200, given.text
    decided = client.get("/api/reviews/1/decisions").json()[0]["latent"]
    client.post(f"/reviews/1/decisions/{decided}", data={"version": 0, "accepted": "true", "name": "Dark nuclei"})
    client.post("/concepts/keep?sort=rarity", data={"title": "Rare ones"})
    client.post(f"/concepts/{latent}/comments", data={"name": "Dr. A", "text": "Granules."})
    cell = str(atlas.obs_names[0])
    return {"latent": latent, "cell": cell, "a": a, "b": b, "disease": said["diseases"][0], "panel": panels[0]}


@pytest.fixture(scope="module")
def open_page(app: FastAPI, guarded: FastAPI, known: dict[str, object]) -> Iterator[object]:
    """Opens the page of a name, in one browser window for all."""
    with (
        pytest.MonkeyPatch.context() as patch,
        served(app) as open_to_all,
        served(guarded) as closed,
        chromium() as made,
    ):
        patch.setattr(concept_layout, "LANDMARKS", 60)
        page = made.new_page(bypass_csp=True)
        page.set_default_timeout(60_000)

        def opened(name: str) -> object:
            page.emulate_media(media="screen", color_scheme="light")
            page.set_viewport_size({"width": 1280, "height": 800})
            page.goto((closed if name == "sign in" else open_to_all) + PAGES[name].format(**known))
            if name == "map":
                page.wait_for_selector("#concept-map[data-points]")
            return page

        yield opened


def test_no_page_is_forgotten(app: FastAPI, guarded: FastAPI, known: dict[str, object]) -> None:
    pages = [r for served_app in (app, guarded) for r in served_app.routes if _is_page(r)]
    visited = {path.format(**known).partition("?")[0] for path in PAGES.values()}
    seen = {_first_match(pages, path) for path in visited}
    assert {route.path for route in pages} == seen - {None}


def _is_page(route: object) -> bool:
    return getattr(route, "response_class", None) is HTMLResponse and "GET" in route.methods


def _first_match(routes: list, path: str) -> str | None:
    scope = {"type": "http", "method": "GET", "path": path}
    return next((route.path for route in routes if route.matches(scope)[0] is Match.FULL), None)


@needs_chromium
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_and_axe_finds_nothing_serious(name: str, open_page) -> None:
    assert problems_of(open_page(name)) == []


@needs_chromium
def test_so_does_the_answer_to_an_image_that_is_dropped_in(open_page, known, study_of_patients) -> None:
    cells = Study(study_of_patients).cells("patients")
    page = open_page("try")
    page.set_input_files("#image", str(cells.image_path(0)))
    page.get_by_role("button", name="See its concepts").click()
    page.get_by_role("button", name="remove concept").first.press("Enter")
    page.locator("[role=status]").wait_for()
    page.locator("#grid").click(position={"x": 200, "y": 200})
    page.get_by_role("heading", name="At the patch pointed at").wait_for()
    assert problems_of(page) == []


@needs_chromium
def test_so_do_the_static_pages(open_page, study_of_smear, study_of_patients) -> None:
    kinds = {file.name.partition("-")[0]: file for file in sorted((study_of_patients / "cohort").rglob("*.html"))}
    assert {"report.html", "patient", "disease"} <= set(kinds)
    page = open_page("overview")
    for file in (study_of_smear / "report.html", *kinds.values()):
        page.goto(file.as_uri())
        assert problems_of(page) == [], file.name


def problems_of(page) -> list[str]:
    """Where the page does not fit, and what axe-core finds serious."""
    found = []
    for width, media in WIDTHS.items():
        page.emulate_media(media=media)
        page.set_viewport_size({"width": width, "height": 800})
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append(f"does not fit {width} pixels, {media}")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.emulate_media(media="screen", color_scheme="light")
    if not AXE.is_file():
        assert found == []
        pytest.skip("axe-core is not here: make setup-browser")
    page.add_script_tag(path=str(AXE))
    for scheme, asked in (("light", {}), ("dark", {"runOnly": ["color-contrast"]})):
        page.emulate_media(media="screen", color_scheme=scheme)
        ran = page.evaluate("asked => axe.run({resultTypes: ['violations'], ...asked})", asked)
        for problem in ran["violations"]:
            if problem["impact"] in ("serious", "critical"):
                where = [node["html"][:160] for node in problem["nodes"][:3]]
                found.append(f"{scheme}: {problem['id']}, {problem['help']}: {where}")
    return found
