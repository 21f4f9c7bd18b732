from __future__ import annotations

import datetime
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from cohort.explanation.test_explanation import linear
from cohort.small_chain import APL_LATENT, TAU, make_small_chain
from PIL import Image

from cytosae.atlas import build_atlas
from cytosae.cells.stain.colour import COLOUR_COLUMNS
from cytosae.cohort.classification.classify import classify
from cytosae.cohort.config import AttentionConfig, ClassificationConfig
from cytosae.cohort.contrasts.contrast import conclusion, contrast
from cytosae.cohort.design import Design, Intervals
from cytosae.cohort.explanation.counterfactual import counterfactual
from cytosae.cohort.explanation.decision import Detail, explain_decision
from cytosae.cohort.explanation.faithfulness import stability
from cytosae.cohort.explanation.pathognomonic import pathognomonic_cells
from cytosae.cohort.patients.barcodes import barcodes
from cytosae.common.artifact import read_artifact
from cytosae.common.errors import InputError, UsageError
from cytosae.report import (
    DatasetReport,
    Marks,
    comparison,
    models_view,
    write_cohort_report,
    write_disease_page,
    write_patient_page,
)
from cytosae.report.cohort_content import Evidence, relative_link, signed
from cytosae.report.html import percent

EVIL = "<script>alert('x')</script>"
MOMENT = datetime.datetime(2025, 7, 16, tzinfo=datetime.UTC)
HITS = {"ranking": ["concepts"], "precision": [0.4], "precision_low": [0.3], "precision_high": [0.5]}
EVIDENCE = Evidence(
    groups=(("APL", 12), ("AML", 12)),
    dataset="small",
    performance="AUROC 0.97 (95 % interval 0.90 to 1.00) in repeated cross-validation.",
    caveats=(f"Colour alone reaches 0.5 & {EVIL}.",),
)
MARKS = Marks(np.arange(64) == APL_LATENT, np.where(np.arange(64) == APL_LATENT, 0.31, 0.83))


def write_images(folder, cells):
    """A picture of each cell: a disc whose colour goes with its type."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    colours = {name: rng.integers(60, 180, 3) for name in sorted(set(cells.frame["true_label"]))}
    for image, label in zip(cells.frame["image"], cells.frame["true_label"], strict=True):
        picture = np.full((48, 48, 3), 225, np.uint8)
        picture[(x**2 + y**2) < rng.uniform(0.25, 0.5)] = colours[label]
        (folder / image).parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / image)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The small cohort with pictures: SAE, its report data set, its barcodes."""
    sae, store, cells = make_small_chain()
    cells.root = tmp_path_factory.mktemp("pictures")
    write_images(cells.root, cells)
    atlas = build_atlas(sae, store, cells, tau=TAU)
    return sae, DatasetReport(atlas, cells, store), barcodes(atlas)


@pytest.fixture(scope="module")
def compared(small):
    return comparison(contrast(small[2], "APL", "AML", intervals=Intervals(resamples=50)))


@pytest.fixture(scope="module")
def explanation(small):
    sae, dataset, patients = small
    reference = patients.layers["presence"].mean(0)
    model = linear("presence", seed=3)
    return explain_decision(model, dataset.atlas, "P03", reference=reference, detail=Detail(sae, dataset.store, 4))


@pytest.fixture(scope="module")
def patient_page(small, explanation, tmp_path_factory):
    sae, dataset, _ = small
    return write_patient_page(
        tmp_path_factory.mktemp("pages") / "P03.html",
        explanation,
        dataset=dataset,
        sae=sae,
        evidence=EVIDENCE,
        diagnosis=EVIL,
        marks=MARKS,
        specific=pd.DataFrame({"z": [4.2]}, index=[30]),
        notes=["2 cells lie outside."],
        links={"Cohort": "cohort.html"},
        orders=20,
        created=MOMENT,
    )


@pytest.fixture(scope="module")
def classified(small):
    """A classification of the small cohort, with the fewest repetitions."""
    config = ClassificationConfig(folds=3, repeats=1, kinds=("presence",), shuffles=1, bootstrap=20, slow_repeats=1)
    config = replace(config, attention=AttentionConfig(most_epochs=1), positive="APL")
    colours = pd.DataFrame(
        np.random.default_rng(0).normal(120, 9, (small[1].atlas.n_obs, 6)),
        index=small[1].atlas.obs_names,
        columns=list(COLOUR_COLUMNS),
    )
    return classify(small[2], small[1].atlas, colours=colours, config=config)


@pytest.fixture(scope="module")
def cohort_page(small, compared, classified, tmp_path_factory):
    sae, dataset, patients = small
    groups = patients.obs["diagnosis"].to_numpy()

    def refit(rows):
        x = np.asarray(patients.layers["presence"])[rows]
        difference = x[groups[rows] == "APL"].mean(0) - x[groups[rows] == "AML"].mean(0)
        return linear("presence", latents=np.arange(64), coef=difference[None], means=x.mean(0))

    return write_cohort_report(
        tmp_path_factory.mktemp("pages") / "cohort.html",
        dataset=dataset,
        sae=sae,
        barcodes=patients,
        evidence=EVIDENCE,
        models=models_view(classified),
        comparisons=[compared],
        stability=stability(refit, patients.layers["presence"], Design(groups == "APL"), top=5, resamples=4),
        marks=MARKS,
        patient_pages={"P03": "patients/P03.html"},
        disease_pages={"APL": "diseases/APL.html"},
        concepts=3,
        created=MOMENT,
    )


@pytest.fixture(scope="module")
def disease_page(small, compared, tmp_path_factory):
    sae, dataset, _ = small
    cells = pathognomonic_cells(dataset.atlas, "APL", "AML")
    return write_disease_page(
        tmp_path_factory.mktemp("pages") / "APL.html",
        compared,
        dataset=dataset,
        sae=sae,
        evidence=EVIDENCE,
        cells=cells,
        enrichment=pd.DataFrame(HITS),
        enrichment_words=["Enriched."],
        marks=MARKS,
        patient_pages={"P00": "../patients/P00.html"},
        concepts=3,
        patients=4,
        each=3,
        created=MOMENT,
    )


@pytest.fixture(scope="module")
def pages(patient_page, cohort_page, disease_page):
    return {"patient": patient_page, "cohort": cohort_page, "disease": disease_page}


KINDS = ("patient", "cohort", "disease")


@pytest.mark.parametrize("kind", KINDS)
def test_pages_say_first_what_was_compared_and_that_it_is_research(pages, kind):
    text = pages[kind].read_text(encoding="utf-8")
    head = text[text.index("<header>") : text.index("</header>")]
    for words in ("Research, not a diagnosis", "APL (12 patients) and AML (12 patients)", "0.90 to 1.00"):
        assert words in head


@pytest.mark.parametrize("kind", KINDS)
def test_pages_are_artifacts_that_load_nothing_and_escape_text(pages, kind, small):
    text = pages[kind].read_text(encoding="utf-8")
    assert read_artifact(pages[kind], "report").inputs["tokens"] == "tokens-small"
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert not re.search(r'src="(?!data:)', text)
    assert "default-src 'none'; img-src data:" in text
    assert str(small[1].cells.root) not in text
    assert ".png" not in text
    assert all(not link.startswith("/") for link in re.findall(r'href="([^"#][^"]*)"', text))
    assert [path for path in pages[kind].parent.iterdir() if path.name.startswith(".")] == []


def test_numbers_of_the_patient_page_add_up(patient_page, explanation):
    text = patient_page.read_text(encoding="utf-8")

    def values(name):
        return [float(v) for v in re.findall(rf'class="n {name}" data-value="([^"]+)"', text)]

    for column in ("contribution", "difference", "cell", "cell-difference"):
        assert sum(values(column)) == pytest.approx(explanation.value, abs=1e-6)
    assert values("total-contribution") == values("total-difference") == [explanation.value]
    shown = re.findall(r'class="n contribution"[^>]*>([^<]+)<', text)
    printed = sum(float(value.replace("−", "-")) for value in shown)
    assert printed == pytest.approx(explanation.value, abs=5e-5 * (len(shown) + 1))


def test_patient_page_shows_the_counterfactual_and_what_is_doubtful(patient_page, explanation):
    text = patient_page.read_text(encoding="utf-8")
    assert counterfactual(explanation).sentence() in text
    assert "follows colour, changes with the stain" in text
    assert "its reliability is 0.31, below 0.5" in text
    assert "Reliability in another stain" in text
    assert "2 cells lie outside." in text
    assert 'href="cohort.html"' in text
    assert "Unlike its group" in text


def test_cohort_page_links_its_patients_and_diseases(cohort_page, small):
    text = cohort_page.read_text(encoding="utf-8")
    assert '<a href="patients/P03.html">P03</a>' in text
    assert '<a href="diseases/APL.html">APL</a>' in text
    assert len(re.findall('<article class="concept', text)) == 3
    assert conclusion(contrast(small[2], "APL", "AML", intervals=Intervals(resamples=50))).replace("<", "&lt;") in text


def test_cohort_page_has_every_model_with_its_interval_and_the_recommended_one_in_bold(cohort_page, classified):
    text = cohort_page.read_text(encoding="utf-8")
    table = text[text.index("Concepts</td></tr>") : text.index("</tbody>")]
    for _, row in classified.table.iterrows():
        interval = f"({row['auroc_low']:.2f} to {row['auroc_high']:.2f})"
        assert re.search(
            rf"<td>{re.escape(row['model'])}</td><td class=\"n\">{row['auroc']:.2f} {re.escape(interval)}", table
        )
    bold = re.findall(r'<tr class="sae"><td>([^<]+)<', table)
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


def test_the_same_input_gives_the_same_page(small, explanation, tmp_path):
    sae, dataset, _ = small
    call = {"dataset": dataset, "sae": sae, "evidence": EVIDENCE, "orders": 5, "concepts": 1, "created": MOMENT}
    one, two = (write_patient_page(tmp_path / f"{name}.html", explanation, **call) for name in "ab")
    assert one.read_bytes() == two.read_bytes()


def test_a_page_without_tokens_or_images_is_still_made(small, tmp_path):
    sae, dataset, _ = small
    explained = explain_decision(linear("mean"), dataset.atlas, "P12")
    root, dataset.cells.root = dataset.cells.root, tmp_path / "gone"
    try:
        page = write_patient_page(
            tmp_path / "p.html", explained, dataset=dataset, sae=sae, evidence=EVIDENCE, orders=5, concepts=2
        )
    finally:
        dataset.cells.root = root
    assert "Cells and patches that contributed most" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("link", ["/etc/x.html", "https://example.org", "C:\\x", ""])
def test_links_that_would_break_when_the_folder_is_moved_are_refused(link):
    with pytest.raises(UsageError, match="not relative"):
        relative_link(link)


def test_unknown_cells_are_refused(small, compared, tmp_path):
    sae, dataset, _ = small
    cells = pd.DataFrame({"cell_id": ["nowhere"], "patient": ["P00"], "score": [1.0], "rank": [1], "leading": ["5"]})
    with pytest.raises(InputError, match="nowhere is not in small"):
        write_disease_page(tmp_path / "d.html", compared, dataset=dataset, sae=sae, evidence=EVIDENCE, cells=cells)
    assert list(tmp_path.iterdir()) == []


def test_numbers_are_signed_as_in_print():
    assert [signed(value) for value in (0.5, -0.5, 0.0, float("nan"))] == ["+0.500", "−0.500", "0", "–"]


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
            for name in ("contribution", "difference", "cell", "cell-difference"):
                total = page.locator(f"td.{name}").evaluate_all(column)
                assert total == pytest.approx(explanation.value, abs=1e-6)
            assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
            assert messages == []
            context.close()
        browser.close()
