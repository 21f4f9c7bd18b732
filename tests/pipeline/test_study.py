from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import scanpy
from conftest import SMALL
from filelock import FileLock

from cytosae.backbones import REGISTRY
from cytosae.cells import load_image
from cytosae.cells.synthetic import synthesize
from cytosae.common.artifact import read_artifact
from cytosae.common.errors import ArtifactError, InputError, UsageError
from cytosae.pipeline import Study, StudyConfig, name_datasets, read_config, recipe_changes, write_config
from cytosae.pipeline.cohort_work import CohortWork
from cytosae.pipeline.context import Context
from cytosae.pipeline.new_patients import read_new_cells


def fingerprints(path: Path) -> dict[str, str]:
    """Of everything but dates and speeds: the report carries a date, the SAE's metrics.csv the tokens a second."""
    study = Study(path)
    found = {str(study.place(*p).relative_to(path)): p for p in study.places() if p[0] not in ("report", "sae")}
    prints = {name: read_artifact(study.place(*p), p[0]).fingerprint for name, p in found.items()}
    return {**prints, "sae": study.sae().fingerprint}


@pytest.fixture
def copied_study(study_of_smear, tmp_path):
    return shutil.copytree(study_of_smear, tmp_path / "study")


def test_a_study_goes_from_images_to_report(study_of_smear):
    study = Study(study_of_smear)
    assert study.datasets == ["smear"]
    names = {str(study.place(*place).relative_to(study_of_smear)) for place in study.places()}
    assert names == {"cells/smear", "tokens/smear", "atlas/smear.h5ad", "sae", "localisation.json", "report.html"}
    assert not list(study_of_smear.glob("**/*.partial"))
    atlas = scanpy.read_h5ad(study_of_smear / "atlas" / "smear.h5ad")
    assert atlas.shape == (60, 384)
    assert list(atlas.obs_names) == list(study.cells("smear").frame["cell_id"])
    assert {"label", "patient", "diagnosis", "image", "mask", "domain"} <= set(atlas.obs.columns)
    assert atlas.obsm["X_backbone"].shape == (60, 192)
    details = read_artifact(study_of_smear / "sae", "sae").details
    assert 0 < details["explained_variance"] < 1
    assert details["steps"] == 60


def test_what_is_up_to_date_is_skipped_and_says_so(copied_study):
    seen = []
    Study(copied_study, on_step=seen.append).run()
    assert len(seen) == 7
    assert all(result.skipped for result in seen)


def test_only_what_depends_on_a_change_is_done_again(copied_study, smear):
    seen = []
    changes = {"sae": {"train": {"steps": 61}}}
    Study.open(copied_study, [smear], [changes], on_step=seen.append).run()
    done = [result.step for result in seen if not result.skipped]
    assert done == ["sae", "atlas smear", "random latents smear", "localisation", "report"]
    assert tomllib.loads((copied_study / "study.toml").read_text())["sae"]["train"]["steps"] == 61


def test_a_changed_image_is_noticed(smear, study_of_smear, tmp_path):
    images = shutil.copytree(smear, tmp_path / "smear")
    path = tmp_path / "study"
    Study.open(path, [images], [SMALL]).run()
    same = Study(study_of_smear).cells("smear").frame["cell_id"]
    assert list(Study(path).cells("smear").frame["cell_id"]) == list(same)
    first = sorted((images / "images").rglob("*.png"))[0]
    first.write_bytes(sorted((images / "images").rglob("*.png"))[1].read_bytes())
    seen = []
    Study(path, on_step=seen.append).run()
    assert [result.step for result in seen if not result.skipped][:2] == ["cells smear", "tokens smear"]
    assert len(Study(path).atlas("smear")) == 59
    assert len(Study(path).cells("smear").duplicates) == 1


def test_a_study_made_with_weights_bundled_before_goes_on_with_them(smear, tmp_path, monkeypatch):
    former = next(iter(REGISTRY["tiny"].former))
    with monkeypatch.context() as earlier:
        earlier.setattr(Context, "_former_weights", lambda _self: former)
        study = Study.open(tmp_path / "study", [smear], [SMALL])
        study.read_all_cells()
        study.extract("smear")
    seen, notes = [], []
    later = Study(tmp_path / "study", on_step=seen.append, on_note=notes.append)
    later.extract("smear")
    assert [result.skipped for result in seen if result.step == "tokens smear"] == [True]
    assert later.tokens("smear").manifest["weights_hash"] == later.backbone.weights_hash == former
    assert any("weights bundled before" in note for note in notes)


def test_several_data_sets_have_an_atlas_each_and_train_on_those_named(smear, tmp_path):
    from cytosae.cells.synthetic import synthesize

    other = synthesize(tmp_path / "other", patients=2, cells=10, seed=9)
    study = Study.open(tmp_path / "study", [smear, other], [SMALL, {"train_on": ["other"]}])
    study.run()
    assert read_artifact(tmp_path / "study" / "sae", "sae").inputs.keys() == {"tokens/other"}
    assert [study.atlas(name).n_obs for name in study.datasets] == [60, 20]


def test_another_process_on_the_study_is_refused(copied_study):
    with FileLock(copied_study / ".lock"), pytest.raises(ArtifactError, match="Another process works on .*study.*wait"):
        Study(copied_study).run()


def test_bad_images_leave_nothing_behind(tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"0\.png"):
        Study.open(tmp_path / "study", [folder], [SMALL]).run()
    assert not (tmp_path / "study").exists()


def test_two_folders_of_one_name_are_refused(tmp_path):
    with pytest.raises(UsageError, match="would both be called 'cells'; rename one of the folders"):
        name_datasets([tmp_path / "a" / "cells", tmp_path / "b" / "cells"])


def test_train_on_must_name_a_data_set(smear, tmp_path):
    with pytest.raises(UsageError, match="train_on names 'acevedo'; the data sets are: smear"):
        Study.open(tmp_path / "study", [smear], [{"train_on": ["acevedo"]}])
    assert not (tmp_path / "study").exists()


def test_configuration_survives_its_file(tmp_path):
    config = Study.open(tmp_path, [], [recipe_changes("paper"), {"report": {"title": 'Ä "title"'}}]).config
    write_config(config, tmp_path / "study.toml")
    assert read_config(tmp_path / "study.toml") == config != StudyConfig()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("steps = ", r"study\.toml is no valid TOML .*; correct it there"),
        ("stepz = 1", r"study\.toml has no field 'stepz'; the fields are: atlas, backbone"),
        ("[sae.train]\nsteps = 0", r"steps"),
        ("[sae.sparsity]\ntype = 'TopK'\nk = 'many'", r"study\.toml\.sae\.sparsity\.k is 'many'; a value of type int"),
    ],
)
def test_a_wrong_study_file_is_refused_in_a_sentence(tmp_path, text, sentence):
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(UsageError, match=sentence):
        Study(tmp_path)


def test_sweep_trains_all_combinations_on_one_reading(copied_study):
    result = Study(copied_study).sweep({"k": [4, 8], "seed": [0, 1]})
    import pandas as pd

    table = pd.read_csv(result.path / "sweep.csv")
    assert sorted(table["name"]) == ["k4-seed0", "k4-seed1", "k8-seed0", "k8-seed1"]
    assert table.set_index("name")["explained_variance"].nunique() == 4
    assert (result.path / "sweep.png").stat().st_size > 5000
    with pytest.raises(UsageError, match="--sweep has no field 'kk'; choose among: expansion, seed, k"):
        Study(copied_study).sweep({"kk": [1]})


RUN = """
import sys
from pathlib import Path
from conftest import SMALL
from cytosae.pipeline import Study
Study.open(Path(sys.argv[1]), [Path(sys.argv[2])], [SMALL, {"sae": {"train": {"steps": 120}}}]).run()
"""


@pytest.mark.slow
def test_a_killed_run_started_again_ends_as_an_undisturbed_one(tmp_path):
    images = synthesize(tmp_path / "smear", patients=2, cells=8, seed=3)

    def start(path: Path) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        return subprocess.Popen([sys.executable, "-c", RUN, str(path), str(images)], env=environment)

    assert start(tmp_path / "whole").wait() == 0
    disturbed = tmp_path / "disturbed"
    landmarks = ["tokens/.smear.partial", ".sae-*.partial/checkpoints/*", "atlas/smear.h5ad"]
    for landmark in landmarks:
        process = start(disturbed)
        while process.poll() is None and not list(disturbed.glob(landmark)):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(disturbed).wait() == 0
    assert fingerprints(disturbed) == fingerprints(tmp_path / "whole")
    assert not list(disturbed.glob("**/*.partial*"))


@pytest.mark.slow
def test_two_processes_make_the_study_together_and_one_of_them_speaks(smear, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(Path(sys.executable).with_name("cytosae")), "run", str(smear), "--study", str(tmp_path / "two")]
    command += ["--sae.expansion", "2", "--sae.train.steps", "20", "--sae.train.batch-tokens", "512"]
    command += ["--localisation.bootstrap", "20", "--extract.shard-cells", "20", "--extract.workers", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("open it in a browser") == 1
    study = Study(tmp_path / "two")
    assert len(study.places()) == 6
    tokens = study.tokens("smear")
    again = study.backbone(study.backbone.prepare([load_image(study.cells("smear").image_path(i)) for i in (0, 59)]))
    assert (tokens.read(0, 60)[[0, 59]] - again).abs().max() < 2e-2  # float16


def test_of_patients_who_came_later_nothing_was_learnt_so_the_first_are_compared(study_of_cohort, tmp_path):
    path, said = shutil.copytree(study_of_cohort, tmp_path / "study"), []
    for n in (1, 2):
        images = synthesize(
            tmp_path / f"later{n}", patients=2, cells=2, seed=n, diagnoses=("control", "PML::RARA-like")
        )
        study = Study(path, on_note=said.append)
        read_new_cells(study, images)
        study.save_config()
    assert CohortWork(study).dataset == "patients"
    assert said[-1:] == [
        "The patients of patients are compared; nothing was learnt from those of later1, later2 "
        "(compare them with --dataset later1)."
    ]
    study.config = replace(study.config, train_on=("patients", "later2"))
    with pytest.raises(UsageError, match="patients, later1, later2 all have patients; choose one with --dataset"):
        CohortWork(study)
