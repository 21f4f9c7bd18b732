"""Pairs of drawn cells: one attribute differs, and what it does not concern is equal pixel by pixel."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from cytosae.cells.synthetic import DOMAINS, PAIRED_ATTRIBUTES, TYPES, camera, draw_cell, draw_pair, structure_mask

MEASURED = {
    "nucleus_lobes": "nucleus_lobes",
    "nucleus_size": "nuclear_cytoplasmic_ratio",
    "nucleus_place": "nucleus_eccentricity",
    "nucleus_cup": "cup_share",
    "chromatin_contrast": "chromatin_texture",
    "chromatin_density": "chromatin_density",
    "nucleoli": "nucleoli",
    "cell_size": "cell_diameter",
    "basophilia": "basophilia",
    "granules": "granules",
    "vacuoles": "vacuoles",
    "auer_rods": "auer_rods",
    "projections": "projections",
}
"""Attribute of a pair -> what is measured of a drawing."""
CALM = ("nucleus_lobes", "nuclear_cytoplasmic_ratio", "cell_diameter", "basophilia", "vacuoles", "nucleoli", "granules")
ALONG = {
    "nucleus_cup": {"nuclear_cytoplasmic_ratio"},
    "projections": {"cell_diameter", "nuclear_cytoplasmic_ratio"},
    "cell_size": {"granules"},  # as many as there is room for
}
"""What an attribute cannot but change as well."""
PICTURED = ("surroundings", "stain_strength", "stain_colour", "light", "blur")
PLAIN = {"size": 96, "difficulty": 0.3}


@pytest.fixture(scope="module")
def pairs():
    return {
        name: [draw_pair(name, i, DOMAINS["reference"], 5, **PLAIN) for i in range(6)] for name in PAIRED_ATTRIBUTES
    }


def test_drawn_cells_are_bit_by_bit_what_they_were(monkeypatch):
    """Streams of their own are for pairs alone: the pictures of `draw_cell` before JPEG, of all types."""
    monkeypatch.setattr(camera, "_compress", lambda pixels, quality: pixels)
    digest = hashlib.sha256()
    for seed, (label, domain) in enumerate(zip(TYPES, [*DOMAINS] * 4, strict=True)):
        drawing = draw_cell(label, DOMAINS[domain], np.random.default_rng(seed), size=96)
        digest.update(drawing.image.tobytes())
        digest.update(drawing.structures.astype("<u2").tobytes())
    assert digest.hexdigest()[:16] == "bc2959f1f997deb7"


@pytest.mark.parametrize(("attribute", "measured"), MEASURED.items())
def test_a_pair_differs_in_its_attribute(pairs, attribute, measured):
    for little, much in pairs[attribute]:
        assert much.attributes[measured] > little.attributes[measured]


@pytest.mark.parametrize("attribute", MEASURED)
def test_and_in_no_other(pairs, attribute):
    free = {MEASURED[attribute], *ALONG.get(attribute, ())}
    for name in set(CALM) - free:
        values = np.array([[one.attributes[name] for one in pair] for pair in pairs[attribute]], float)
        assert np.abs(values[:, 1] - values[:, 0]).mean() <= 0.1 * values.mean() + 1e-9, name


@pytest.mark.parametrize("attribute", PICTURED)
def test_how_a_picture_came_about_leaves_the_cell_as_it_is(pairs, attribute):
    for little, much in pairs[attribute]:
        np.testing.assert_array_equal(little.mask, much.mask)
        assert little.attributes == much.attributes
        assert (little.image != much.image).any()


def test_far_from_the_change_no_pixel_differs(monkeypatch):
    """Before JPEG, whose blocks are wider than a cell's border."""
    monkeypatch.setattr(camera, "_compress", lambda pixels, quality: pixels)
    for attribute in ("vacuoles", "nucleoli", "basophilia", "granules", "nucleus_size", "cell_size"):
        little, much = draw_pair(attribute, 1, DOMAINS["rose"], 3, size=128, difficulty=0.5)
        cell = (little.mask > 0) | (much.mask > 0)
        rows, columns = (np.flatnonzero(cell.any(axis)) for axis in (1, 0))
        far = np.ones_like(cell)
        far[rows[0] - 8 : rows[-1] + 9, columns[0] - 8 : columns[-1] + 9] = False
        assert far.mean() > 0.3
        np.testing.assert_array_equal(little.image[far], much.image[far])
        assert (little.image[cell] != much.image[cell]).any()


def test_fewer_granules_are_some_of_the_many():
    little, much = draw_pair("granules", 0, DOMAINS["reference"], 0, size=256)
    few, many = (structure_mask(one.structures, "neutrophil_granules") for one in (little, much))
    assert (few & ~many).sum() == 0
    assert many.sum() > 2 * few.sum()


def test_a_pair_depends_on_seed_and_index_only():
    one, again, other, another = (
        draw_pair("nucleoli", i, DOMAINS["reference"], seed, **PLAIN)[1].image
        for i, seed in ((0, 0), (0, 0), (3, 0), (0, 1))
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert (one != another).any()
