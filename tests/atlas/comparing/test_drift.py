"""Planted drifts of stain, focus and case mix are found and told apart, and none is called where none is."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from atlas.stub_chain import StubCells, StubStore
from scipy import stats

from cytosae.atlas import build_atlas, measure_drift, save_atlas
from cytosae.atlas.comparing.stratified_tests import Sample, shares, within_types
from cytosae.cells.looks import LOOKS, cell_looks, looks_of
from cytosae.cells.synthetic import DOMAINS, draw_cell
from cytosae.cli import main
from cytosae.common.errors import UsageError
from cytosae.sae import SparseAutoencoder, TopK

KINDS = ("neutrophil_segmented", "lymphocyte", "monocyte")


def sample(types, patients=None):
    none = np.full(len(types), -1)
    return Sample(np.asarray(types, np.int64), none if patients is None else np.asarray(patients, np.int64))


def test_a_shift_of_cells_is_the_stratified_difference_with_its_z_test():
    rng = np.random.default_rng(0)
    new, old = rng.normal(size=(60, 1)), rng.normal(size=(90, 1))
    types_new, types_old = np.arange(60) % 2, (np.arange(90) < 30).astype(int)
    found = within_types(new, old, sample(types_new), sample(types_old))
    groups = [(new[types_new == c], old[types_old == c], 0.5) for c in (0, 1)]
    difference = sum(w * (a.mean() - b.mean()) for a, b, w in groups)
    variance = sum(w**2 * (a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)) for a, b, w in groups)
    assert found.units == "cells"
    assert found.difference[0] == pytest.approx(difference)
    assert found.p[0] == pytest.approx(2 * stats.norm.sf(abs(difference) / variance**0.5))


def test_another_mixture_is_no_shift_and_a_shift_within_types_is():
    rng = np.random.default_rng(1)
    of_type = np.array([0.0, 10.0])
    types = [rng.choice(2, 400, p=p) for p in ([0.5, 0.5], [0.9, 0.1])]
    old, new = (sp.csr_array((of_type[t] + rng.normal(size=400))[:, None]) for t in types)
    assert within_types(new, old, sample(types[1]), sample(types[0])).p[0] > 0.01
    moved = sp.csr_array(new.toarray() + 1)
    found = within_types(moved, old, sample(types[1]), sample(types[0]))
    assert found.p[0] < 1e-10
    assert found.difference[0] == pytest.approx(1, abs=0.2)
    assert found.size[0] == pytest.approx(1, abs=0.2)
    assert shares(sample(types[1]), sample(types[0]), 2).p[0] < 1e-10


def test_cells_of_one_patient_are_not_taken_for_independent():
    # patients differ, the two sides do not: over cells this would be found everywhere
    rng, columns = np.random.default_rng(2), 300
    patients = np.repeat(np.arange(8), 50)
    sides = [rng.normal(size=(8, columns))[patients] + rng.normal(size=(400, columns)) for _ in range(2)]
    types = np.zeros(400, int)
    over_cells = within_types(*sides, sample(types), sample(types)).p
    over_patients = within_types(*sides, sample(types, patients), sample(types, patients)).p
    assert (over_cells < 0.01).mean() > 0.3
    assert (over_patients < 0.05).mean() < 0.08
    moved = within_types(sides[0] + 3, sides[1], sample(types, patients), sample(types, patients))
    assert (moved.p < 0.01).mean() > 0.9


def test_sharpness_does_not_depend_on_brightness_and_contrast():
    rng = np.random.default_rng(3)
    image = np.kron(rng.integers(0, 100, (16, 16, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    sharp = dict(zip(LOOKS, looks_of(image), strict=True))["sharpness"]
    assert looks_of(2 * image + 40)[-1] == pytest.approx(sharp)
    blurred = (image.astype(float) + np.roll(image, 2, 0) + np.roll(image, 2, 1) + np.roll(image, -2, 0)) / 4
    assert looks_of(blurred.astype(np.uint8))[-1] < sharp - 0.5


@pytest.fixture(scope="module")
def drawn():
    """Function that draws 60 cells of 6 patients: their atlas with an untrained SAE, and their looks."""
    import cytosae

    backbone, sae = cytosae.load_backbone("tiny"), SparseAutoencoder(192, 384, TopK(k=16))

    @cache
    def draw(seed, domain=DOMAINS["reference"], mix=(1, 1, 1)):
        rng, n = np.random.default_rng(seed), 60
        labels = [KINDS[i] for i in rng.choice(3, n, p=np.array(mix) / sum(mix))]
        images = [
            draw_cell(label, domain, np.random.default_rng([seed, i]), size=128, difficulty=0.5).image
            for i, label in enumerate(labels)
        ]
        tokens = torch.cat([backbone(backbone.prepare(images[i : i + 20])) for i in range(0, n, 20)])
        ids = [f"{seed}-{i}" for i in range(n)]
        frame = pd.DataFrame({"cell_id": ids, "label": pd.array(labels, dtype="string")})
        frame["patient"] = pd.array([f"p{i % 6}" for i in range(n)], dtype="string")
        atlas = build_atlas(sae, StubStore(tokens, ids), StubCells(frame, f"d{seed}"), tau=0.1)
        return atlas, pd.DataFrame([looks_of(image) for image in images], index=ids, columns=list(LOOKS))

    return draw


@pytest.fixture(scope="module")
def before(drawn):
    return drawn(0)


CHANGED = replace(DOMAINS["reference"], purple=(110, 50, 120), glass=(230, 220, 240))


@pytest.mark.parametrize("units", ["cells", "patients"])
@pytest.mark.parametrize(
    ("what", "how"),
    [
        (None, {}),
        ("stain", {"domain": CHANGED}),
        ("focus", {"domain": replace(DOMAINS["reference"], blur=1.2)}),
        ("case mix", {"mix": (1, 6, 1)}),
    ],
    ids=str,
)
def test_planted_drifts_are_found_and_told_apart(drawn, before, what, how, units):
    (new, looks), (old, old_looks) = drawn(1, **how), before
    if units == "cells":
        new, old = (one.copy() for one in (new, old))
        for one in (new, old):
            one.obs["patient"] = pd.Categorical([None] * one.n_obs)
    found = measure_drift(new, old, looks=(looks, old_looks))
    assert found.units == units
    assert {name for name, called in found.called.items() if called} == ({what} if what else set())
    assert found.concepts["drifted"].any() == (what in ("stain", "focus"))
    words = {None: "Nothing has changed", "stain": "stain or camera", "focus": "less sharp", "case mix": "mixture"}
    assert words[what] in " ".join(found.sentences)


def test_without_images_stain_and_focus_are_not_spoken_of(before):
    found = measure_drift(before[0], before[0])
    assert found.called["stain"] is found.called["focus"] is None
    assert found.looks.empty


def test_atlases_without_a_common_type_are_refused(before):
    other = before[0].copy()
    other.obs["label"] = pd.Categorical(["platelet"] * other.n_obs)
    with pytest.raises(UsageError, match="no cell type in common"):
        measure_drift(other, before[0])


def test_the_command_says_what_has_changed(before, tmp_path, capsys):
    old = save_atlas(before[0], tmp_path / "old.h5ad")
    assert main(["atlas", "drift", str(old), "--against", str(old), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["drifted"] == 0
    assert found["called"]["stain"] is None


def test_looks_of_cells_pass_over_images_that_are_gone(tmp_path):
    from PIL import Image

    frame = pd.DataFrame({"cell_id": ["a", "b"], "image": ["a.png", "gone.png"]})
    Image.new("RGB", (8, 8), (10, 20, 30)).save(tmp_path / "a.png")
    found = cell_looks(StubCells(frame, root=tmp_path))
    assert found.index.tolist() == ["a"]
    assert found.loc["a", ["red_mean", "green_mean", "blue_mean"]].tolist() == [10, 20, 30]
