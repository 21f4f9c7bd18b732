"""Every page has a twin, and every error a sentence."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cytosae.cli import main
from cytosae.common.errors import ArtifactError, UsageError
from cytosae.explorer import ExplorerSettings, create_app


def test_the_overview_and_its_twin_say_the_same(explorer):
    twin = explorer.get("/api/").json()
    page = explorer.get("/")
    assert page.status_code == 200
    assert twin["datasets"][0]["cells"] == 60
    assert f"{twin['datasets'][0]['alive']}" in page.text.replace(",", "")


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


def test_a_server_starts_without_waiting_for_models(study_of_smear):
    program = f"""
import sys
from pathlib import Path
from cytosae.explorer import ExplorerSettings, create_app
create_app(ExplorerSettings(study=Path({str(study_of_smear)!r})))
assert not {{"torch", "timm", "numba", "sklearn"}} & set(sys.modules), sorted(set(sys.modules) & {{"torch", "timm"}})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
