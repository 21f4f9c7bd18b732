"""The files in examples/ do what they say, in small."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import f1_score

from cytosae.cells.synthetic import synthesize
from cytosae.cli import main
from cytosae.cohort import barcodes, classify, gather
from cytosae.pipeline import Study, StudyConfig, read_config
from cytosae.sae import RECIPES

EXAMPLES = Path(__file__).parents[1] / "examples"
QUICK = ["--sae.expansion=2", "--sae.train.steps=6", "--sae.train.batch-tokens=512", "--extract.workers=0"]
QUICK += ["--report.concepts=3", "--atlas.reference-cells=3"]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve drawn cells, too few for masks to count."""
    return synthesize(tmp_path_factory.mktemp("few") / "smear", patients=2, cells=6, seed=1)


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which `cytosae` is this one and `srun` runs its command here, once."""
    bin_ = tmp_path_factory.mktemp("bin")
    program = f'#!/bin/sh\nexec "{sys.executable}" -c "from cytosae.cli import main; raise SystemExit(main())" "$@"\n'
    (bin_ / "cytosae").write_text(program)
    (bin_ / "srun").write_text('#!/bin/sh\ncase "$1" in --*) shift;; esac\nexec "$@"\n')
    for file in bin_.iterdir():
        file.chmod(0o755)
    return {**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


def test_the_papers_file_is_the_papers_recipe_and_runs_on_five_data_sets(few, tmp_path, monkeypatch):
    config = read_config(EXAMPLES / "paper.toml")
    assert config.sae == RECIPES["paper"]
    assert [dataset.name for dataset in config.datasets] == ["mll23", "acevedo", "matek19", "bmc", "aml_hehr"]
    assert (config.trained_on, config.backbone.name, config.atlas.tau) == (("mll23",), "dinobloom-b", 0.2)
    text = (EXAMPLES / "paper.toml").read_text()
    small = text.replace('"dinobloom-b"', '"tiny"')
    for dataset in config.datasets:  # relative paths are those of where the command is given
        (tmp_path / dataset.path).parent.mkdir(exist_ok=True)
        (tmp_path / dataset.path).symlink_to(few)
    (tmp_path / "small.toml").write_text(small)
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--config", "small.toml", "--study", "study", *QUICK]) == 0
    study = Study(tmp_path / "study")
    assert [name for role, name in study.places() if role == "atlas"] == [d.name for d in config.datasets]
    assert study.config.sae.sparsity == RECIPES["paper"].sparsity


def test_the_laptops_file_runs(few, tmp_path):
    example = EXAMPLES / "laptop.toml"
    assert main(["run", str(few), "--config", str(example), "--study", str(tmp_path / "study"), *QUICK]) == 0
    assert Study(tmp_path / "study").config.sae.sparsity == read_config(example).sae.sparsity


def hehr_of_drawn(folder: Path, patients: int) -> Path:
    """Drawn patients of five diagnoses as AML_Hehr lies: data/<bag_label>/<patient_id>/*.tif with metadata.csv."""
    classes = {"CBFB::MYH11-like": "CBFB_MYH11", "NPM1-like": "NPM1", "PML::RARA-like": "PML_RARA"}
    classes |= {"RUNX1::RUNX1T1-like": "RUNX1_RUNX1T1", "control": "control"}
    drawn = synthesize(folder / "drawn", patients=patients, cells=1, seed=4, diagnoses=tuple(classes), size=64)
    table = pd.read_csv(drawn / "manifest.csv")
    rows = []
    for (patient, diagnosis), cells in table.groupby(["patient", "diagnosis"]):
        own = folder / "hehr" / "data" / classes[diagnosis] / patient
        own.mkdir(parents=True)
        for number, image in enumerate(cells["image"]):
            with Image.open(drawn / image) as picture:
                picture.save(own / f"image_{number}.tif")
        rows.append({"patient_id": patient, "bag_label": classes[diagnosis], "age": 50, "pb_myeloblast": 10.0})
    pd.DataFrame(rows).to_csv(folder / "hehr" / "metadata.csv", index=False)
    return folder / "hehr"


def test_the_patients_of_hehr_are_classified_as_the_paper_does(few, tmp_path, monkeypatch):
    example = EXAMPLES / "aml_hehr.toml"
    config = read_config(example)
    assert (config.trained_on, config.cohort.dataset) == (("mll23",), "aml_hehr")
    assert (config.cohort.classification.folds, config.cohort.classification.repeats) == (5, 1)
    text = example.read_text().replace('"dinobloom-b"', '"tiny"')
    (tmp_path / "small.toml").write_text(text)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mll23").symlink_to(few)
    (tmp_path / "data" / "aml_hehr").symlink_to(hehr_of_drawn(tmp_path, patients=90))
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--config", "small.toml", "--study", "study", *QUICK]) == 0
    study = Study(tmp_path / "study")
    patients = barcodes(study.atlas("aml_hehr"))
    assert patients.n_obs == 90
    asked = replace(study.config.cohort.classification, kinds=("presence",), shuffles=0, bootstrap=20, strengths=(1.0,))
    asked = replace(asked, few_concepts=0, most_concepts=0)  # what is compared below is the whole barcode's
    result = classify(patients, config=asked)
    assert result.classes == ("CBFB_MYH11", "NPM1", "PML_RARA", "RUNX1_RUNX1T1", "control")
    best = result.table.set_index("model").loc["concepts (presence)"]
    own = result.predictions[result.predictions["model"] == "concepts (presence)"].set_index("patient")
    folds = gather(patients, config=asked).design.folds(5, seed=asked.seed)
    for name in result.classes:
        by_fold = []
        for fold in folds:
            tested = own.loc[[str(patients.obs_names[row]) for row in fold.test]]
            by_fold.append(f1_score(tested["diagnosis"] == name, tested["call"] == name, zero_division=0))
        assert best[f"f1_{name}_folds"] == pytest.approx(np.mean(by_fold))
        assert best[f"f1_{name}_folds_sd"] == pytest.approx(np.std(by_fold, ddof=1))


def test_the_slurm_script_goes_the_whole_way(few, tmp_path, commands):
    options = " ".join(QUICK[:3])
    asked = {"IMAGES": str(few), "STUDY": str(tmp_path / "study"), "OPTIONS": options}
    run = ["bash", str(EXAMPLES / "cluster.slurm")]
    done = subprocess.run(run, env={**commands, **asked}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "study" / "report.html").is_file()
    without = subprocess.run(run, env=commands, capture_output=True, text=True, check=False)
    assert without.returncode != 0
    assert "name the folder of images" in without.stderr


def test_the_workflow_makes_a_study_and_then_has_nothing_to_do(few, tmp_path, commands):
    pytest.importorskip("snakemake")
    asked = [f"images={few}", f"study={tmp_path / 'study'}", f"options={' '.join(QUICK[:3])}", "parts=2"]
    run = [sys.executable, "-m", "snakemake", "--snakefile", str(EXAMPLES / "Snakefile"), "--cores", "2"]
    run += ["--directory", str(tmp_path), "--config", *asked]
    done = subprocess.run(run, env=commands, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "study" / "report.html").is_file()
    assert {"part-1", "part-2"} <= {file.name for file in (tmp_path / "study" / ".snakemake-done").iterdir()}
    assert not list((tmp_path / "study" / "atlas").glob("*.parts"))
    run[run.index("--snakefile") : run.index("--snakefile")] = ["all", "quality", "--dry-run", "--printshellcmds"]
    planned = subprocess.run(run, env=commands, capture_output=True, text=True, check=False)
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.count("cytosae ") == planned.stdout.count("cytosae atlas quality --study") == 6
    assert "--part 5/5" in planned.stdout


def test_every_example_is_of_options_that_exist():
    for example in EXAMPLES.glob("*.toml"):
        assert tomllib.loads(example.read_text())
        assert isinstance(read_config(example), StudyConfig)
