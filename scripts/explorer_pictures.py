"""Pictures for the docs, of a finished study (that of the demo, whose cells are drawn): the explorer, a cohort's pages.

    python scripts/explorer_pictures.py runs/demo docs/images

Each page is taken at 1280 x 800 and as on a tablet; WebP, the first screen only (two where what is asked stands below).
"""

from __future__ import annotations

import io
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import uvicorn
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from cytosae.explorer import ExplorerSettings, create_app

SIZES = {"": (1280, 800), "-tablet": (768, 1024)}
TWO_SCREENS = {"change"}
"""Pictures whose point stands below the first screen."""


def main(study: Path, out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        take(study, out, f"sqlite:///{folder}/reviews.sqlite")


def take(study: Path, out: Path, reviews_url: str) -> None:
    """All pictures; ``reviews_url``: a database for the session of which one panel is shown."""
    listening = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    app = create_app(ExplorerSettings(study=study, reviews_url=reviews_url))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1500})
        page.set_default_timeout(600_000)
        save(panel_of_a_review(page, address), out / "explorer-review.webp")
        for suffix, (width, height) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(180_000)
            for name, path in paths(page, address).items():
                page.set_viewport_size({"width": width, "height": height * (1 + (name in TWO_SCREENS))})
                page.goto(address + path)
                page.wait_for_load_state("networkidle")
                save(page.screenshot(), out / f"explorer-{name}{suffix}.webp")
        page = browser.new_page(viewport={"width": 1280, "height": 1400})
        for name, file in written_pages(study).items():
            page.goto(file.resolve().as_uri())
            save(page.screenshot(), out / f"{name}.webp")
        browser.close()
    server.should_exit = True


def panel_of_a_review(page: Page, address: str) -> bytes:
    """The first panel that a rater of a new session sees."""
    page.goto(f"{address}/reviews")
    for name, value in (("title", "Smear"), ("raters", "Ada"), ("concepts", "6"), ("controls", "2"), ("repeats", "0")):
        page.fill(f"[name={name}]", value)
    with page.expect_navigation():
        page.click("button.first")
    page.goto(f"{address}/reviews/1/next?rater=Ada")
    page.wait_for_load_state("networkidle")
    return page.screenshot()


def save(picture: bytes, file: Path) -> None:
    Image.open(io.BytesIO(picture)).save(file, quality=70, method=6)


def written_pages(study: Path) -> dict[str, Path]:
    """Name of a picture -> page of a cohort that lies in the study; the first patient's."""
    found = {
        "cohort-page": sorted(study.glob("cohort/*/report.html")),
        "cohort-patient": sorted(study.glob("cohort/*/pages/patient-*.html")),
        "cohort-disease": sorted(study.glob("cohort/*/pages/disease-*.html")),
    }
    return {name: files[0] for name, files in found.items() if files}


def paths(page: Page, address: str) -> dict[str, str]:
    """Name of a picture -> path; concept, cell and patient are the first that the pages themselves name."""
    ask = page.request
    first = ask.get(f"{address}/api/concepts").json()["cards"][0]
    cell = first["references"][0]
    lit = ask.get(f"{address}/api/cells/{cell}").json()["concepts"][0]["latent"]
    found = {
        "overview": "/",
        "concepts": "/concepts",
        "classes": "/concepts#heat",
        "map": "/concepts/map",
        "concept": f"/concepts/{first['latent']}",
        "evidence": f"/concepts/{first['latent']}/evidence",
        "cell": f"/cells/{cell}?patches=119,120,135,136",
        "change": f"/cells/{cell}?change={lit}&by=0&latent={lit}#change",
        "search": f"/search?q=has {first['latent']}",
        "alike": f"/search?like={cell}&patches=119,120,135,136",
        "try": "/try",
    }
    patients = ask.get(f"{address}/api/patients")
    if patients.ok:
        told = patients.json()
        patient = told["patients"][0]["patient"]
        found["patients"] = "/patients"
        found["patient"] = f"/patients/{patient}"
        deciding = ask.get(f"{address}/api/patients/{patient}").json()["concepts"]
        if seen := [weighed for weighed in deciding if weighed["cells"]]:
            of, latent = seen[0]["cells"][0], seen[0]["concept"]["latent"]
            found["change"] = f"/cells/{of}?change={latent}&by=0&latent={latent}#change"
        found["compare"] = f"/compare?a={patient}&b={told['patients'][-1]['patient']}"
        found["disease"] = f"/diseases/{told['diseases'][0]}"
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
