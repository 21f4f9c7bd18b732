"""Patients in the explorer: what was decided, and sums that add up."""

from __future__ import annotations

import json
import shutil

import pytest
from fastapi.testclient import TestClient

from cytosae.cli import main
from cytosae.cohort import open_approval
from cytosae.explorer import ExplorerSettings, create_app
from cytosae.pipeline import Study
from cytosae.reviews import Database, Design, reviews_url
from cytosae.reviews.answers import create_session
from cytosae.reviews.decisions import Decision, decide
from cytosae.reviews.panels import Panel


def test_every_patient_is_listed_and_can_be_filtered(explorer_of_patients):
    found = explorer_of_patients.get("/api/patients").json()
    assert len(found["patients"]) == 12
    wrong = [row["call"] != row["diagnosis"] for row in found["patients"]]
    assert wrong == sorted(wrong, reverse=True)
    one = explorer_of_patients.get("/api/patients", params={"diagnosis": "control"}).json()
    assert {row["diagnosis"] for row in one["patients"]} == {"control"}
    assert explorer_of_patients.get("/patients").status_code == 200
    assert "No patient matches" in explorer_of_patients.get("/patients?q=nobody").text


def test_each_model_of_the_table_is_said_in_words(explorer_of_patients):
    models = explorer_of_patients.get("/api/patients").json()["models"]
    words = {row["model"]: row["words"] for row in models}
    assert [row["words"] for row in models if row["recommended"]] == ["the recommended decision"]
    assert words["colour alone"] == "the colour of the images alone"
    page = explorer_of_patients.get("/patients").text
    assert all(f"{said[0].upper()}{said[1:]}<br>" in page for said in words.values())


def test_a_decision_is_the_sum_of_what_is_shown(explorer_of_patients):
    name = explorer_of_patients.get("/api/patients").json()["patients"][0]["patient"]
    page = explorer_of_patients.get(f"/api/patients/{name}").json()
    parts = sum(weighed["difference"] for weighed in page["concepts"]) + page["others_difference"]
    assert page["typical"] + parts == pytest.approx(page["value"])
    assert explorer_of_patients.get(f"/patients/{name}").status_code == 200
    assert explorer_of_patients.get("/patients/nobody").status_code == 404
    assert explorer_of_patients.get("/api/patients/..%2f..%2fx").status_code == 404


def test_a_disease_shows_its_concepts_and_cells(explorer_of_patients):
    name = explorer_of_patients.get("/api/patients").json()["diseases"][0]
    page = explorer_of_patients.get(f"/api/diseases/{name}").json()
    assert page["concepts"]
    cell = page["cells"][0][1][0]["cell"]
    assert explorer_of_patients.get(f"/pictures/{cell}.webp").status_code == 200
    assert explorer_of_patients.get(f"/diseases/{name}").status_code == 200
    assert explorer_of_patients.get("/diseases/plague").status_code == 404


def test_a_decision_says_where_it_looks_and_leaves_no_picture_behind(explorer_of_patients, tmp_path, monkeypatch):
    monkeypatch.setenv("CYTOSAE_CACHE", str(tmp_path))
    listed = explorer_of_patients.get("/api/patients").json()
    patient = listed["patients"][0]["patient"]
    assert f'href="/patients/{patient}/gaze?dataset=' in explorer_of_patients.get(f"/patients/{patient}").text
    found = explorer_of_patients.get(f"/api/patients/{patient}/gaze").json()
    assert found["patient"] == patient
    assert found["name"].startswith(f"{patient}: ")
    assert len(found["cells"]) <= 4
    for cell in found["cells"]:
        assert cell["without"].startswith("data:image/webp;base64,")
    shown = explorer_of_patients.get(f"/patients/{patient}/gaze")
    assert shown.status_code == 200
    assert found["verdict"] in shown.text
    assert not any("patient" in str(path) for path in tmp_path.rglob("*"))
    assert explorer_of_patients.get("/api/patients/nobody/gaze").status_code == 404


def test_without_patients_it_is_said(explorer):
    assert explorer.get("/patients").status_code == 404
    assert "No patients have been classified here" in explorer.get("/api/patients").json()["detail"]


def approve(study, latents):
    """Names for concepts, accepted in a review session that asked about them."""
    database = Database(reviews_url(study))
    panels = [Panel("learned", latent, "rare", ("cell",) * 3, ("AA==",) * 3, 1) for latent in latents]
    design = Design(concepts=len(latents), controls=0, repeats=0, seed=1)
    number = create_session(
        database, panels, design, title="T", dataset="patients", atlas="0" * 64, raters=("Ada",), by="coordinator"
    )
    for latent in latents:
        decide(database, number, latent, Decision(True, f"concept {latent}"), by="coordinator")
    database.close()


def test_the_price_of_approval_is_printed_and_shown(study_of_patients, tmp_path, capsys):
    study = shutil.copytree(study_of_patients, tmp_path / "study")
    words = ["cohort", "--study", str(study), "--concepts", "approved", "--json"]
    assert main(words) == 2
    assert "has been approved" in capsys.readouterr().err
    client = TestClient(create_app(ExplorerSettings(study=study)), base_url="http://127.0.0.1:8765")
    assert client.get("/api/patients").json()["approval"] is None
    name = client.get("/api/patients").json()["patients"][0]["patient"]
    best = [weighed["concept"]["latent"] for weighed in client.get(f"/api/patients/{name}").json()["concepts"][:3]]
    approve(study, best)
    assert main(words) in (0, None)
    told = json.loads(capsys.readouterr().out)["approval"]
    assert told["approved"] == len(best)
    client = TestClient(create_app(ExplorerSettings(study=study)), base_url="http://127.0.0.1:8765")
    shown = client.get("/api/patients").json()["approval"]
    assert shown["verdict"] == told["verdict"]
    assert not shown["outdated"]
    assert "that reviewers approved" in client.get("/patients").text
    place = Study(study).place("cohort_report", "patients")
    assert told["verdict"] in place.read_text(encoding="utf-8")
    assert main(["cohort", "--study", str(study), "--json"]) in (0, None)  # asked for or not, it is known
    assert told["verdict"] in place.read_text(encoding="utf-8")
    price = Study(study).place("approval", "patients")
    open_approval(price).save(price, inputs={"classification": "of another one"})
    assert client.get("/api/patients").json()["approval"] is None


def test_a_decision_that_is_held_shows_names_that_are_accepted_later(explorer_of_patients, monkeypatch):
    client = explorer_of_patients
    patient = client.get("/api/patients").json()["patients"][0]["patient"]
    concept = client.get(f"/api/patients/{patient}").json()["concepts"][0]["concept"]
    monkeypatch.setitem(client.app.state.library.accepted, concept["latent"], "Bundles of rods")
    assert client.get(f"/api/patients/{patient}").json()["concepts"][0]["concept"]["name"] == "Bundles of rods"
    monkeypatch.undo()
    assert client.get(f"/api/patients/{patient}").json()["concepts"][0]["concept"]["name"] == concept["name"]
