"""Nothing keeps anybody from reading a page: axe-core finds nothing serious, and every page fits two sizes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from explorer.browsing import chromium, needs_chromium, served

from cytosae.pipeline import Study

AXE = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"
pytestmark = needs_chromium
SIZES = {"wide": (1280, 800), "tablet": (820, 1180)}


@pytest.fixture(scope="module")
def address(explorer_of_patients) -> Iterator[str]:
    """The explorer of a classified cohort on a free port of this machine."""
    with served(explorer_of_patients.app) as found:
        yield found


@pytest.fixture(scope="module")
def paths(explorer_of_patients, study_of_patients) -> dict[str, str]:
    """Name -> path of one page of every kind."""
    atlas = Study(study_of_patients).atlas("patients")
    cell = str(atlas.obs_names[0])
    latent = int(atlas.X[[0]].toarray().ravel().argmax())
    found = explorer_of_patients.get("/api/patients").json()
    a, b = (row["patient"] for row in found["patients"][:2])
    disease = found["diseases"][0]
    return {
        "overview": "/",
        "concepts": "/concepts",
        "concept": f"/concepts/{latent}",
        "cell": f"/cells/{cell}?patches=100,101&change={latent}&by=0",
        "try": "/try",
        "patients": "/patients",
        "patient": f"/patients/{a}",
        "disease": f"/diseases/{disease}",
        "search": f"/search?q=has {latent}",
        "compare": f"/compare?a={a}&b={b}",
        "reviews": "/reviews",
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with chromium() as made:
        yield made


def test_axe_finds_nothing_serious_on_any_page(browser, address, paths):
    if not AXE.is_file():
        pytest.skip("axe-core is not here: make setup-browser")
    found = []
    for scheme in ("light", "dark"):
        page = browser.new_page(bypass_csp=True, color_scheme=scheme)
        for name, path in (paths | {"table": "/concepts?as=table", "lists": "/lists"}).items():
            page.goto(address + path)
            page.add_script_tag(path=str(AXE))
            for problem in page.evaluate("axe.run({resultTypes: ['violations']}).then(r => r.violations)"):
                if problem["impact"] in ("serious", "critical"):
                    where = [node["html"][:160] for node in problem["nodes"][:3]]
                    found.append(f"{name} ({scheme}): {problem['id']}, {problem['help']}: {where}")
        page.close()
    assert found == []


def test_every_page_is_pictured_at_two_sizes_and_fits(browser, address, paths, tmp_path):
    for size, (width, height) in SIZES.items():
        page = browser.new_page(viewport={"width": width, "height": height})
        for name, path in paths.items():
            page.goto(address + path)
            page.screenshot(path=str(tmp_path / f"{name}-{size}.png"))
            assert (tmp_path / f"{name}-{size}.png").stat().st_size > 5000
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} at {width} pixels"
        page.close()
