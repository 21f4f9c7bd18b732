"""What ends a command in the middle ends in a sentence, and leaves what can be gone on with."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL
from PIL import Image
from small_disk import small_disk

from cytosae.cli import main
from cytosae.common.artifact import read_artifact
from cytosae.common.errors import ArtifactError
from cytosae.pipeline import Study
from cytosae.pipeline.cohort_work import CohortWork

FULL = r"{} could not be written \(File too large\); make space .* again: what is finished is kept\.$"


@pytest.fixture
def study(study_of_smear: Path, tmp_path: Path) -> Path:
    return shutil.copytree(study_of_smear, tmp_path / "study")


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_a_full_disk_in_training_is_a_sentence_and_training_goes_on_when_there_is_space(study: Path) -> None:
    shutil.rmtree(study / "sae")
    with pytest.raises(ArtifactError, match=FULL.format("sae")), small_disk(300_000):
        Study(study).train()
    assert not (study / "sae").exists()
    assert not Study(study).train().skipped
    read_artifact(study / "sae", "sae")


def test_a_full_disk_in_barcodes_is_a_sentence(study_of_cohort: Path, tmp_path: Path) -> None:
    study = shutil.copytree(study_of_cohort, tmp_path / "study")
    with pytest.raises(ArtifactError, match=FULL.format(r"patients\.h5ad")), small_disk():
        CohortWork(Study(study)).make_barcodes()
    assert list((study / "cohort").iterdir()) == []
    assert not CohortWork(Study(study)).make_barcodes().skipped


def test_a_read_only_study_can_be_explained(study: Path, smear: Path, monkeypatch, capfd) -> None:
    image = next(smear.glob("images/*/*.png"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    before = sorted(study.rglob("*"))
    assert run("explain", image, "--study", study) == 0
    assert f"{study} is read-only, so no page was written; name one with --out." in capfd.readouterr().out
    assert sorted(study.rglob("*")) == before
    assert run("explain", image, "--study", study, "--json") == 0
    assert json.loads(capfd.readouterr().out)["page"] is None


def test_images_of_one_name_have_pages_of_their_own(study: Path, smear: Path, tmp_path: Path, capfd) -> None:
    pages = []
    for number, image in enumerate(sorted(smear.glob("images/*/*.png"))[:2]):
        copy = tmp_path / str(number) / "cell.png"
        copy.parent.mkdir()
        shutil.copy(image, copy)
        for _ in range(2):
            assert run("explain", copy, "--study", study, "--json") == 0
            pages.append(json.loads(capfd.readouterr().out)["page"])
    assert pages[0] == pages[1] != pages[2] == pages[3]
    assert len(list((study / "explained").glob("cell~*.html"))) == 2


@pytest.mark.parametrize("kind", ["cells/smear", "tokens/smear", "sae"])
def test_run_replaces_nothing_that_a_newer_version_has_written(study: Path, kind: str, capfd) -> None:
    file = study / kind / "artifact.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "schema": 99, "more": 1}))
    before = {path.name: path.read_bytes() for path in (study / kind).iterdir()}
    assert run("run", "--study", study) == 1
    assert "in schema 99" in (said := capfd.readouterr().err)
    assert said.endswith("update cytosae.\n")
    assert {path.name: path.read_bytes() for path in (study / kind).iterdir()} == before


def test_what_a_newer_version_added_to_records_does_no_harm(study: Path) -> None:
    for file in study.rglob("*artifact.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "licence": "apache-2.0"}))
    assert all(result.skipped for result in Study(study).run())


def test_no_json_has_what_json_lacks_even_with_a_single_cell(tmp_path: Path, capfd) -> None:
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images" / "only.png")
    study = tmp_path / "study"
    study.mkdir()
    Study.open(study, [tmp_path / "images"], [SMALL]).save_config()
    assert run("run", "--study", study, "--json") == 0
    json.loads(capfd.readouterr().out, parse_constant=pytest.fail)
    for file in study.rglob("*.json"):
        json.loads(file.read_text(), parse_constant=pytest.fail)
