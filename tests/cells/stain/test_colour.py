from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cytosae.cells import load_image, read_cells
from cytosae.cells.stain.colour import COLOUR_COLUMNS, colour_of, colour_statistics
from cytosae.common.errors import InputError


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        (tmp_path / "cells" / name).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 256, (20 + i, 17, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "cells" / name / f"{i}.png")
    return tmp_path / "cells"


def test_statistics_are_those_of_the_pixels(images):
    cells = read_cells(images)
    table = colour_statistics(cells)
    assert list(table.columns) == list(COLOUR_COLUMNS)
    assert list(table.index) == list(cells.frame["cell_id"])
    for row in range(len(cells)):
        pixels = load_image(cells.image_path(row)).reshape(-1, 3).astype(float)
        np.testing.assert_allclose(table.iloc[row], [*pixels.mean(0), *pixels.std(0)], rtol=1e-12)


def test_number_of_workers_changes_nothing(images):
    cells = read_cells(images)
    assert colour_statistics(cells, workers=1).equals(colour_statistics(cells, workers=3))


def test_one_colour_has_no_spread():
    image = np.full((5, 4, 3), (10, 20, 30), dtype=np.uint8)
    np.testing.assert_array_equal(colour_of(image), [10, 20, 30, 0, 0, 0])


def test_truncated_image_that_the_table_took_has_colours(shared_data):
    cells = read_cells(shared_data / "apl_cohort" / "manifest.csv")
    odd = cells.subset(np.flatnonzero(cells.frame["status"].to_numpy() != "ok")[:3])
    assert np.isfinite(colour_statistics(odd).to_numpy()).all()


def test_changed_image_is_refused(images):
    cells = read_cells(images)
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(cells.image_path(0))
    with pytest.raises(InputError, match="has changed since the cell table was made"):
        colour_statistics(cells)


def test_missing_image_is_named(images):
    cells = read_cells(images)
    cells.image_path(1).unlink()
    with pytest.raises(InputError, match=r"can no longer be read"):
        colour_statistics(cells)


def test_no_cells_give_an_empty_table(images):
    assert colour_statistics(read_cells(images).subset([])).shape == (0, 6)
