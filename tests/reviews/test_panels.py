"""Concepts are drawn as many from each stratum, by what the design names."""

from __future__ import annotations

from collections import Counter

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from cytosae.common.errors import UsageError
from cytosae.reviews.panels import Design, choose_concepts

PLACES = ["nucleus"] * 20 + ["cytoplasm"] * 8 + ["background"] * 2


@pytest.fixture
def atlas() -> ad.AnnData:
    var = pd.DataFrame(
        {
            "cells_active": 30,
            "activation_frequency": np.linspace(0.1, 0.9, 30),
            "top_class": pd.Categorical(["lymphocyte", "monocyte"] * 15),
            "lives_in": pd.Categorical(PLACES),
        },
        index=[str(k) for k in range(30)],
    )
    return ad.AnnData(np.zeros((100, 30), np.float32), var=var)


def drawn(atlas, stratum, verdicts=None):
    chosen = choose_concepts(atlas, Design(concepts=12, stratum=stratum), np.random.default_rng(0), verdicts)
    assert len({latent for latent, _ in chosen}) == 12
    return chosen


def test_as_many_come_from_each_stratum_and_the_rest_from_those_that_have_more(atlas):
    assert Counter(name for _, name in drawn(atlas, "frequency")) == {"rare": 4, "middling": 4, "frequent": 4}
    assert Counter(name for _, name in drawn(atlas, "class")) == {"lymphocyte": 6, "monocyte": 6}
    places = drawn(atlas, "place")
    assert Counter(name for _, name in places) == {"nucleus": 5, "cytoplasm": 5, "background": 2}
    assert all(PLACES[latent] == name for latent, name in places)


def test_verdicts_are_strata_where_they_are_known(atlas):
    verdicts = {k: "artefact" if k % 5 == 0 else "morphology" for k in range(25)}
    chosen = drawn(atlas, "verdict", verdicts)
    assert Counter(name for _, name in chosen) == {"artefact": 4, "morphology": 4, "none": 4}
    assert all(verdicts.get(latent, "none") == name for latent, name in chosen)
    with pytest.raises(UsageError, match="cytosae atlas verdicts"):
        drawn(atlas, "verdict")


def test_what_an_atlas_does_not_say_is_refused(atlas):
    del atlas.var["lives_in"]
    with pytest.raises(UsageError, match="not known"):
        drawn(atlas, "place")
