"""A person goes through the explorer in a browser; nothing is asked of any other server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import pytest
from explorer.browsing import chromium, needs_chromium, served

from cytosae.atlas.finding import concept_layout
from cytosae.explorer import ExplorerSettings, create_app

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def address(study_of_smear: Path, cache: None) -> Iterator[str]:
    """The explorer of the smear."""
    with served(create_app(ExplorerSettings(study=study_of_smear))) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with chromium() as made:
        yield made


@contextmanager
def opened(browser, address):
    """A page that fails the test on errors of the script and on requests to elsewhere."""
    made = browser.new_page(viewport={"width": 1280, "height": 800})
    wrong: list[str] = []
    made.on("pageerror", lambda problem: wrong.append(str(problem)))
    made.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    made.on("request", lambda r: None if r.url.startswith((address, "data:")) else wrong.append(r.url))
    yield made
    made.close()
    assert wrong == []


@pytest.fixture
def page(browser, address):
    with opened(browser, address) as made:
        yield made


def test_from_the_overview_to_a_concept_and_on_by_keyboard(page, address):
    page.goto(address)
    page.get_by_role("link", name="See the concepts").click()
    page.get_by_label("Order").select_option("frequency")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**sort=frequency**")
    page.locator("ol.gallery .card a").first.click()
    page.wait_for_url("**/concepts/*")
    first = page.url
    page.wait_for_load_state("networkidle")
    assert page.evaluate("[...document.querySelectorAll('img[data-map]')].slice(0, 5).every(i => i.naturalWidth > 0)")
    page.keyboard.press("ArrowRight")
    page.wait_for_url(lambda url: url != first)
    page.get_by_role("checkbox", name="map").uncheck()
    assert page.locator("img[data-map]").first.is_hidden()


def test_dragging_over_the_plot_bounds_the_concepts(page, address):
    page.goto(f"{address}/concepts")
    plot = page.locator("#density")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.95 * box["width"], box["y"] + 0.85 * box["height"], steps=4)
    page.mouse.up()
    page.wait_for_url("**low_frequency=**")
    assert "match what is asked" in page.inner_text("main")


def test_a_patch_is_clicked_and_its_concepts_are_seen_with_their_maps(page, address):
    page.goto(f"{address}/concepts")
    page.locator("ol.gallery .card a").first.click()
    page.locator("ol.cells a").first.click()
    page.wait_for_url("**/cells/**")
    page.locator("#grid").click(position={"x": 200, "y": 260})
    page.wait_for_url("**patches=**")
    assert "patches=134" in page.url  # row 8, column 6 of 16 x 16 on 512 px
    heading = page.get_by_role("heading", name="At the patch pointed at")
    assert heading.is_visible()
    button = page.locator(".show-map").nth(1)
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    painted = "document.getElementById('map').getContext('2d').getImageData(0, 0, 16, 16).data.some(v => v > 0)"
    assert page.evaluate(painted)
    page.locator("#grid").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "patches=" in url and "patches=134" not in url)


def test_dragging_over_patches_shows_what_is_strongest_on_all_of_them(page, address):
    page.goto(f"{address}/concepts")
    page.locator("ol.gallery .card a").first.click()
    page.locator("ol.cells a").first.click()
    page.wait_for_url("**/cells/**")
    cell = page.url.partition("/cells/")[2].partition("?")[0]
    grid = page.locator("#grid")
    grid.scroll_into_view_if_needed()
    box = grid.bounding_box()
    at = [
        (box["x"] + column * box["width"] / 16, box["y"] + row * box["height"] / 16)
        for column, row in [(7.6, 8.7), (5.2, 7.3)]
    ]
    page.mouse.move(*at[0])
    page.mouse.down()
    page.mouse.move(*at[1], steps=6)  # to the upper left
    cursor = page.locator("#cursor")
    assert [cursor.get_attribute(name) for name in ("x", "y", "width", "height")] == ["5", "7", "3", "2"]
    page.mouse.up()
    patches = [7 * 16 + 5, 7 * 16 + 6, 7 * 16 + 7, 8 * 16 + 5, 8 * 16 + 6, 8 * 16 + 7]
    asked = ",".join(map(str, patches))
    page.wait_for_url(lambda url: f"patches={asked}" in unquote(url))
    there = page.locator("section", has=page.get_by_role("heading", name="At the 6 patches pointed at"))
    shown = [int(one.get_attribute("data-latent")) for one in there.locator("li.lit").all()]
    twin = page.request.get(f"{address}/api/cells/{cell}?patches={asked}").json()["at_patches"]
    assert shown == [one["latent"] for one in twin] != []
    for one in twin:
        assert one["activation"] == pytest.approx(sum(one["values"][patch] for patch in patches) / 6, rel=0.01)
    assert page.locator("#grid rect.chosen").count() == 6


def test_an_image_is_tried(page, address, smear):
    page.goto(f"{address}/try")
    page.set_input_files("#image", str(min(smear.glob("images/**/*.png"))))
    page.get_by_role("button", name="See its concepts").click()
    page.get_by_role("heading", name="Most telling of this cell").wait_for()
    assert page.locator(".lit").count() >= 3
    assert "it is not kept" in page.inner_text("main")


def test_a_concept_is_changed_by_keyboard_in_a_cell_and_in_an_image_that_is_tried(page, address, smear):
    page.goto(f"{address}/concepts")
    page.locator("ol.gallery .card a").first.click()
    page.locator("ol.cells a").first.click()
    page.get_by_role("link", name="halve concept").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**change=*by=0.5**")
    assert "halved" in page.locator("[role=status]").inner_text()
    page.locator("#change-form select").select_option("doubled")
    page.get_by_role("button", name="See what happens").press("Enter")
    page.wait_for_url("**by=2**")
    page.goto(f"{address}/try")
    page.set_input_files("#image", str(min(smear.glob("images/**/*.png"))))
    page.get_by_role("button", name="See its concepts").click()
    page.get_by_role("button", name="remove concept").first.press("Enter")
    page.locator("[role=status]").wait_for()
    assert "removed" in page.locator("[role=status]").inner_text()
    page.locator("#grid").click(position={"x": 200, "y": 200})
    page.get_by_role("heading", name="At the patch pointed at").wait_for()
    assert "removed" in page.locator("[role=status]").inner_text()


def test_pages_are_read_by_a_screen_reader_and_fit_a_tablet(browser, address):
    tablet = browser.new_page(viewport={"width": 820, "height": 1180})
    for path in ("/", "/concepts", "/concepts?as=table", "/concepts/5", "/lists", "/search?q=has 5", "/try"):
        tablet.goto(address + path)
        assert tablet.locator("h1").count() == 1
        assert tablet.locator("main img:not([alt])").count() == 0
        nameless = "[...document.querySelectorAll('input:not([type=hidden]), select')].filter(e => !e.labels.length)"
        assert tablet.evaluate(f"{nameless}.length") == 0
        assert tablet.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tablet.close()


def test_the_map_is_walked_by_keyboard_and_a_region_is_kept_as_a_list(browser, study_of_smear, tmp_path, monkeypatch):
    monkeypatch.setattr(concept_layout, "LANDMARKS", 60)
    copy = shutil.copytree(study_of_smear, tmp_path / "study")
    with served(create_app(ExplorerSettings(study=copy))) as address, opened(browser, address) as page:
        page.goto(f"{address}/concepts/map?by=cells")
        page.wait_for_selector("#concept-map[data-points]")
        page.locator("#concept-map").focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_selector("#pointed strong")
        name = page.inner_text("#pointed strong")
        page.keyboard.press("Enter")
        page.wait_for_url("**/concepts/*?dataset=smear")
        assert page.inner_text("h1") == name
        page.go_back()
        page.wait_for_selector("#concept-map[data-points]")
        box = page.locator("#concept-map").bounding_box()
        page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.1 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.7 * box["height"], steps=4)
        page.mouse.up()
        page.wait_for_url("**left=0.*")
        inside = page.inner_text("#inside")
        page.get_by_placeholder("name of the list").fill("A region")
        page.get_by_role("button", name="Keep").click()
        page.wait_for_url("**/lists/*")
        assert page.inner_text("h1") == "A region"
        assert inside.split()[0] in page.inner_text("main p")


def test_a_comment_is_said_and_help_is_opened(browser, study_of_smear, tmp_path):
    copy = shutil.copytree(study_of_smear, tmp_path / "study")
    with served(create_app(ExplorerSettings(study=copy))) as address, opened(browser, address) as page:
        page.goto(f"{address}/concepts/5")
        page.get_by_label("What is meant by Cells active").first.click()
        assert page.get_by_text("Share of cells whose mean activation is above 0").is_visible()
        page.set_viewport_size({"width": 820, "height": 1100})
        page.evaluate("document.querySelectorAll('main > section details.help').forEach(d => (d.open = true))")
        inside = "s => { const b = s.getBoundingClientRect(); return b.left >= 0 && b.right <= innerWidth; }"
        page.wait_for_function(f"[...document.querySelectorAll('details.help[open] span')].every({inside})")
        page.keyboard.press("Escape")
        assert page.locator("details.help[open]").count() == 0
        page.get_by_label("Your name").fill("Dr. A")
        page.get_by_label("Comment").fill("Vacuoles, <b>surely</b>.")
        page.get_by_role("button", name="Say it").click()
        page.get_by_text("Vacuoles, <b>surely</b>.").wait_for()
        assert "Dr. A" in page.inner_text(".comment")
