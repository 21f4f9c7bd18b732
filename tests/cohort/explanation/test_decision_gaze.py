"""Where decisions look, of a decision that rests on how red the tokens are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from atlas.red_cells import RED, SIDE, cell_mask, own_patch, red_image, redness

from cytosae.atlas import GazeConfig
from cytosae.cohort import where_a_decision_looks


@pytest.fixture
def image() -> np.ndarray:
    return red_image()


@pytest.fixture
def mask() -> np.ndarray:
    return cell_mask()


def decision(weight: float, typical: float, kind: str = "mean") -> Any:
    concepts = pd.DataFrame({"coefficient": [weight], "reference": [typical]}, index=pd.Index([0], name="latent"))
    return SimpleNamespace(concepts=concepts, kind=kind, grid=(SIDE, SIDE))


def look(images, explanation, **more: Any):
    config = GazeConfig(draws=20)
    return where_a_decision_looks(
        images, explanation, sae=redness(), encode=own_patch, tau=more.pop("tau", 0.0), config=config, **more
    )


def test_what_a_cell_adds_beyond_the_typical_one_goes_with_what_its_map_marks(image, mask):
    red = float(own_patch([image])[0, :, 0].mean())
    (gaze,) = look([image], decision(3.0, 0.0), masks=[mask])
    assert gaze.patches == 4
    assert gaze.marked == pytest.approx(1)
    assert gaze.in_cell.mean() == pytest.approx(4 / 16, abs=0.12)
    assert gaze.activation * (1 + SIDE**2) == pytest.approx(3.0 * red, rel=1e-4)
    (gaze,) = look([image], decision(3.0, red / 2), masks=[mask])
    assert gaze.marked == pytest.approx(2)  # from half a red above the typical cell to half a red below it
    assert gaze.activation * (1 + SIDE**2) == pytest.approx(1.5 * red, rel=1e-4)


def test_a_cell_that_does_not_speak_for_the_decision_has_no_gaze(image, mask):
    red = float(own_patch([image])[0, :, 0].mean())
    assert look([image, image], decision(-1.0, 0.0), masks=[mask, mask]) == [None, None]
    assert look([image], decision(1.0, 2 * red), masks=[mask]) == [None]


def test_presence_goes_with_the_last_patch_that_has_the_concept(image, mask):
    (gaze,) = look([image], decision(1.0, 0.0, "presence"), masks=[mask])
    assert gaze.marked == pytest.approx(1)
    half = image.copy()
    half[RED, RED.start : RED.start + 32] = 228  # two of the four red patches are left, one of them at a time is marked
    config = GazeConfig(marked=1, draws=2)
    (gaze,) = where_a_decision_looks(
        [half], decision(1.0, 0.0, "presence"), sae=redness(), encode=own_patch, tau=0.0, masks=[mask], config=config
    )
    assert gaze.marked == pytest.approx(0)  # the other one still has it


def test_only_tokens_that_count_are_looked_at(image, mask):
    counted = np.zeros((1, 1 + SIDE**2), bool)
    counted[0, 1 + 3 * SIDE + 3] = True  # one of the four red patches
    (gaze,) = look([image], decision(1.0, 0.0), masks=[mask], counted=counted)
    assert gaze.patches == 1
    assert gaze.marked == pytest.approx(1)
