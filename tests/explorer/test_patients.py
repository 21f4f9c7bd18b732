"""Patients in the explorer: what was decided, and sums that add up."""

from __future__ import annotations

import pytest


def test_every_patient_is_listed_and_can_be_filtered(explorer_of_patients):
    found = explorer_of_patients.get("/api/patients").json()
    assert len(found["patients"]) == 12
    wrong = [row["call"] != row["diagnosis"] for row in found["patients"]]
    assert wrong == sorted(wrong, reverse=True)
    one = explorer_of_patients.get("/api/patients", params={"diagnosis": "control"}).json()
    assert {row["diagnosis"] for row in one["patients"]} == {"control"}
    assert explorer_of_patients.get("/patients").status_code == 200
    assert "No patient matches" in explorer_of_patients.get("/patients?q=nobody").text


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


def test_without_patients_it_is_said(explorer):
    assert explorer.get("/patients").status_code == 404
    assert "No patients have been classified here" in explorer.get("/api/patients").json()["detail"]
