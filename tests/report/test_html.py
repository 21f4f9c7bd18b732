from __future__ import annotations

import datetime
import math
from html.parser import HTMLParser

import numpy as np
import pytest

from cytosae.common.artifact import read_artifact
from cytosae.common.errors import UsageError
from cytosae.report import write_report
from cytosae.report.html import THIN, duration, number, percent, whole


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
    for dataset, prefix in zip(datasets[1], ("dataset-1", "dataset-2"), strict=True):
        rows = np.asarray(dataset.atlas.uns["reference_cells"]["rows"])
        for concept in (a for a in concepts if a["id"].startswith(prefix)):
            latent = int(concept["id"].rsplit("-", 1)[1])
            pictures = [a for a in page.of("img") if a["alt"].endswith(f"of latent {latent}") and prefix]
            assert len(pictures) >= (rows[latent] >= 0).sum() > 0
    maps = [a for a in page.of("img") if a["alt"].startswith("Map of latent")]
    pictures = [a for a in page.of("img") if "reference cell" in a["alt"]]
    assert len(maps) == len(pictures) > 80


def test_all_pictures_have_words(page):
    assert all(a.get("alt") for a in page.of("img"))
    assert all(a.get("aria-label") for a in page.of("svg"))


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


def test_the_same_input_gives_the_same_file(datasets, tmp_path):
    sae, both = datasets
    moment = datetime.datetime(2025, 7, 16, tzinfo=datetime.UTC)
    call = {"datasets": both[:1], "sae": sae, "sae_summary": {}, "backbone": {}, "concepts": 3, "created": moment}
    one, two = (write_report(tmp_path / f"{name}.html", **call) for name in "ab")
    assert one.read_bytes() == two.read_bytes()


def test_an_image_that_is_gone_does_not_stop_the_report(datasets, tmp_path):
    sae, both = datasets
    gone = both[0].cells
    root, gone.root = gone.root, tmp_path / "nowhere"
    try:
        out = write_report(tmp_path / "r.html", datasets=both[:1], sae=sae, sae_summary={}, backbone={}, concepts=2)
    finally:
        gone.root = root
    assert len(Page(out.read_text(encoding="utf-8")).of("article", class_="concept")) == 2


def test_a_report_of_nothing_is_refused_in_a_sentence(datasets, tmp_path):
    with pytest.raises(UsageError, match="at least one data set"):
        write_report(tmp_path / "r.html", datasets=[], sae=datasets[0], sae_summary={}, backbone={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.0123, "0.0123"),
        (12.0, "12.0"),
        (-0.5, "−0.500"),
        (12345.6, f"12{THIN}346"),
        (0.0000123, f"1.23{THIN}×{THIN}10⁻⁵"),
        (math.nan, "–"),
        (None, "–"),
    ],
)
def test_numbers_are_set_as_in_print(value, shown):
    assert number(value) == shown


def test_shares_counts_and_durations_are_set_as_in_print():
    assert [percent(v) for v in (0, 0.00001, 0.0027, 0.123, 1, -12.5)] == [
        f"0{THIN}%",
        f"<{THIN}0.01{THIN}%",
        f"0.27{THIN}%",
        f"12.3{THIN}%",
        f"100{THIN}%",
        f"−1{THIN}250{THIN}%",
    ]
    assert whole(1234567) == f"1{THIN}234{THIN}567"
    assert [duration(v) for v in (3.14, 61, 3700)] == [f"3.1{THIN}s", f"1{THIN}min 1{THIN}s", f"1{THIN}h 1{THIN}min"]
