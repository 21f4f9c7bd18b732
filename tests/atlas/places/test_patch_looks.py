"""Colour and texture of patches, with answers known by hand, and what of them a draft of a name says."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest

from cytosae.atlas import concept_map
from cytosae.atlas.places.patch_looks import looks_of_image, measure_looks, open_looks
from cytosae.cells import load_image
from cytosae.cli import main
from cytosae.pipeline import Study
from cytosae.views.concepts.concept_names import looks_of, name_of
from cytosae.views.parts.opened_dataset import OpenedAtlas

GLASS = 239


def picture() -> np.ndarray:
    """Two by two patches of 12 px: glass; a flat dye that takes red alone; a flat grey; a grey chessboard of pixels."""
    image = np.full((24, 24, 3), GLASS, np.uint8)
    image[:12, 12:, 0] = 59  # (59 + 1) / (239 + 1) = 1 / 4
    image[12:, :12] = 59
    board = np.indices((12, 12)).sum(0) % 2 == 0
    image[12:, 12:][board] = 59
    return image


def test_looks_of_patches_are_what_the_formulae_say():
    darkness, blueness, grain = looks_of_image(picture(), (2, 2))
    dense = math.log(4)
    np.testing.assert_allclose(darkness, [0, dense / 3, dense, dense / 2], atol=1e-5)
    np.testing.assert_allclose(blueness, [1 / 3, (dense + 0.02) / (dense + 0.06), 1 / 3, 1 / 3], atol=1e-5)
    assert grain[3] > 3 * grain[:3].max()  # which have some at their borders alone
    assert grain[3] == pytest.approx(dense / 2, rel=0.15)  # its neighbours' mean is nearly flat


def test_the_same_picture_twice_as_large_looks_the_same():
    small, large = (looks_of_image(np.kron(picture(), np.ones((n, n, 1), np.uint8)), (2, 2)) for n in (1, 2))
    np.testing.assert_allclose(small[:2], large[:2], atol=1e-5)


def with_looks(study: Study, **shift: float) -> OpenedAtlas:
    row = {"darkness": 0.0, "blueness": 0.0, "grain": 0.0, "cells": 10, "compared_with": "cytoplasm", **shift}
    return OpenedAtlas(study.atlas("smear"), study.cells("smear"), looks=pd.DataFrame([row], index=[0]))


@pytest.mark.parametrize(
    ("shift", "words"),
    [
        ({"darkness": 1.5}, ("dark",)),
        ({"darkness": -1.5, "blueness": 1.5}, ("pale blue",)),
        ({"blueness": -2.0, "grain": 2.0}, ("pink", "granular")),
        ({"darkness": 2.0, "blueness": 2.0, "compared_with": "nucleus"}, ("dark bluish violet",)),
        ({"grain": -1.2, "compared_with": "all"}, ("smooth",)),
        ({"darkness": 0.9, "blueness": -0.9}, ()),  # less than a standard deviation
        ({"darkness": 1.5, "cells": 4}, ()),  # less than the mean of four random patches may have: 3.29 / 2
        ({"darkness": 1.7, "cells": 4}, ("dark",)),
        ({"darkness": float("nan"), "cells": 0}, ()),
    ],
)
def test_only_what_stands_out_is_said(study_of_smear, shift, words):
    assert looks_of(with_looks(Study(study_of_smear), **shift), 0) == words


def test_a_concept_without_looks_has_none(study_of_smear):
    study = Study(study_of_smear)
    assert looks_of(with_looks(study), 1) == ()
    assert looks_of(OpenedAtlas(study.atlas("smear"), study.cells("smear")), 0) == ()


def test_a_latent_is_compared_with_all_patches_of_the_cells(study_of_smear):
    """By hand: patches of its reference cells, encoded anew and looked up one by one."""
    study = Study(study_of_smear)
    store, cells, atlas = study.tokens("smear"), study.cells("smear"), study.atlas("smear")
    atlas.var = atlas.var.drop(columns="lives_in")
    table = measure_looks(study.sae(), store, cells, atlas)
    assert set(table["compared_with"]) == {"all"}
    latent = int(atlas.var["cells_active"].to_numpy().argmax())
    place = {cell: row for row, cell in enumerate(cells.frame["cell_id"])}
    rows = [place[atlas.obs_names[row]] for row in atlas.uns["reference_cells"]["rows"][latent] if row >= 0]
    images = [load_image(cells.image_path(row)) for row in range(len(cells))]
    seen = np.stack([looks_of_image(np.asarray(image), store.grid) for image in images])
    own = []
    for row in rows:
        grid = np.asarray(concept_map(images[row], latent, sae=study.sae(), backbone=study.backbone)).ravel()
        own.append(seen[row][:, grid >= 0.5 * grid.max()].mean(1))
    every = seen.transpose(1, 0, 2).reshape(3, -1).astype(float)
    expected = (np.mean(own, axis=0) - every.mean(1)) / every.std(1)
    np.testing.assert_allclose(table.loc[latent, ["darkness", "blueness", "grain"]].astype(float), expected, atol=0.05)
    assert table.loc[latent, "cells"] == len(rows)


def test_the_command_measures_them_and_drafts_say_them(study_of_smear, tmp_path, capsys):
    path = shutil.copytree(study_of_smear, tmp_path / "study")
    assert main(["atlas", "looks", "--study", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"][0]["step"] == "looks smear"
    study = Study(path)
    table = open_looks(study.place("looks", "smear"))
    atlas = OpenedAtlas(study.atlas("smear"), study.cells("smear"), looks=study.looks("smear"))
    said = {int(latent): looks_of(atlas, int(latent)) for latent in table.index}
    latent = next(latent for latent, words in said.items() if words)
    assert ", ".join(said[latent]) in name_of(atlas, latent)
    assert main(["atlas", "names", str(study.place("atlas", "smear")), "--out", str(tmp_path / "names.csv")]) == 0
    names = pd.read_csv(tmp_path / "names.csv", index_col=0)["name"]
    assert names[latent] == name_of(atlas, latent)
