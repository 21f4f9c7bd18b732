"""``cytosae data``: the list of data sets, and checks of folders and studies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cytosae.cli import main


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for label in ("basophil", "monocyte"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(2):
            pixels = np.random.default_rng([number, ord(label[0])]).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / label / f"{number}.png")
    return tmp_path / "set"


def test_list_says_what_there_is_and_how_to_get_it(capfd):
    assert run("data", "list") == 0
    text = capfd.readouterr().out
    for words in (
        "MLL23",
        "171,374",
        "CC BY 3.0",
        "cytosae data fetch acevedo",
        "https://www.cancerimagingarchive.net",
        "cite: ",
        "unknown",
    ):
        assert words in text
    assert run("data", "list", "--json") == 0
    datasets = json.loads(capfd.readouterr().out)["datasets"]
    assert len(datasets) == 8
    assert next(d for d in datasets if d["name"] == "matek19")["counts"]["PMB"] == 18


def test_a_folder_without_faults_exits_with_0(images, capfd):
    assert run("data", "check", images) == 0
    assert "Nothing is wrong." in capfd.readouterr().out


def test_findings_are_sentences_and_the_exit_code_says_so(images, capfd):
    (images / "basophil" / "2.png").write_bytes(b"x")
    (images / "monocyte" / "3.png").write_bytes((images / "monocyte" / "0.png").read_bytes())
    (images / "Thumbs.db").write_bytes(b"x")
    assert run("data", "check", images) == 1
    text = " ".join(capfd.readouterr().out.split())
    assert "WRONG basophil/2.png cannot be used: not an image that can be read" in text
    assert "note Exact copies of 1 image, of which the first is kept: monocyte/0.png = monocyte/3.png." in text
    assert "1 piece of litter, passed over: Thumbs.db" in text
    (images / "basophil" / "2.png").unlink()
    assert run("data", "check", images) == 0


def test_it_is_said_what_was_taken_for_what_and_what_was_done(images, capfd):
    rows = "".join(f"{p.relative_to(images)};7;{'M' if p.stem == '0' else ''}\n" for p in sorted(images.rglob("*.png")))
    (images / "manifest.csv").write_bytes(("image;patient;label\n" + rows + ";;\n").encode("utf-16"))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(images / "basophil" / "0.png", save_all=True)
    assert run("data", "check", images) == 0
    text = " ".join(capfd.readouterr().out.split())
    assert "4 cells, read as manifest (manifest.csv): 1 label (M), 2 cells without one; 1 patient (7), 0 cells" in text
    assert "note How manifest.csv was read: UTF-16 text; separated by semicolons; 1 empty rows passed over." in text
    assert run("data", "check", images, "--layout", "folders", "--json") == 0
    assert "2 labels (basophil, monocyte), 0 cells without one; no patients" in capfd.readouterr().out


def test_a_published_name_compares_the_counts(images, capfd):
    assert run("data", "check", "acevedo", images, "--layout", "folders", "--json") == 1
    document = json.loads(capfd.readouterr().out)
    assert document["wrong"]
    assert {"class": "basophil", "files": 2, "published": 1218} in document["counts"]
    assert "2 of 1,218 files of basophil: 1,216 missing." in [f["sentence"] for f in document["findings"]]
    assert document["labels"] == {"basophil": 2, "monocyte": 2}


def test_images_in_two_data_sets_are_found_in_folders_and_studies(images, smear, study_of_smear, tmp_path, capfd):
    first = sorted((smear / "images").rglob("*.png"))[0]
    shutil.copy(first, images / "monocyte" / "9.png")
    other = shutil.copytree(images, tmp_path / "other")
    for place in (other, study_of_smear):
        assert run("data", "check", images, "--against", place, "--json") == 1
        (finding,) = json.loads(capfd.readouterr().out)["findings"]
        assert finding["kind"] == "shared"
        assert "monocyte/9.png" in finding["files"]


def test_token_stores_of_a_study_are_verified(study_of_smear, tmp_path, capfd):
    assert run("data", "check", "--study", study_of_smear) == 0
    assert "whole" in capfd.readouterr().out
    study = shutil.copytree(study_of_smear, tmp_path / "study")
    shard = next((study / "tokens" / "smear").glob("shard-*"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x7f")
    assert run("data", "check", "--study", study, "--json") == 1
    document = json.loads(capfd.readouterr().out)
    assert document["stores"] == [{"dataset": "smear", "cells": 60, "tokens": "wrong"}]
    assert "differs from its recorded checksum" in document["findings"][0]["sentence"]
    shutil.rmtree(study / "tokens" / "smear")
    assert run("data", "check", "--study", study) == 1
    assert "smear has no tokens; run: cytosae extract" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("nowhere",), 1, "nowhere does not exist; give a folder of images"),
        (("acevdo", "."), 2, "there is no data set 'acevdo'; choose one of: mll23"),
        ((), 2, "nothing to check is given; name a folder"),
    ],
)
def test_wrong_calls_are_sentences(words, code, sentence, capfd):
    assert run("data", "check", *words) == code
    assert sentence in capfd.readouterr().err


def test_a_smear_is_drawn_of_the_diagnoses_that_are_asked_for(tmp_path):
    words = ["--patients", 2, "--cells", 1, "--diagnoses", "NPM1-like", "control"]
    assert run("data", "synthesize", tmp_path / "smear", *words) == 0
    assert pd.read_csv(tmp_path / "smear" / "manifest.csv")["diagnosis"].tolist() == ["NPM1-like", "control"]
