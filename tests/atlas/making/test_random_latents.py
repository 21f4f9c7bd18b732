"""Every figure of a latent stands beside that of random latents which are as often active."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cytosae.atlas import build_atlas, describe_random, open_random_latents, save_random_latents
from cytosae.atlas.making.latent_table import STATISTICS
from cytosae.atlas.making.random_latents import at_frequency
from cytosae.pipeline import Study
from cytosae.sae.model.randomised import randomised
from cytosae.views import OpenedAtlas
from cytosae.views.concepts.concept_view import atlas_facts
from cytosae.views.concepts.gallery_view import card_of


def test_the_table_is_that_of_an_atlas_of_the_same_sae_with_random_directions(study_of_smear, tmp_path):
    study = Study(study_of_smear)
    store, cells = study.tokens("smear"), study.cells("smear")
    table = describe_random(study.sae(), store, cells, seed=0)
    atlas = build_atlas(randomised(study.sae(), 0).eval(), store, cells, tau=0.3)
    for column in table:
        np.testing.assert_array_equal(table[column], atlas.var[column])
    assert {name for name, statistic in STATISTICS.items() if statistic.beside_random} < set(table)
    kept = open_random_latents(save_random_latents(table, tmp_path / "random.parquet"))
    pd.testing.assert_frame_equal(kept, table)
    pd.testing.assert_frame_equal(study.random_latents("smear"), table)


def test_the_control_is_the_median_of_the_nearest_in_frequency_and_none_beyond_them():
    rng = np.random.default_rng(0)
    frequency = rng.uniform(0.1, 0.9, 2000)
    values = 2 * frequency + rng.normal(0, 0.2, 2000)
    random = pd.DataFrame({"activation_frequency": frequency, "cells_active": 10, "label_entropy": values})
    random.loc[0] = [0.0, 0, 99.0]
    found = at_frequency(random, np.array([0.3, 0.6, 0.05, 0.95]), "label_entropy")
    assert found[:2] == pytest.approx([0.6, 1.2], abs=0.1)
    assert np.isnan(found[2:]).all()
    dead = random.assign(cells_active=0)
    assert np.isnan(at_frequency(dead, np.array([0.3]), "label_entropy")).all()


def test_pages_show_it_where_it_is_known(study_of_smear):
    study = Study(study_of_smear)
    atlas = study.atlas("smear")
    known = OpenedAtlas(atlas, study.cells("smear"), random=study.random_latents("smear"))
    unknown = OpenedAtlas(atlas, study.cells("smear"))
    shown = [k for k in known.live.index if known.control(int(k), "label_entropy") is not None]
    assert len(shown) > len(known.live) / 4
    latent = int(shown[0])
    control = known.control(latent, "label_entropy")
    assert [f.control for f in card_of(known, latent).facts if f.words == "Label entropy"] == [control]
    assert control in [f.control for f in atlas_facts(known, latent)[0]]
    assert {f.control for f in card_of(unknown, latent).facts} == {None}
