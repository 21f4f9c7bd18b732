"""A concept is changed in an image: the same is said by the page, its twin and the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cytosae.cli import main
from cytosae.cohort import explain_decision
from cytosae.pipeline import Study
from cytosae.pipeline.places import Place
from cytosae.views import OpenedDataset

OWN = {"origin": "http://127.0.0.1:8765"}


@pytest.fixture(scope="module")
def study(study_of_patients):
    return Study(study_of_patients)


@pytest.fixture(scope="module")
def moved(study):
    """A cell of the data set, and a concept of the classifier that is active in it."""
    classifier, atlas = study.read(Place("classifier", "patients")), study.atlas("patients")
    name = str(atlas.obs["patient"].iloc[0])
    explanation = explain_decision(classifier, atlas, name)
    for latent in explanation.concepts.index:
        active = np.flatnonzero(np.asarray(atlas.X[explanation.cells["row"].to_numpy()][:, [latent]].todense()).ravel())
        if len(active):
            return str(explanation.cells.index[active[0]]), int(latent), explanation
    raise AssertionError("no concept of the classifier is active in the patient's cells")


def test_removing_a_concept_moves_what_the_cell_says_and_its_share_of_the_decision(explorer_of_patients, moved):
    cell, latent, explanation = moved
    page = explorer_of_patients.get(f"/api/cells/{cell}?change={latent}&by=0").json()["change"]
    whole, alone = page["decision"]
    assert whole["before"] == pytest.approx(explanation.value, abs=0.02)
    assert alone["before"] == pytest.approx(explanation.cells.at[cell, "alone"], abs=0.2)
    assert alone["after"] != alone["before"]
    share = (alone["after"] - alone["before"]) / len(explanation.cells)
    assert whole["after"] - whole["before"] == pytest.approx(share, abs=1e-9)
    assert whole["random"]["low"] <= whole["random"]["value"] <= whole["random"]["high"]
    text = explorer_of_patients.get(f"/cells/{cell}?change={latent}&by=0").text
    assert f"concept {latent} · removed" in text
    assert "Change a concept" in explorer_of_patients.get(f"/cells/{cell}").text


def test_multiplying_by_one_moves_nothing(explorer_of_patients, moved):
    cell, latent, _ = moved
    page = explorer_of_patients.get(f"/api/cells/{cell}?change={latent}&by=1").json()["change"]
    for one in (*page["decision"], *page["types"]):
        assert one["after"] == pytest.approx(one["before"], abs=1e-6)
        assert not one["beyond"]


def test_the_command_line_prints_what_the_page_shows(explorer_of_patients, study, moved, capsys):
    cell, latent, _ = moved
    table = study.cells("patients")
    image = table.image_path(list(table.frame["cell_id"]).index(cell))
    words = ["explain", str(image), "--study", str(study.path), "--change", f"{latent}=0", "--out"]
    assert main([*words, str(image.parent / "page.html"), "--json"]) in (0, None)
    told = json.loads(capsys.readouterr().out)["change"]
    page = explorer_of_patients.get(f"/api/cells/{cell}?change={latent}&by=0").json()["change"]
    (image.parent / "page.html").unlink()
    assert told["words"] == page["words"] == "removed"
    assert told["name"] == page["name"]
    assert [one["words"] for one in told["decision"]] == [one["words"] for one in page["decision"]]
    for ours, theirs in zip(told["decision"], page["decision"], strict=True):
        assert ours["before"] == pytest.approx(theirs["before"], abs=0.2)  # stored tokens are rounded to 16 bits


def test_a_concept_that_is_not_there_and_one_that_cannot_be_so_are_told_apart(explorer_of_patients, study, moved):
    cell, _, _ = moved
    row = study.atlas("patients").obs_names.get_loc(cell)
    idle = int(np.flatnonzero(np.asarray(study.atlas("patients").X[[row]].todense()).ravel() == 0)[0])
    page = explorer_of_patients.get(f"/api/cells/{cell}?change={idle}").json()["change"]
    assert "is not active in this image" in page["verdict"]
    assert explorer_of_patients.get(f"/cells/{cell}?change={idle}").status_code == 200
    for wrong in ("change=999999", "change=x", "change=1&by=-1", "change=1&by=nan", "change=1&by=1e9"):
        assert explorer_of_patients.get(f"/cells/{cell}?{wrong}").status_code in (400, 422)


def test_where_labels_or_patients_lack_the_page_says_so(explorer, study_of_smear, smear):
    study = Study(study_of_smear)
    opened = OpenedDataset(study.atlas("smear"), study.cells("smear"), study.tokens("smear"), study.sae())
    cell = str(opened.atlas.obs_names[0])
    latent = int(np.asarray(opened.atlas.X[[0]].todense()).ravel().argmax())
    page = explorer.get(f"/api/cells/{cell}?change={latent}").json()["change"]
    assert page["decision"] == []
    assert "cytosae cohort" in page["decision_note"] or "No patient is known" in page["decision_note"]
    assert page["types"] or "There is no probe of the cell type" in page["types_note"]
    path = min(smear.glob("images/**/*.png"))
    files = {"image": (path.name, path.read_bytes())}
    tried = explorer.post(f"/api/try?change={latent}&by=2", files=files, headers=OWN).json()["change"]
    assert tried["words"] == "doubled"
    assert "No patient is known for this image" in tried["decision_note"]
    assert explorer.post("/try?change=1&by=x", files=files, headers=OWN).status_code == 422


def test_a_change_that_is_written_otherwise_is_a_wrong_call(study_of_smear, smear, capsys):
    image = min(smear.glob("images/**/*.png"))
    for change in ("12", "twelve=0", "12=-1", "99999=0", "1,1=0", "1,2,3=0", "1,=0"):
        assert main(["explain", str(image), "--study", str(study_of_smear), "--change", change]) == 2
    assert "12=0" in capsys.readouterr().err


@pytest.fixture(scope="module")
def second(study, moved):
    """Another concept that is active in the cell."""
    cell, latent, _ = moved
    row = study.atlas("patients").obs_names.get_loc(cell)
    strength = np.asarray(study.atlas("patients").X[[row]].todense()).ravel()
    strength[latent] = 0
    return int(strength.argmax())


def test_a_change_is_shown_at_every_dose_beside_random_latents_as_strong(explorer_of_patients, moved):
    cell, latent, _ = moved
    page = explorer_of_patients.get(f"/api/cells/{cell}?change={latent}&by=0.5").json()["change"]
    doses = page["doses"]
    assert doses["factors"] == [0, 0.5, 1, 1.5, 2]
    assert doses["verdict"]
    whole, curve = page["decision"][0], doses["decision"][0]
    assert curve["values"][2] == pytest.approx(whole["before"], abs=1e-9)
    assert curve["values"][1] == pytest.approx(whole["after"], abs=1e-9)
    assert curve["random"][1] == pytest.approx(whole["random"])
    assert curve["beyond"][1] == whole["beyond"]
    assert curve["reach"][2] == 0
    assert [one["words"] for one in doses["types"]][:1] == [page["types"][0]["words"]] or not page["types"]
    text = explorer_of_patients.get(f"/cells/{cell}?change={latent}&by=0.5").text
    assert 'class="dose"' in text
    assert "From none of it to twice as much" in text
    assert 'class="dose"' not in explorer_of_patients.get(f"/cells/{cell}").text


def test_two_concepts_are_shown_alone_and_together_beside_random_pairs(explorer_of_patients, moved, second):
    cell, latent, _ = moved
    page = explorer_of_patients.get(f"/api/cells/{cell}?change={latent}&second={second}&by=0").json()["change"]
    pair, whole = page["pair"], page["decision"][0]
    assert pair["latents"] == [latent, second]
    first, other, both, beyond = pair["decision"][0]["changes"]
    assert first == pytest.approx(whole["after"] - whole["before"], abs=1e-6)
    assert beyond == pytest.approx(both - first - other, abs=1e-9)
    assert all(one["low"] <= one["value"] <= one["high"] for one in pair["decision"][0]["random"])
    text = explorer_of_patients.get(f"/cells/{cell}?change={latent}&second={second}&by=0").text
    assert "both, beyond the sum" in text
    assert f"{pair['pairs']} pairs of random latents" in text
    assert explorer_of_patients.get(f"/api/cells/{cell}?change={latent}&second=&by=0").json()["change"]["pair"] is None
    for wrong in (latent, 999_999, "x", -1):
        assert explorer_of_patients.get(f"/cells/{cell}?change={latent}&second={wrong}").status_code in (400, 422)


def test_the_command_line_prints_two_concepts_as_the_page_shows_them(
    explorer_of_patients, study, moved, second, tmp_path, capsys
):
    cell, latent, _ = moved
    table = study.cells("patients")
    image = table.image_path(list(table.frame["cell_id"]).index(cell))
    words = ["explain", str(image), "--study", str(study.path), "--out", str(tmp_path / "page.html")]
    assert main([*words, "--change", f"{latent},{second}=0", "--json"]) in (0, None)
    told = json.loads(capsys.readouterr().out)["change"]
    page = explorer_of_patients.get(f"/api/cells/{cell}?change={latent}&second={second}").json()["change"]
    for name in ("doses", "pair"):
        assert told[name].keys() == page[name].keys()
        ours, theirs = told[name]["decision"][0], page[name]["decision"][0]
        assert ours["before"] == pytest.approx(theirs["before"], abs=0.2)  # stored tokens are rounded to 16 bits
    assert told["pair"]["names"] == page["pair"]["names"]
    assert main([*words, "--change", f"{latent},{second}=0"]) in (0, None)
    printed = capsys.readouterr().out
    assert "Dose by dose" in printed
    assert "beyond the sum" in printed
