"""A concept's page says what speaks for it, beside random latents, and computes it once."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest
from fastapi.testclient import TestClient

from cytosae.common.cache import cache_folder
from cytosae.explorer import ExplorerSettings, create_app
from cytosae.pipeline import concept_evidence_work as work
from cytosae.pipeline.concept_evidence_work import known_of_concept
from cytosae.pipeline.study import Study


@pytest.fixture(scope="module")
def latent(study_of_smear) -> int:
    """One that is on many cells, and that no other test computes anything of."""
    return int(Study(study_of_smear).atlas("smear").var["cells_active"].to_numpy().argsort()[-4])


def test_evidence_is_computed_once_and_then_stands_on_the_page(explorer, latent, monkeypatch):
    before = explorer.get(f"/concepts/{latent}")
    assert "Would random weights show it, too?" in before.text
    found = explorer.get(f"/api/concepts/{latent}/evidence").json()
    measures = {row["words"]: row for row in found["quality"]["rows"]}
    assert set(measures) >= {"label entropy", "spatial structure", "localisation"}
    for row in measures.values():
        assert row["random"]["low"] <= row["random"]["value"] <= row["random"]["high"]
        assert row["stands_out"] in (True, False)
    assert found["effect"]["rows"][0]["words"] == "movement of the image token"
    assert found["effect"]["rows"][0]["value"] > 0

    def again(*_):
        raise AssertionError("computed twice")

    monkeypatch.setattr(work, "evidence_of", again)
    assert explorer.get(f"/api/concepts/{latent}/evidence").json() == found
    page = explorer.get(f"/concepts/{latent}")
    assert found["quality"]["verdict"] in page.text
    assert found["effect"]["verdict"] in explorer.get(f"/concepts/{latent}/evidence").text


def test_where_it_looks_is_computed_once(explorer, latent, monkeypatch):
    first = explorer.get(f"/api/concepts/{latent}/gaze").json()
    monkeypatch.delattr(Study, "where_it_looks")
    assert explorer.get(f"/api/concepts/{latent}/gaze").json() == first
    assert first["verdict"] in explorer.get(f"/concepts/{latent}").text


def test_pictures_of_patients_cells_are_not_left_on_disk(explorer, latent):
    found = explorer.get(f"/api/concepts/{latent}/gaze").json()
    assert all(cell["without"].startswith("data:image/webp") for cell in found["cells"])
    kept = [file.read_text() for file in (cache_folder() / "views").rglob("*.json")]
    assert any(found["verdict"] in text for text in kept)
    assert not any("data:image" in text for text in kept)


def test_what_the_study_has_not_measured_is_said_with_its_command(explorer, latent):
    text = explorer.get(f"/concepts/{latent}").text
    assert "cytosae atlas quality --study STUDY" in text
    assert "--out STUDY/quality/smear_verdicts.csv" in text


def test_tables_of_the_quality_are_read_by_latent(study_of_smear, tmp_path):
    path = shutil.copytree(study_of_smear, tmp_path / "study")
    (path / "quality").mkdir()
    pd.DataFrame({"latent": [12, 1, 2], "of_another_seed": 0, "stability": [0.1, 0.9, 0.5]}).to_csv(
        path / "quality" / "smear_stability.csv", index=False
    )
    pd.DataFrame({"measure": ["stability"], "family": ["random directions"], "value": [0.2]}).to_csv(
        path / "quality" / "smear.csv", index=False
    )
    verdicts = {f"{name}{end}": [0.1, 0.3] for name in ("morphology", "artefact") for end in ("", "_low", "_high")}
    pd.DataFrame({"latent": [1, 2], **verdicts, "verdict": ["mixed", "artefact"]}).to_csv(
        path / "quality" / "smear_verdicts.csv", index=False
    )
    known = known_of_concept(Study(path), "smear", 2)
    assert ["cytosae atlas pairs" in sentence for sentence in known.missing] == [True]
    assert [(fact.words, fact.value) for fact in known.facts[:2]] == [
        ("Stability", 0.5),
        ("Artefact or morphology", "artefact"),
    ]
    assert known.facts[0].control == 0.2
    assert known.facts[2].value.value == 0.3
    client = TestClient(create_app(ExplorerSettings(study=path)), base_url="http://127.0.0.1:8765")
    assert "random directions 0.20" in client.get("/concepts/2").text
