"""Patients in the explorer: what was decided, and sums that add up."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from cytosae.explorer import ExplorerSettings, create_app
from cytosae.pipeline import Study
from cytosae.pipeline.cohort_work import CohortWork

QUICK = {
    "retest_cells": 0,
    "stability": 0,
    "pages": 1,
    "concepts": 2,
    "classification": {
        "folds": 3,
        "inner_folds": 2,
        "repeats": 1,
        "slow_repeats": 1,
        "shuffles": 0,
        "bootstrap": 20,
        "strengths": [1.0],
    },
}


@pytest.fixture(scope="module")
def study(study_of_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort with its classification."""
    path = shutil.copytree(study_of_cohort, tmp_path_factory.mktemp("patients") / "study")
    work = Study.open(path, (), [{"cohort": QUICK}])
    with work.alone():
        CohortWork(work).run()
    return path


@pytest.fixture(scope="module")
def client(study: Path, cache: None) -> TestClient:
    return TestClient(create_app(ExplorerSettings(study=study)), base_url="http://127.0.0.1:8765")


def test_every_patient_is_listed_and_can_be_filtered(client):
    found = client.get("/api/patients").json()
    assert len(found["patients"]) == 12
    wrong = [row["call"] != row["diagnosis"] for row in found["patients"]]
    assert wrong == sorted(wrong, reverse=True)
    one = client.get("/api/patients", params={"diagnosis": "control"}).json()
    assert {row["diagnosis"] for row in one["patients"]} == {"control"}
    assert client.get("/patients").status_code == 200
    assert "No patient matches" in client.get("/patients?q=nobody").text


def test_a_decision_is_the_sum_of_what_is_shown(client):
    name = client.get("/api/patients").json()["patients"][0]["patient"]
    page = client.get(f"/api/patients/{name}").json()
    parts = sum(weighed["difference"] for weighed in page["concepts"]) + page["others_difference"]
    assert page["typical"] + parts == pytest.approx(page["value"])
    assert client.get(f"/patients/{name}").status_code == 200
    assert client.get("/patients/nobody").status_code == 404
    assert client.get("/api/patients/..%2f..%2fx").status_code == 404


def test_a_disease_shows_its_concepts_and_cells(client):
    name = client.get("/api/patients").json()["diseases"][0]
    page = client.get(f"/api/diseases/{name}").json()
    assert page["concepts"]
    cell = page["cells"][0][1][0]["cell"]
    assert client.get(f"/pictures/{cell}.webp").status_code == 200
    assert client.get(f"/diseases/{name}").status_code == 200
    assert client.get("/diseases/plague").status_code == 404


def test_without_patients_it_is_said(explorer):
    assert explorer.get("/patients").status_code == 404
    assert "No patients have been classified here" in explorer.get("/api/patients").json()["detail"]
