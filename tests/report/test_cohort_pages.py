from __future__ import annotations

import re

import pytest
from cohort.explanation.test_explanation import linear
from report.conftest import MOMENT

from cytosae.cohort import conclusion, counterfactual, explain_decision
from cytosae.common.artifact import read_artifact
from cytosae.common.errors import UsageError
from cytosae.report import Pictures, render, write_page
from cytosae.report.pages import relative_link
from cytosae.views import view_of_patient
from cytosae.views.parts.number_words import percent

LINKS = {
    ("patient", "P03"): "patients/P03.html",
    ("patient", "P00"): "../patients/P00.html",
    ("disease", "APL"): "diseases/APL.html",
    ("cohort", ""): "cohort.html",
}


@pytest.fixture(scope="module")
def cell_pictures(shared):
    return Pictures([shared.dataset.cells])


@pytest.fixture(scope="module")
def pages(patient_view, cohort_view, disease_view, cell_pictures, tmp_path_factory):
    views = {"patient": patient_view, "cohort": cohort_view, "disease": disease_view}
    folder = tmp_path_factory.mktemp("pages")
    return {
        kind: write_page(folder / f"{kind}.html", view, cell_pictures, links=LINKS, created=MOMENT)
        for kind, view in views.items()
    }


@pytest.fixture(scope="module")
def patient_page(pages):
    return pages["patient"]


@pytest.fixture(scope="module")
def cohort_page(pages):
    return pages["cohort"]


@pytest.fixture(scope="module")
def disease_page(pages):
    return pages["disease"]


KINDS = ("patient", "cohort", "disease")


@pytest.mark.parametrize("kind", KINDS)
def test_pages_say_first_what_was_compared_and_that_it_is_research(pages, kind):
    text = pages[kind].read_text(encoding="utf-8")
    head = text[text.index("<header>") : text.index("</header>")]
    for words in ("Research, not a diagnosis", "APL (12 patients) and AML (12 patients)", "0.90 to 1.00"):
        assert words in head


@pytest.mark.parametrize("kind", KINDS)
def test_pages_are_artifacts_that_load_nothing_and_escape_text(pages, kind, shared):
    text = pages[kind].read_text(encoding="utf-8")
    assert read_artifact(pages[kind], "report").inputs["tokens"] == "tokens-small"
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert not re.search(r'src="(?!data:)', text)
    assert "default-src 'none'; img-src data:" in text
    assert str(shared.dataset.cells.root) not in text
    assert ".png" not in text
    assert all(not link.startswith("/") for link in re.findall(r'href="([^"#][^"]*)"', text))
    assert [path for path in pages[kind].parent.iterdir() if path.name.startswith(".")] == []


def columns_of(text: str, table: str) -> dict[str, list[tuple[float, str]]]:
    """Head -> value with all its digits, and as it is printed, of each row of a table."""
    body = text[text.index(f'<table id="{table}"') :]
    heads, *rows = re.findall(r"<tr[^>]*>(.*?)</tr>", body[: body.index("</table>")], flags=re.S)
    names = re.findall(r"<th[^>]*>(.*?)</th>", heads)
    found = {name: [] for name in names}
    for row in rows:
        for name, (data, shown) in zip(names, re.findall(r"<td([^>]*)>(.*?)</td>", row, flags=re.S), strict=True):
            value = re.search(r'data-value="([^"]+)"', data)
            found[name].append((float(value[1]) if value else float("nan"), shown))
    return found


def test_numbers_of_the_patient_page_add_up(patient_page, explanation):
    text = patient_page.read_text(encoding="utf-8")
    for table in ("sum", "all-cells"):
        for column in ("Contribution", "Difference"):
            *parts, decision = columns_of(text, table)[column]
            assert sum(value for value, _ in parts) == pytest.approx(explanation.value, abs=1e-6)
            assert decision[0] == explanation.value
            printed = sum(float(shown.replace("−", "-")) for _, shown in parts)
            assert printed == pytest.approx(explanation.value, abs=5e-5 * (len(parts) + 1))


def test_patient_page_shows_the_counterfactual_and_what_is_doubtful(patient_page, explanation):
    text = patient_page.read_text(encoding="utf-8")
    assert counterfactual(explanation).sentence() in text
    assert "follows colour, changes with the stain" in text
    assert "its reliability is 0.31, below 0.5" in text
    assert "Reliability in another stain" in text
    assert "2 cells lie outside." in text
    assert 'href="cohort.html"' in text
    assert "Unlike its group" in text


def test_cohort_page_links_its_patients_and_diseases(cohort_page, contrasted, classified):
    text = cohort_page.read_text(encoding="utf-8")
    assert '<a href="patients/P03.html">P03</a>' in text
    assert '<a href="diseases/APL.html">APL</a>' in text
    few, clearest = text.split('<section id="concepts">')
    assert len(re.findall('<article class="concept', few)) == len(classified.few_concepts) > 0
    assert len(re.findall('<article class="concept', clearest)) == 3
    assert conclusion(contrasted).replace("<", "&lt;") in text


def test_cohort_page_has_every_model_with_its_interval_and_the_recommended_one_in_bold(cohort_page, classified):
    text = cohort_page.read_text(encoding="utf-8")
    start = text.index("Concepts</td></tr>")
    table = text[start : text.index("</tbody>", start)]
    for _, row in classified.table.iterrows():
        interval = f"({row['auroc_low']:.2f} to {row['auroc_high']:.2f})"
        assert re.search(
            rf"<td>{re.escape(row['model'])}</td><td class=\"n\">{row['auroc']:.2f} {re.escape(interval)}", table
        )
    bold = re.findall(r'<tr class="strong"><td>([^<]+)<', table)
    assert bold == [classified.recommended.name]
    for words in ("Baselines", "Confounders alone", "Negative controls", "ROC curves", "Reliability", "colour split"):
        assert words in text
    predictions = classified.predictions
    own = predictions[(predictions["model"] == classified.recommended.name) & (predictions["patient"] == "P03")]
    row = re.search(r'<a href="patients/P03.html">P03</a>.*', text).group()
    assert f">{percent(own['probability_APL'].iloc[0])}</td><td>{own['call'].iloc[0]}" in row


def test_disease_page_shows_cells_of_the_best_patients(disease_page):
    text = disease_page.read_text(encoding="utf-8")
    assert text.count('<div class="patient-cells">') == 4
    assert "3 promyelocyte. First cells by latent 5" in text
    assert "0.40 (0.30 to 0.50)" in text


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_meets_a_sentence_then_pictures_then_the_numbers_that_matter(pages, kind):
    text = pages[kind].read_text(encoding="utf-8").partition("</style>")[2]
    first, pictures, numbers = (text.index(words) for words in ('class="verdict"', '<ol class="', 'class="figures"'))
    assert first < pictures < numbers
    assert "<table" not in text[:pictures]
    assert text[first:pictures].count("<p") <= 8


def test_rows_beyond_those_that_matter_are_folded(cohort_page, classified):
    text = cohort_page.read_text(encoding="utf-8")
    open_part = re.sub(r"<details.*?</details>", "", text, flags=re.S)
    shown = [name for name in classified.table["model"] if f"<td>{name}</td>" in open_part]
    assert classified.recommended.name in shown
    assert {"cell-type shares", "colour alone"} <= set(shown)
    assert len(shown) <= 6 < len(classified.table)


def test_the_same_input_gives_the_same_page(patient_view, cell_pictures):
    assert len({render(patient_view, cell_pictures, created=MOMENT) for _ in range(2)}) == 1


def test_a_page_without_tokens_or_images_is_still_made(shared, tmp_path):
    explained = explain_decision(linear("mean"), shared.dataset.atlas, "P12")
    cells = shared.dataset.cells
    root, cells.root = cells.root, tmp_path / "gone"
    try:
        text = render(view_of_patient(explained, shared, orders=5, concepts=2), Pictures([cells]))
    finally:
        cells.root = root
    assert "The cells that speak most" not in text


def test_a_link_that_leads_elsewhere_is_refused(patient_view, cell_pictures):
    with pytest.raises(UsageError, match="not relative"):
        render(patient_view, cell_pictures, links={("cohort", ""): "https://example.org"})


@pytest.mark.parametrize("link", ["/etc/x.html", "https://example.org", "C:\\x", ""])
def test_links_that_would_break_when_the_folder_is_moved_are_refused(link):
    with pytest.raises(UsageError, match="not relative"):
        relative_link(link)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_open_offline_with_all_pictures_and_numbers_that_sum(pages, explanation, chromium, scheme):
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for width in (1280, 390):
            context = browser.new_context(offline=True, color_scheme=scheme, viewport={"width": width, "height": 900})
            page = context.new_page()
            requests, messages = [], []
            page.on("request", lambda request, seen=requests: seen.append(request.url))
            page.on("console", lambda message, seen=messages: seen.append(message.text))
            for path in pages.values():
                page.goto(path.as_uri())
                broken = "all => all.filter(i => !(i.complete && i.naturalWidth > 0)).map(i => i.alt)"
                assert page.locator("img").evaluate_all(broken) == []
                assert page.locator("img").count() > 20
                assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            page.goto(pages["patient"].as_uri())
            column = "all => all.reduce((sum, cell) => sum + parseFloat(cell.dataset.value), 0)"
            for table, place in (("sum", 7), ("sum", 8), ("all-cells", 3), ("all-cells", 4)):
                where = f"#{table} tbody tr:not(.strong) td:nth-child({place})"
                total = page.locator(where).evaluate_all(column)
                assert total == pytest.approx(explanation.value, abs=1e-6)
            assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
            assert messages == []
            context.close()
        browser.close()
