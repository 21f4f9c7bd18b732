"""Pairs of drawn cells are shown to a study's SAE by a command; what they tell is on pages and in the report."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest
from fastapi.testclient import TestClient

from cytosae.cli import main
from cytosae.explorer import ExplorerSettings, create_app
from cytosae.pipeline import Study

CALL = ["--pairs", "20", "--attributes", "vacuoles", "--attributes", "blur", "--size", "48", "--json"]


@pytest.fixture(scope="module")
def shown(study_of_smear, tmp_path_factory):
    """A study whose SAE has been shown pairs."""
    path = shutil.copytree(study_of_smear, tmp_path_factory.mktemp("pairs") / "study")
    assert main(["atlas", "pairs", "--study", str(path), *CALL]) == 0
    return path


def test_the_command_tells_what_each_attribute_moves_beside_random_weights(shown, capsys):
    assert main(["atlas", "pairs", "--study", str(shown), *CALL]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"][0]["skipped"]
    assert [row["attribute"] for row in found["attributes"]] == ["vacuoles", "blur"]
    assert sum(found["verdicts"].values()) == found["concepts"] > 0
    table = pd.read_csv(shown / "quality" / "pairs.csv", index_col=0)
    assert table.loc["blur", "moved"] > 0
    assert "Attribute by attribute" in (shown / "quality" / "pairs.html").read_text()
    learned = pd.read_parquet(shown / "pairs" / "latents.parquet").query("weights == 'learned'")
    assert learned["random_specificity"].between(0.5, 1).all()  # of two attributes one has half or more


def test_what_pairs_tell_is_on_the_page_of_a_concept_and_in_the_report(shown):
    study = Study(shown)
    told = study.followed()
    client = TestClient(create_app(ExplorerSettings(study=shown)), base_url="http://127.0.0.1:8765")
    latent = next(iter(told))
    answer = client.get(f"/api/concepts/{latent}").json()["known"]
    assert answer["followed"] == told[latent]
    assert {fact["words"] for fact in answer["facts"]} >= {"Effect in drawn pairs", "Specificity"}
    assert told[latent] in client.get(f"/concepts/{latent}").text
    study.write_report()
    text = study.place("report").read_text()
    assert sum(sentence in text for sentence in set(told.values())) > 0


def test_where_none_were_shown_the_command_is_named(explorer):
    latent = int(Study(explorer.app.state.library.study.path).atlas("smear").var["cells_active"].argmax())
    assert "cytosae atlas pairs --study STUDY" in explorer.get(f"/concepts/{latent}").text


def test_few_cells_and_an_unknown_attribute_end_in_a_sentence(shown, capsys):
    assert main(["atlas", "pairs", "--study", str(shown), "--pairs", "3"]) == 2
    assert "pairs is 3; it must be at least 20" in capsys.readouterr().err
    assert main(["atlas", "pairs", "--study", str(shown), "--attributes", "mood"]) == 2
    assert "there is no attribute 'mood'" in capsys.readouterr().err
