"""Barcodes of cells painted out, alone, and of the tokens beside them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL

from cytosae.cells import load_image, load_mask
from cytosae.cells.focus.painting import paint_out
from cytosae.cells.focus.patch_grid import patch_areas
from cytosae.cohort import open_cell_controls
from cytosae.pipeline import Study
from cytosae.pipeline.cohort_steps import focus_step
from cytosae.pipeline.cohort_work import CohortWork


@pytest.fixture(scope="module")
def made(study_of_cohort: Path, tmp_path_factory: pytest.TempPathFactory):
    path = shutil.copytree(study_of_cohort, tmp_path_factory.mktemp("changed") / "study")
    study = Study.open(path, changes=[SMALL, {"cohort": {"painted_cells": 36}}])
    work = CohortWork(study)
    work.make_barcodes()
    step = focus_step(work.dataset, work.config, study.config, study.context)
    return study, step, study.context.run(step)


def test_every_patient_is_there_in_every_way(made):
    _, _, result = made
    controls = open_cell_controls(result.path)
    assert set(controls) == {"painted out", "alone", "background"}
    for control in controls.values():
        assert control.obs["n_cells"].tolist() == [3] * 12
        assert {"presence", "mean", "count"} <= set(control.layers)
        assert np.isfinite(control.layers["mean"]).all()
    assert result.facts == {"cells": 36}


def test_it_is_made_once(made):
    study, step, _ = made
    assert study.context.run(step).skipped


def test_mean_tokens_are_those_of_the_changed_images_by_the_masks_of_the_user(made):
    study, _, result = made
    controls = open_cell_controls(result.path)
    cells, store = study.cells("patients"), study.tokens("patients")
    from cytosae.pipeline.stain_retest import choose_cells

    frame = cells.frame.set_index("cell_id")
    rows = choose_cells(frame["patient"].reindex(store.cell_ids).to_numpy(dtype=object), 36)
    ids = [store.cell_ids[row] for row in rows]
    mine = [one for one in ids if frame["patient"].loc[one] == controls["alone"].obs_names[0]]
    painted, beside = [], []
    for one in mine:
        at = int(frame.index.get_loc(one))
        mask_path = cells.mask_path(at)
        assert mask_path is not None
        image, mask = np.asarray(load_image(cells.image_path(at))), load_mask(mask_path)
        painted.append(study.backbone(study.backbone.prepare([paint_out(image, mask)]))[0].mean(0).numpy())
        outside = patch_areas(mask, 0, store.grid).ravel() > 1 - 1e-6
        row = store.cell_ids.index(one)
        beside.append(store.read(row, row + 1)[0, 1:].numpy()[outside].mean(0))
    for way, tokens in (("painted out", painted), ("background", beside)):
        found = np.asarray(controls[way].obsm["X_backbone"])[0]
        np.testing.assert_allclose(found, np.mean(tokens, axis=0), rtol=1e-3, atol=2e-3)
