from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytosae.cells.decoding.masks import CYTOPLASM, NUCLEUS
from cytosae.cells.focus.cell_mask import find_cell
from cytosae.cells.synthetic import DOMAINS, draw_cell

GLASS, RED_CELL, PLASM, CHROMATIN = (245, 235, 225), (225, 160, 150), (190, 185, 220), (90, 50, 140)


def disc(size: int, y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def smear(size: int = 128, at: tuple[float, float] = (64, 64), touching: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A cell with its mask among red cells; colours have the grain of a camera."""
    image = np.broadcast_to(np.array(GLASS, float), (size, size, 3)).copy()
    for y, x in ((20, 20), (108, 24), (20, 104), (110, 108), *([(at[0], at[1] + 38)] if touching else [])):
        image[disc(size, y, x, 14)] = RED_CELL
    cell, nucleus = disc(size, *at, 25), disc(size, *at, 17)
    image[cell], image[nucleus] = PLASM, CHROMATIN
    image += np.random.default_rng(0).normal(0, 3, image.shape)
    mask = np.where(nucleus, NUCLEUS, np.where(cell, CYTOPLASM, 0)).astype(np.uint8)
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8), mask


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@settings(max_examples=15, deadline=None)
@given(y=st.integers(52, 76), x=st.integers(52, 76))
def test_a_cell_is_found_wherever_it_lies_near_the_middle(y, x):
    image, mask = smear(at=(y, x))
    found = find_cell(image)
    assert iou(found > 0, mask > 0) > 0.9
    assert iou(found == NUCLEUS, mask == NUCLEUS) > 0.9


def test_a_red_cell_that_touches_is_left_out():
    image, mask = smear(touching=True)
    assert iou(find_cell(image) > 0, mask > 0) > 0.88


def test_cells_of_every_drawn_laboratory_are_found():
    scores = {}
    for name, domain in DOMAINS.items():
        drawn = [draw_cell("monocyte", domain, np.random.default_rng(seed), difficulty=0.3) for seed in range(6)]
        scores[name] = np.mean([iou(find_cell(one.image) > 0, one.mask > 0) for one in drawn])
    assert min(scores.values()) > 0.6, scores


def test_lobes_of_one_nucleus_belong_together_and_a_neighbour_at_the_border_does_not():
    image, _ = smear()
    image[disc(128, 64, 64, 25)] = PLASM
    lobes = [disc(128, 54, 60, 8), disc(128, 74, 60, 8), disc(128, 64, 78, 6)]
    for lobe in lobes:
        image[lobe] = CHROMATIN
    beside = disc(128, 64, 124, 16)
    image[beside] = CHROMATIN
    nucleus = find_cell(image) == NUCLEUS
    assert all(nucleus[lobe].mean() > 0.7 for lobe in lobes)
    assert not nucleus[beside].any()


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (255, 0, 0), (90, 50, 140)])
def test_an_image_of_one_colour_has_no_cell(colour):
    assert not find_cell(np.full((50, 70, 3), colour, np.uint8)).any()


def test_red_cells_alone_are_no_white_cell():
    image, _ = smear()
    image[disc(128, 64, 64, 26)] = RED_CELL
    assert not find_cell(image).any()


def test_a_nucleus_far_from_the_middle_is_not_the_central_cell():
    image, _ = smear(at=(64, 64))
    image[disc(128, 64, 64, 26)] = GLASS
    image[disc(128, 14, 114, 13)] = CHROMATIN
    assert not find_cell(image).any()


@settings(max_examples=15, deadline=None)
@given(height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(0, 99))
def test_any_image_gets_a_mask_of_its_size(height, width, seed):
    found = find_cell(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
    assert found.shape == (height, width)
    assert found.dtype == np.uint8
    assert set(np.unique(found).tolist()) <= {0, CYTOPLASM, NUCLEUS}
