"""The words for where a concept looks follow the numbers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cytosae.atlas import Gaze
from cytosae.views.cells import gaze_view
from cytosae.views.cells.gaze_view import view_of_gaze

PICTURE = np.zeros((2, 2, 3), np.uint8)


def gaze(marked: float, random: float, in_cell: float | None) -> Gaze:
    draws = np.array([random - 0.01, random + 0.01])
    of_cell = np.zeros(0) if in_cell is None else np.array([in_cell])
    return Gaze(1.0, 5, marked, draws, of_cell, 0.4, PICTURE, PICTURE)


@pytest.fixture
def atlas(monkeypatch) -> Any:
    monkeypatch.setattr(gaze_view, "name_of", lambda *_: "granules")
    var = pd.DataFrame({"lives_in": ["nucleus", "background"]})
    return SimpleNamespace(name="smear", labels={"a": "basophil"}, var=var, fact=lambda latent, name: var[name][latent])


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (gaze(0.8, 0.1, 0.3), "It looks where it lights up: what its map marks"),
        (gaze(0.8, 0.1, None), "the cell has too few other patches"),
        (gaze(0.8, 0.1, 0.7), "Its map does not say where it looks"),
        (gaze(0.2, 0.1, 0.1), "Its map does not say where it looks"),
    ],
)
def test_the_verdict_compares_with_the_image_and_with_the_cell(atlas, found, words):
    page = view_of_gaze(atlas, 0, {"a": found})
    assert words in page.verdict
    assert f"{100 * found.marked:.0f}%" in page.numbers
    assert ("of the cell" in page.numbers) == (len(found.in_cell) > 0)
    assert not page.caution
    assert page.cells[0].random.low == pytest.approx(found.random.min())


def test_nothing_to_paint_and_a_concept_of_the_background_are_said(atlas):
    assert "nothing to paint out" in view_of_gaze(atlas, 0, {}).verdict
    assert "background of the same image" in view_of_gaze(atlas, 1, {"a": gaze(0.1, 0.1, 0.1)}).caution
