"""Concepts that are alike lie near each other, at the same places at every run."""

from __future__ import annotations

import numpy as np
import pytest

from cytosae.atlas.finding import concept_layout
from cytosae.atlas.finding.concept_layout import layout_by_cells, layout_by_direction


def groups_apart(places: np.ndarray, group: np.ndarray) -> float:
    """Share of points whose nearest other point is of their own group."""
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return float((group[distance.argmin(1)] == group).mean())


@pytest.mark.parametrize("landmarks", [1000, 24])
def test_alike_directions_lie_together_and_always_at_the_same_place(monkeypatch, landmarks):
    monkeypatch.setattr(concept_layout, "LANDMARKS", landmarks)
    rng = np.random.default_rng(0)
    group = np.arange(48) % 3
    rows = np.eye(16)[group] * 4 + rng.normal(size=(48, 16))
    places = layout_by_direction(rows)
    assert places.shape == (48, 2)
    assert groups_apart(places, group) > 0.9
    assert (places == layout_by_direction(rows)).all()


def test_concepts_on_the_same_cells_lie_together_however_strong_they_are():
    rng = np.random.default_rng(1)
    group = np.arange(40) % 2
    kind = np.arange(90) % 2
    active = rng.random((90, 40)) < np.where(kind[:, None] == group, 0.8, 0.1)
    X = np.where(active, rng.gamma(2, 1, (90, 40)), 0) * 10.0 ** rng.integers(-2, 3, 40)
    X = np.column_stack([np.zeros(90), X])  # a latent that is never active is not asked for
    places = layout_by_cells(X, np.arange(1, 41))
    assert groups_apart(places, group) > 0.9
    assert np.isfinite(places).all()
