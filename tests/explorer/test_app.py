"""Every page has a twin, and every error a sentence."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from fastapi.testclient import TestClient

from cytosae.cli import main
from cytosae.common.errors import ArtifactError, UsageError
from cytosae.explorer import ExplorerSettings, create_app


def test_the_overview_and_its_twin_say_the_same(explorer):
    twin = explorer.get("/api/").json()
    page = explorer.get("/")
    assert page.status_code == 200
    assert twin["datasets"][0]["cells"] == 60
    assert f"{twin['datasets'][0]['alive']}" in page.text.replace(",", "")
    assert twin["datasets"][0]["random_entropy"] > 0
    assert "latents of random weights that are as often active" in page.text


def test_the_overview_says_whether_learning_wins_where_it_was_measured(study_of_smear, tmp_path, cache):
    path = shutil.copytree(study_of_smear, tmp_path / "study")
    client = TestClient(create_app(ExplorerSettings(study=path)), base_url="http://127.0.0.1:8765")
    assert "cytosae atlas quality --study DIR --dataset smear" in client.get("/").text
    (path / "quality").mkdir(exist_ok=True)
    (path / "quality" / "smear.csv").write_text(
        "measure,family,value,value_low,value_high\n"
        "probe_1,SAE,0.9,0.88,0.92\nprobe_1,random-weight SAE,0.8,0.78,0.82\n"
        "monosemanticity,SAE,0.5,0.4,0.6\nmonosemanticity,k-means,0.55,0.5,0.6\n"
    )
    assert "On 1 of 2 measures the dictionary is better than every control" in client.get("/").text
    measures = client.get("/api/").json()["datasets"][0]["measures"]["rows"]
    assert [row["values"][-1] for row in measures] == ["yes", "not told apart"]


def test_what_the_first_pages_wait_for_is_made_ahead_and_a_cache_that_takes_nothing_stops_nothing(
    study_of_smear, tmp_path, monkeypatch
):
    monkeypatch.setenv("CYTOSAE_CACHE", str(tmp_path / "cache"))
    library = create_app(ExplorerSettings(study=study_of_smear)).state.library
    library.prepare()
    assert set(library.atlas().drafts) == set(library.atlas().live.index)
    assert len(list((tmp_path / "cache" / "columns").iterdir())) == 1
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("CYTOSAE_CACHE", str(tmp_path / "file"))
    create_app(ExplorerSettings(study=study_of_smear)).state.library.prepare()


def test_every_page_is_described_with_its_answer(explorer):
    paths = explorer.get("/openapi.json").json()["paths"]
    assert paths["/api/"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]


@pytest.mark.parametrize("path", ["/nothing", "/api/nothing"])
def test_a_page_that_is_not_there_is_one_sentence(explorer, path):
    answer = explorer.get(path)
    assert answer.status_code == 404
    assert "There is no such page here." in answer.text


def test_a_picture_is_scaled_and_a_wrong_size_refused(explorer, study_of_smear):
    from cytosae.pipeline import Study

    cell = str(Study(study_of_smear).cells("smear").frame["cell_id"][0])
    assert explorer.get(f"/pictures/{cell}.webp?size=64").headers["content-type"] == "image/webp"
    assert explorer.get(f"/pictures/{cell}.webp?size=9999").status_code == 422


def test_what_cannot_be_served_is_refused_in_a_sentence(tmp_path, study_of_smear, capfd):
    with pytest.raises(ArtifactError, match="is no study"):
        create_app(ExplorerSettings(study=tmp_path))
    with pytest.raises(UsageError, match="reached from other machines"):
        create_app(ExplorerSettings(study=study_of_smear, host="0.0.0.0"))
    assert main(["explore"]) == 2
    assert "name either a STUDY or an atlas" in capfd.readouterr().err


def test_the_first_page_waits_for_nothing_that_only_computing_needs(study_of_smear):
    program = f"""
import sys
from pathlib import Path
from cytosae.explorer import ExplorerSettings, create_app
create_app(ExplorerSettings(study=Path({str(study_of_smear)!r})))
import cytosae.cohort.classification.result  # what the overview reads of patients
slow = {{"torch", "timm", "numba", "sklearn", "scipy.stats", "scipy.optimize", "matplotlib", "alembic"}}
assert not slow & set(sys.modules), sorted(slow & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_study_that_changes_under_the_server_is_noticed(study_of_smear, tmp_path, cache, monkeypatch):
    monkeypatch.setattr("cytosae.explorer.library.LOOK_EVERY", 0.0)
    study = shutil.copytree(study_of_smear, tmp_path / "study")
    client = TestClient(create_app(ExplorerSettings(study=study)), base_url="http://127.0.0.1:8765")
    assert "The study has changed" not in client.get("/lists").text
    for file in study.glob("report.html*"):
        file.unlink()
    assert "The study has changed" in client.get("/lists").text
