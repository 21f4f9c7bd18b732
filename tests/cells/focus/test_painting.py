from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytosae.cells.focus.painting import NEUTRAL, SEAM, leave_alone, paint_out
from cytosae.cells.synthetic import DOMAINS, draw_cell


@pytest.fixture(scope="module")
def drawn():
    return draw_cell("monocyte", DOMAINS["purple"], np.random.default_rng(3), difficulty=0.3)


def test_nothing_of_the_cell_is_left_when_it_is_painted_out(drawn):
    marked = drawn.image.copy()
    marked[drawn.mask > 0] = (0, 255, 0)
    painted = paint_out(marked, drawn.mask)
    green = (painted[..., 1] > 200) & (painted[..., 0] < 60) & (painted[..., 2] < 60)
    assert not green.any()


def test_what_is_far_from_the_cell_stays_as_it_is(drawn):
    from scipy import ndimage

    away = ndimage.distance_transform_edt(drawn.mask == 0)
    cell = drawn.mask > 0
    far = away > 0.2 * np.sqrt(cell.sum() / np.pi) + 5 * SEAM
    assert far.any()
    assert np.array_equal(paint_out(drawn.image, drawn.mask)[far], drawn.image[far])


def test_what_covers_the_cell_has_the_colours_of_its_surroundings(drawn):
    painted, cell = paint_out(drawn.image, drawn.mask), drawn.mask > 0
    around = drawn.image[~cell]
    assert np.all(np.abs(painted[cell].mean(0) - around.mean(0)) < 2 * around.std(0))
    assert painted[cell].std() > 0.3 * around.std()  # no flat patch


def test_painting_is_the_same_whenever_the_same_image_is_met(drawn):
    assert np.array_equal(paint_out(drawn.image), paint_out(drawn.image.copy()))


def test_a_cell_alone_tells_nothing_of_its_surroundings(drawn):
    other = drawn.image.copy()
    other[drawn.mask == 0] = 255 - other[drawn.mask == 0]
    here, there = leave_alone(drawn.image, drawn.mask), leave_alone(other, drawn.mask)
    inside = drawn.mask > 0
    assert np.array_equal(here[inside], drawn.image[inside])
    assert np.array_equal(here, there)
    assert np.median(here[~inside]) == NEUTRAL


def test_an_image_without_a_cell_stays_whole_and_leaves_nothing_alone():
    empty = np.full((40, 40, 3), 240, np.uint8)
    assert np.array_equal(paint_out(empty), empty)
    assert (leave_alone(empty) == NEUTRAL).all()


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), seed=st.integers(0, 99), share=st.floats(0, 1))
def test_any_mask_can_be_painted_out(height, width, seed, share):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = (rng.random((height, width)) < share).astype(np.uint8)
    for change in (paint_out, leave_alone):
        changed = change(image, mask)
        assert changed.shape == image.shape
        assert changed.dtype == np.uint8
