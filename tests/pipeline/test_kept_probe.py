"""A probe that is kept is the one that was fitted, and is fitted anew where it cannot be read."""

from __future__ import annotations

import numpy as np
import pytest

from cytosae.atlas.explaining.cell_type_probe import fit_probe
from cytosae.pipeline.kept_probe import kept_probe


@pytest.fixture
def fit(tmp_path, monkeypatch):
    """A fit of 150 cells of three types, which counts how often it is made."""
    monkeypatch.setenv("CYTOSAE_CACHE", str(tmp_path / "cache"))
    types = ["blast", "monocyte", "lymphocyte"] * 50
    ends = np.random.default_rng(0).normal(size=(150, 4)) + np.arange(150)[:, None] % 3
    fits = []

    def make():
        fits.append(fit_probe(types, lambda rows: ends[rows]))
        return fits[-1]

    make.fits, make.ends = fits, ends
    return make


def test_a_probe_is_fitted_once_for_one_recipe(fit):
    made, again = (kept_probe(["tokens", "labels"], fit) for _ in range(2))
    assert len(fit.fits) == 1
    assert (again.types, again.accuracy, again.cells) == (made.types, made.accuracy, made.cells)
    np.testing.assert_array_equal(again.half_of, made.half_of)
    for row in (None, 0, 7):
        np.testing.assert_array_equal(
            again.unseen(row).probabilities(fit.ends), made.unseen(row).probabilities(fit.ends)
        )
    kept_probe(["tokens", "other labels"], fit)
    assert len(fit.fits) == 2


def test_a_damaged_file_and_a_cache_that_takes_nothing_stop_nothing(fit, tmp_path, monkeypatch):
    kept_probe("recipe", fit)
    (file,) = (tmp_path / "cache").rglob("*.npz")
    for damaged in (b"", b"PK\x03\x04 and no more", file.read_bytes()[:200]):
        file.write_bytes(damaged)
        assert kept_probe("recipe", fit).types == fit.fits[0].types
    assert len(fit.fits) == 4
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("CYTOSAE_CACHE", str(tmp_path / "file"))
    assert kept_probe("recipe", fit).cells == fit.fits[0].cells
