"""Names of concepts: accepted by people, else words drafted from place, reference cells and what these share."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from cytosae.views.concepts.concept_names import common_traits, headline, name_of, trait_words
from cytosae.views.parts.opened_dataset import OpenedAtlas


@pytest.fixture
def atlas() -> ad.AnnData:
    """120 cells: every third a monocyte; a tenth of all has vacuoles, and the ten reference cells of latent 0 do."""
    n = 120
    labels = np.where(np.arange(n) % 3 == 0, "monocyte", "lymphocyte")
    vacuole = np.full(n, "no", dtype=object)
    rows = np.arange(0, 30, 3)  # monocytes
    vacuole[rows] = "yes"
    granules = np.where(np.arange(n) % 2 == 0, "yes", "no")  # tells nothing
    obs = pd.DataFrame({"label": labels, "cytoplasm_vacuole": vacuole, "granularity": granules})
    obs.index = pd.Index([f"c{i}" for i in range(n)])
    var = pd.DataFrame({"central_share": [0.8, 0.2], "lives_in": pd.Categorical(["cytoplasm", None])})
    var.index = var.index.astype(str)
    made = ad.AnnData(X=np.zeros((n, 2), np.float32), obs=obs, var=var)
    mixed = np.r_[np.arange(1, 6), np.arange(60, 90, 6)]  # five lymphocytes and monocytes, without vacuoles
    made.uns["reference_cells"] = {"rows": np.array([rows, mixed]), "values": np.ones((2, 10))}
    return made


def opened(atlas: ad.AnnData, accepted: Mapping[int, str] | None = None) -> OpenedAtlas:
    cells: Any = SimpleNamespace(name="made")
    found = OpenedAtlas(atlas, cells, accepted=accepted or {})
    found.__dict__["var"] = pd.DataFrame(atlas.var).reset_index(drop=True)  # usefulness is not asked for
    return found


def test_place_cells_and_what_they_share_make_a_draft(atlas):
    assert name_of(opened(atlas), 0) == "Cytoplasm of monocyte: vacuoles"


def test_a_trait_is_named_only_beyond_chance(atlas):
    assert common_traits(opened(atlas), 0) == ("vacuoles",)  # not granularity, which half of all cells have
    assert common_traits(opened(atlas), 1) == ()  # no vacuoles, as nine of ten cells
    few = atlas.copy()
    few.obs["cytoplasm_vacuole"] = [v if i < 9 else None for i, v in enumerate(few.obs["cytoplasm_vacuole"])]
    assert common_traits(opened(few), 0) == ()  # three annotated reference cells are too few


def test_what_is_the_same_in_all_cells_of_a_patient_is_no_trait_of_a_cell(atlas):
    patients = np.arange(120) // 30
    atlas.obs["patient"], atlas.obs["sex"] = patients.astype(str), np.where(patients == 0, "female", "male")
    assert common_traits(opened(atlas), 0) == ("vacuoles",)  # though all ten reference cells are of the one woman
    atlas.obs["patient"] = [str(i) for i in range(120)]  # a cell each: nobody can tell
    assert set(common_traits(opened(atlas), 0)) == {"vacuoles", "sex female"}


def test_without_places_a_draft_says_where_in_the_image(atlas):
    del atlas.var["lives_in"]
    assert name_of(opened(atlas), 0) == "Cells: monocyte, in the middle: vacuoles"
    assert name_of(opened(atlas), 1).startswith("Cells: ")
    assert name_of(opened(atlas), 1).endswith("towards the edge")


def test_the_name_that_people_accepted_comes_first(atlas):
    assert name_of(opened(atlas, accepted={0: "vacuoles of monocytes"}), 0) == "vacuoles of monocytes"


def test_cells_without_labels_are_said_to_be(atlas):
    atlas.obs["label"] = pd.Series([None] * atlas.n_obs, dtype=object).to_numpy()
    assert name_of(opened(atlas), 0) == "Cytoplasm of unlabelled cells: vacuoles"


def test_headlines_count():
    assert headline(["a"] * 3) == "all 3 reference cells: a"
    assert headline(["a", "a", "b"]) == "2 of 3 reference cells: a"
    assert headline(["a", "b", "c", "c"]) == "mixed: c 2, a 1, b 1"
    assert headline([None]) == "1 unlabelled reference cells"


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("cytoplasm_vacuole", "yes", "vacuoles"),
        ("cytoplasm_vacuole", "no", "no cytoplasm vacuole"),
        ("nucleus_shape", "irregular", "irregular or folded nuclear outline"),
        ("cell_shape", "round", "cell shape round"),
    ],
)
def test_values_become_words(column: str, value: str, words: str) -> None:
    assert trait_words(column, value) == words
