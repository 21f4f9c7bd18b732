from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from cli.conftest import QUICK, run

from cytosae.cells.synthetic import synthesize
from cytosae.cohort import (
    open_cell_controls,
    open_classification,
    open_classifier,
    open_cohort,
    open_retest,
    retest_reliability,
)
from cytosae.common.names import file_name
from cytosae.pipeline import Study


@pytest.fixture
def fresh(study_of_cohort, tmp_path):
    return shutil.copytree(study_of_cohort, tmp_path / "study")


def test_a_cohort_goes_from_atlas_to_pages(finished):
    place = finished / "cohort" / "patients"
    result = open_classification(place / "classification.json")
    assert set(result.table["family"]) == {"concepts", "baseline", "confounder", "control"}
    names = " ".join(result.table["model"])
    for words in ("share of promyelocytes", "ABMIL", "majority", "colour alone", "random-weight SAE", "shuffled"):
        assert words in names
    assert result.classes == ("PML::RARA-like", "control")  # of equally rare ones the last in the alphabet is found
    assert open_classifier(place / "classifier").n_latents == 384
    page = (place / "report.html").read_text(encoding="utf-8")
    assert "PML::RARA-like" in page
    assert "esearch, not a diagnosis" in page
    pages = sorted(file.name for file in (place / "pages").glob("*.html"))
    assert len([name for name in pages if name.startswith("patient-")]) == 2
    assert len([name for name in pages if name.startswith("disease-")]) == 1
    assert f"pages/{pages[-1]}" in page
    ranking = pd.read_parquet(place / f"control-against-{file_name('PML::RARA-like')}-cells" / "cells.parquet")
    assert set(ranking["patient"]) == {f"P{i:03d}" for i in range(0, 12, 2)}
    assert not list(finished.glob("**/*.partial"))


def test_what_is_up_to_date_is_skipped(finished, capfd):
    assert run("cohort", "--study", finished, "--json", *QUICK) == 0
    steps = json.loads(capfd.readouterr().out)["steps"]
    assert len(steps) == 10
    assert all(step["skipped"] for step in steps)


def test_the_few_models_that_matter_are_printed_and_all_when_asked(finished, capfd):
    assert run("cohort", "--study", finished, *QUICK) == 0
    few = capfd.readouterr().out
    assert run("cohort", "--study", finished, "--all", *QUICK) == 0
    every = capfd.readouterr().out
    assert few.index("Concepts of the cells") < few.index("colour alone")  # the verdict before the table
    assert "majority" not in few
    assert "--all prints them" in few
    assert "majority" in every
    assert "--all prints them" not in every


def test_json_says_how_many_concepts_the_decision_sums(finished, capfd):
    assert run("cohort", "--study", finished, "--json", *QUICK) == 0
    document = json.loads(capfd.readouterr().out)
    place, recommended = finished / "cohort" / "patients", document["recommended"]
    result = open_classification(place / "classification.json")
    row = result.table.set_index("model").loc[recommended["name"]]
    assert recommended["name"] == result.recommended.name
    assert recommended["concepts"] == np.any(open_classifier(place / "classifier").coef != 0, axis=0).sum()
    assert recommended["auroc"] == pytest.approx(row["auroc"])
    assert recommended["auroc_interval"] == pytest.approx([row["auroc_low"], row["auroc_high"]])
    assert recommended["concepts"] == len(result.few_concepts) <= 4  # as many as QUICK allows
    assert set(document["few"]["concepts"]) == {1, 2, 3, 4}
    assert recommended["without_limit"]["name"] in set(result.table["model"])
    painted = f"cell painted out ({recommended['kind']}), few"
    assert recommended["background_auroc"] == pytest.approx(result.table.set_index("model").loc[painted, "auroc"])
    assert recommended["may_not_be_about_cells"] == (recommended["background_auroc"] >= row["auroc_low"])
    assert [model["model"] for model in document["models"]] == result.table["model"].tolist()


def test_cells_are_seen_again_in_another_stain(finished):
    place = finished / "cohort" / "patients"
    atlas = Study(finished).atlas("patients")
    retest = open_retest(place / "retest")
    changed = retest.obs["changed"].to_numpy(dtype=bool)
    assert changed.sum() == (~changed).sum() == atlas.n_obs == 144
    ids = retest.obs["cell_id"].astype(str).to_numpy()
    original, other = retest[~changed], retest[changed]
    np.testing.assert_allclose(original.X.toarray(), atlas[ids[~changed]].X.toarray(), rtol=1e-4, atol=1e-6)
    assert np.abs(original.X.toarray() - other.X.toarray()).max() > 0.01
    kept = retest_reliability(original.X, other.X)
    assert np.nanmin(kept) < 0.7 < 0.9 < np.nanmax(kept)  # the tokens are robust to stain, not immune
    assert open_retest(place / "retest", "control").shape == retest.shape
    rows = open_classification(place / "classification.json").table["model"]
    stable = rows[rows.str.contains("stain-stable directions")]
    assert stable.str.startswith("cell painted out").sum() == 3  # three barcodes
    assert len(stable) == 10  # these, concepts, random weights, and the mean token
    assert "Reliability in another stain" in (place / "report.html").read_text(encoding="utf-8")


def test_too_few_cells_for_a_retest_are_refused(fresh, capfd):
    assert run("cohort", "--study", fresh, "--cohort.retest-cells", 7) == 2
    assert "retest_cells is 7; give 50 or more, or 0 for none" in capfd.readouterr().err


def test_the_page_of_any_patient_can_be_had(finished, tmp_path, capfd):
    page = tmp_path / "one.html"
    assert run("cohort", "explain", "P001", "--study", finished, "--out", page) == 0
    assert "P001" in page.read_text(encoding="utf-8")
    assert run("cohort", "explain", "P400", "--study", finished) == 1
    assert "P400" in capfd.readouterr().err


def test_the_classifier_is_applied_to_new_patients(finished, tmp_path, capfd):
    study = shutil.copytree(finished, tmp_path / "study")
    before = Study(study).sae().fingerprint
    later = synthesize(tmp_path / "later", patients=3, cells=8, seed=9, diagnoses=("control", "PML::RARA-like"))
    manifest = pd.read_csv(later / "manifest.csv").drop(columns=["diagnosis"])
    manifest.to_csv(later / "manifest.csv", index=False)
    assert run("cohort", "predict", later, "--study", study, "--json") == 0
    document = json.loads(capfd.readouterr().out)
    assert [row["patient"] for row in document["predictions"]] == ["P000", "P001", "P002"]
    table = pd.read_csv(study / "cohort" / "later-predictions.csv")
    shares = table[["probability_control", "probability_PML::RARA-like"]].sum(axis=1)
    assert shares.tolist() == pytest.approx([1, 1, 1])
    again = Study(study)
    assert again.datasets == ["patients", "later"]
    assert again.trained_on == ["patients"]
    seen = []
    Study(study, on_step=seen.append).train()
    assert seen[0].skipped
    assert again.sae().fingerprint == before
    assert run("cohort", "predict", "--study", study, "--dataset", "later") == 0
    assert table["training_images"].tolist() == [0, 0, 0]
    assert "no test" not in capfd.readouterr().out


def test_new_patients_with_images_of_the_training_are_told(finished, tmp_path, capfd):
    study = shutil.copytree(finished, tmp_path / "study")
    later = synthesize(tmp_path / "later", patients=2, cells=8, seed=9, diagnoses=("control", "PML::RARA-like"))
    known = Study(study).cells("patients")
    shutil.copy(known.image_path(0), later / "copied.png")
    manifest = pd.read_csv(later / "manifest.csv").drop(columns=["diagnosis", "mask"])
    copied = pd.DataFrame({"image": ["copied.png"], "patient": ["P001"]})
    table = tmp_path / "lists" / "later.csv"  # not where the images are
    table.parent.mkdir()
    pd.concat([manifest, copied]).to_csv(table, index=False)
    assert run("cohort", "predict", table, "--images-root", later, "--study", study) == 0
    assert "Warning: 1 images of 1 of these patients (first: P001) are among those" in capfd.readouterr().out
    table = pd.read_csv(study / "cohort" / "later-predictions.csv").set_index("patient")
    assert table["training_images"].to_dict() == {"P000": 0, "P001": 1}


def test_an_sae_without_the_test_patients_is_a_row_of_its_own_and_the_retest_can_be_left_out(fresh, capfd):
    assert run("cohort", "--study", fresh, "--strict", "--json", *QUICK, "--cohort.retest-cells", 0) == 0
    rows = json.loads(capfd.readouterr().out)["table"]["model"]
    assert any("without the test patients" in name or "strict" in name for name in rows)
    place = fresh / "cohort" / "patients"
    assert not (place / "retest").exists()
    assert not open_classification(place / "classification.json").table["model"].str.contains("stain").any()


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--compare", "control", "PML::RARA-lik"], 2, "did you mean 'PML::RARA-like'"),
        (["--dataset", "others"], 2, "it has: patients"),
        (["--diagnosis", "subtype"], 1, "'patient' and 'subtype'"),
        (["--cohort.patient", "person"], 1, "'person' and 'diagnosis'"),
        (["--cohort.min-cells", 100], 1, "has 100 usable cells"),
        (["--cohort.min-cells", 5, "--compare", "control", "control"], 2, "control"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_one_sentence(fresh, words, code, sentence, capfd):
    before = (fresh / "study.toml").read_text()
    assert run("cohort", "--study", fresh, *QUICK, *words) == code
    error = " ".join(capfd.readouterr().err.split())
    assert sentence in error
    assert "Traceback" not in error
    assert (fresh / "study.toml").read_text() == before


def test_a_single_diagnosis_is_refused(study_of_cohort, tmp_path, capfd):
    study = shutil.copytree(study_of_cohort, tmp_path / "study")
    assert run("cohort", "--study", study, "--cohort.diagnosis", "domain", *QUICK) == 1
    assert "nothing can be compared" in " ".join(capfd.readouterr().err.split())


def test_an_image_under_two_patients_is_refused(tmp_path, capfd):
    images = synthesize(tmp_path / "planted", patients=4, cells=5, seed=2, diagnoses=("control", "NPM1-like"))
    (images / "images" / "P001" / "0000.png").write_bytes((images / "images" / "P000" / "0003.png").read_bytes())
    study = tmp_path / "study"
    quick = ["--sae.expansion", 2, "--sae.sparsity.k", 8, "--sae.train.steps", 5, "--sae.train.batch-tokens", 512]
    assert run("run", images, "--study", study, "--extract.workers", 0, "--report.concepts", 2, *quick) == 0
    assert run("cohort", "--study", study, *QUICK) == 1
    error = " ".join(capfd.readouterr().err.split())
    assert "1 images stand under two patients" in error
    assert "images/P000/0003.png is images/P001/0000.png" in error


@pytest.mark.parametrize(
    ("opener", "place"),
    [
        (open_classification, "patients/classification.json"),
        (open_classifier, "patients/classifier"),
        (open_cohort, "patients.h5ad"),
        (open_cell_controls, "patients/focus"),
        (open_retest, "patients/retest"),
    ],
)
def test_artifacts_are_opened_by_a_path_in_words(finished, opener, place):
    assert type(opener(str(finished / "cohort" / place))) is type(opener(finished / "cohort" / place))
