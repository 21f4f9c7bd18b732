"""A latent that was planted stands out from random ones; one with random weights does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cytosae.atlas import Effect
from cytosae.evaluation.concept_evidence import MEASURES, Latent, beside_random, strongest
from cytosae.sae import ReluL1, SparseAutoencoder
from cytosae.views.concepts.concept_evidence_view import view_of_effects, view_of_quality_beside

CELLS, SIDE, WIDTH = 120, 8, 24


class Store:
    """Tokens in memory: every third cell has a square in which one direction is strong."""

    counted = None
    grid, n_tokens = (SIDE, SIDE), 1 + SIDE**2

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.square = np.zeros((SIDE, SIDE), bool)
        self.square[2:5, 3:6] = True
        self.tokens = rng.normal(size=(CELLS, 1 + SIDE**2, WIDTH)).astype(np.float32)
        self.tokens[::3, 1:][:, self.square.ravel(), 0] += 8
        self.cell_ids = [str(i) for i in range(CELLS)]
        self.manifest, self.path = {}, "memory"

    def __len__(self) -> int:
        return CELLS

    def read(self, start: int, stop: int) -> torch.Tensor:
        return torch.from_numpy(self.tokens[start:stop])


@pytest.fixture(scope="module")
def store() -> Store:
    return Store()


def sae_with(direction: np.ndarray, bias: float) -> SparseAutoencoder:
    sae = SparseAutoencoder(d_in=WIDTH, d_sae=4, sparsity=ReluL1(l1_coefficient=0.0))
    with torch.no_grad():
        sae.W_enc.zero_()
        sae.b_enc.fill_(-1e3)
        sae.b_dec.zero_()
        sae.W_enc[:, 1] = torch.from_numpy(direction.astype(np.float32))
        sae.b_enc[1] = bias
    return sae


def evidence(store: Store, direction: np.ndarray, bias: float):
    sae = sae_with(direction, bias)
    scores = np.maximum(store.tokens @ direction + bias, 0)
    latent = Latent(1, scores.mean(1).astype(np.float32), float((scores > 0).mean()))
    area = np.stack([store.square.ravel(), np.zeros(SIDE**2)])
    areas = {int(row): area for row in strongest(store, latent)}
    labels = ["with" if i % 3 == 0 else "without" for i in range(CELLS)]
    return beside_random(sae, store, latent, labels, areas=areas)


def test_a_planted_latent_stands_out_on_every_measure(store):
    found = evidence(store, np.eye(WIDTH)[0], -5.0)
    assert found.cells == CELLS
    assert found.value["label_entropy"] == 0
    assert found.value["class_auc"] > 0.99
    assert found.value["localisation"] > 0.9
    for name in set(MEASURES) - {"label_entropy"}:  # many a random direction finds cells as strongly marked as these
        assert found.better_than(name) >= 0.95, name


def test_a_random_latent_lies_among_the_random_ones(store):
    direction = np.random.default_rng(5).normal(size=WIDTH)
    direction[0] = 0
    found = evidence(store, direction / np.linalg.norm(direction), -2.0)
    assert sum(found.better_than(name) >= 0.95 for name in MEASURES) <= 1


def test_random_latents_are_active_as_often(store):
    from cytosae.evaluation.concept_evidence import _directions, _scores, _thresholds

    sae = sae_with(np.eye(WIDTH)[0], 0.0)
    scores, _ = _scores(sae, store, np.arange(CELLS), _directions(sae, 0))
    active = (scores > _thresholds(scores, None, 0.03)).mean((0, 1))
    assert active == pytest.approx(0.03, abs=2e-4)


def test_of_a_latent_that_is_on_no_cell_nothing_is_said(store):
    sae = sae_with(np.eye(WIDTH)[0], -1e3)
    latent = Latent(1, np.zeros(CELLS, np.float32), 0.0)
    found = beside_random(sae, store, latent, ["with", "without"] * (CELLS // 2), areas={})
    view = view_of_quality_beside(found)
    assert view.verdict == "Nothing can be compared: the concept is on none of the cells looked at."
    assert all(row.value is None and row.note for row in view.rows)
    assert "nothing to remove" in view_of_effects([], (), (), (), "").verdict


def test_what_removing_does_stands_out_only_beyond_random_latents():
    random = np.random.default_rng(0).normal(0, 0.01, (20, 2))
    inside = Effect(np.array([0.4, 0.6]), np.array([0.401, 0.599]), random)
    beyond = Effect(np.array([0.4, 0.6]), np.array([0.9, 0.1]), random)
    names, own = ("blast", "smudge"), ("smudge",)
    assert "no more than random latents" in view_of_effects([inside], [inside], names, own, "").verdict
    found = view_of_effects([beyond], [beyond], names, own, "")
    assert [row.stands_out for row in found.rows] == [True, True]
    assert found.rows[1].value == pytest.approx(-0.5)
    assert len(view_of_effects([beyond], [beyond], names, (None,), "").rows) == 1
