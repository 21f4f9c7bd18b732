from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest
from cli.conftest import run

from cytosae.cells.synthetic import synthesize
from cytosae.cohort import open_validation
from cytosae.common.artifact import read_artifact
from cytosae.pipeline import Study
from cytosae.pipeline.validation_looks import LOOKS, earlier_looks, read_looks, remember_look, sketch

DIAGNOSES = ("control", "PML::RARA-like")


@pytest.fixture(scope="module")
def later(tmp_path_factory):
    """Images of four later patients, their diagnoses known."""
    return synthesize(tmp_path_factory.mktemp("images") / "later", patients=4, cells=4, seed=9, diagnoses=DIAGNOSES)


@pytest.fixture(scope="module")
def study(finished, tmp_path_factory):
    return shutil.copytree(finished, tmp_path_factory.mktemp("validated") / "study")


@pytest.fixture(scope="module")
def first(study, later):
    """What the first look printed as JSON."""
    from contextlib import redirect_stdout
    from io import StringIO

    with redirect_stdout(StringIO()) as printed:
        assert run("cohort", "validate", later, "--study", study, "--json") == 0
    return json.loads(printed.getvalue())


def changed(later, folder, change):
    """The later patients in another folder, with another manifest."""
    copy = shutil.copytree(later, folder / "others")
    manifest = change(pd.read_csv(copy / "manifest.csv"))
    manifest.to_csv(copy / "manifest.csv", index=False)
    return copy


def test_json_says_what_was_promised_and_what_is_kept(first, study):
    found = open_validation(study / "cohort" / "later" / "validation.json")
    best = found.best
    assert first["auroc"] == pytest.approx(best["auroc"])
    assert first["auroc_interval"] == pytest.approx([best["auroc_low"], best["auroc_high"]])
    assert first["promised_auroc"] == pytest.approx(best["promised_auroc"])
    assert first["patients"] == 4
    assert first["patients_by_diagnosis"] == {"PML::RARA-like": 2, "control": 2}
    for name in ("sensitivity", "specificity", "balanced_accuracy", "macro_f1", "brier", "calibration_intercept"):
        assert f"{name}_interval" in first
        assert f"promised_{name}" in first
    assert {row["threshold"] for row in first["decision_curve"]} >= {0.05, 0.5, 0.95}
    assert first["second_look"] is None


def test_nothing_is_trained_and_the_controls_are_those_of_the_training(first, study, finished):
    again = Study(study)
    assert again.trained_on == ["patients"]
    assert again.datasets == ["patients", "later"]
    assert again.sae().fingerprint == Study(finished).sae().fingerprint
    assert again.fingerprint("classifier", "patients") == Study(finished).fingerprint("classifier", "patients")
    taus = [again.context.read(place) for place in control_places()]
    assert taus[0].uns["barcode"]["tau"] == taus[1].uns["barcode"]["tau"]
    rows = {row["model"] for row in first["models"]}
    assert any(name.startswith("cell painted out") for name in rows)
    assert any(name.startswith("random-weight SAE") for name in rows)
    assert rows | set(first["missing"]) == set(again_table(again))


def control_places():
    from cytosae.pipeline.places import Place

    return [Place("control", name) for name in ("patients", "later")]


def again_table(study):
    from cytosae.pipeline.places import Place

    return study.read(Place("classification", "patients")).table["model"]


def test_the_page_says_the_finding_first_and_shows_what_is_behind_it(first, study):
    page = study / "cohort" / "later" / "validation.html"
    text = page.read_text(encoding="utf-8")
    assert read_artifact(page, "report").kind == "report"
    assert text.index("4 later patients") < text.index("Promised and kept") < text.index("Decision curve")
    for words in (
        "cross-validation promised",
        "Research, not a diagnosis",
        "Decision curve",
        "Calibration",
        "AUROC kept",
    ):
        assert words in text


def test_a_second_look_is_named_wherever_the_images_lie(first, study, later, tmp_path, capfd):
    others = changed(
        later, tmp_path, lambda table: table.assign(patient="Q" + table["patient"])[table["patient"] != "P000"]
    )
    extra = synthesize(tmp_path / "extra", patients=1, cells=4, seed=33, diagnoses=("control",))
    shutil.copytree(extra / "images", others / "images" / "extra")
    more = pd.read_csv(extra / "manifest.csv").assign(patient="new")
    more["image"] = more["image"].str.replace("images/", "images/extra/", n=1)
    table = pd.concat([pd.read_csv(others / "manifest.csv"), more]).drop(columns="mask")
    table.to_csv(others / "manifest.csv", index=False)
    study = shutil.copytree(study, tmp_path / "study")
    assert run("cohort", "validate", others, "--study", study, "--test-cohort", "again") == 0
    printed = " ".join(capfd.readouterr().out.split())
    sentence = "A second look is no validation: 3 of these patients were looked at before (once, first on 2"
    assert sentence in printed
    assert sentence in (study / "cohort" / "again" / "validation.html").read_text(encoding="utf-8")
    assert len(read_looks(study)) == 2
    assert (
        run("cohort", "validate", "--study", study, "--dataset", "again", "--train-cohort", "patients", "--json") == 0
    )
    document = json.loads(capfd.readouterr().out)
    assert "4 of these patients were looked at before (twice" in document["second_look"]
    assert [look["patients"] for look in document["earlier_looks"]] == [3, 4]
    assert all(look["same"] for look in document["earlier_looks"])


def with_training_images(table: pd.DataFrame, known) -> pd.DataFrame:
    return pd.concat([table, pd.DataFrame({"image": [str(known)], "patient": ["P001"], "diagnosis": [DIAGNOSES[1]]})])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda table: table.drop(columns="diagnosis"), "no column 'diagnosis', or nothing in it"),
        (lambda table: table[table["diagnosis"] == "control"], "has the diagnosis 'PML::RARA-like'"),
        (lambda table: table.assign(diagnosis="CML"), "no later patient counts"),
    ],
)
def test_patients_on_whom_nothing_can_be_validated_are_one_sentence(finished, later, tmp_path, capfd, change, sentence):
    study = shutil.copytree(finished, tmp_path / "study")
    assert run("cohort", "validate", changed(later, tmp_path, change), "--study", study) == 1
    error = " ".join(capfd.readouterr().err.split())
    assert sentence in error
    assert "Traceback" not in error
    assert not (study / "tokens" / "others").exists()  # said before anything is encoded
    assert not (study / LOOKS).exists()


def test_patients_that_were_trained_on_are_refused(finished, tmp_path, capfd):
    study = shutil.copytree(finished, tmp_path / "study")
    assert run("cohort", "validate", "--study", study, "--dataset", "patients") == 2
    assert "the classifier was fitted on patients" in " ".join(capfd.readouterr().err.split())
    copied = shutil.copytree(Study(study).cells("patients").root, tmp_path / "copied")
    assert run("cohort", "validate", copied, "--study", study) == 1
    assert "each of the 12 patients of copied (first: P000) has images" in " ".join(capfd.readouterr().err.split())


def test_a_patient_is_known_again_with_some_images_more_or_fewer(tmp_path):
    ids = [f"{number:02x}{'0' * 62}" for number in range(40)]
    cells = pd.DataFrame({"cell_id": ids, "patient": ["A"] * 30 + ["B"] * 10})
    remember_look(tmp_path, "later", "c", sketch(cells, "patient", ["A", "B"]))
    fewer = sketch(cells.iloc[10:30].assign(patient="other name"), "patient", ["other name"])
    assert [look.patients for look in earlier_looks(tmp_path, fewer, "d")] == [1]
    assert not earlier_looks(tmp_path, fewer, "d")[0].same
    strangers = sketch(cells.assign(cell_id=[f"ff{cell}" for cell in ids]), "patient", ["A"])
    assert earlier_looks(tmp_path, strangers, "c") == []


def test_a_damaged_list_of_looks_is_refused(tmp_path):
    from cytosae.common.errors import ArtifactError

    (tmp_path / LOOKS).write_text("{\n")
    with pytest.raises(ArtifactError, match="nobody can say who was looked at before"):
        read_looks(tmp_path)
