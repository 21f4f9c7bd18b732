from __future__ import annotations

import numpy as np
import pytest
import torch

from cytosae.cohort.classification import mil
from cytosae.cohort.classification.mil import _padded, fit_attention
from cytosae.cohort.config import AttentionConfig

QUICK = AttentionConfig(hidden=16, most_epochs=40, learning_rate=1e-2, patience=40, weight_decay=0.0, dropout=0.1)


def bags_with_a_telling_cell(n: int, seed: int) -> tuple[list[np.ndarray], np.ndarray, list[int]]:
    """In bags of the second class one cell of many has a large first feature."""
    rng = np.random.default_rng(seed)
    bags, y, where = [], np.arange(n) % 2, []
    for i in range(n):
        bag = rng.normal(size=(rng.integers(5, 12), 6)).astype(np.float32)
        place = int(rng.integers(len(bag)))
        bag[place, 0] += 8 * y[i]
        bags.append(bag)
        where.append(place)
    return bags, y, where


@pytest.fixture(scope="module")
def trained():
    bags, y, _ = bags_with_a_telling_cell(60, seed=1)
    return fit_attention(bags, y, seed=0, config=QUICK)


def test_learns_from_one_telling_cell_and_attends_to_it(trained):
    bags, y, where = bags_with_a_telling_cell(60, seed=2)
    probability = trained.probabilities(bags)
    assert ((probability[:, 1] > 0.5) == (y == 1)).mean() > 0.9
    hits = [trained.attention(bag).argmax() == place for bag, place, k in zip(bags, where, y, strict=True) if k]
    assert np.mean(hits) > 0.9


def test_probabilities_and_attention_sum_to_one(trained):
    bags, _, _ = bags_with_a_telling_cell(5, seed=3)
    np.testing.assert_allclose(trained.probabilities(bags).sum(1), 1, atol=1e-9)
    for bag in bags:
        attention = trained.attention(bag)
        assert attention.shape == (len(bag),)
        assert attention.min() >= 0
        assert attention.sum() == pytest.approx(1, abs=1e-12)


def test_order_of_cells_does_not_matter(trained):
    (bag,), _, _ = bags_with_a_telling_cell(1, seed=4)
    np.testing.assert_allclose(trained.probabilities([bag]), trained.probabilities([bag[::-1].copy()]), atol=1e-6)


def test_same_seed_gives_the_same_model_and_leaves_torch_alone():
    bags, y, _ = bags_with_a_telling_cell(12, seed=5)
    config = AttentionConfig(hidden=8, most_epochs=3)
    before = torch.random.get_rng_state()
    first = fit_attention(bags, y, seed=7, config=config).probabilities(bags)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    np.testing.assert_array_equal(fit_attention(bags, y, seed=7, config=config).probabilities(bags), first)
    assert not np.array_equal(fit_attention(bags, y, seed=8, config=config).probabilities(bags), first)


def test_padding_does_not_change_a_bag(trained):
    """Bags of unlike sizes in one batch are padded; the logits and weights of each are those of the bag by itself."""
    bags, _, _ = bags_with_a_telling_cell(6, seed=6)
    assert len({len(bag) for bag in bags}) > 1
    cells, there = _padded([*bags, np.full((40, 6), 5.0, np.float32)])
    with torch.no_grad():
        together, weights = trained.network(cells, there)
        for i, bag in enumerate(bags):
            alone, own = trained.network(torch.from_numpy(bag)[None], torch.ones((1, len(bag)), dtype=torch.bool))
            torch.testing.assert_close(together[i], alone[0], atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(weights[i, : len(bag)], own[0], atol=1e-6, rtol=1e-5)
            assert (weights[i, len(bag) :] == 0).all()


def test_training_sees_at_most_so_many_cells_of_a_bag(monkeypatch):
    seen = []
    monkeypatch.setattr(mil, "_padded", lambda bags: seen.append(max(map(len, bags))) or _padded(bags))
    bags, y, _ = bags_with_a_telling_cell(12, seed=6)
    bags[0] = np.tile(bags[0], (30, 1))
    fit_attention(bags, y, seed=0, config=AttentionConfig(hidden=8, most_epochs=2, most_cells=4, inner_folds=1))
    assert set(seen) == {4}


def test_three_classes():
    bags, _, _ = bags_with_a_telling_cell(12, seed=6)
    probability = fit_attention(bags, np.arange(12) % 3, seed=0, config=AttentionConfig(most_epochs=2)).probabilities(
        bags
    )
    assert probability.shape == (12, 3)
