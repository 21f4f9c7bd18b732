from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from report.conftest import MOMENT

from cytosae.common.artifact import read_artifact
from cytosae.common.errors import UsageError
from cytosae.report import Pictures, render, write_page
from cytosae.views import view_of_study
from cytosae.views.parts.number_words import THIN


class Page(HTMLParser):
    """Collects elements and checks that they are nested properly."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def of(self, tag: str, **attributes: str) -> list[dict]:
        wanted = {key.rstrip("_"): value for key, value in attributes.items()}
        return [a for t, a in self.elements if t == tag and wanted.items() <= a.items()]


@pytest.fixture(scope="module")
def page(report) -> Page:
    return Page(report.read_text(encoding="utf-8"))


def test_page_is_well_formed_and_is_an_artifact(report, page):
    assert page.open == []
    assert read_artifact(report, "report").path == report


def test_nothing_is_loaded_from_elsewhere(page):
    for tag, attributes in page.elements:
        for name in ("src", "href", "data", "srcset", "poster", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/")), (tag, name, value[:60])
    assert not page.of("script")
    assert not page.of("link")
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]


def test_content_policy_allows_inline_pictures_and_styles_only(page):
    (policy,) = [a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert "script-src" not in policy


def test_every_concept_has_its_reference_cells_as_picture_and_map(page, datasets):
    concepts = page.of("article", class_="concept")
    assert len(concepts) == 10
    for dataset, prefix in zip(datasets, ("dataset-1", "dataset-2"), strict=True):
        rows = np.asarray(dataset.atlas.uns["reference_cells"]["rows"])
        for concept in (a for a in concepts if a["id"].startswith(prefix)):
            latent = int(concept["id"].rsplit("-", 1)[1])
            pictures = [a for a in page.of("img") if f"reference cell of latent {latent}, number" in a["alt"]]
            assert len(pictures) >= (rows[latent] >= 0).sum() > 0
    maps = [a for a in page.of("img") if a["alt"].startswith("Map of latent")]
    pictures = [a for a in page.of("img") if ", reference cell " in a["alt"]]
    assert len(maps) == len(pictures) > 80


def test_all_pictures_have_words(page):
    assert all(a.get("alt") for a in page.of("img"))
    assert all(a.get("aria-label") for a in page.of("ul", class_="bars"))


def test_labels_and_file_names_cannot_inject_markup(report):
    text = report.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<b>broken" not in text
    assert "&lt;script&gt;" in text


def test_what_was_run_is_said(report):
    text = report.read_text(encoding="utf-8")
    for words in (
        "Research use, not a diagnosis",
        f"87.0{THIN}%",
        f"49.0{THIN}%",
        "tiny",
        f"3{THIN}min 7{THIN}s",
        "filed under",
    ):
        assert words in text


def test_a_reader_meets_a_sentence_then_pictures_then_numbers(report):
    text = report.read_text(encoding="utf-8")
    places = [text.index(words) for words in ('class="verdict"', "<article", 'class="figures"', 'id="definitions"')]
    assert places == sorted(places)
    assert "<img" not in text[: places[1]].partition("</style>")[2].partition('class="key"')[0]


def test_structures_are_those_that_the_masks_tell(study_view, pictures):
    found = study_view.localisation
    panels = (replace(found.plot.panels[0], title="cell"),)
    whole = replace(found, plot=replace(found.plot, panels=panels), examples=())
    assert "Do single units mark the cell?" in render(replace(study_view, localisation=whole), pictures)
    assert "Do single units mark the nucleus and the cytoplasm?" in render(study_view, pictures)


def test_the_same_input_gives_the_same_file(study_view, pictures, tmp_path):
    one, two = (write_page(tmp_path / f"{n}.html", study_view, pictures, created=MOMENT) for n in "ab")
    assert one.read_bytes() == two.read_bytes()


def test_an_image_that_is_gone_does_not_stop_the_report(datasets, study_view, tmp_path):
    gone = datasets[0].cells
    root, gone.root = gone.root, tmp_path / "nowhere"
    try:
        text = render(study_view, Pictures([dataset.cells for dataset in datasets]))
    finally:
        gone.root = root
    assert len(Page(text).of("article", class_="concept")) == 10


def test_a_report_of_nothing_is_refused_in_a_sentence():
    with pytest.raises(UsageError, match="at least one data set"):
        view_of_study([], summary={})
