"""Verdicts on planted columns: what follows the cell, what follows its laboratory, both, or neither."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cytosae.atlas.meaning.verdicts import give_verdicts
from cytosae.cells.looks import LOOKS, looks_of
from cytosae.cells.synthetic import DOMAINS, draw_cell
from cytosae.common.errors import UsageError

KINDS = ("neutrophil_segmented", "lymphocyte", "monocyte", "eosinophil")


@pytest.fixture(scope="module")
def smears():
    """240 drawn cells of four types in six laboratories: what is true of them, and how they look."""
    rng = np.random.default_rng(0)
    types, labs = rng.choice(KINDS, 240), np.array(list(DOMAINS))[np.arange(240) % 6]
    drawings = [
        draw_cell(str(t), DOMAINS[str(d)], np.random.default_rng([1, i]), size=64, difficulty=0.5)
        for i, (t, d) in enumerate(zip(types, labs, strict=True))
    ]
    looks = pd.DataFrame([looks_of(drawing.image) for drawing in drawings], columns=list(LOOKS))
    return types, labs, looks


def test_planted_truth_of_six_laboratories_is_found(smears):
    types, labs, looks = smears
    rng = np.random.default_rng(2)
    columns, truth = [], []
    for _ in range(40):
        of_type = dict(zip(KINDS, rng.normal(size=4), strict=True))
        of_lab = dict(zip(DOMAINS, rng.normal(size=6), strict=True))
        cell = np.array([of_type[t] for t in types])
        lab = np.array([of_lab[d] for d in labs]) + 0.3 * rng.normal() * looks["red_mean"].to_numpy() / 50
        cell, lab = (x / x.std() for x in (cell, lab))
        noise = rng.normal(size=len(types))
        columns += [cell + noise, lab + noise, cell + lab + noise, noise]
        truth += ["morphology", "artefact", "mixed", "unclear"]
    known = pd.DataFrame({"type": types}), pd.DataFrame({"lab": labs})
    found = give_verdicts(np.stack(columns, 1), *known, looks=looks, resamples=60)
    truth = np.array(truth)
    for name in ("morphology", "artefact"):
        called = (found["verdict"] == name).to_numpy()
        assert (truth[called] == name).mean() >= 0.9, name
        assert called[truth == name].mean() >= 0.9, name
    assert (found["verdict"][truth == "unclear"] == "unclear").mean() >= 0.95


def test_shares_are_those_of_nested_linear_models():
    rng = np.random.default_rng(3)
    n = 5000
    a, b, noise = rng.normal(size=(3, n))
    values = sp.csr_array(np.stack([2 * a + b + noise, noise], 1))
    found = give_verdicts(values, pd.DataFrame({"a": a}), pd.DataFrame({"b": b}), resamples=20)
    np.testing.assert_allclose(found["morphology"], [4 / 6, 0], atol=0.02)
    np.testing.assert_allclose(found["artefact"], [1 / 6, 0], atol=0.02)
    assert found["verdict"].tolist() == ["morphology", "unclear"]


def test_what_both_explain_speaks_for_neither():
    rng = np.random.default_rng(4)
    a = rng.normal(size=400)
    lab = np.where(a > 0, "x", "y")
    values = (a > 0).astype(float)[:, None] + 0.1 * rng.normal(size=(400, 1))
    found = give_verdicts(values, pd.DataFrame({"type": lab}), pd.DataFrame({"lab": lab}), resamples=20)
    assert found["verdict"].tolist() == ["unclear"]


def test_a_latent_of_a_place_is_an_artefact():
    rng = np.random.default_rng(5)
    facts = pd.DataFrame({"a": rng.normal(size=50)}), pd.DataFrame({"b": rng.normal(size=50)})
    values = facts[0].to_numpy() * np.ones((1, 2))
    found = give_verdicts(values, *facts, position_dependence=np.array([0.7, 0.1]), resamples=20)
    assert found["verdict"].tolist() == ["artefact", "morphology"]


def test_without_facts_about_images_there_is_no_verdict():
    cell, image = pd.DataFrame({"a": np.arange(30.0)}), pd.DataFrame({"lab": ["x"] * 30})
    with pytest.raises(UsageError, match="images"):
        give_verdicts(np.ones((30, 1)), cell, image)
