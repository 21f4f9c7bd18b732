"""A study with a focus: which steps see it, what they write down, and what is done again when it changes."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from conftest import SMALL

from cytosae.cells import load_image
from cytosae.common.artifact import read_artifact
from cytosae.common.errors import UsageError
from cytosae.pipeline import Study
from cytosae.pipeline.cohort_steps import control_step, focus_step, retest_step
from cytosae.pipeline.cohort_work import CohortWork


@pytest.fixture(scope="module")
def on_cells(study_of_smear, tmp_path_factory):
    """The study of the smear, brought to the cells alone; what was done again, and what was said."""
    path = shutil.copytree(study_of_smear, tmp_path_factory.mktemp("focus") / "study")
    seen, notes = [], []
    study = Study.open(path, changes=[{"focus": "cell"}], on_step=seen.append, on_note=notes.append)
    planned = [(step.step, step.current) for step in study.plan().steps]
    study.run()
    return study, seen, notes, planned


def test_all_but_cells_tokens_and_localisation_is_done_again_and_says_why(on_cells):
    _, seen, _, planned = on_cells
    steps = [result.step for result in seen]
    assert steps == [
        "cells smear",
        "tokens smear",
        "in focus smear",
        "sae",
        "atlas smear",
        "random latents smear",
        "localisation",
        "report",
    ]
    assert [result.step for result in seen if result.skipped] == ["cells smear", "tokens smear"]
    assert next(result for result in seen if result.step == "sae").why == "in_focus/smear changed"
    assert planned[:4] == [("cells smear", True), ("tokens smear", True), ("in focus smear", False), ("sae", False)]


def test_every_artifact_says_its_focus(on_cells):
    study, *_ = on_cells
    assert read_artifact(study.place("in_focus", "smear"), "in_focus").config["focus"] == "cell"
    assert read_artifact(study.place("sae"), "sae").details["focus"] == "cell"
    assert study.atlas("smear").uns["provenance"]["focus"] == "cell"
    assert "focus" in study.config_path.read_text()
    store = study.tokens("smear")
    assert store.focus == "cell"
    assert 0 < store.counted.mean() < 0.6
    assert not store.counted[:, 0].any()


def test_it_is_up_to_date_then(on_cells):
    study, *_ = on_cells
    again = []
    Study(study.path, on_step=again.append).run()
    assert all(result.skipped for result in again)


def test_an_image_is_explained_by_its_tokens_in_focus(on_cells, study_of_smear):
    study, *_ = on_cells
    cells = study.cells("smear")
    maps = study.explain(cells.image_path(0), "smear").maps
    counted = study.counted_in(np.asarray(load_image(cells.image_path(0))))
    assert counted is not None
    assert not maps[:, ~counted[1:].reshape(maps.shape[1:])].any()
    whole = Study(study_of_smear)
    assert whole.counted_in(np.zeros((8, 8, 3), np.uint8)) is None


def test_an_atlas_of_another_focus_than_its_sae_is_made_and_says_so(study_of_smear, tmp_path):
    path = shutil.copytree(study_of_smear, tmp_path / "study")
    notes: list[str] = []
    study = Study.open(path, changes=[{"focus": "nucleus"}], on_note=notes.append)
    study.build_atlas("smear")
    assert study.atlas("smear").uns["provenance"]["focus"] == "nucleus"
    assert any("trained with the focus all" in note for note in notes)


def test_cls_alone_has_no_focus(study_of_smear, tmp_path):
    path = shutil.copytree(study_of_smear, tmp_path / "study")
    with pytest.raises(UsageError, match="CLS is no part"):
        Study.open(path, changes=[{"focus": "cell", "reading": {"which": "cls"}}]).run()


def test_controls_of_patients_look_at_the_same_tokens(study_of_cohort, tmp_path):
    path = shutil.copytree(study_of_cohort, tmp_path / "study")
    study = Study.open(path, changes=[SMALL, {"focus": "cell", "cohort": {"painted_cells": 36, "retest_cells": 60}}])
    study.build_atlas("patients")
    work = CohortWork(study)
    work.make_barcodes()
    context = study.context
    made = [control_step(work.dataset, work.config, study.config)]
    made += [step(work.dataset, work.config, study.config, context) for step in (retest_step, focus_step)]
    for step in made:
        context.run(step)
    atlas, retest = study.atlas("patients"), work.retest
    assert retest is not None
    plain = retest[~retest.obs["changed"].to_numpy()]
    same = atlas[plain.obs["cell_id"].astype(str).to_numpy()]
    np.testing.assert_allclose(plain.X.toarray(), same.X.toarray(), rtol=1e-4, atol=1e-6)
    store = study.tokens("patients")
    tokens, counted = store.read(0, 1)[0].numpy(), store.counted[0]
    first = np.asarray(atlas.obsm["X_backbone"])[atlas.obs_names.get_loc(store.cell_ids[0])]
    np.testing.assert_allclose(first, tokens[counted].mean(0), rtol=1e-4, atol=1e-5)
    assert set(work.cell_controls) == {"painted out", "alone", "background"}
